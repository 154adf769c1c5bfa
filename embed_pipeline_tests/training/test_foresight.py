"""A training that will take hours says so, early and once."""

import itertools

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from embed_pipeline.training.watchdog import Foresight, count_tokens


def _said(seconds: float, *, steps: int, first: int = 0) -> list[tuple[int, str]]:
    said: list[tuple[int, str]] = []
    times, state = itertools.count(), TrainerState(global_step=first, max_steps=steps, is_world_process_zero=True)
    foresight = Foresight(
        lambda message: said.append((state.global_step, message)),
        arithmetic="float32; no flag",
        tokens=lambda: 4216,
        clock=lambda: seconds * next(times) * 3,  # it is looked at twice, three steps apart
    )
    arguments, control = TrainingArguments(use_cpu=True), TrainerControl()
    foresight.on_train_begin(arguments, state, control)
    for step in range(first + 1, min(steps, first + 20) + 1):
        state.global_step = step
        foresight.on_step_end(arguments, state, control)
    return said


@pytest.mark.parametrize("first", [0, 100])
def test_hours_are_foreseen_once_after_the_first_steps_with_reason_and_remedies(first: int) -> None:
    ((step, message),) = _said(97.0, steps=361 + first, first=first)
    assert step == first + 4
    assert "about 9.6 hours to go, at 97.0 s a step and 357 steps (float32; no flag; 4,216 tokens a step)" in message
    for remedy in ("candidates: sample", "query_max_length", "freeze_layers", "a GPU", "embed-pipeline doctor"):
        assert remedy in message


def test_less_than_an_hour_and_a_training_of_a_few_steps_say_nothing() -> None:
    assert _said(3.0, steps=361) == []
    assert _said(97.0, steps=3) == []


def test_tokens_are_counted_in_the_batches_of_either_trainer() -> None:
    chunk = {"input_ids": torch.zeros(3, 8), "attention_mask": torch.zeros(3, 8)}
    assert count_tokens({"queries": [chunk], "passages": [chunk, chunk], "positives": torch.zeros(9, 9)}) == 72
    assert count_tokens({"queries": chunk, "passages": chunk, "no_in_batch_neg_flag": True}) == 48
