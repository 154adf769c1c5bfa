"""The trainer, put together in one place: callbacks (validation, watchdogs) are handed in here.

Belongs here: what of transformers' trainer is ours (its arguments, batches, learning rates by layer). Does not belong
here: what a training job reads and writes (training_run.py). Imported by the worker process alone, therefore torch
stands at the top.
"""

import os
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.precision import resolve_precision
from embed_pipeline.training.candidates import StepBatch
from embed_pipeline.training.collator import StepCollator, StepTensors
from embed_pipeline.training.examples import Examples
from embed_pipeline.training.finetune import FinetuneJob
from embed_pipeline.training.frozen_layers import split_frozen_layers
from embed_pipeline.training.model import ContrastiveModel
from embed_pipeline.training.parameters import parameter_groups
from embed_pipeline.training.resume import ResumableTrainer
from embed_pipeline.training.settings import TrainingSettings

_SORTED_BATCHES = 50  # batches whose queries are sorted by length together: alike lengths, and chance enough


class StepSampler(Sampler[list[StepBatch]]):
    """Every query once per epoch, in batches of nearly equal size.

    Each process sees the batches of all and takes its share in the collator. The batches of an epoch depend on seed,
    epoch and batch size over all processes alone.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, group_by_length: bool, seed: int) -> None:
        self.lengths, self.batch_size = lengths, batch_size
        self.group_by_length, self.seed = group_by_length, seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[StepBatch]]:
        chance = random.Random(f"{self.seed}:order {self.epoch}")
        order = list(range(len(self.lengths)))
        chance.shuffle(order)
        if self.group_by_length:
            size = self.batch_size * _SORTED_BATCHES
            parts = [order[start : start + size] for start in range(0, len(order), size)]
            order = [at for part in parts for at in sorted(part, key=lambda at: -self.lengths[at])]
        # Of nearly equal sizes: a last batch of one query would have nothing to be contrasted with.
        ends = [len(order) * at // len(self) for at in range(len(self) + 1)]
        batches = [tuple(order[start:end]) for start, end in pairwise(ends)]
        if self.group_by_length:
            chance.shuffle(batches)
        for number, queries in enumerate(batches):
            yield [StepBatch(self.epoch, number, queries)]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is drawn next."""
        self.epoch = epoch


class StepDataset(Dataset[StepBatch]):
    """Hands a batch on; its length is the number of queries, which the trainer reports."""

    def __init__(self, queries: int) -> None:
        self.queries = queries

    def __len__(self) -> int:
        return self.queries

    def __getitem__(self, batch: StepBatch) -> StepBatch:
        return batch


class StepLoader(DataLoader[StepTensors]):
    """A loader that tells its sampler the epoch, as the trainer tells it."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is drawn next."""
        sampler = self.batch_sampler
        if isinstance(sampler, StepSampler):
            sampler.set_epoch(epoch)


LOGGED_STEPS = 100
_PATIENCE_SECONDS = 4 * 3600  # processes wait while one extends the vocabulary, or writes a checkpoint to a slow disk


def training_arguments(job: FinetuneJob, queries: int) -> TrainingArguments:
    """The arguments of the trainer; `queries` is the number of training queries, to know how often to log."""
    return TrainingArguments(**common_arguments(job, queries))


def common_arguments(job: FinetuneJob, queries: int) -> dict[str, Any]:
    """What our trainer and FlagEmbedding's are told alike."""
    training, precision = job.training, resolve_precision(job.training.precision, job.device)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    steps = queries * training.epochs / (training.batch_size * processes * training.gradient_accumulation_steps)
    return {
        "output_dir": str(job.progress or job.work / "trainer"),
        "learning_rate": training.learning_rate,
        "num_train_epochs": training.epochs,
        "per_device_train_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "warmup_steps": training.warmup_share,
        # transformers' own constant rate has no warm-up.
        "lr_scheduler_type": "constant_with_warmup" if training.scheduler == "constant" else training.scheduler,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_gradient_norm,
        "bf16": precision == "bfloat16",
        "fp16": precision == "float16",
        "deepspeed": dict(training.deepspeed) if training.deepspeed else None,
        # Without use_cpu two processes on a CPU train the same rows unsynchronised.
        "use_cpu": job.device == "cpu",
        "ddp_backend": "gloo" if job.device == "cpu" and "WORLD_SIZE" in os.environ else None,
        "ddp_find_unused_parameters": False,
        "ddp_timeout": _PATIENCE_SECONDS,
        "seed": training.seed,
        "data_seed": training.seed,
        "full_determinism": False,
        "save_strategy": "steps" if job.progress else "no",
        "save_steps": job.save_steps,
        "logging_steps": max(1, int(steps / LOGGED_STEPS)),
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it would write the mean of the last losses over one that is no number
        "report_to": "none",
        "dataloader_pin_memory": job.device == "cuda",
        "remove_unused_columns": False,
        "disable_tqdm": True,
    }


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
