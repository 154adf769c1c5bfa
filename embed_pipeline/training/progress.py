"""What a training run says while it runs: every logged step in a file, every twentieth of the way in the run's log.

Imported by the worker process alone, therefore transformers stands at the top.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import TrainerControl, TrainerState, TrainingArguments

from embed_pipeline.training.keeper import Keeper

Report = Callable[[str], None]

_REPORTS = 20


class LogToRun(Keeper):
    """Writes each logged step to the checkpoint's log file and says every twentieth of the way in the run's log.

    `validation` holds the values of validation by step, as they come. Queries per second go to `speed_file`, which is
    not part of the checkpoint: they are never twice the same.
    """

    def __init__(self, path: Path, report: Report, *, validation: Mapping[int, float], speed_file: Path) -> None:
        self.path, self.report = path, report
        self.validation, self.speed_file = validation, speed_file
        self.started, self.told = time.monotonic(), -1
        self.first_step, self.counted = 0, 0
        self.clock = self.started
        self.last: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.started = self.clock = time.monotonic()
        self.first_step = self.counted = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict | None = None,
        **_: object,
    ) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        names = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm"}
        entry = {"step": state.global_step, "epoch": round(float(state.epoch or 0), 4)}
        entry |= {ours: float(logs[theirs]) for theirs, ours in names.items() if theirs in logs}
        if state.global_step in self.validation:
            entry["validation"] = self.validation[state.global_step]
        _append(self.path, entry)
        speed = self._speed(args, state.global_step)
        _append(self.speed_file, {"step": state.global_step, "queries_per_second": speed})
        self.last = {**entry, "queries_per_second": speed}
        share = state.global_step / state.max_steps
        if int(share * _REPORTS) > self.told:
            self.told = int(share * _REPORTS)
            self._say(state, share)

    def keep(self, folder: Path) -> None:
        """See Keeper."""
        if self.path.is_file():
            shutil.copyfile(self.path, folder / self.path.name)

    def restore(self, folder: Path, *, first: bool) -> None:
        """See Keeper."""
        if first and (folder / self.path.name).is_file():
            shutil.copyfile(folder / self.path.name, self.path)

    def _speed(self, args: TrainingArguments, step: int) -> float:
        now, queries = time.monotonic(), args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        speed = (step - self.counted) * queries / max(now - self.clock, 1e-6)
        self.clock, self.counted = now, step
        return round(speed, 2)

    def _say(self, state: TrainerState, share: float) -> None:
        done = max(1, state.global_step - self.first_step)
        left = (time.monotonic() - self.started) * (state.max_steps - state.global_step) / done
        bar = "█" * self.told + "░" * (_REPORTS - self.told)
        self.report(
            f"training {bar} {share:4.0%}  step {state.global_step}/{state.max_steps}  loss {self.last['loss']:.4f}  "
            f"learning rate {self.last.get('learning_rate', 0.0):.1e}  "
            f"{self.last['queries_per_second']:.0f} queries/s  {left / 60:.1f} min left"
        )


def _append(path: Path, entry: Mapping[str, float]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
