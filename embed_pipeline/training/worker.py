"""The process that trains: `python -m torch.distributed.run … -m embed_pipeline.training.worker JOB`.

Reads a FinetuneJob, extends the vocabulary if the recipe asks for it, trains with FlagEmbedding's runner (or its
subclass over the whole corpus) and writes the checkpoint. Loss and learning rate go to the log of the Dagster run
while it trains.
"""

import json
import logging
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from dagster_pipes import PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes
from datasets import disable_progress_bars
from FlagEmbedding.abc.finetune.embedder import (
    AbsEmbedderModelArguments,
)
from FlagEmbedding.finetune.embedder.encoder_only.base import EncoderOnlyEmbedderRunner
from transformers import PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging

from embed_pipeline.dataset.formats import read_passages
from embed_pipeline.encoding.tokens import count_unknown
from embed_pipeline.mining.negatives import TrainingGroup, read_groups
from embed_pipeline.records import Passage
from embed_pipeline.training.checkpoint import describe_encoder
from embed_pipeline.training.finetune import LOG_FILE, STARTER_VARIABLE, SUMMARY_FILE, FinetuneJob
from embed_pipeline.training.groups import write_flagembedding_groups
from embed_pipeline.training.progress import LogToRun, Report
from embed_pipeline.training.trainer_arguments import data_arguments, training_arguments
from embed_pipeline.training.vocabulary import extend_vocabulary, missing_characters
from embed_pipeline.training.whole_corpus import (
    LengthGroupedTrainer,
    QueryDataset,
    WholeCorpusCollator,
    WholeCorpusModel,
)

_WATCH_SECONDS = 2.0
_SAVED_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


class WholeCorpusRunner(EncoderOnlyEmbedderRunner):
    """FlagEmbedding's runner with the corpus as candidates."""

    def __init__(
        self, job: FinetuneJob, groups: list[TrainingGroup], passages: list[Passage], **arguments: Any
    ) -> None:
        self.job, self.groups, self.passages = job, groups, passages
        super().__init__(**arguments)

    def load_tokenizer_and_model(self):
        tokenizer, model = super().load_tokenizer_and_model()
        model.__class__ = WholeCorpusModel
        return tokenizer, model

    def load_train_dataset(self) -> QueryDataset:
        return QueryDataset(self.groups, self.passages, self.tokenizer, self.job.encoder)

    def load_data_collator(self) -> WholeCorpusCollator:
        with_teacher = self.job.training.knowledge_distillation is not None
        return WholeCorpusCollator(self.passages, self.tokenizer, self.job.encoder, with_teacher=with_teacher)

    def load_trainer(self):
        trainer = LengthGroupedTrainer if self.job.training.group_by_length else None
        if trainer is None:
            return super().load_trainer()
        return trainer(
            model=self.model,
            args=self.training_args,
            train_dataset=self.train_dataset,
            data_collator=self.data_collator,
            processing_class=self.tokenizer,
        )


def train(job: FinetuneJob, report: Report) -> None:
    """Train the job and leave a complete encoder directory in `job.output` (written by the first process alone)."""
    if job.training.precision == "float16" and job.device == "cpu":
        raise ValueError("recipe, training.precision: float16 needs a GPU, found device cpu. Set float32 or bfloat16.")
    groups, passages = list(read_groups(job.groups)), list(read_passages(job.corpus))
    training_args = training_arguments(job, len(groups))
    base, train_file = job.base, job.work / "groups.jsonl"
    with training_args.main_process_first(local=False):
        if training_args.process_index == 0:
            _prepare(job, groups, passages, train_file, report)
    if (job.work / "base").is_dir():
        base = job.work / "base"
    model_args = AbsEmbedderModelArguments(model_name_or_path=str(base), trust_remote_code=False)
    set_seed(job.training.seed)
    arguments: dict[str, Any] = {
        "model_args": model_args,
        "data_args": data_arguments(job, train_file),
        "training_args": training_args,
    }
    if job.training.candidates == "corpus":
        runner: EncoderOnlyEmbedderRunner = WholeCorpusRunner(job, groups, passages, **arguments)
    else:
        runner = EncoderOnlyEmbedderRunner(**arguments)
    for name, parameter in runner.model.model.named_parameters():
        if name.startswith("pooler."):
            # The pooler takes no part in the embedding; left trainable it is a parameter without a gradient.
            parameter.requires_grad = False
    before = {name: weight.detach().clone() for name, weight in runner.model.model.named_parameters()}
    runner.trainer.remove_callback(PrinterCallback)
    runner.trainer.add_callback(LogToRun(job.output / LOG_FILE, report))
    runner.trainer.train()
    if training_args.process_index == 0:
        _write_checkpoint(job, runner)
        change = _relative_change(before, runner.model.model)
        (job.output / SUMMARY_FILE).write_text(json.dumps({"weight_change": change}) + "\n", encoding="utf-8")


