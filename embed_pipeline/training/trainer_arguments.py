"""Our settings in the words of FlagEmbedding's trainer, with the corrections it needs on a CPU.

Imported by the worker process alone, therefore FlagEmbedding stands at the top.
"""

import os
from pathlib import Path
from typing import Any

from FlagEmbedding.abc.finetune.embedder import AbsEmbedderDataArguments, AbsEmbedderTrainingArguments

from embed_pipeline.training.finetune import FinetuneJob

LOGGED_STEPS = 100


def data_arguments(job: FinetuneJob, train_file: Path) -> AbsEmbedderDataArguments:
    """FlagEmbedding's data arguments; lengths and instructions are the encoder's and cannot differ from it."""
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


def training_arguments(job: FinetuneJob, groups: int) -> AbsEmbedderTrainingArguments:
    """FlagEmbedding's training arguments; `groups` is the number of training queries, to know how often to log."""
    training = job.training
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    steps = groups * training.epochs / (training.batch_size * processes * training.gradient_accumulation_steps)
    return AbsEmbedderTrainingArguments(
        output_dir=str(job.work / "trainer"),
        learning_rate=training.learning_rate,
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        warmup_steps=training.warmup_share,
        lr_scheduler_type=training.scheduler,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_gradient_norm,
        temperature=training.temperature,
        negatives_cross_device=training.negatives_cross_device,
        sub_batch_size=training.sub_batch_size,
        gradient_checkpointing=training.gradient_checkpointing,
        fix_position_embedding=training.freeze_position_embeddings,
        sentence_pooling_method=job.encoder.pooling or "",
        normalize_embeddings=job.encoder.normalize,
        kd_loss_type=training.knowledge_distillation or "kl_div",
        bf16=training.precision == "bfloat16",
        fp16=training.precision == "float16",
        deepspeed=dict(training.deepspeed) if training.deepspeed else None,
        # Without use_cpu two processes on a CPU train the same rows unsynchronised.
        use_cpu=job.device == "cpu",
        ddp_backend="gloo" if job.device == "cpu" else None,
        ddp_find_unused_parameters=False,
        seed=training.seed,
        data_seed=training.seed,
        full_determinism=False,
        save_strategy="no",
        logging_steps=max(1, int(steps / LOGGED_STEPS)),
        logging_first_step=True,
        report_to="none",
        dataloader_pin_memory=job.device == "cuda",
        remove_unused_columns=False,
        disable_tqdm=True,
    )
