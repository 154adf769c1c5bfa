"""When to answer: the score from which a variant's first hit is right often enough.

Belongs here: choosing a threshold on validation queries and what it does on test queries; how far the scores of
relevant passages lie from those of the hardest irrelevant ones.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embed_pipeline.records import Hit


@dataclass(frozen=True, slots=True)
class FirstHit:
    """The best hit of a query: its score, and whether it is relevant."""

    score: float
    relevant: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and what answering only from it on gives; a query without a hit is never answered.

    `threshold` is None where no threshold reaches the wanted precision on the validation queries; then nothing is
    answered. Coverage is the share of all queries that are answered, precision the share of the answers that is right
    (None without answers); `test_low` and `test_high` bound the precision on test (exact binomial interval).
    """

    wanted_precision: float
    threshold: float | None
    validation_queries: int
    validation_coverage: float
    validation_precision: float | None
    test_queries: int
    test_coverage: float
    test_precision: float | None
    test_low: float | None
    test_high: float | None


FEWEST_ANSWERS = 20
"""A precision of fewer validation answers than this says too little to set a threshold by."""


def first_hits(hits: Iterable[Hit], relevant: Mapping[str, Collection[str]]) -> tuple[FirstHit, ...]:
    """The best hit of every query that has one, in the order of the hits; `relevant` is passage ids by query id."""
    return tuple(FirstHit(hit.score, hit.passage_id in relevant[hit.query_id]) for hit in hits if hit.rank == 1)


def calibrate(
    validation: Sequence[FirstHit],
    test: Sequence[FirstHit],
    *,
    wanted_precision: float,
    validation_queries: int,
    test_queries: int,
) -> Calibration:
    """The lowest threshold whose validation answers are right often enough, and what it gives on test.

    It is chosen among the scores of the validation hits, on at least FEWEST_ANSWERS answers; equal scores are answered
    together. The number of queries counts those without a hit too.
    """
    threshold = _choose_threshold(validation, wanted_precision)
    answered = [hit.relevant for hit in validation if threshold is not None and hit.score >= threshold]
    tested = [hit.relevant for hit in test if threshold is not None and hit.score >= threshold]
    low, high = _binomial_interval(tested)
    return Calibration(
        wanted_precision=wanted_precision,
        threshold=threshold,
        validation_queries=validation_queries,
        validation_coverage=_share(len(answered), validation_queries) or 0.0,
        validation_precision=_share(sum(answered), len(answered)),
        test_queries=test_queries,
        test_coverage=_share(len(tested), test_queries) or 0.0,
        test_precision=_share(sum(tested), len(tested)),
        test_low=low,
        test_high=high,
    )


def _choose_threshold(hits: Sequence[FirstHit], wanted_precision: float) -> float | None:
    ordered = sorted(hits, key=lambda hit: -hit.score)
    best, right = None, 0
    for count, hit in enumerate(ordered, start=1):
        right += hit.relevant
        last_of_its_score = count == len(ordered) or ordered[count].score < hit.score
        if last_of_its_score and count >= FEWEST_ANSWERS and right >= wanted_precision * count:
            best = hit.score
    return best


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _binomial_interval(outcomes: Sequence[bool]) -> tuple[float | None, float | None]:
    from scipy.stats import binomtest

    if not outcomes:
        return None, None
    interval = binomtest(sum(outcomes), len(outcomes)).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


BINS = 40


@dataclass(frozen=True, slots=True)
class ScoreDistribution:
    """Counts per bin: `positives` are relevant passages among the hits, `negatives` each query's best irrelevant hit.

    Bin i is from edges[i] to edges[i + 1]; edges are one longer than the counts.
    """

    edges: tuple[float, ...]
    positives: tuple[int, ...]
    negatives: tuple[int, ...]


def distribute_scores(
    hits: Iterable[Hit], relevant: Mapping[str, Collection[str]], *, bins: int = BINS
) -> ScoreDistribution | None:
    """The scores of the hits in bins of equal width; None without a hit. `relevant` is passage ids by query id."""
    positives: list[float] = []
    hardest: dict[str, float] = {}
    for hit in hits:
        if hit.passage_id in relevant[hit.query_id]:
            positives.append(hit.score)
        else:
            hardest[hit.query_id] = max(hit.score, hardest.get(hit.query_id, hit.score))
    scores = [*positives, *hardest.values()]
    if not scores:
        return None
    edges = np.histogram_bin_edges(scores, bins=bins)
    return ScoreDistribution(
        edges=tuple(edges.tolist()),
        positives=tuple(np.histogram(positives, edges)[0].tolist()),
        negatives=tuple(np.histogram(list(hardest.values()), edges)[0].tolist()),
    )