def _write_checkpoint(job: FinetuneJob, runner: EncoderOnlyEmbedderRunner) -> None:
    # Saved with the lengths of the last batch the tokenizer would cut texts by itself elsewhere.
    backend: Any = runner.tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    runner.trainer.save_model(str(job.work / "trained"))
    for name in _SAVED_FILES:
        if (job.work / "trained" / name).is_file():
            shutil.copyfile(job.work / "trained" / name, job.output / name)
    describe_encoder(job.output, job.encoder)


def _relative_change(before: dict[str, torch.Tensor], model: torch.nn.Module) -> float:
    """The length of the step from the starting weights to the trained ones, relative to the starting weights."""
    moved = sum(
        (weight.detach() - before[name]).double().square().sum().item() for name, weight in model.named_parameters()
    )
    size = sum(weight.double().square().sum().item() for weight in before.values())
    return round((moved / size) ** 0.5, 8)


def _prepare(
    job: FinetuneJob, groups: list[TrainingGroup], passages: list[Passage], train_file: Path, report: Report
) -> None:
    training = job.training
    filled = write_flagembedding_groups(
        groups if training.candidates == "in_batch" else [],
        passages,
        train_file,
        group_size=training.train_group_size,
        seed=training.seed,
        with_scores=training.knowledge_distillation is not None,
    )
    if filled:
        report(
            f"{filled} negatives drawn at random for groups with fewer than {training.train_group_size - 1} mined ones"
        )
    if training.vocabulary_extension is None:
        return
    texts = [group.query for group in groups] + [passage.text for passage in passages]
    share = count_unknown(job.encoder, texts, directory=job.base).share
    if share <= training.vocabulary_extension.unknown_limit:
        report(f"vocabulary kept: {share:.2%} of the training characters are unknown to the tokenizer")
        return
    characters = missing_characters(job.base, texts, min_count=training.vocabulary_extension.min_count)
    added = extend_vocabulary(job.base, characters, job.work / "base", seed=training.seed)
    report(f"vocabulary extended by {added} characters: {share:.1%} of the training characters were unknown before")


@contextmanager
def _run_log() -> Iterator[Report]:
    """Where progress is said: the Dagster run that started us, else the terminal; only the first process speaks."""
    if int(os.environ.get("RANK", "0")) != 0:
        yield lambda message: None
    elif PipesEnvVarParamsLoader().is_dagster_pipes_process():
        with open_dagster_pipes() as pipes:
            context: PipesContext = pipes
            yield context.log.info
    else:
        yield lambda message: print(message, flush=True)


def _end_with_starter() -> None:
    """End this process soon after the one that started the training is gone, however it went; torchrun follows."""
    starter = os.environ.get(STARTER_VARIABLE)
    if starter is None:
        return

    def watch() -> None:
        import psutil

        while psutil.pid_exists(int(starter)):
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Train the job named on the command line."""
    _end_with_starter()
    # Set up before FlagEmbedding does: at its level it prints two hundred lines of arguments.
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("FlagEmbedding").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message="`max_length` is ignored")
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    job = FinetuneJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with _run_log() as report:
        train(job, report)


if __name__ == "__main__":
    main()
