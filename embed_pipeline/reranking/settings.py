"""The section `rerank` of a recipe: whose hits are ordered anew, how many, and how the cross-encoder is fine-tuned."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embed_pipeline.encoding.cross_encoder import CrossEncoderSettings


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

    of: str = Field(min_length=1, description="The first stage: a variant of the same data set that was fine-tuned.")
    top_k: int = Field(100, ge=1, description="Hits of the first stage that are scored.")
    keep: int = Field(10, ge=1, description="Hits that are returned, ordered by the cross-encoder's score.")
    batch_size: int = Field(64, ge=1, description="Pairs that are scored at once; moves no score.")
    training: RerankerSettings = Field(
        default_factory=RerankerSettings, description="How the cross-encoder is fine-tuned on the mined groups."
    )

    def cross_encoder(self, folder: Path) -> CrossEncoderSettings:
        """The settings of the fine-tuned cross-encoder in a folder: pairs as long as in training."""
        longest = self.training.query_max_length + self.training.passage_max_length
        return CrossEncoderSettings(model=str(folder), revision=None, max_length=longest, batch=self.batch_size)

    @model_validator(mode="after")
    def _keep_some(self) -> Self:
        if self.keep > self.top_k:
            raise ValueError(f"keep is {self.keep} of top_k {self.top_k} hits; lower keep or raise top_k")
        return self
