"""The trainer as it is put together: what callbacks see, what a resumed run ends with."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, TrainerCallback, TrainingArguments, set_seed

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.records import Passage
from embed_pipeline.training.examples import build_examples
from embed_pipeline.training.parameters import prepare_parameters
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline.training.trainer import ContrastiveTrainer, build_trainer
from embed_pipeline_tests.small_project import LABELS, encoder_settings, write_model
from embed_pipeline_tests.training.test_processes import make_groups

QUERIES, STEPS_PER_EPOCH, SAVED = 40, 5, 7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), dropout=0.1)


def _trainer(model: Path, output: Path, *callbacks: TrainerCallback, **changes: object) -> ContrastiveTrainer:
    given = {"learning_rate": 1e-3, "epochs": 2, "candidates": "sample", "sample_size": 2, "batch_size": 8, **changes}
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
        arguments=TrainingArguments(
            output_dir=str(output),
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            per_device_train_batch_size=settings.batch_size,
            save_steps=SAVED,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
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
