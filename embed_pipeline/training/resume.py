"""Checkpoints of a training under way: written whole or not at all, checked before they are used.

Belongs here: what is saved, and going on from it. Does not
belong here: the finished encoder (finetune.py). Imported by the worker process alone, therefore torch stands at the
top.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer

from embed_pipeline.paths import digest_of
from embed_pipeline.training.finetune import checkpoint_steps
from embed_pipeline.training.watchdog import Keeper, LossWatch, count_tokens

SEAL_FILE = "digests.json"
KEPT = 2
_PARTIAL, _WEIGHTS = "partial", "model.safetensors"
_READ_TOGETHER = 64  # losses and gradient norms on a GPU: reading each would make every step wait


class ResumableTrainer(Trainer):
    """A trainer that, killed at any step and started again, ends with the weights of an uninterrupted run.

    That holds for batches that depend on seed and epoch alone. Every loss and gradient goes past the watchdogs.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.saving = False
        self.step_tokens = 0
        self.resumed_from: Path | None = None
        self.watch = LossWatch(1 if self.args.device.type == "cpu" else _READ_TOGETHER)

    def go_on_from(self, checkpoint: Path) -> None:
        """Take the callbacks' memories from a checkpoint, and the rest once `train` is called."""
        self.resumed_from = checkpoint
        for keeper in self._keepers():
            keeper.restore(checkpoint, first=self.args.process_index == 0)

    def remember(self) -> dict[str, Any]:
        """What this process, each one for itself, must know again to go on."""
        # Of the steps since the last line of the log, so that the next line has the same mean.
        loss = {"since_logged": self._tr_loss.item(), "last_logged": self._globalstep_last_logged}
        return {**loss, "zeros": self.watch.zeros}

    def recall(self, memory: dict[str, Any]) -> None:
        """Know again what `remember` gave; called before the first batch is drawn."""
        self._tr_loss = torch.tensor(memory["since_logged"], device=self.args.device)
        self._globalstep_last_logged = memory["last_logged"]
        self.watch.zeros = memory["zeros"]

    def create_scheduler(self, num_training_steps: int, *arguments: Any, **named: Any) -> Any:
        """The schedule of the arguments; a single step does not warm up: its rate would be 0."""
        if num_training_steps == 1:
            self.args.warmup_steps = 0
        return super().create_scheduler(num_training_steps, *arguments, **named)

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        """The loss of a batch, watched."""
        self.step_tokens = count_tokens(inputs)
        loss = super().training_step(model, inputs, *arguments, **named)
        self.watch.see("loss", self.state.global_step + 1, loss, inputs.get("weights"))
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not self.args.fp16:  # float16 skips steps that overflow
            self.watch.see("gradient", self.state.global_step + 1, norm)
        return norm

    def _run_epoch(self, *arguments: Any, **named: Any) -> Any:
        if self.resumed_from:
            self.recall(json.loads(self._memory_file(self.resumed_from).read_text(encoding="utf-8")))
            self.resumed_from = None
        super()._run_epoch(*arguments, **named)
        self.watch.settle()

    def _memory_file(self, folder: Path) -> Path:
        return folder / f"process_{self.args.process_index}.json"

    def _keepers(self) -> list[Keeper]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, Keeper)]

    def _get_output_dir(self, trial: Any) -> str:
        run = super()._get_output_dir(trial)
        return str(Path(run) / _PARTIAL) if self.saving else run

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir or "")
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach().contiguous() for name, weight in _trained(self.model)}, folder / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved, trained = load_file(Path(resume_from_checkpoint) / _WEIGHTS), dict(_trained(model or self.model))
        if saved.keys() != trained.keys():
            different = sorted(saved.keys() ^ trained.keys())
            raise ValueError(
                f"{resume_from_checkpoint}: expected the weights that are trained, found others: {different[0]} and "
                f"{len(different) - 1} more. Remove the folder; the training then starts over."
            )
        with torch.no_grad():
            for name, weight in trained.items():
                weight.copy_(saved[name])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.watch.settle()  # hopeless weights are not worth a checkpoint
        run, first = Path(self.args.output_dir or ""), self.args.process_index == 0
        folder = run / _PARTIAL / f"checkpoint-{self.state.global_step}"
        if first:
            shutil.rmtree(run / _PARTIAL, ignore_errors=True)
        _wait_for_all()
        self.saving = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.saving = False
        self._memory_file(folder).write_text(json.dumps(self.remember()), encoding="utf-8")
        _wait_for_all()
        if first:
            for keeper in self._keepers():
                keeper.keep(folder)
            seal(folder)
            publish(folder, run / folder.name)


def _trained(network: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """What a step changes: the base gives the rest again."""
    return ((name, weight) for name, weight in network.named_parameters() if weight.requires_grad)


def seal(folder: Path) -> None:
    """Write the digests of a folder's files beside them, all of it on disk when this returns."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): digest_of(path) for path in files}
    (folder / SEAL_FILE).write_text(json.dumps(digests, indent=1), encoding="utf-8")
    for path in [*files, folder / SEAL_FILE]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def publish(folder: Path, target: Path) -> None:
    """Give a sealed checkpoint its name in one step and remove all but the last two."""
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)
    for old in _checkpoints(target.parent)[:-KEPT]:
        shutil.rmtree(old)


def newest_sound(run: Path, report: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files are as they were written; None if there is none.

    Damaged ones on the way to it are removed, and said to be: `publish` would count them as kept.
    """
    found = _checkpoints(run)
    for folder in reversed(found):
        damage = find_damage(folder)
        if damage is None:
            return folder
        report(f"{folder.name} cannot be used and is removed: {damage}")
        shutil.rmtree(folder)
    if found:
        report("the training starts over: none of its checkpoints is sound")
    return None


def newest_for_all(run: Path, report: Callable[[str], None]) -> Path | None:
    """`newest_sound` as the first process finds it, in every process."""
    if not torch.distributed.is_initialized():
        return newest_sound(run, report)
    found = [newest_sound(run, report) if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(found, src=0)
    return found[0]


def _checkpoints(run: Path) -> list[Path]:
    return [run / f"checkpoint-{step}" for step in checkpoint_steps(run)]


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, None if its files are as they were sealed."""
    try:
        digests = json.loads((folder / SEAL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{SEAL_FILE} is missing or cut off"
    missing = [name for name in digests if not (folder / name).is_file()]
    changed = [name for name, digest in digests.items() if name not in missing and digest_of(folder / name) != digest]
    if missing or changed or not digests:
        return f"missing {', '.join(missing) or 'nothing'}, with another digest {', '.join(changed) or 'nothing'}"
    return None


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
