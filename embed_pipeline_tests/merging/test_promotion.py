"""Promotion: the gain is kept inside the allowed loss, or it is said which of the two cannot be had."""

import itertools
import json
from pathlib import Path

import pytest

from embed_pipeline.merging.promotion import (
    PROMOTION_FILE,
    MergePoint,
    Sweep,
    choose_alpha,
    read_sweep,
    write_sweep,
)
from embed_pipeline.merging.settings import MergeSettings


def point(alpha: float, target: float, general: float) -> MergePoint:
    """One mixture and a suite."""
    return MergePoint(alpha, target, {"general": general})


CURVE = [
    point(0.0, 0.700, 0.500),
    point(0.5, 0.790, 0.508),
    point(0.7, 0.795, 0.496),
    point(1.0, 0.800, 0.470),
]


def test_the_best_target_inside_both_bounds_is_promoted_and_the_reason_has_figures() -> None:
    promotion = choose_alpha(CURVE, allowed_loss=0.005)
    assert (promotion.alpha, promotion.promoted, promotion.within_bounds) == (0.7, "merged", True)
    assert promotion.kept_gain == pytest.approx(0.95)
    assert promotion.general_loss == pytest.approx(0.004)
    assert "keeps 95 % of the gain (target +9.5, general -0.4 points)" in promotion.reason
    assert "The tuned model alone: target +10.0, general -3.0 points." in promotion.reason


def test_what_one_suite_gains_does_not_pay_for_what_another_loses() -> None:
    base = MergePoint(0.0, 0.70, {"en": 0.90, "zh": 0.10})
    half = MergePoint(0.5, 0.78, {"en": 0.90, "zh": 0.30})
    tuned = MergePoint(1.0, 0.80, {"en": 0.80, "zh": 0.60})
    promotion = choose_alpha([base, half, tuned], allowed_loss=0.005)
    assert (promotion.alpha, promotion.general_loss) == (0.5, 0.0)
    assert "The tuned model alone: target +10.0, general -10.0 points." in promotion.reason


def test_a_sweep_is_read_again_one_of_an_earlier_version_too(tmp_path: Path) -> None:
    promotion = choose_alpha(CURVE, allowed_loss=0.005)
    write_sweep(CURVE, promotion, tmp_path)
    assert read_sweep(tmp_path) == Sweep(tuple(CURVE), promotion)
    content = json.loads((tmp_path / PROMOTION_FILE).read_text(encoding="utf-8"))
    for one in content["points"]:
        one["general"] = one.pop("suites")["general"]
    (tmp_path / PROMOTION_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert read_sweep(tmp_path) == Sweep(tuple(CURVE), promotion)


def test_a_smaller_allowed_loss_promotes_a_mixture_nearer_to_the_base() -> None:
    assert choose_alpha(CURVE, allowed_loss=0.0).alpha == 0.5


def test_a_tuned_model_that_forgets_nothing_is_promoted_itself() -> None:
    promotion = choose_alpha([CURVE[0], CURVE[1], point(1.0, 0.8, 0.5)], allowed_loss=0.0)
    assert (promotion.promoted, promotion.alpha) == ("tuned", 1.0)


@pytest.mark.parametrize("otherwise", ["base", "tuned"])
def test_without_a_fitting_mixture_both_failing_bounds_are_told(otherwise) -> None:
    points = [CURVE[0], point(0.3, 0.740, 0.498), point(0.6, 0.785, 0.480), CURVE[3]]
    promotion = choose_alpha(points, allowed_loss=0.005, otherwise=otherwise)
    assert (promotion.promoted, promotion.within_bounds) == (otherwise, False)
    assert "With the gain the least loss is at alpha 0.6 (target +8.5, general -2.0 points)" in promotion.reason
    assert "the most gain is at alpha 0.3, 40 % of it (target +4.0, general -0.2 points)" in promotion.reason


@pytest.mark.parametrize("tuned", [0.7, 0.6])
def test_a_model_that_gained_nothing_is_never_promoted(tuned: float) -> None:
    promotion = choose_alpha([CURVE[0], point(1.0, tuned, 0.9)], allowed_loss=1.0, otherwise="tuned")
    assert (promotion.promoted, promotion.kept_gain) == ("base", None)
    assert "no gain to keep" in promotion.reason


def test_no_order_of_the_points_changes_the_choice() -> None:
    tied = [*CURVE, point(0.6, 0.795, 0.496), point(0.8, 0.795, 0.496)]
    found = {choose_alpha(order, allowed_loss=0.005) for order in itertools.permutations(tied)}
    assert [promotion.alpha for promotion in found] == [0.6]


def test_every_promotion_within_bounds_keeps_both_and_none_fitting_scores_more() -> None:
    for targets in itertools.product((0.70, 0.75, 0.79, 0.82), repeat=3):
        for generals in itertools.product((0.47, 0.495, 0.51), repeat=3):
            rows = zip((0.2, 0.5, 1.0), targets, generals, strict=True)
            points = [point(0.0, 0.70, 0.50), *(point(*row) for row in rows)]
            gain = targets[-1] - 0.70
            fitting = [
                p for p in points if p.target - 0.70 >= 0.8 * gain - 1e-9 and p.suites["general"] >= 0.495 - 1e-9
            ]
            promotion = choose_alpha(points, allowed_loss=0.005)
            assert promotion.within_bounds == bool(gain > 0 and fitting)
            if promotion.within_bounds:
                assert promotion.gain + 0.70 == pytest.approx(max(point.target for point in fitting))


@pytest.mark.parametrize("points", [[], CURVE[:3], CURVE[1:], [*CURVE, CURVE[1]]])
def test_both_ends_once_are_needed(points: list[MergePoint]) -> None:
    with pytest.raises(ValueError, match="Measure both ends"):
        choose_alpha(points, allowed_loss=0.005)


@pytest.mark.parametrize("alphas", [(), (0.0,), (0.5, 1.0), (0.0, 0.5), (0.0, 0.5, 0.5, 1.0), (1.0, 0.0)])
def test_a_sweep_without_both_ends_in_order_is_refused(alphas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascend from 0 to 1"):
        MergeSettings(of=("tuned",), alphas=alphas)
