"""The checks of a checkpoint, with a planted fault each."""

import math

import pytest

from embed_pipeline.defs.checks.training import SPECS, check_training

FALLING = [{"loss": loss} for loss in (3.0, 2.5, 2.6, 1.5, 1.2, 1.3)]


def _passed(losses: list[float], weight_change: float = 0.01) -> dict[str, bool]:
    outcomes = check_training([{"loss": loss} for loss in losses], weight_change)
    return {outcome.name: outcome.passed for outcome in outcomes}


def test_a_falling_loss_and_moved_weights_pass() -> None:
    assert _passed([entry["loss"] for entry in FALLING]) == {"loss_is_finite_and_fell": True, "weights_changed": True}


@pytest.mark.parametrize("losses", [[1.0, 1.1, 1.2], [2.0, math.nan, 1.0], [2.0, 0.0, 0.0], [2.0, math.inf, 1.0]])
def test_a_loss_that_rises_vanishes_or_is_no_number_fails(losses: list[float]) -> None:
    assert not _passed(losses)["loss_is_finite_and_fell"]


def test_unchanged_weights_fail() -> None:
    assert not _passed([2.0, 1.0, 0.5], weight_change=0.0)["weights_changed"]


def test_every_declared_check_has_an_outcome_and_both_block() -> None:
    outcomes = check_training(FALLING, 0.01)
    assert {outcome.name for outcome in outcomes} == {spec.name for spec in SPECS}
    assert all(spec.blocking for spec in SPECS) and all(outcome.blocking for outcome in outcomes)
