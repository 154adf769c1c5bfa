"""The trainer, put together in one place: callbacks (validation, watchdogs) are handed in here.

Belongs here: what of transformers' trainer is ours (batches, learning rates by layer). Does not belong here: what a
training job reads and writes (training_run.py). Imported by the worker process alone, therefore torch stands at the
top.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.training.batches import StepDataset, StepLoader, StepSampler
from embed_pipeline.training.collator import StepCollator
from embed_pipeline.training.examples import Examples
from embed_pipeline.training.frozen_layers import split_frozen_layers
from embed_pipeline.training.model import ContrastiveModel
from embed_pipeline.training.parameters import parameter_groups
from embed_pipeline.training.resume import ResumableTrainer
from embed_pipeline.training.settings import TrainingSettings

_CHUNK_TOKENS = {"cpu": 4096, "cuda": 65536}


class ContrastiveTrainer(ResumableTrainer):
    """Draws batches over all processes, steps each layer at its own learning rate."""

    def __init__(self, *, settings: TrainingSettings, examples: Examples, **arguments: Any) -> None:
        self.settings, self.examples = settings, examples
        super().__init__(train_dataset=StepDataset(len(examples.queries)), **arguments)

    def get_train_dataloader(self) -> DataLoader:
        """The batches of an epoch; every process draws the same ones and its collator takes the process's share."""
        lengths = self.examples.query_tokens.lengths
        sampler = StepSampler(
            [int(lengths[query.row]) for query in self.examples.queries],
            batch_size=self.settings.batch_size * self.args.world_size,
            group_by_length=self.settings.group_by_length,
            seed=self.settings.seed,
        )
        return StepLoader(
            self.train_dataset,  # pyright: ignore[reportArgumentType]
            batch_sampler=sampler,  # pyright: ignore[reportArgumentType]
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW over the trained parameters, grouped by learning rate and weight decay."""
        if self.optimizer is None:
            trained: Any = self.model if model is None else model
            decayed = frozenset(self.get_decay_parameter_names(trained))
            kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = kind(parameter_groups(trained, self.settings, decayed), **arguments)
        return self.optimizer


def build_trainer(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    *,
    encoder: EncoderSettings,
    settings: TrainingSettings,
    arguments: TrainingArguments,
    callbacks: Sequence[TrainerCallback] = (),
) -> ContrastiveTrainer:
    """The trainer of a network whose parameters are prepared (prepare_parameters), its callbacks in the given order."""
    padding: Any = tokenizer.pad_token_id or 0
    collator = StepCollator(
        examples,
        settings,
        padding=padding,
        process=arguments.process_index,
        processes=arguments.world_size,
        chunk_tokens=_CHUNK_TOKENS[arguments.device.type],
    )
    trainer = ContrastiveTrainer(
        settings=settings,
        examples=examples,
        model=ContrastiveModel(
            network,
            encoder,
            settings,
            crosses_processes=collator.crosses_processes,
            frozen=split_frozen_layers(network, settings, examples.tables, padding=padding),
        ),
        args=arguments,
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
