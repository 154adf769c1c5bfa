"""FlagEmbedding's own runner with its own loss: the plain recipe that ours is measured against.

Imported by the worker process alone, and only for this kind of candidates, therefore FlagEmbedding stands at the top.
"""

import json
import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars
from FlagEmbedding.abc.finetune.embedder import (
    AbsEmbedderDataArguments,
    AbsEmbedderModelArguments,
    AbsEmbedderTrainingArguments,
)
from FlagEmbedding.finetune.embedder.encoder_only.base import EncoderOnlyEmbedderRunner
from FlagEmbedding.finetune.embedder.encoder_only.base.trainer import EncoderOnlyEmbedderTrainer
from transformers import PrinterCallback, TrainerCallback

from embed_pipeline.training.finetune import FinetuneJob
from embed_pipeline.training.resume import ResumableTrainer
from embed_pipeline.training.trainer import common_arguments


class PlainTrainer(ResumableTrainer, EncoderOnlyEmbedderTrainer):
    """FlagEmbedding's trainer, resumable: its data set draws from Python's one source of chance, always a batch ahead.

    Therefore a checkpoint keeps that source as it stood after the last batch that was trained.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.draws: Any = _Draws(self.data_collator)
        self.data_collator = self.draws
        self.trained = 0

    def training_step(self, *arguments: Any, **named: Any) -> Any:
        """See ResumableTrainer."""
        self.trained += 1
        return super().training_step(*arguments, **named)

    def remember(self) -> dict[str, Any]:
        """See ResumableTrainer."""
        return {**super().remember(), "chance": self.draws.state_after(self.trained)}

    def recall(self, memory: dict[str, Any]) -> None:
        """See ResumableTrainer."""
        super().recall(memory)
        version, internal, gauss = memory["chance"]
        random.setstate((version, tuple(internal), gauss))

    def _run_epoch(self, *arguments: Any, epoch: int, train_dataloader: Any, **named: Any) -> None:
        batches = train_dataloader.batch_sampler
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        batches.sampler.set_epoch(epoch)  # of several processes going on, nobody else tells it
        super()._run_epoch(*arguments, epoch=epoch, train_dataloader=train_dataloader, **named)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        ours = random.getstate()  # the checkpoint's is that of a batch later
        super()._load_rng_state(checkpoint)
        random.setstate(ours)


class _Draws:
    """A collator that knows how Python's chance stood after each of the last two batches."""

    def __init__(self, collator: Any) -> None:
        self.collator, self.drawn = collator, 0
        self.states: deque[tuple[int, Any]] = deque(maxlen=2)

    def __call__(self, features: Any) -> Any:
        self.drawn += 1
        self.states.append((self.drawn, random.getstate()))
        return self.collator(features)

    def state_after(self, batches: int) -> Any:
        """random.getstate() after the batch of this number, one of the last two."""
        return dict(self.states)[batches]


class _Runner(EncoderOnlyEmbedderRunner):
    def load_trainer(self) -> PlainTrainer:
        return PlainTrainer(
            model=self.model,
            args=self.training_args,
            train_dataset=self.train_dataset,
            data_collator=self.data_collator,
            processing_class=self.tokenizer,
        )


def build_flagembedding_trainer(
    job: FinetuneJob, base: Path, train_file: Path, *, queries: int, callbacks: Sequence[TrainerCallback] = ()
) -> PlainTrainer:
    """FlagEmbedding's trainer over `train_file` (groups.write_flagembedding_groups), starting from `base`."""
    disable_progress_bars()
    runner = _Runner(
        model_args=AbsEmbedderModelArguments(model_name_or_path=str(base), trust_remote_code=False),
        data_args=_data_arguments(job, train_file),
        training_args=_training_arguments(job, queries, base),
    )
    for name, parameter in runner.model.named_parameters():
        if name.startswith("model.pooler."):
            # The pooler takes no part in the vectors; left trainable it is a parameter without a gradient.
            parameter.requires_grad = False
    runner.trainer.remove_callback(PrinterCallback)
    trainer: Any = runner.trainer
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def _data_arguments(job: FinetuneJob, train_file: Path) -> AbsEmbedderDataArguments:
    """Lengths and instructions are the encoder's and cannot differ from it."""
    encoder = job.encoder
    arguments: dict[str, Any] = {
        "train_data": [str(train_file)],
        "cache_path": str(job.work / "datasets_cache"),
        "train_group_size": job.training.train_group_size,
        "query_max_len": encoder.query_max_length,
        "passage_max_len": encoder.passage_max_length,
        "query_instruction_for_retrieval": encoder.query_instruction or None,
        "query_instruction_format": encoder.instruction_format,
        "passage_instruction_for_retrieval": encoder.passage_instruction or None,
        "passage_instruction_format": encoder.instruction_format,
        "knowledge_distillation": job.training.knowledge_distillation is not None,
    }
    return AbsEmbedderDataArguments(**arguments)


def _training_arguments(job: FinetuneJob, queries: int, base: Path) -> AbsEmbedderTrainingArguments:
    training = job.training
    width = int(json.loads((base / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    return AbsEmbedderTrainingArguments(
        **common_arguments(job, queries),
        temperature=training.temperature,
        negatives_cross_device=bool(training.negatives_cross_device),
        sub_batch_size=training.sub_batch_size,
        gradient_checkpointing=training.gradient_checkpointing,
        fix_position_embedding=training.freeze_position_embeddings,
        sentence_pooling_method=job.encoder.pooling or "",
        normalize_embeddings=job.encoder.normalize,
        kd_loss_type=training.knowledge_distillation or "kl_div",
        use_mrl=bool(training.matryoshka_dimensions),
        mrl_dims=[width, *training.matryoshka_dimensions] if training.matryoshka_dimensions else [],
    )
