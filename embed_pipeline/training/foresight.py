"""The warning of a training that will take hours, once its first steps have shown it.

Belongs here: when it is said, and its words. Does not belong here: the log of every step (progress.py). Imported by the
worker process alone, therefore transformers stands at the top.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

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
