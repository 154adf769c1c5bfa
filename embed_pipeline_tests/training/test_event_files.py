"""What TensorBoard shows of a training."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerControl, TrainerState, TrainingArguments

from embed_pipeline.training.progress import EventFiles, LogToRun


def _write(root: Path, name: str, steps: range, *, loss: float) -> None:
    arguments, control = TrainingArguments(use_cpu=True), TrainerControl()
    log = LogToRun(root / f"{name} log", lambda _: None, validation={}, speed_file=root / f"{name} speed")
    events = EventFiles(root / "events", log)
    events.on_train_begin(arguments, TrainerState(global_step=steps.start - 1, is_world_process_zero=True), control)
    for step in steps:
        state = TrainerState(global_step=step, max_steps=9, is_world_process_zero=True)
        log.on_log(arguments, state, control, logs={"loss": loss + step})
        events.on_log(arguments, state, control)
    events.on_log(arguments, state, control)  # the trainer speaks once more at the end, without a loss
    events.writer.close()


def _read(root: Path) -> list[tuple[int, float]]:
    found = EventAccumulator(str(root / "events")).Reload()
    return [(point.step, point.value) for point in found.Scalars("training/loss")]


def test_every_step_is_written_once(tmp_path: Path) -> None:
    _write(tmp_path, "only", range(1, 4), loss=0.0)
    assert _read(tmp_path) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_training_that_goes_on_replaces_what_the_killed_one_wrote_behind_its_checkpoint(tmp_path: Path) -> None:
    _write(tmp_path, "killed", range(1, 6), loss=0.0)
    _write(tmp_path, "resumed", range(4, 7), loss=100.0)
    assert _read(tmp_path) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 104.0), (5, 105.0), (6, 106.0)]
