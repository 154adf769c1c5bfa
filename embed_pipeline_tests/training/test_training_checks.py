"""The checks of a checkpoint, with a planted fault each."""

import math
import random

import pytest

from embed_pipeline.defs.assets.training import SPECS, check_training
from embed_pipeline.defs.checks import CheckOutcome

FALLING = [3.0 - 0.1 * step + noise for step, noise in enumerate([0.05, -0.05] * 9)]


def _outcomes(losses: list[float], weight_change: float = 0.01) -> dict[str, CheckOutcome]:
    log = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    return {outcome.name: outcome for outcome in check_training(log, weight_change)}


def test_a_falling_loss_and_moved_weights_pass() -> None:
    assert all(outcome.passed for outcome in _outcomes(FALLING).values())


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_loss_that_is_no_number_blocks_and_its_step_is_named(odd: float) -> None:
    outcome = _outcomes([2.0, odd, 1.0])["loss_is_finite"]
    assert not outcome.passed and outcome.blocking and outcome.figures["first_at_step"] == 2


@pytest.mark.parametrize(
    ("losses", "told"),
    [([*reversed(FALLING)], "It rose"), ([0.0] * 15, "Every loss is 0"), ([1.0, 1.4, 0.7] * 6, "raise learning_rate")],
)
def test_a_loss_that_did_not_fall_is_a_warning_that_says_what_to_do(losses: list[float], told: str) -> None:
    outcomes = _outcomes(losses)
    assert not outcomes["loss_fell"].passed and not outcomes["loss_fell"].blocking
    assert told in outcomes["loss_fell"].remedy
    assert outcomes["loss_is_finite"].passed


@pytest.mark.parametrize("losses", [[5.66, 8.55, 8.37], [8.55, 5.66], [0.0]])
def test_a_few_batches_of_different_difficulty_are_not_judged(losses: list[float]) -> None:
    assert all(outcome.passed for outcome in _outcomes(losses).values())


def test_batches_that_differ_by_chance_alone_seldom_pass_for_a_fall() -> None:
    draw = random.Random(0)
    passed = [_outcomes([draw.gauss(5.0, 1.0) for _ in range(30)])["loss_fell"].passed for _ in range(400)]
    assert sum(passed) / len(passed) < 0.06


def test_unchanged_weights_fail() -> None:
    assert not _outcomes(FALLING, weight_change=0.0)["weights_changed"].passed


def test_every_declared_check_has_an_outcome_that_blocks_as_declared() -> None:
    outcomes = _outcomes(FALLING)
    assert {spec.name: spec.blocking for spec in SPECS} == {name: found.blocking for name, found in outcomes.items()}
