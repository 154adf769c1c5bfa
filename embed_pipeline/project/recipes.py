"""Recipes: everything that changes the bytes a variant trains or retrieves with, read from one YAML file.

Belongs here: the sections of a recipe, which of them go together, and the file they come from. Does not belong here:
the settings of training (settings.py); where it runs (device, number of processes), which is a resource, because it
must not change the numbers' meaning.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from embed_pipeline.adaptation.settings import AdaptationSettings
from embed_pipeline.encoding.any_settings import ENCODER_KINDS, AnyEncoderSettings
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.word_vectors import WordVectorSettings
from embed_pipeline.exporting.settings import PAIR_FORMATS, ExportSettings
from embed_pipeline.merging.settings import MergeSettings
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.project.finding import shipped_files
from embed_pipeline.reranking.settings import RerankSettings
from embed_pipeline.retrieval.faiss_index import IndexSettings
from embed_pipeline.retrieval.fusion import FusionSettings
from embed_pipeline.retrieval.hybrid import HybridSettings
from embed_pipeline.settings_file import describe_problems, join_problems, read_mapping
from embed_pipeline.training.settings import TrainingSettings

AUTO = "auto"
_TRAINING_KINDS = ("chosen from the data", "stated")
WITHOUT_VECTORS = ("bm25", "tfidf", "classifier", "reranked")
"""Retrievers whose index has no vectors of its own."""
_NOT_IN_THE_FILE = (*ENCODER_KINDS, *_TRAINING_KINDS)
"""Kinds that pydantic names in an error's location."""

AnyTraining = Annotated[
    Annotated[Literal["auto"], Tag(_TRAINING_KINDS[0])] | Annotated[TrainingSettings, Tag(_TRAINING_KINDS[1])],
    Discriminator(lambda found: _TRAINING_KINDS[0] if isinstance(found, str) else _TRAINING_KINDS[1]),
]


