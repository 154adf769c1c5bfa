"""The trainer as it is put together: what callbacks see, what a resumed run ends with."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, TrainerCallback, set_seed

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.records import Passage
from embed_pipeline.training.examples import build_examples
from embed_pipeline.training.finetune import FinetuneJob
from embed_pipeline.training.parameters import prepare_parameters
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline.training.trainer import ContrastiveTrainer, build_trainer, training_arguments
from embed_pipeline_tests.small_project import LABELS, encoder_settings, write_model
from embed_pipeline_tests.training.test_processes import make_groups

QUERIES, STEPS_PER_EPOCH, SAVED = 40, 5, 7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), dropout=0.1)


def _trainer(model: Path, output: Path, *callbacks: TrainerCallback, **changes: object) -> ContrastiveTrainer:
    given = {"learning_rate": 1e-3, "epochs": 2, "candidates": "sample", "sample_size": 2, "batch_size": 8}
    given |= {"precision": "float32", **changes}
    settings = TrainingSettings.model_validate(given)
    encoder = EncoderSettings.model_validate(encoder_settings(model))
    tokenizer = AutoTokenizer.from_pretrained(model)
    set_seed(0)
    return build_trainer(
        prepare_parameters(AutoModel.from_pretrained(model), settings, vocabulary_grew=False),
        tokenizer,
        build_examples(
            make_groups(QUERIES),
            [Passage(f"p{at}", label) for at, label in enumerate(LABELS)],
            tokenizer=tokenizer,
            encoder=encoder,
            training=settings,
        ),
        encoder=encoder,
        settings=settings,
        arguments=training_arguments(
            FinetuneJob(
                groups=output,
                corpus=output,
                base=model,
                work=output,
                output=output,
                encoder=encoder,
                progress=output,
                save_steps=SAVED,
                training=settings,
                device="cpu",
            ),
            QUERIES,
        ),
        callbacks=callbacks,
    )


def _weights(trainer: ContrastiveTrainer) -> dict[str, torch.Tensor]:
    trained = trainer.model
    assert trained is not None
    return {name: parameter.detach().clone() for name, parameter in trained.named_parameters()}


def test_a_run_resumed_in_an_epoch_ends_with_the_weights_of_one_that_was_not_interrupted(
    model: Path, tmp_path: Path
) -> None:
    whole = _trainer(model, tmp_path / "whole")
    whole.train()
    resumed = _trainer(model, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{SAVED}"))
    before, after = _weights(whole), _weights(resumed)
    assert all(torch.equal(before[name], after[name]) for name in before)


class _Count(TrainerCallback):
    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, *_: object, **__: object) -> None:
        self.steps += 1


def test_a_callback_handed_in_sees_every_step(model: Path, tmp_path: Path) -> None:
    count = _Count()
    _trainer(model, tmp_path, count).train()
    assert count.steps == 2 * STEPS_PER_EPOCH


def test_the_optimizer_steps_each_layer_at_its_own_rate_and_the_schedule_moves_all(model: Path, tmp_path: Path) -> None:
    trainer = _trainer(model, tmp_path, layer_learning_rate_decay=0.5, scheduler="linear")
    rates = {group["lr"] for group in trainer.create_optimizer().param_groups}
    assert rates == {1e-3, 5e-4, 2.5e-4}
    trainer.train()
    assert trainer.optimizer is not None
    assert all(group["lr"] == 0 for group in trainer.optimizer.param_groups)


class _Rates(TrainerCallback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_pre_optimizer_step(self, args, state, control, *, optimizer, **kwargs) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("scheduler", "share", "expected"),
    [
        ("linear", 0.2, [0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("linear", 0.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("cosine", 0.2, [0, 0.5, *(0.5 + 0.5 * math.cos(math.pi * step / 8) for step in range(8))]),
        ("constant", 0.3, [0, 1 / 3, 2 / 3, *[1] * 7]),
        ("constant", 0.0, [1] * 10),
    ],
)
def test_the_rate_rises_over_the_share_of_the_steps_and_goes_on_by_the_schedule(
    model: Path, tmp_path: Path, scheduler: str, share: float, expected: list[float]
) -> None:
    rates = _Rates()
    _trainer(model, tmp_path, rates, scheduler=scheduler, warmup_share=share).train()
    assert rates.seen == pytest.approx([1e-3 * rate for rate in expected])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant"])
def test_a_training_of_one_step_steps_at_the_peak_rate(
    model: Path, tmp_path: Path, scheduler: str, share: float
) -> None:
    rates = _Rates()
    _trainer(model, tmp_path, rates, epochs=1, batch_size=QUERIES, scheduler=scheduler, warmup_share=share).train()
    assert rates.seen == [1e-3]


def test_a_gradient_above_the_norm_is_clipped_to_it(model: Path, tmp_path: Path) -> None:
    def moved(norm: float) -> float:
        trainer = _trainer(model, tmp_path / str(norm), epochs=1, max_gradient_norm=norm)
        before = _weights(trainer)
        trainer.train()
        return max(float((weights - before[name]).abs().max()) for name, weights in _weights(trainer).items())

    # Adam's steps do not grow with the gradient, except where it is far below its epsilon of 1e-8.
    assert moved(1e-13) < 1e-4 * moved(1.0)
