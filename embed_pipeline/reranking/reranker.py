"""Fine-tuning a cross-encoder with FlagEmbedding's own reranker trainer, as a process group.

Belongs here: the base with a fresh head, the files and the command of the trainer, the folder it leaves.
Does not belong here: scoring with the result, starting processes (finetune.py).
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.mining.groups import TrainingGroup, write_flagembedding_groups
from embed_pipeline.records import Passage
from embed_pipeline.reranking.settings import RerankerSettings

GROUPS_FILE = "groups.jsonl"
BASE_FOLDER = "base"
_MODULE = "FlagEmbedding.finetune.reranker.encoder_only.base"


class RerankerJob(BaseModel):
    """Where a fine-tuning of a cross-encoder reads and writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path = Field(description="Model directory: an encoder, which gets a fresh head, or a cross-encoder.")
    work: Path = Field(description="Empty directory for intermediate files, thrown away afterwards.")
    output: Path = Field(description="Empty directory that becomes the checkpoint.")
    settings: RerankerSettings
    needs_head: bool = Field(False, description="Whether the base is refused if it is no cross-encoder.")
    device: Literal["cpu", "cuda"]


def prepare_reranker(job: RerankerJob, groups: Sequence[TrainingGroup], passages: Sequence[Passage]) -> int:
    """Writes the trainer's groups and its base with a head into the work folder; returns how many negatives were drawn.

    A base without a head for one score gets one from the seed, because the trainer would draw it unseeded.

    Raises:
        ValueError: there are fewer groups than one batch, a group cannot be filled, the base has several outputs, or
            none where it needs one.
    """
    if len(groups) < job.settings.batch_size:
        raise ValueError(
            f"reranker: {len(groups)} training groups are less than one batch of {job.settings.batch_size}, and the "
            "trainer takes whole batches only. Lower batch_size."
        )
    _write_base(job)
    return write_flagembedding_groups(
        groups,
        passages,
        job.work / GROUPS_FILE,
        group_size=job.settings.train_group_size,
        seed=job.settings.seed,
        with_scores=job.settings.knowledge_distillation,
    )


def reranker_command(job: RerankerJob, *, processes: int) -> tuple[str, ...]:
    """The command that trains the prepared job in `processes` worker processes on this machine."""
    settings = job.settings
    arguments: dict[str, object] = {
        "model_name_or_path": job.work / BASE_FOLDER,
        "train_data": job.work / GROUPS_FILE,
        "cache_path": job.work / "cache",
        "output_dir": job.output,
        "train_group_size": settings.train_group_size,
        "query_max_len": settings.query_max_length,
        "passage_max_len": settings.passage_max_length,
        "knowledge_distillation": settings.knowledge_distillation,
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "warmup_steps": settings.warmup_share,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "dataloader_drop_last": True,  # the loss is shaped by the batch size
        "use_cpu": job.device == "cpu",
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
    }
    return (
        sys.executable,
        *("-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(processes)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
        *("-m", _MODULE),
        *(part for name, value in arguments.items() for part in (f"--{name}", str(value))),
    )


def finish_reranker(job: RerankerJob) -> Path:
    """The checkpoint folder, checked and without the pickle that the trainer leaves in it.

    Raises:
        ValueError: the trainer wrote no weights.
    """
    if not (job.output / "model.safetensors").is_file():
        found = ", ".join(sorted(path.name for path in job.output.iterdir())) or "nothing"
        raise ValueError(f"{job.output}: expected model.safetensors from the trainer, found {found}. Read its log.")
    (job.output / "training_args.bin").unlink(missing_ok=True)
    return job.output


def _write_base(job: RerankerJob) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    target, config = job.work / BASE_FOLDER, AutoConfig.from_pretrained(job.base, local_files_only=True)
    has_head = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    if (has_head and config.num_labels != 1) or (job.needs_head and not has_head):
        raise ValueError(
            f"{job.base}: expected a cross-encoder with one output, found "
            + (f"{config.num_labels} outputs" if has_head else "an encoder without a head")
            + ". Name a reranker."
        )
    generator = torch.get_rng_state()
    torch.manual_seed(job.settings.seed)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            job.base,
            num_labels=1,
            dtype=torch.float32,  # the trainer keeps the type of the weights, and Adam in half precision wrecks them
            use_safetensors=True,
            local_files_only=True,
        )
    finally:
        torch.set_rng_state(generator)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(job.base, local_files_only=True).save_pretrained(target)
