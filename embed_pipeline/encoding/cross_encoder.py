"""A cross-encoder: it reads a query and a passage together and gives one score, slower and truer than two vectors.

Belongs here: its settings, identity and forward pass through transformers. Does not belong here: keeping scores
(pair_scores.py), what they are used for.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from embed_pipeline.encoding.encoder import BUNDLED_MODELS, EncoderSettings
from embed_pipeline.encoding.model_check import check_unused
from embed_pipeline.encoding.model_directory import file_states, model_digest
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline.encoding.precision import refuse_missing_gpu

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
LENGTH_STEP = 16
"""Pairs are padded to a multiple of this, so that few shapes of batches exist."""


def check_cross_encoder_name(name: str | None) -> str | None:
    """The name of a model, unless no cross-encoder can be meant by it; raises ValueError then."""
    if name in BUNDLED_MODELS:
        raise ValueError(f"{name!r} is an encoder and no cross-encoder; name a folder or a Hub model")
    return name


class CrossEncoderSettings(BaseModel):
    """One cross-encoder with a single output: which weights, and how much of a pair it reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, AfterValidator(check_cross_encoder_name)] = Field(
        min_length=1, description="A directory, or a Hub name; safetensors, one output."
    )
    revision: str | None = Field(None, description="Commit, tag or branch of a Hub model; a commit is exact.")
    max_length: int = Field(
        512, ge=8, description="Tokens of a pair. The passage is cut first, the query beyond three quarters of it."
    )
    batch: int = Field(32, ge=1, description="Pairs scored at once: memory and speed, not the scores.")


class TextPair(NamedTuple):
    """What a cross-encoder scores."""

    query: str
    passage: str


def load_cross_encoder(settings: CrossEncoderSettings, *, device: Literal["cpu", "cuda"] = "cpu") -> "CrossEncoder":
    """The cross-encoder that the settings name; its weights load on first use.

    Raises:
        ValueError: the model is not found or no loadable directory.
    """
    source = resolve_model(EncoderSettings(model=settings.model, revision=settings.revision))
    return CrossEncoder(settings, directory=source, device=device)


class CrossEncoder:
    """Scores pairs; the fingerprint is read from the files alone.

    Every forward pass has `batch` rows of a few lengths, the last filled up with copies, so that a pair's score does
    not depend on the pairs beside it.
    """

    def __init__(self, settings: CrossEncoderSettings, *, directory: Path, device: Literal["cpu", "cuda"]) -> None:
        self.settings = settings
        self.directory = directory
        self.device = device
        self._states = file_states(directory)

    @property
    def fingerprint(self) -> str:
        """sha256 hex over the model's content and the length; never a name or a path."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        identity = {"arithmetic": 1, "model": model_digest(self.directory), "max_length": self.settings.max_length}
        return hashlib.sha256(json.dumps({"cross-encoder": identity}, sort_keys=True).encode()).hexdigest()

    def score(self, pairs: Sequence[TextPair]) -> np.ndarray:
        """float32 (len(pairs),): the model's output before any activation, higher is more relevant.

        Raises:
            ValueError: the model has no head for it, has several outputs, or returned NaN.

        Source: FlagEmbedding's FlagReranker without normalisation, which cuts pairs alike.
        """
        scores = np.empty(len(pairs), dtype=np.float32)
        if not pairs:
            return scores
        tokens = self._tokenise(pairs)
        lengths = [_padded(len(ids), self.settings.max_length) for ids in tokens["input_ids"]]
        by_length: dict[int, list[int]] = {}
        for row in range(len(pairs)):
            by_length.setdefault(lengths[row], []).append(row)
        for length in sorted(by_length, reverse=True):  # running out of memory happens at once
            rows = by_length[length]
            for start in range(0, len(rows), self.settings.batch):
                batch = rows[start : start + self.settings.batch]
                scores[batch] = self._forward(tokens, batch, length)
        if not np.isfinite(scores).all():
            raise ValueError(f"{self.directory}: the cross-encoder returned NaN or infinity. Its weights are broken.")
        return scores

    def _tokenise(self, pairs: Sequence[TextPair]) -> Mapping[str, list[list[int]]]:
        tokenizer, limit = self.tokenizer, self.settings.max_length
        queries = [pair.query for pair in pairs]
        alone = tokenizer(queries, add_special_tokens=False, return_offsets_mapping=True)
        longest = limit * 3 // 4
        for row, offsets in enumerate(alone["offset_mapping"]):
            if len(offsets) > longest:
                queries[row] = queries[row][: offsets[longest - 1][1]]
        passages = [pair.passage for pair in pairs]
        return tokenizer(queries, passages, truncation="only_second", max_length=limit).data

    def _forward(self, tokens: Mapping[str, list[list[int]]], rows: list[int], length: int) -> np.ndarray:
        padding: dict[str, Any] = {"input_ids": self.tokenizer.pad_token_id or 0}
        filled = rows + [rows[-1]] * (self.settings.batch - len(rows))
        inputs = {}
        for name in (name for name in INPUT_NAMES if name in tokens):
            parts = [tokens[name][row] for row in filled]
            inputs[name] = np.array([part + [padding.get(name, 0)] * (length - len(part)) for part in parts])
        return self.run(inputs)[: len(rows)]

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """float32 (rows,): the output for int64 (rows, tokens) of each of the tokenizer's INPUT_NAMES."""
        import torch

        network = self.network  # loaded outside of inference mode, or its weights could not be exported
        tensors = {name: torch.from_numpy(values).to(self.device) for name, values in inputs.items()}
        with torch.inference_mode():
            return network(**tensors).logits.float().view(-1).cpu().numpy()

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's own; it cuts and joins pairs."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.directory, local_files_only=True, trust_remote_code=False)

    @cached_property
    def network(self) -> "PreTrainedModel":
        """The model with its head, in float32; raises ValueError where it has none for one score."""
        import torch
        from transformers import AutoModelForSequenceClassification
        from transformers.utils import logging

        refuse_missing_gpu(self.device)
        bars_were_shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            network, report = AutoModelForSequenceClassification.from_pretrained(
                self.directory,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        finally:
            if bars_were_shown:
                logging.enable_progress_bar()
        missing = sorted(report["missing_keys"])
        if missing or report["mismatched_keys"] or network.config.num_labels != 1:
            raise ValueError(
                f"{self.directory}: expected a cross-encoder with one output, found {network.config.num_labels} "
                f"outputs and {len(missing)} weights missing {missing[:3]}. Random numbers would stand in for them; "
                "name a reranker."
            )
        check_unused(self.directory, report["unexpected_keys"], network.state_dict(), "")
        if file_states(self.directory) != self._states:
            raise ValueError(
                f"{self.directory}: the files changed after this cross-encoder was opened, so its fingerprint is "
                "another model's. Open it again."
            )
        return network.eval().to(self.device)


def _padded(length: int, limit: int) -> int:
    return min(-(-length // LENGTH_STEP) * LENGTH_STEP, max(limit, length))
