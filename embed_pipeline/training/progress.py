"""What a training run says while it runs: every logged step in a file, how far it is in the run's log.

TensorBoard's event files lie outside the artifact: they hold wall times and would change its digest.
Imported by the worker process alone, therefore transformers stands at the top.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from embed_pipeline.progress import Progress
from embed_pipeline.training.watchdog import Keeper

Report = Callable[[str], None]


class LogToRun(Keeper):
    """Writes each logged step to the checkpoint's log file and says in the run's log how far it is.

    `validation` holds the values of validation by step, as they come. Queries per second go to `speed_file`, which is
    not part of the checkpoint: they are never twice the same.
    """

    def __init__(self, path: Path, report: Report, *, validation: Mapping[int, float], speed_file: Path) -> None:
        self.path, self.progress = path, Progress(report, "trained", "steps")
        self.validation, self.speed_file = validation, speed_file
        self.counted, self.clock = 0, time.monotonic()
        self.last: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.counted, self.clock = state.global_step, time.monotonic()

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
        facts = f"loss {entry['loss']:.4f}, learning rate {entry.get('learning_rate', 0.0):.1e}, {speed:.0f} queries/s"
        self.progress(state.global_step, state.max_steps, facts)

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


def _append(path: Path, entry: Mapping[str, float]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


class EventFiles(TrainerCallback):
    """Writes what the log says into `folder`, each step once, from the first process alone.

    A training that goes on writes another file into the folder; TensorBoard drops what the killed one had written of
    the steps that are taken again.
    """

    def __init__(self, folder: Path, log: LogToRun) -> None:
        self.folder, self.log = folder, log
        self.writer: Any = None
        self.written = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.written = state.global_step
        if state.is_world_process_zero:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=state.global_step + 1)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        step = int(self.log.last.get("step", 0))
        if self.writer is None or step <= self.written:
            return
        self.written = step
        for name, value in self.log.last.items():
            if name != "step":
                self.writer.add_scalar(f"training/{name}", value, step)
        self.writer.flush()
