"""A night's alarm: a planted drop is found, noise and other questions are not called one."""

import numpy as np
import pytest

from embed_pipeline.evaluation.comparison import FEWEST_SHARED, Evaluated, find_drops
from embed_pipeline.evaluation.measures import Measure, QueryMeasure

MEASURE = Measure("ndcg", 10)


def _results(values: np.ndarray, first: int = 0) -> list[QueryMeasure]:
    return [QueryMeasure(f"q{first + at:04d}", MEASURE, float(value)) for at, value in enumerate(values)]


def _evaluated(before: np.ndarray, after: np.ndarray, name: str = "set/variant") -> Evaluated:
    return Evaluated(name, MEASURE, _results(before), _results(after))


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_drop_is_found_and_a_gain_is_none(seed: int) -> None:
    before = np.random.default_rng(seed).random(300)
    worse = np.clip(before - 0.1 * (np.random.default_rng(seed + 50).random(300) < 0.4), 0, 1)
    (drop,) = find_drops([_evaluated(before, worse), _evaluated(worse, before, "set/other")])
    assert drop.variant == "set/variant" and drop.after < drop.before and drop.high < 0 and drop.queries == 300
    assert "set/variant ndcg@10: " in str(drop)


@pytest.mark.parametrize(("nights", "most"), [(20, 1), pytest.param(100, 7, marks=pytest.mark.slow)])
def test_of_many_nights_of_noise_on_ten_variants_hardly_any_raises_an_alarm(nights: int, most: int) -> None:
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(nights):
        evaluated = []
        for variant in range(10):
            before = generator.random(100)
            evaluated.append(_evaluated(before, np.clip(before + generator.normal(0, 0.1, 100), 0, 1), f"v{variant}"))
        alarms += bool(find_drops(evaluated))
    assert alarms <= most


def test_questions_that_came_or_went_move_nothing() -> None:
    values = np.random.default_rng(1).random(100)
    grown = Evaluated("v", MEASURE, _results(values), [*_results(values), *_results(np.zeros(100), first=500)])
    assert find_drops([grown]) == ()


def test_too_few_shared_questions_and_an_unchanged_evaluation_say_nothing() -> None:
    few = FEWEST_SHARED - 1
    assert find_drops([_evaluated(np.ones(few), np.zeros(few)), _evaluated(np.ones(99), np.ones(99))]) == ()
    assert find_drops([]) == ()
    assert len(find_drops([_evaluated(np.ones(few + 1), np.zeros(few + 1))])) == 1
