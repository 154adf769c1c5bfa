"""What the scores of a hybrid search weigh: the section `hybrid` of a recipe, the chosen weights and their file.

Belongs here: settings and records. Does not belong here: the scores (hybrid.py), the choice (evaluation/weighing.py).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

WEIGHTS_FILE = "hybrid_weights.json"


class HybridSettings(BaseModel):
    """Whose vectors are searched with, and which weights of the other two scores are tried on validation queries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dense: str = Field(
        min_length=1, description="A dense variant of the same data set, trained or not; its score has weight 1."
    )
    part_weights: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 0.75, 1.0),
        description="Tried weights of the best clause's score; 0 alone: questions are not cut, no clause is encoded.",
    )
    lexical_weights: tuple[float, ...] = Field(
        (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0),
        description="Tried weights of the TF-IDF score over character n-grams.",
    )
    depth: int = Field(100, ge=1, description="Hits of each score, and of each clause, that become candidates.")

    @field_validator("part_weights", "lexical_weights")
    @classmethod
    def _check_weights(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if not weights or sorted(set(weights)) != list(weights) or weights[0] < 0:
            raise ValueError(f"expected ascending weights of 0 or more without doubles, found {list(weights)}")
        return weights


@dataclass(frozen=True, slots=True)
class HybridWeights:
    """The weights of the clauses' and the lexical score; the whole question's has 1."""

    parts: float
    lexical: float


VECTORS_ALONE = HybridWeights(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class WeighedPoint:
    """One pair of weights and what it scored on the validation queries, 0 to 1."""

    parts: float
    lexical: float
    value: float


@dataclass(frozen=True, slots=True)
class Weighing:
    """The sweep over all pairs of weights, the measure that decided, and the pair that was chosen."""

    measure: str
    points: tuple[WeighedPoint, ...]
    chosen: WeighedPoint

    @classmethod
    def of(cls, measure: str, points: Sequence[WeighedPoint]) -> Self:
        """The best is chosen; of equally good ones the smallest sum of weights, then the smallest of the parts."""
        best = max(points, key=lambda one: (round(one.value, 6), -one.parts - one.lexical, -one.parts))
        return cls(measure, tuple(points), best)

    @property
    def weights(self) -> HybridWeights:
        """The weights that were chosen."""
        return HybridWeights(self.chosen.parts, self.chosen.lexical)


def write_weighing(weighing: Weighing, directory: Path) -> None:
    """Write hybrid_weights.json; equal content gives equal bytes."""
    (directory / WEIGHTS_FILE).write_text(json.dumps(asdict(weighing), indent=1) + "\n", encoding="utf-8")


def read_weighing(directory: Path) -> Weighing:
    """The sweep written there."""
    content = json.loads((directory / WEIGHTS_FILE).read_text(encoding="utf-8"))
    points = tuple(WeighedPoint(**point) for point in content["points"])
    return Weighing(content["measure"], points, WeighedPoint(**content["chosen"]))