class Recipe(BaseModel):
    """One variant: what retrieves, and how it was trained if it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = Field(min_length=1, description="One line for the reader of the metrics table.")
    retriever: Literal["dense", "bm25", "tfidf", "classifier", "word2vec", "fused", "hybrid", "reranked"] = Field(
        "dense",
        description="Vectors and Faiss, BM25 over words, TF-IDF over character n-grams, a linear classifier over the "
        "n-grams of the train questions, the mean of word vectors trained on the data set's own texts, the ranks of "
        "BM25 and a dense variant fused, the scores of a dense variant, of a question's parts, of TF-IDF and of the "
        "classifier weighed, or another variant's hits reranked.",
    )
    encoder: AnyEncoderSettings | None = Field(None, description="dense: the encoder, and the base if it is trained.")
    mining: MiningSettings | None = Field(None, description="How hard negatives are mined; goes with training.")
    training: AnyTraining | None = Field(
        None,
        description="How the encoder is fine-tuned; left out: zero-shot. auto: chosen from the data, mining too "
        "(docs/adr/0027).",
    )
    word_vectors: WordVectorSettings | None = Field(None, description="word2vec: how the words' vectors are trained.")
    fusion: FusionSettings | None = Field(None, description="fused: the parts.")
    hybrid: HybridSettings | None = Field(None, description="hybrid: whose vectors, and the weights that are tried.")
    merge: MergeSettings | None = Field(None, description="dense: tuned weights mixed with their base's; no encoder.")
    adaptation: AdaptationSettings | None = Field(
        None, description="dense: better vectors behind an encoder that stays as it is, hosted or local, tuned or not."
    )
    rerank: RerankSettings | None = Field(None, description="reranked: the first stage and the cross-encoder.")
    index: IndexSettings = Field(
        default=IndexSettings(), description="Where there are vectors: the kind of Faiss index, for large corpora."
    )
    export: ExportSettings | None = Field(
        None, description="dense, reranked: the formats that the model is deployed in; left out: none."
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        others = (self.encoder, self.merge, self.adaptation and self.adaptation.of)
        if self.retriever == "dense" and sum(other is not None for other in others) != 1:
            raise ValueError(
                "retriever: dense needs an encoder section, or in its place a merge section or adaptation.of; exactly "
                "one of them"
            )
        if self.retriever != "dense" and (self.encoder or self.mining or self.training or self.merge):
            raise ValueError(f"retriever: {self.retriever} has no encoder, mining or training section; remove them")
        if self.training == AUTO and self.mining:
            raise ValueError("training: auto chooses the mining as well; remove the mining section")
        if (self.mining is None) != (self.training in (None, AUTO)):
            raise ValueError("mining and training go together; add the missing section or remove the other")
        if self.training and (self.merge or isinstance(self.encoder, HostedEncoderSettings)):
            raise ValueError(
                "a hosted encoder or a mixture cannot be trained; remove mining and training or name a local encoder"
            )
        if self.mining and self.training_settings and self.mining.number == 0:
            _refuse_training_on_negatives(self.training_settings)
        if self.adaptation and (self.training or self.merge or self.retriever != "dense"):
            raise ValueError(
                "adaptation goes with retriever: dense, without training or merge; remove one of them, or name the "
                "trained or mixed variant as adaptation.of in a recipe of its own"
            )
        return self

    @property
    def training_settings(self) -> TrainingSettings | None:
        """The section where it is stated; None where nothing is trained, or auto has not been replaced yet."""
        return None if self.training == AUTO else self.training

    def measured(self) -> dict[str, Any]:
        """All that figures are told of: where vectors are published moves none."""
        return self.model_dump(mode="json", exclude={"index": {"store"}})

    @model_validator(mode="after")
    def _sections_fit_the_retriever(self) -> Self:
        if self.word_vectors and self.retriever != "word2vec":
            raise ValueError("word_vectors belongs to retriever: word2vec; remove it")
        if (self.fusion is not None) != (self.retriever == "fused"):
            raise ValueError("retriever: fused and a fusion section go together; add one or remove the other")
        if (self.hybrid is not None) != (self.retriever == "hybrid"):
            raise ValueError("retriever: hybrid and a hybrid section go together; add one or remove the other")
        if (self.rerank is not None) != (self.retriever == "reranked"):
            raise ValueError("retriever: reranked and a rerank section go together; add one or remove the other")
        if self.retriever in WITHOUT_VECTORS and self.index != IndexSettings():
            raise ValueError(f"retriever: {self.retriever} has no vectors and no index section; remove it")
        hosted = isinstance(self.encoder, HostedEncoderSettings)
        of_encoder = self.retriever == "dense" and not self.adaptation and not hosted
        if self.export and not of_encoder and not self.rerank:
            raise ValueError(
                "export goes with retriever: dense and a local encoder, without adaptation, or with retriever: "
                "reranked; move it to the recipe of such a variant"
            )
        if self.export and self.rerank and (other := sorted({*self.export.formats} - {*PAIR_FORMATS})):
            raise ValueError(
                f"export.formats: a cross-encoder is written as {', '.join(PAIR_FORMATS)}, found {', '.join(other)}; "
                "remove it"
            )
        return self


def _refuse_training_on_negatives(training: TrainingSettings) -> None:
    """What mining.number: 0 cannot feed."""
    if training.knowledge_distillation:
        raise ValueError("knowledge_distillation learns from the scores of mined negatives; raise mining.number from 0")
    if training.candidates in ("mined", "flagembedding"):
        raise ValueError(
            f"candidates: {training.candidates} needs mined negatives; raise mining.number from 0, or set candidates "
            "to in_batch, sample, corpus or auto"
        )


Part = TypeVar("Part")


def required(part: Part | None, name: str) -> Part:
    """A part of a recipe that the caller cannot do without.

    Raises:
        ValueError: the recipe does not have it.
    """
    if part is None:
        raise ValueError(f"the recipe has no {name} section. Add it, or leave this asset out for the variant.")
    return part


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file.

    Raises:
        ValueError: the file is missing, no YAML mapping, or a field is unknown, missing or out of range; the message
            names file, field, what was expected and found.
    """
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        shipped = shipped_files() / "data" / "recipes" / path.name
        cure = f"It comes with the package: cp {shipped} {path}" if shipped.is_file() else "Write the file"
        raise ValueError(f"{path}: no such recipe. Recipes there: {there}. {cure} or correct the variant's name.")
    content = read_mapping(path)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = [f"{path}, {line}" for line in describe_problems(error, Recipe, kinds=_NOT_IN_THE_FILE)]
        raise ValueError(join_problems(lines) + "\nEvery field is described in docs/recipes.md.") from error
