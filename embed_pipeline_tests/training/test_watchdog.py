"""A hopeless training stops, and its error says why."""

import json
from pathlib import Path

import pytest

from embed_pipeline.training.watchdog import HopelessTrainingError, LossWatch, check_validation
from embed_pipeline_tests.training.conftest import Train


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_or_gradient_that_is_no_number_stops(value: float) -> None:
    with pytest.raises(HopelessTrainingError, match="step 3: expected a finite loss"):
        LossWatch().check_loss(3, value)
    with pytest.raises(HopelessTrainingError, match="step 3: expected a finite gradient"):
        LossWatch().check_gradient(3, value)


def test_a_loss_of_zero_three_times_in_a_row_stops() -> None:
    watch = LossWatch()
    for loss in (0.0, 0.0, 0.1, 0.0, 0.0):
        watch.check_loss(1, loss)
    with pytest.raises(HopelessTrainingError, match="exactly 0"):
        watch.check_loss(2, 0.0)


def test_validation_below_the_base_stops_only_after_the_limit_in_a_row() -> None:
    check_validation([0.1, 0.6, 0.1], 0.5, "ndcg@10", 2)
    check_validation([0.5, 0.5], 0.5, "ndcg@10", 2)
    check_validation([0.1] * 9, 0.5, "ndcg@10", None)
    with pytest.raises(HopelessTrainingError, match=r"below the base's 0\.5000 for 2 evaluations"):
        check_validation([0.6, 0.1, 0.2], 0.5, "ndcg@10", 2)


def test_a_training_that_moves_no_weight_stops_with_the_reason_in_a_file(train: Train, tmp_path: Path) -> None:
    root = tmp_path / "job"
    root.mkdir()
    with pytest.raises(RuntimeError, match="status 1"):
        train(root=root, epochs=1, learning_rate=1e-60, vocabulary_extension=None)
    assert "no weight has changed since the start" in (root / "work" / "reason.txt").read_text(encoding="utf-8")


def test_the_best_step_is_kept_and_patience_ends_the_training(train: Train, tmp_path: Path) -> None:
    validation = {"every": "1 steps", "patience": 2, "measure": "ndcg@10", "stop_below_base": None}
    events = tmp_path / "events"
    folder = train(epochs=20, vocabulary_extension=None, validation=validation, tensorboard=events)
    log = [json.loads(line) for line in (folder / "training_log.jsonl").read_text(encoding="utf-8").splitlines()]
    values = {entry["step"]: entry["validation"] for entry in log if "validation" in entry}
    summary = json.loads((folder / "training_summary.json").read_text(encoding="utf-8"))
    best = min(step for step, value in values.items() if value == max(values.values()))
    assert summary["best_step"] == best and max(values) == best + 2 and max(values) < 80
    assert 0 <= summary["validation_base"] <= 1
    assert list(events.glob("events.out.tfevents.*"))
