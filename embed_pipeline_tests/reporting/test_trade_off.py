import itertools

import pytest

from embed_pipeline.merging.promotion import MergePoint, choose_alpha
from embed_pipeline.reporting.plots import plot_trade_off


def point(alpha: float, target: float, general: float) -> MergePoint:
    """One mixture and a suite."""
    return MergePoint(alpha, target, {"general": general})


POINTS = [point(0.0, 0.70, 0.500), point(0.5, 0.79, 0.508), point(1.0, 0.80, 0.470)]
BOUNDS = {"allowed_loss": 0.005, "kept_gain": 0.8}


def test_a_trade_off_is_one_picture_whatever_the_order_of_points() -> None:
    promotion = choose_alpha(POINTS, **BOUNDS)
    found = {plot_trade_off(order, promotion, **BOUNDS) for order in itertools.permutations(POINTS)}
    assert len(found) == 1
    assert found.pop().startswith(b"\x89PNG")


def test_another_choice_and_another_bound_are_other_pictures() -> None:
    other = choose_alpha(POINTS, allowed_loss=0.0, kept_gain=1.0)
    pictures = {
        plot_trade_off(POINTS, promotion, allowed_loss=loss, kept_gain=0.8)
        for promotion in (choose_alpha(POINTS, **BOUNDS), other)
        for loss in (0.0, 0.01)
    }
    assert len(pictures) == 4


def test_a_promoted_alpha_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"promoted alpha 0\.5 among its 2 points"):
        plot_trade_off([POINTS[0], POINTS[2]], choose_alpha(POINTS, **BOUNDS), **BOUNDS)
