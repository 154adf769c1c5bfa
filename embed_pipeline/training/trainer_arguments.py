"""Our settings in the words of transformers' trainer, with the corrections it needs on a CPU.

Imported by the worker process alone, therefore transformers stands at the top.
"""

import os
from typing import Any

from transformers import TrainingArguments

from embed_pipeline.encoding.precision import resolve_precision
from embed_pipeline.training.finetune import FinetuneJob

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
        "lr_scheduler_type": training.scheduler,
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
