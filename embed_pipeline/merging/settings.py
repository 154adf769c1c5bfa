"""The section `merge` of a recipe: which mixtures of base and tuned weights are tried and what the chosen must keep."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class MergeSettings(BaseModel):
    """Which mixtures of base and tuned weights are tried, and what the promoted one has to keep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: tuple[str, ...] = Field(
        min_length=1, description="The tuned models: fine-tuned variants of the same data set, mixed in equal shares."
    )
    alphas: tuple[float, ...] = Field(
        default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        description="Shares of the tuned weights that are tried; 0 (the base) and 1 (the tuned model) among them.",
    )
    kept_gain: float = Field(
        0.8, gt=0, le=1, description="Share of the tuned model's gain on the target that must be kept."
    )
    allowed_loss: float = Field(
        default=0.005,
        ge=0,
        lt=1,
        description="What each general suite's measure may lose, 0 to 1: 0.005 is half a point.",
    )
    otherwise: Literal["base", "tuned"] = Field(
        default="base",
        description="What is promoted when no mixture does both: base, so that nothing that worked breaks, or tuned, "
        "where only the target is ever asked.",
    )

    max_queries: int = Field(1000, ge=1, description="Queries that a mixture is measured with, per data set.")
    max_passages: int = Field(
        10_000, ge=1, description="Passages it is measured against; a larger corpus is sampled, relevant ones stay."
    )
    seed: int = Field(0, ge=0, description="Seed of both samples.")

    @field_validator("alphas")
    @classmethod
    def _check_alphas(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        if sorted(set(alphas)) != list(alphas) or not alphas or alphas[0] != 0 or alphas[-1] != 1:
            raise ValueError(f"alphas must ascend from 0 to 1 without doubles, found {list(alphas)}")
        return alphas
