"""What a callback of the trainer must be able to do if it remembers something.

Belongs here: the contract. Does not belong here: where and when checkpoints are written (resume.py). Imported by the
worker process alone, therefore transformers stands at the top.
"""

from pathlib import Path

from transformers import TrainerCallback


class Keeper(TrainerCallback):
    """A callback with a memory that must outlive the process."""

    def keep(self, folder: Path) -> None:
        """Write the memory into a checkpoint (in the first process)."""
        raise NotImplementedError

    def restore(self, folder: Path, *, first: bool) -> None:
        """Take it from there again; `first`: in the first process."""
        raise NotImplementedError
