"""What a training process does from reading its job to writing the checkpoint.

Belongs here: the order of the steps. Does not belong here: how the process is started and where it logs (worker.py).
Imported by the worker process alone, therefore torch stands at the top.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, TrainerCallback, set_seed

from embed_pipeline.dataset.formats import read_passages
from embed_pipeline.encoding.description import describe_encoder
from embed_pipeline.encoding.precision import (
    native_precision,
    refuse_emulated,
    refuse_missing_gpu,
    resolve_precision,
)
from embed_pipeline.encoding.tokens import count_unknown
from embed_pipeline.mining.groups import TrainingGroup, draw_groups, read_groups, write_flagembedding_groups
from embed_pipeline.records import Passage
from embed_pipeline.training.examples import build_examples
from embed_pipeline.training.finetune import LOG_FILE, SPEED_FILE, SUMMARY_FILE, FinetuneJob
from embed_pipeline.training.parameters import merged, prepare_parameters
from embed_pipeline.training.progress import EventFiles, LogToRun, Report
from embed_pipeline.training.resume import ResumableTrainer, newest_for_all
from embed_pipeline.training.settings import Candidates
from embed_pipeline.training.trainer import build_trainer, training_arguments
from embed_pipeline.training.validation import NetworkMeasure, Validator
from embed_pipeline.training.validation_task import build_task, read_validation
from embed_pipeline.training.vocabulary import extend_vocabulary, missing_characters
from embed_pipeline.training.watchdog import Foresight, WeightsWatch

_SAVED_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_NAMED = 5  # queries that a warning names


@dataclass(frozen=True)
class _Prepared:
    """A trainer that is ready, the encoder inside it, and what its queries are contrasted with."""

    trainer: ResumableTrainer
    network: PreTrainedModel
    tokenizer: Any
    candidates: Candidates
    left_out: tuple[str, ...] = ()
    """Ids of queries that are not trained with (examples.Examples)."""


def train(job: FinetuneJob, report: Report, warn: Report, *, callbacks: Sequence[TrainerCallback] = ()) -> None:
    """Train the job and leave a complete encoder directory in `job.output` (written by the first process alone).

    `report` says how far it is, `warn` what somebody should look at.

    Raises:
        ValueError: the settings do not fit the device, the encoder or the groups.
    """
    refuse_missing_gpu(job.device)
    if job.training.precision == "float16" and job.device == "cpu":
        raise ValueError("recipe, training.precision: float16 needs a GPU, found device cpu. Set auto or float32.")
    native = native_precision(job.device)
    refuse_emulated(job.training.precision, native, device=job.device, place="recipe, training.precision")
    groups = draw_groups(list(read_groups(job.groups)), job.training.max_queries, job.training.seed)
    passages = list(read_passages(job.corpus))
    arguments = training_arguments(job, len(groups))
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            _extend_vocabulary(job, groups, passages, report)
            if job.training.candidates == "flagembedding":
                _write_plain_groups(job, groups, passages, report)
    set_seed(job.training.seed)
    values: dict[int, float] = {}
    log = LogToRun(job.output / LOG_FILE, report, validation=values, speed_file=job.work / SPEED_FILE)
    events = [EventFiles(job.tensorboard, log)] if job.tensorboard else []
    every = (log, *events, *callbacks)
    prepare = _prepare_plain if job.training.candidates == "flagembedding" else _prepare_own
    prepared = prepare(job, groups, passages, every)
    report(f"candidates: {prepared.candidates}")
    if prepared.left_out:
        warn(_describe_left_out(prepared.left_out, len(groups)))
    precision = resolve_precision(job.training.precision, job.device)
    prepared.trainer.add_callback(
        Foresight(warn, arithmetic=f"{precision}; {native.reason}", tokens=lambda: prepared.trainer.step_tokens)
    )
    prepared.trainer.add_callback(WeightsWatch(prepared.network))
    validator = _validator(job, prepared, passages, values, len(groups), report)
    _run(job, prepared.trainer, validator, report)
    if arguments.process_index == 0:
        if validator:
            validator.apply_best()
        network = merged(prepared.network)
        _write_checkpoint(job, network, prepared.tokenizer)
        summary: dict[str, object] = {
            "weight_change": _relative_change(_base_of(job), network),
            "candidates": prepared.candidates,
        }
        if validator:
            summary |= {"validation_base": validator.base, "best_step": validator.best_step}
        (job.output / SUMMARY_FILE).write_text(json.dumps(summary) + "\n", encoding="utf-8")


def _validator(
    job: FinetuneJob,
    prepared: _Prepared,
    passages: list[Passage],
    values: dict[int, float],
    queries: int,
    report: Report,
) -> Validator | None:
    """The callback that measures, already with the trainer, where the recipe asks for it."""
    settings, arguments = job.training.validation, prepared.trainer.args
    if settings is None:
        return None
    if job.validation is None:
        raise ValueError("recipe, training.validation: the job has no validation queries. Mine the negatives again.")
    task = build_task(read_validation(job.validation), passages, settings, seed=job.training.seed)
    measure = NetworkMeasure(prepared.network, prepared.tokenizer, job.encoder, task, settings.measure)
    per_step = arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps
    interval = settings.interval(queries / per_step)
    validator = Validator(prepared.network, measure, settings, interval=interval, values=values, report=report)
    prepared.trainer.add_callback(validator)
    report(f"validation: {len(task.queries)} queries, {len(task.texts)} passages, every {interval} steps")
    return validator


def _run(job: FinetuneJob, trainer: ResumableTrainer, validator: Validator | None, report: Report) -> None:
    """Train from the start, or from the newest sound checkpoint of a run that was killed."""
    found = newest_for_all(job.progress, report) if job.progress else None
    if found is None:
        trainer.train()
        return
    report(f"going on from step {found.name.partition('-')[2]}: an earlier run was interrupted")
    trainer.go_on_from(found)
    if validator is None or not validator.stopped:
        trainer.train(resume_from_checkpoint=str(found))


def _prepare_own(
    job: FinetuneJob, groups: list[TrainingGroup], passages: list[Passage], callbacks: Sequence[TrainerCallback]
) -> _Prepared:
    base = _base_of(job)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    network = prepare_parameters(_load_network(base), job.training, vocabulary_grew=base != job.base)
    examples = build_examples(groups, passages, tokenizer=tokenizer, encoder=job.encoder, training=job.training)
    trainer = build_trainer(
        network,
        tokenizer,
        examples,
        encoder=job.encoder,
        settings=job.training,
        arguments=training_arguments(job, len(examples.queries)),
        callbacks=callbacks,
    )
    return _Prepared(trainer, network, tokenizer, examples.candidates, examples.left_out)


def _describe_left_out(left_out: Sequence[str], queries: int) -> str:
    named = ", ".join(left_out[:_NAMED]) + (" …" if len(left_out) > _NAMED else "")
    return (
        f"training: left out {len(left_out)} of {queries} queries ({named}): every passage of the corpus is a positive "
        "of theirs (texts of the same tokens count as one), so there is nothing to contrast them with."
    )


def _prepare_plain(
    job: FinetuneJob, groups: list[TrainingGroup], passages: list[Passage], callbacks: Sequence[TrainerCallback]
) -> _Prepared:
    from embed_pipeline.training.flagembedding import build_flagembedding_trainer

    trainer = build_flagembedding_trainer(
        job, _base_of(job), _plain_groups(job), queries=len(groups), callbacks=callbacks
    )
    model: Any = trainer.model
    return _Prepared(trainer, model.model, trainer.processing_class, "flagembedding")


def _base_of(job: FinetuneJob) -> Path:
    extended = job.work / "base"
    return extended if extended.is_dir() else job.base


def _plain_groups(job: FinetuneJob) -> Path:
    return job.work / "groups.jsonl"


def _load_network(directory: Path) -> PreTrainedModel:
    return AutoModel.from_pretrained(
        directory, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
    )


def _write_plain_groups(job: FinetuneJob, groups: list[TrainingGroup], passages: list[Passage], report: Report) -> None:
    training = job.training
    filled = write_flagembedding_groups(
        groups,
        passages,
        _plain_groups(job),
        group_size=training.train_group_size,
        seed=training.seed,
        with_scores=training.knowledge_distillation is not None,
    )
    if filled:
        report(
            f"{filled} negatives drawn at random for groups with fewer than {training.train_group_size - 1} mined ones"
        )


def _extend_vocabulary(job: FinetuneJob, groups: list[TrainingGroup], passages: list[Passage], report: Report) -> None:
    extension = job.training.vocabulary_extension
    if extension is None:
        return
    texts = [group.query for group in groups] + [passage.text for passage in passages]
    share = count_unknown(job.encoder, texts, directory=job.base).share
    if share <= extension.unknown_limit:
        report(f"vocabulary kept: {share:.2%} of the training characters are unknown to the tokenizer")
        return
    characters = missing_characters(job.base, texts, min_count=extension.min_count)
    added = extend_vocabulary(job.base, characters, job.work / "base", seed=job.training.seed)
    report(f"vocabulary extended by {added} characters: {share:.1%} of the training characters were unknown before")


def _write_checkpoint(job: FinetuneJob, network: PreTrainedModel, tokenizer: Any) -> None:
    # Saved with the lengths of the last batch the tokenizer would cut texts by itself elsewhere.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    saved = job.work / "trained"
    network.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    for name in _SAVED_FILES:
        if (saved / name).is_file():
            shutil.copyfile(saved / name, job.output / name)
    describe_encoder(job.output, job.encoder)


def _relative_change(base: Path, network: PreTrainedModel) -> float:
    """The length of the step from the starting weights to the trained ones, relative to the starting weights."""
    before = dict(_load_network(base).named_parameters())
    trained = {name: weight.detach().cpu() for name, weight in network.named_parameters()}
    moved = sum(_squares(weight - before[name]) for name, weight in trained.items())
    size = sum(_squares(weight) for weight in before.values())
    return round((moved / size) ** 0.5, 8)


def _squares(weight: torch.Tensor) -> float:
    return torch.linalg.vector_norm(weight.detach(), dtype=torch.float64).item() ** 2
