"""Whether moving corpus vectors can work at all: how many held-out answers have a training query.

Belongs here: counting and the sentence about it. Does not belong here: any vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

RelevantRows = Sequence[Sequence[int]]
"""Per query the corpus rows of its relevant passages."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far training queries reach into the answers of validation."""

    passages: int
    moved: int
    """Passages that have a training query: only these can be moved."""
    answers: int
    """Distinct passages that answer a validation query."""
    answers_with_training_query: int
    queries: int
    """Validation queries."""
    queries_in_reach: int
    """Validation queries of which at least one answer has a training query."""

    @property
    def share(self) -> float:
        """The share of validation answers that have a training query; 0 without answers."""
        return self.answers_with_training_query / self.answers if self.answers else 0.0

    @property
    def explanation(self) -> str:
        """What to expect, in one or two sentences with figures."""
        counted = (
            f"{self.answers_with_training_query} of {self.answers} validation answers ({100 * self.share:.1f} %) have "
            f"a training query, which puts {self.queries_in_reach} of {self.queries} validation queries in reach; "
            f"{self.moved} of {self.passages} passages can be moved."
        )
        if self.queries_in_reach:
            return counted
        return (
            f"{counted} Moving passages cannot bring these answers nearer, so gamma is 0 and nothing changes: split by "
            "query instead of by passage, write training queries for these passages, or train a linear adapter."
        )


def explain_reach(train_relevant: RelevantRows, validation_relevant: RelevantRows, *, passages: int) -> Reach:
    """The reach of training queries into validation, from the relevant rows alone; cheap enough to run first."""
    trained = {row for answers in train_relevant for row in answers}
    answers = {row for rows in validation_relevant for row in rows}
    return Reach(
        passages=passages,
        moved=len(trained),
        answers=len(answers),
        answers_with_training_query=len(answers & trained),
        queries=len(validation_relevant),
        queries_in_reach=sum(1 for rows in validation_relevant if trained.intersection(rows)),
    )
