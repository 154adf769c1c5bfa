"""TensorBoard event files of a training, outside the artifact: they hold wall times and would change its digest.

Imported by the worker process alone, therefore transformers stands at the top.
"""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from embed_pipeline.training.progress import LogToRun


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
