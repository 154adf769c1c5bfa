"""When the model under training is measured, on what, and when that ends the training.

Belongs here: the settings of a recipe. Does not belong here: the measuring (validation.py).
"""

import re

from pydantic import BaseModel, ConfigDict, Field

_EVERY = r"^\d+(\.\d+)? (steps|epochs)$"
_MEASURE = r"^(precise|hit_rate|recall|mrr|ndcg)@[1-9]\d*$"


class ValidationSettings(BaseModel):
    """Retrieval on the validation queries during training; its best step becomes the checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: str = Field("0.25 epochs", pattern=_EVERY, description="How often: `200 steps` or `0.25 epochs`.")
    measure: str = Field("ndcg@10", pattern=_MEASURE, description="What is measured, as `ndcg@10` or `hit_rate@1`.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many evaluations without a new best; left out: train to the end."
    )
    max_queries: int = Field(1000, ge=1, description="A larger validation split is sampled, with the seed.")
    max_passages: int = Field(
        20_000, ge=1, description="A larger corpus is sampled, with the seed; all relevant passages stay."
    )
    stop_below_base: int | None = Field(
        5, ge=1, description="Stop with an error after so many evaluations in a row below the base; null: never."
    )

    def interval(self, steps_per_epoch: float) -> int:
        """Steps between two evaluations, at least 1."""
        number, unit = re.split(" ", self.every)
        return max(1, round(float(number) * (steps_per_epoch if unit == "epochs" else 1)))
