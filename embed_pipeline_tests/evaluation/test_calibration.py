"""Answer only if sure: the threshold keeps its promise on validation, and says what it gives on test."""

import random

import pytest
from scipy.stats import beta

from embed_pipeline.evaluation.calibration import FEWEST_ANSWERS, FirstHit, calibrate, distribute_scores, first_hits
from embed_pipeline.records import Hit


def _hits(seed: int, count: int = 400) -> list[FirstHit]:
    chance = random.Random(seed)
    return [FirstHit(score := round(chance.random(), 2), chance.random() < score) for _ in range(count)]


def _calibrate(validation: list[FirstHit], test: list[FirstHit], wanted: float, silent: int = 0):
    return calibrate(
        validation,
        test,
        wanted_precision=wanted,
        validation_queries=len(validation) + silent,
        test_queries=len(test) + silent,
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_lowest_one_that_is_precise_enough_on_validation(seed: int) -> None:
    validation, test = _hits(seed), _hits(seed + 100)
    found = _calibrate(validation, test, 0.8)
    assert found.threshold is not None
    for threshold in {hit.score for hit in validation}:
        answered = [hit.relevant for hit in validation if hit.score >= threshold]
        if len(answered) >= FEWEST_ANSWERS and sum(answered) / len(answered) >= 0.8:
            assert threshold >= found.threshold
    answered = [hit.relevant for hit in validation if hit.score >= found.threshold]
    assert (
        found.validation_precision == pytest.approx(sum(answered) / len(answered)) and found.validation_precision >= 0.8
    )
    tested = [hit.relevant for hit in test if hit.score >= found.threshold]
    assert found.test_precision == pytest.approx(sum(tested) / len(tested))
    assert found.test_coverage == pytest.approx(len(tested) / len(test))


def test_the_interval_of_the_test_precision_is_the_exact_one() -> None:
    found = _calibrate([FirstHit(0.9, True)] * 30, [FirstHit(0.95, True)] * 18 + [FirstHit(0.9, False)] * 2, 0.9)
    assert (found.test_low, found.test_high) == pytest.approx((beta.ppf(0.025, 18, 3), beta.ppf(0.975, 19, 2)))


def test_queries_without_a_hit_count_as_not_answered() -> None:
    found = _calibrate([FirstHit(0.9, True)] * 30, [FirstHit(0.95, True)] * 30, 0.9, silent=30)
    assert (found.validation_coverage, found.test_coverage) == (0.5, 0.5)


@pytest.mark.parametrize("validation", [[], [FirstHit(0.9, True)] * (FEWEST_ANSWERS - 1), [FirstHit(0.9, False)] * 99])
def test_where_no_threshold_is_good_enough_nothing_is_answered(validation: list[FirstHit]) -> None:
    found = _calibrate(validation, _hits(1), 0.9)
    assert (found.threshold, found.test_coverage, found.test_precision, found.test_low) == (None, 0, None, None)


def test_only_the_first_hit_of_a_query_counts() -> None:
    hits = [Hit("q1", "p1", 1, 0.9), Hit("q1", "p2", 2, 0.8), Hit("q2", "p2", 1, 0.3)]
    assert first_hits(hits, {"q1": {"p2"}, "q2": {"p2"}}) == (FirstHit(0.9, False), FirstHit(0.3, True))


def test_a_distribution_counts_every_relevant_hit_and_each_querys_hardest_other() -> None:
    hits = [Hit("q1", "p1", 1, 1.0), Hit("q1", "p2", 2, 0.8), Hit("q1", "p3", 3, 0.2), Hit("q2", "p1", 1, 0.0)]
    found = distribute_scores(hits, {"q1": {"p1"}, "q2": set()}, bins=2)
    assert found is not None
    assert (found.edges, found.positives, found.negatives) == ((0.0, 0.5, 1.0), (0, 1), (1, 1))
    assert distribute_scores([], {}) is None
