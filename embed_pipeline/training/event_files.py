"""TensorBoard event files of a training, outside the artifact: they hold wall times and would change its digest.

Imported by the worker process alone, therefore transformers stands at the top.
"""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from embed_pipeline.training.progress import LogToRun


class EventFiles(TrainerCallback):
    """Writes what the log says into `folder`, from the first process alone."""

    def __init__(self, folder: Path, log: LogToRun) -> None:
        self.folder, self.log = folder, log
        self.writer: Any = None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if not state.is_world_process_zero or not self.log.last:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder))
        for name, value in self.log.last.items():
            if name != "step":
                self.writer.add_scalar(f"training/{name}", value, int(self.log.last["step"]))
        self.writer.flush()
