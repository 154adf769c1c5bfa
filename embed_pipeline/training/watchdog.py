"""What ends a training that cannot succeed, and warns of one that will take hours, with the reason.

Belongs here: the rules, and what a callback must be able to do that remembers something. Does not belong here: checks
of a finished checkpoint (defs/assets/training.py). Imported by the worker process alone, therefore torch stands at the
top.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

ZERO_LOSSES = 3
UNCHANGED_STEPS = 20
_START_FILE = "start.json"


class Keeper(TrainerCallback):
    """A callback with a memory that must outlive the process."""

    def keep(self, folder: Path) -> None:
        """Write the memory into a checkpoint (in the first process)."""
        raise NotImplementedError

    def restore(self, folder: Path, *, first: bool) -> None:
        """Take it from there again; `first`: in the first process."""
        raise NotImplementedError


class HopelessTrainingError(RuntimeError):
    """A training that was stopped because going on could not help; the message says why and what to do."""


class LossWatch:
    """Looks at every loss and gradient norm of a process, in their order.

    Reading a number waits for the device, so `at_once` of them are read together.
    """

    def __init__(self, at_once: int = 1) -> None:
        self.at_once, self.zeros = at_once, 0
        self.unread: list[tuple[str, int, Tensor | float, Tensor | None]] = []

    def see(self, kind: str, step: int, value: Tensor | float, weights: Tensor | None = None) -> None:
        """Take a `loss` or a `gradient` norm; raises HopelessTrainingError once it is read and hopeless.

        `weights`: what this process's queries count in the loss, where some may count nothing.
        """
        self.unread.append((kind, step, value.detach() if isinstance(value, Tensor) else value, weights))
        if len(self.unread) >= self.at_once:
            self.settle()

    def settle(self) -> None:
        """Read what was not yet read; raises HopelessTrainingError."""
        unread, self.unread = self.unread, []
        for kind, step, value, weights in unread:
            if kind == "loss":
                self.check_loss(step, float(value), counts=weights is None or bool(weights.any()))
            else:
                self.check_gradient(step, float(value))

    def check_loss(self, step: int, loss: float, *, counts: bool = True) -> None:
        """Raises HopelessTrainingError for a loss that is no number, or exactly zero three times in a row.

        One that does not count, of a process without a query, is 0 by design and says nothing.
        """
        if not math.isfinite(loss):
            raise HopelessTrainingError(
                f"training, step {step}: expected a finite loss, found {loss}. Lower learning_rate, raise temperature, "
                "or set precision: float32."
            )
        if not counts:
            return
        self.zeros = self.zeros + 1 if loss == 0 else 0
        if self.zeros >= ZERO_LOSSES:
            raise HopelessTrainingError(
                f"training, step {step}: the loss was exactly 0 for {ZERO_LOSSES} batches in a row, so nothing is "
                "learned. Add harder or more negatives, or lower epochs."
            )

    def check_gradient(self, step: int, norm: float) -> None:
        """Raises HopelessTrainingError for a gradient norm that is no number."""
        if not math.isfinite(norm):
            raise HopelessTrainingError(
                f"training, step {step}: expected a finite gradient, found a norm of {norm}. Lower learning_rate, or "
                "set precision: float32."
            )


class WeightsWatch(Keeper):
    """Raises HopelessTrainingError if no trained weight has changed after so many steps, or at the end."""

    def __init__(self, network: torch.nn.Module, steps: int = UNCHANGED_STEPS) -> None:
        self.network, self.steps = network, steps
        self.start: list[float] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if state.global_step == 0:
            self.start = self._sums()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if self.start is None or state.global_step < min(self.steps, state.max_steps):
            return
        if self._sums() == self.start:
            raise HopelessTrainingError(
                f"training, step {state.global_step}: no weight has changed since the start. Raise learning_rate, or "
                "freeze less (freeze_layers, freeze_embeddings)."
            )
        self.start = None

    def keep(self, folder: Path) -> None:
        """See Keeper."""
        (folder / _START_FILE).write_text(json.dumps(self.start), encoding="utf-8")

    def restore(self, folder: Path, *, first: bool) -> None:
        """See Keeper."""
        self.start = json.loads((folder / _START_FILE).read_text(encoding="utf-8"))

    def _sums(self) -> list[float]:
        trained = [weight.detach() for weight in self.network.parameters() if weight.requires_grad]
        return [weight.double().sum().item() for weight in trained] + [
            weight.double().square().sum().item() for weight in trained
        ]


def check_validation(values: Sequence[float], base: float, measure: str, limit: int | None) -> None:
    """Raises HopelessTrainingError if the last `limit` values (newest last) are all below the base's."""
    if limit is not None and len(values) >= limit and all(value < base for value in values[-limit:]):
        raise HopelessTrainingError(
            f"training: validation {measure} stayed below the base's {base:.4f} for {limit} evaluations, the last "
            f"{values[-1]:.4f}. Lower learning_rate, look at the negatives, or raise validation.stop_below_base."
        )


WARMING_UP = 1
"""First steps that are not timed: they allocate and compile."""

TIMED = 3
LONG_SECONDS = 3600.0


class Foresight(TrainerCallback):
    """Says once, after the first timed steps, that a training will take more than an hour, and what would help.

    `tokens` gives those of a step, padding included; `arithmetic` names the precision and why it is that.
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        *,
        arithmetic: str,
        tokens: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.warn, self.arithmetic, self.tokens, self.clock = warn, arithmetic, tokens, clock
        self.first_step, self.started = 0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.first_step = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        done = state.global_step - self.first_step
        if done == WARMING_UP:
            self.started = self.clock()
        if done != WARMING_UP + TIMED or not state.is_world_process_zero:
            return
        seconds = (self.clock() - self.started) / TIMED
        left = seconds * (state.max_steps - state.global_step)
        if left > LONG_SECONDS:
            self.warn(
                f"training: about {left / 3600:.1f} hours to go, at {seconds:.1f} s a step and "
                f"{state.max_steps - state.global_step} steps ({self.arithmetic}; {self.tokens():,} tokens a step). "
                "What would help: fewer passages a step (candidates: sample with a smaller sample_size, or mined), "
                "shorter passage_max_length and query_max_length, freeze_layers, fewer epochs, a GPU. What this "
                "machine has: embed-pipeline doctor."
            )


def count_tokens(inputs: Any) -> int:
    """Tokens in a batch of any trainer, padding included: the sizes of all `input_ids` in it."""
    if isinstance(inputs, Mapping):
        own = int(inputs["input_ids"].numel()) if "input_ids" in inputs else 0
        return own + sum(count_tokens(value) for name, value in inputs.items() if name != "input_ids")
    if isinstance(inputs, Sequence) and not isinstance(inputs, str):
        return sum(count_tokens(value) for value in inputs)
    return 0
