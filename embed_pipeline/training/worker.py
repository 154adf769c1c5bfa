"""The process that trains: `python -m torch.distributed.run … -m embed_pipeline.training.worker JOB`.

Belongs here: the entry point, where it logs, its end with the process that started it. Does not belong here: training
(training_run.py).
"""

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from dagster_pipes import PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes
from transformers.utils import logging as transformers_logging

from embed_pipeline.training.finetune import REASON_FILE, STARTER_VARIABLE, FinetuneJob
from embed_pipeline.training.progress import Report
from embed_pipeline.training.training_run import train
from embed_pipeline.training.watchdog import HopelessTrainingError

_WATCH_SECONDS = 2.0


@contextmanager
def _run_log() -> Iterator[tuple[Report, Report]]:
    """Where progress is said, and warnings: the Dagster run that started us, else the terminal.

    Only the first process speaks.
    """
    if int(os.environ.get("RANK", "0")) != 0:
        yield _silent, _silent
    elif PipesEnvVarParamsLoader().is_dagster_pipes_process():
        with open_dagster_pipes() as pipes:
            context: PipesContext = pipes
            yield context.log.info, context.log.warning
    else:
        yield _printed, _printed


def _silent(_: str) -> None:
    return


def _printed(message: str) -> None:
    print(message, flush=True)


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


def _leave_process_group() -> None:
    """Let go of the other processes: threads of a group that outlive the interpreter now and then abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def train_job(job_file: Path) -> None:
    """Train a job as the process that RANK and WORLD_SIZE say this is.

    Raises:
        HopelessTrainingError: it cannot succeed; the reason lies in REASON_FILE of the job's folder for intermediate
            files as well.
    """
    # Set up before FlagEmbedding does: at its level it prints two hundred lines of arguments.
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("FlagEmbedding").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message="`max_length` is ignored")
    transformers_logging.disable_progress_bar()
    job = FinetuneJob.model_validate_json(job_file.read_text(encoding="utf-8"))
    with _run_log() as (report, warn):
        try:
            train(job, report, warn)
        except HopelessTrainingError as error:
            (job.work / REASON_FILE).write_text(str(error), encoding="utf-8")
            raise
        _leave_process_group()


def main() -> None:
    """Train the job named on the command line."""
    _end_with_starter()
    try:
        train_job(Path(sys.argv[1]))
    except HopelessTrainingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
