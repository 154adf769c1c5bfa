"""How many hits to return: chosen on validation, by hand where it can be, and honest about what it gains."""

from dataclasses import replace

import numpy as np
import pytest

from embed_pipeline.evaluation.returned_labels import Ranked, ReturnRule, choose_returned, rank_hits
from embed_pipeline.records import Hit


def ranked(queries: int, seed: int, *, telling: bool) -> Ranked:
    """Queries with one to four right labels, found first.

    telling: the right ones score 1 to .9 and the wrong ones .5 and less; else all scores fall evenly.
    """
    chance = np.random.default_rng(seed)
    wanted = chance.integers(1, 5, queries)
    places = np.arange(10)[None, :]
    right = places < wanted[:, None]
    scores = (
        np.where(right, 1 - places / 40, 0.5 - places / 40)
        if telling
        else np.broadcast_to(1 - places / 40, right.shape)
    )
    return Ranked(scores.astype(float), right.astype(float), wanted.astype(float))


def test_where_scores_tell_right_from_wrong_the_gap_returns_exactly_the_right_ones() -> None:
    found = choose_returned(ranked(200, 1, telling=True), ranked(300, 2, telling=True))
    assert found is not None and found.rule.gap is not None and found.rule.at_most >= 4
    assert found.test.precision == found.test.recall == found.test.f1 == found.test.f1_high == 1
    assert found.fixed_test.f1 < 0.85 and found.difference == pytest.approx(1 - found.fixed_test.f1)
    assert (
        found.p_value is not None
        and found.p_value < 0.001
        and (found.validation_queries, found.test_queries) == (200, 300)
    )


def test_where_scores_tell_nothing_the_best_fixed_number_is_returned() -> None:
    validation, test = ranked(200, 1, telling=False), ranked(300, 2, telling=False)
    found = choose_returned(validation, test)
    assert found is not None and found.rule == ReturnRule(None, found.fixed) and found.test == found.fixed_test
    assert found.difference is found.p_value is None and found.test.returned == found.fixed
    by_hand = [
        np.mean([2 * min(k, wanted) / (k + wanted) for wanted in validation.wanted.tolist()]) for k in range(1, 11)
    ]
    assert found.fixed == 1 + int(np.argmax(by_hand))
    tested = np.mean([2 * min(found.fixed, wanted) / (found.fixed + wanted) for wanted in test.wanted.tolist()])
    assert found.test.f1 == pytest.approx(tested) and found.test.f1_low < tested < found.test.f1_high


def test_nothing_is_chosen_for_queries_with_one_answer_or_without_queries() -> None:
    several = ranked(50, 1, telling=True)
    one = replace(several, wanted=np.ones(50))
    none = Ranked(np.zeros((0, 10)), np.zeros((0, 10)), np.zeros(0))
    assert choose_returned(one, several) is choose_returned(several, none) is choose_returned(none, several) is None


@pytest.mark.parametrize(
    ("rule", "scores", "count"),
    [
        (ReturnRule(None, 3), [0.9, 0.1, 0.1, 0.1], 3),
        (ReturnRule(None, 3), [0.9], 1),
        (ReturnRule(0.25, 3), [0.75, 0.5, 0.25], 2),
        (ReturnRule(0.5, 2), [0.75, 0.5, 0.25], 2),
        (ReturnRule(0.0, 5), [0.5, 0.5, 0.25], 2),
        (ReturnRule(0.1, 3), [], 0),
    ],
)
def test_a_rule_counts_the_hits_to_return(rule: ReturnRule, scores: list[float], count: int) -> None:
    assert rule.count(scores) == count


def test_passages_with_one_text_are_returned_once_and_a_query_without_a_hit_has_none() -> None:
    hits = [Hit("q", "a", 1, 0.9), Hit("q", "copy", 2, 0.9), Hit("q", "b", 3, 0.5), Hit("unjudged", "a", 1, 0.1)]
    found = rank_hits(["q", "empty"], hits, {"q": {"a", "b", "c"}, "empty": {"a"}}, {"copy": "a"})
    assert found.scores[0, :3].tolist() == [0.9, 0.5, -np.inf] and found.relevant[0, :3].tolist() == [1, 1, 0]
    assert not np.isfinite(found.scores[1]).any() and found.wanted.tolist() == [3, 1]
    test = choose_returned(found, found)
    assert test is not None and test.test.returned <= 1 and np.isfinite(test.test.f1)
