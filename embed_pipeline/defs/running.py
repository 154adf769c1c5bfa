"""Running jobs in this process, on the project's Dagster instance, where the UI shows them."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from embed_pipeline.defs.resources import PipelineResource, pipeline_from_environment
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.work import Work

Build = Callable[[PipelineResource], dg.Definitions]
"""Gives the definitions of a project as its data folder stands now; what runs jobs cannot import them."""


def prepare_environment() -> None:
    """Point Dagster at the project in the current folder, unless the environment already says otherwise.

    Raises:
        ValueError: the current folder has no dagster.yaml.
    """
    if "DAGSTER_HOME" not in os.environ:
        if not Path("dagster.yaml").is_file():
            raise ValueError(f"{Path.cwd()}: expected dagster.yaml, found none. Run from the project's root folder.")
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    storage = pipeline_from_environment().project().home / "dagster"
    os.environ.setdefault("EMBED_PIPELINE_DAGSTER_STORAGE", str(storage))
    Path(os.environ["EMBED_PIPELINE_DAGSTER_STORAGE"]).mkdir(parents=True, exist_ok=True)


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The project's Dagster instance."""
    prepare_environment()
    with dg.DagsterInstance.get() as instance:
        yield instance


def execute(
    definitions: dg.Definitions, work: Work, instance: dg.DagsterInstance, *, tags: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Run one piece of work; returns the errors of its failed steps, empty when it succeeded."""
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)  # Pipes is in preview, and says so at each use
    result = definitions.resolve_job_def(work.job.name).execute_in_process(
        instance=instance,
        partition_key=None if work.partition == ALL else work.partition,
        raise_on_error=False,
        tags=dict(tags or {}),
        run_config={"loggers": {"console": {}}},
    )
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    errors = tuple(_root_message(failure.error) for failure in failures if failure.error is not None)
    return errors or (() if result.success else (f"run {result.run_id} failed",))


def _make_console(_: dg.InitLoggerContext) -> logging.Logger:
    """A logger that prints what assets say and leaves out what Dagster says about itself."""
    logger = logging.getLogger("embed_pipeline.console")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_TerseFormatter())
        logger.addHandler(handler)
    return logger


terse_console = dg.LoggerDefinition(
    _make_console, description="The words of the assets, one line each; Dagster's own events stay in the UI."
)


class _TerseFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", None) or {}
        message = meta.get("orig_message") or record.getMessage()
        return f"    {message}" if record.levelno < logging.WARNING else f"    {record.levelname.lower()}: {message}"


def _root_message(error: object) -> str:
    while getattr(error, "cause", None) is not None:
        error = error.cause  # type: ignore[attr-defined]
    return str(getattr(error, "message", error)).strip()
