"""What got worse since the last evaluation, told apart from noise.

Belongs here: comparing two evaluations of the same variants. Does not belong here: which two (defs), telling people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embed_pipeline.evaluation.comparison import compare_queries
from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.significance import SignificanceSettings, adjust_p_values

FEWEST_SHARED = 20
"""Fewer questions than this in both evaluations say nothing about a change."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What one variant scored in two evaluations, on the measure that counts for its data set."""

    variant: str
    measure: Measure
    before: Sequence[QueryMeasure]
    after: Sequence[QueryMeasure]


@dataclass(frozen=True, slots=True)
class Drop:
    """A variant that is proven to be worse than in the evaluation before, on the questions that both asked."""

    variant: str
    measure: Measure
    before: float
    after: float
    low: float
    high: float
    p_adjusted: float
    queries: int

    def __str__(self) -> str:
        return (
            f"{self.variant} {self.measure}: {100 * self.before:.1f} → {100 * self.after:.1f} "
            f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}], p={self.p_adjusted:.2g}, {self.queries} questions"
        )


def find_drops(evaluated: Sequence[Evaluated], settings: SignificanceSettings | None = None) -> tuple[Drop, ...]:
    """The variants that got worse: paired by question, corrected (Holm) for the number of variants that were compared.

    Only questions of both evaluations count, so questions that came or went move nothing. Variants with fewer than
    FEWEST_SHARED of them, or without any changed value, are left out.
    """
    settings = settings or SignificanceSettings()
    candidates = []
    for variant in evaluated:
        before, after = (_values(side, variant.measure) for side in (variant.before, variant.after))
        shared = sorted(before.keys() & after.keys())
        if len(shared) < FEWEST_SHARED or all(before[query] == after[query] for query in shared):
            continue
        sides = [[QueryMeasure(q, variant.measure, side[q]) for q in shared] for side in (before, after)]
        (found,) = compare_queries(sides[0], sides[1], settings)
        means = [sum(side[q] for q in shared) / len(shared) for side in (before, after)]
        candidates.append((variant, found, means, len(shared)))
    adjusted = adjust_p_values([found.p_value for _, found, _, _ in candidates])
    return tuple(
        Drop(variant.variant, variant.measure, means[0], means[1], found.low, found.high, p_adjusted, queries)
        for (variant, found, means, queries), p_adjusted in zip(candidates, adjusted, strict=True)
        if p_adjusted <= settings.alpha and found.high < 0
    )


def _values(results: Sequence[QueryMeasure], measure: Measure) -> Mapping[str, float]:
    return {result.query_id: result.value for result in results if result.measure == measure}
