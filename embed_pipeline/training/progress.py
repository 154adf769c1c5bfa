"""What a training run says while it runs: every logged step in a file, every twentieth of the way in the run's log.

Imported by the worker process alone, therefore transformers stands at the top.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

Report = Callable[[str], None]

_REPORTS = 20


class LogToRun(TrainerCallback):
    """Writes each logged step to the checkpoint's log file and says every twentieth of the way in the run's log."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path, self.report = path, report
        self.started, self.told = time.monotonic(), -1

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
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        share = state.global_step / state.max_steps
        if int(share * _REPORTS) > self.told:
            self.told = int(share * _REPORTS)
            bar = "█" * self.told + "░" * (_REPORTS - self.told)
            left = (time.monotonic() - self.started) * (1 - share) / share
            self.report(
                f"training {bar} {share:4.0%}  step {state.global_step}/{state.max_steps}  loss {entry['loss']:.4f}  "
                f"learning rate {entry.get('learning_rate', 0.0):.1e}  {left / 60:.1f} min left"
            )
