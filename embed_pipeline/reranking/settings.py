"""The section `rerank` of a recipe: whose hits are ordered anew, how many, and by which cross-encoder, tuned or not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from embed_pipeline.encoding.cross_encoder import CrossEncoderSettings, check_cross_encoder_name
from embed_pipeline.retrieval.search import SecondStage


class RerankerSettings(BaseModel):
    """How a cross-encoder is fine-tuned on mined groups."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(default=6e-5, gt=0, description="Peak learning rate of AdamW.")
    epochs: float = Field(default=1.0, gt=0, description="Passes over the training queries.")
    batch_size: int = Field(default=8, ge=1, description="Queries per step and process, each with its group.")
    train_group_size: int = Field(
        default=8, ge=2, description="Passages per query: one positive, the rest mined negatives."
    )
    query_max_length: int = Field(default=64, ge=1, description="With passage_max_length the tokens of a pair.")
    passage_max_length: int = Field(default=192, ge=1, description="With query_max_length the tokens of a pair.")
    warmup_share: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW weight decay.")
    knowledge_distillation: bool = Field(default=False, description="Learn from the scores in the groups as well.")
    seed: int = Field(default=0, ge=0, description="Seed of the fresh head, the order, the draws and dropout.")


class RerankSettings(BaseModel):
    """A second stage behind another variant: a cross-encoder scores its first hits, the best of them stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str = Field(
        min_length=1, description="The first stage: a variant of the same data set; with training a fine-tuned one."
    )
    model: Annotated[str | None, AfterValidator(check_cross_encoder_name)] = Field(
        None,
        min_length=1,
        description="A pretrained cross-encoder, a folder or a Hub name. Left out: the first stage's weights with a "
        "fresh head, which is trained.",
    )
    revision: str | None = Field(None, description="Commit, tag or branch of a Hub model; a commit is exact.")
    top_k: int = Field(100, ge=1, description="Hits of the first stage that are scored.")
    keep: int = Field(10, ge=1, description="Hits that are returned, ordered by the cross-encoder's score.")
    batch_size: int = Field(64, ge=1, description="Pairs that are scored at once; moves no score.")
    max_length: int = Field(512, ge=8, description="Tokens of a pair without training; with it, its lengths' sum.")
    training: RerankerSettings | None = Field(
        None,
        description="How the cross-encoder is fine-tuned on the mined groups. Left out: a model is taken as it is, a "
        "fresh head is trained with the defaults.",
    )

    @property
    def second_stage(self) -> SecondStage:
        """How many hits are scored and stay."""
        return SecondStage(self.top_k, self.keep)

    def trained(self, folder: Path) -> CrossEncoderSettings:
        """The settings of the fine-tuned cross-encoder in a folder: pairs as long as in training."""
        trained = self.training
        longest = trained.query_max_length + trained.passage_max_length if trained else self.max_length
        return CrossEncoderSettings(model=str(folder), revision=None, max_length=longest, batch=self.batch_size)

    @property
    def pretrained(self) -> CrossEncoderSettings | None:
        """The settings of the model that is named, if one is."""
        if self.model is None:
            return None
        return CrossEncoderSettings(
            model=self.model, revision=self.revision, max_length=self.max_length, batch=self.batch_size
        )

    @model_validator(mode="before")
    @classmethod
    def _train_a_fresh_head(cls, content: Any) -> Any:
        if isinstance(content, Mapping) and content.get("model") is None and "training" not in content:
            return {**content, "training": {}}
        return content

    @model_validator(mode="after")
    def _refuse_settings_without_effect(self) -> Self:
        if self.model is None and self.training is None:
            raise ValueError("training: null needs a model to score with: a fresh head knows nothing; name a model")
        if self.model is None and self.revision is not None:
            raise ValueError("revision belongs to a model; name it or remove revision")
        if self.training and "max_length" in self.model_fields_set:
            raise ValueError("max_length has no effect with training; set its query_max_length and passage_max_length")
        return self

    @model_validator(mode="after")
    def _keep_some(self) -> Self:
        if self.keep > self.top_k:
            raise ValueError(f"keep is {self.keep} of top_k {self.top_k} hits; lower keep or raise top_k")
        return self
