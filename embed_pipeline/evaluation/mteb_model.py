"""An encoder as mteb sees it: a model whose revision is the content of its weights.

Belongs here: the roles, the similarity and the description that mteb asks of a model. Does not belong here: tasks
(mteb_tasks, mteb_folder), running them (mteb_run).
"""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from embed_pipeline.encoding.encoder import Encoder

if TYPE_CHECKING:
    import torch
    from mteb.models.model_meta import ModelMeta
    from mteb.types import PromptType

ORGANISATION = "embed-pipeline"


class MtebEncoder:
    """Implements mteb's EncoderProtocol over one of our encoders.

    Queries of a retrieval or reranking task are encoded as queries. All else is encoded as passages: documents, and the
    texts of the symmetric tasks (classification, clustering, pair classification, STS), which mteb gives no role; two
    equal texts must get equal vectors there, and a query's instruction describes a search that does not take place.
    The prompts of a task are ignored: an encoder's instructions belong to it and to its fingerprint.

    Similarity is the inner product, by which this project ranks. Scores do not depend on mteb's batch size.
    """

    def __init__(self, encoder: Encoder, variant: str, *, max_tokens: int | None = None) -> None:
        """`variant` names the model in mteb's results; `max_tokens` is the limit of a passage, None if unknown.

        Raises:
            ValueError: mteb is not installed, or the name is empty.
        """
        check_mteb_is_installed()
        if not variant.strip():
            raise ValueError("mteb model: expected the name of a variant, found an empty one. Name the variant.")
        self._encoder = encoder
        self._description = _describe(encoder, f"{ORGANISATION}/{variant}", max_tokens)

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """Name, and as revision the fingerprint of the encoder; what is not known is None."""
        return self._description

    def encode(
        self, inputs: Iterable[Any], *, prompt_type: "PromptType | None" = None, **_what_is_encoded: Any
    ) -> np.ndarray:
        """float32 (texts, dimension), row i for text i of all batches together."""
        texts = [text for batch in inputs for text in cast("list[str]", batch["text"])]
        return self._encoder.encode_queries(texts) if prompt_type == "query" else self._encoder.encode_passages(texts)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> "torch.Tensor":
        """The inner products of all rows with all rows, (rows of the first, rows of the second)."""
        import torch

        return torch.atleast_2d(torch.as_tensor(embeddings1)) @ torch.atleast_2d(torch.as_tensor(embeddings2)).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> "torch.Tensor":
        """The inner product of row i with row i."""
        import torch

        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(dim=-1)


def check_mteb_is_installed() -> None:
    """Raises ValueError, naming the extra, where mteb is missing."""
    if find_spec("mteb") is None:
        raise ValueError("mteb is not installed, which this needs. Run `pip install 'embed-pipeline[mteb]'`.")


def _describe(encoder: Encoder, name: str, max_tokens: int | None) -> "ModelMeta":
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    return ModelMeta(
        loader=None,
        name=name,
        revision=encoder.fingerprint,
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=max_tokens,
        embed_dim=encoder.dimension,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=[],
        similarity_fn_name=ScoringFunction.DOT_PRODUCT,
        use_instructions=None,
        training_datasets=None,
    )
