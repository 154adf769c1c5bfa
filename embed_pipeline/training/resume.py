"""Checkpoints of a training under way: written whole or not at all, checked before they are used.

Belongs here: what is saved, and going on from it. Does not belong here: the finished encoder (checkpoint.py). Imported
by the worker process alone, therefore torch stands at the top.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from transformers import Trainer, TrainerCallback

from embed_pipeline.training.watchdog import LossWatch

SEAL_FILE = "digests.json"
KEPT = 2
_PARTIAL, _WEIGHTS = "partial", "model.safetensors"


class Keeper(TrainerCallback):
    """A callback with a memory that must outlive the process."""

    def keep(self, folder: Path) -> None:
        """Write the memory into a checkpoint (in the first process)."""
        raise NotImplementedError

    def restore(self, folder: Path, *, first: bool) -> None:
        """Take it from there again; `first`: in the first process."""
        raise NotImplementedError


class ResumableTrainer(Trainer):
    """A trainer that, killed at any step and started again, ends with the weights of an uninterrupted run.

    That holds for batches that depend on seed and epoch alone. Every loss and gradient goes past the watchdogs.
    """

    saving = False
    watch: LossWatch | None = None
    resumed_from: Path | None = None

    def go_on_from(self, checkpoint: Path) -> None:
        """Take the callbacks' memories from a checkpoint, and the rest once `train` is called."""
        self.resumed_from = checkpoint
        for keeper in self._keepers():
            keeper.restore(checkpoint, first=self.args.process_index == 0)

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """The loss of a batch, watched."""
        loss = super().training_step(*arguments, **named)
        self.watch = self.watch or LossWatch()
        self.watch.check_loss(self.state.global_step + 1, loss.item())
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.watch and norm is not None and not self.args.fp16:  # float16 skips steps that overflow
            self.watch.check_gradient(self.state.global_step + 1, float(norm))
        return norm

    def _run_epoch(self, *arguments: Any, **named: Any) -> Any:
        if self.resumed_from:
            found = json.loads((self.resumed_from / f"loss_{self.args.process_index}.json").read_text(encoding="utf-8"))
            # Of the steps since the last line of the log, so that the next line has the same mean.
            self._tr_loss = torch.tensor(found["since_logged"], device=self.args.device)
            self._globalstep_last_logged = found["last_logged"]
            self.resumed_from = None
        return super()._run_epoch(*arguments, **named)

    def _keepers(self) -> list[Keeper]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, Keeper)]

    def _get_output_dir(self, trial: Any) -> str:
        run = super()._get_output_dir(trial)
        return str(Path(run) / _PARTIAL) if self.saving else run

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir or "")
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(folder / _WEIGHTS))  # pyright: ignore[reportArgumentType]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        network: Any = model or self.model
        load_model(network, Path(resume_from_checkpoint) / _WEIGHTS, strict=True)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
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
        loss = {"since_logged": self._tr_loss.item(), "last_logged": self._globalstep_last_logged}
        (folder / f"loss_{self.args.process_index}.json").write_text(json.dumps(loss), encoding="utf-8")
        _wait_for_all()
        if first:
            for keeper in self._keepers():
                keeper.keep(folder)
            seal(folder)
            publish(folder, run / folder.name)


def seal(folder: Path) -> None:
    """Write the digests of a folder's files beside them, all of it on disk when this returns."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
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


def newest_sound(run: Path) -> Path | None:
    """The newest checkpoint whose files are as they were written; None if there is none."""
    return next((folder for folder in reversed(_checkpoints(run)) if _is_sound(folder)), None)


def _checkpoints(run: Path) -> list[Path]:
    found = [path for path in run.glob("checkpoint-*") if path.name.partition("-")[2].isdecimal()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def _is_sound(folder: Path) -> bool:
    try:
        digests = json.loads((folder / SEAL_FILE).read_text(encoding="utf-8"))
        return bool(digests) and all(_digest(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
