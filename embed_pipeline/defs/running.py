"""Running jobs in this process, on the project's Dagster instance, where the UI shows them."""

import logging
import os
import signal
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._utils.interrupts import capture_interrupts, check_captured_interrupt
from dagster_shared.error import SerializableErrorInfo

from embed_pipeline.defs.liveness import end_dead_runs, process_tags
from embed_pipeline.defs.resources import PipelineResource, pipeline_from_environment
from embed_pipeline.defs.storage import check_storage_folder, open_storage
from embed_pipeline.defs.teams import team_key
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import Work
from embed_pipeline.paths import printable
from embed_pipeline.progress import read_progress
from embed_pipeline.project.project import is_debugging

_CONSOLE = logging.getLogger("embed_pipeline.console")
_PLAIN_SECONDS = 10.0
_PIPES_CUT_OFF = "[pipes] did not receive closed message"
NIGHTLY_TAG = "embed_pipeline/nightly"
"""The tag that a night's runs share; its value is when the night was to begin."""
DUE_TAG = "embed_pipeline/due"
"""On a run of what was found to be stale or missing, not asked for by somebody: it repeats no evaluation."""
Build = Callable[[PipelineResource], dg.Definitions]
"""Gives the definitions of a project as its data folder stands now; what runs jobs cannot import them."""


def prepare_environment() -> None:
    """Point Dagster at the project in the current folder, unless the environment already says otherwise.

    Raises:
        ValueError: the current folder has no dagster.yaml, or Dagster's storage cannot lie where it would.
    """
    if "DAGSTER_HOME" not in os.environ:
        if not Path("dagster.yaml").is_file():
            raise ValueError(f"{Path.cwd()}: expected dagster.yaml, found none. Run from the project's root folder.")
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    storage = pipeline_from_environment().project().home / "dagster"
    os.environ.setdefault("EMBED_PIPELINE_DAGSTER_STORAGE", str(storage))
    check_storage_folder(_storage_folder())
    _storage_folder().mkdir(parents=True, exist_ok=True)


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The project's Dagster instance; runs whose process was killed are ended first.

    Raises:
        ValueError: Dagster's storage is damaged, or lies where it cannot.
    """
    prepare_environment()
    with open_storage(_storage_folder()) as instance:
        for dead in end_dead_runs(instance):
            _CONSOLE.warning("%s %s is ended: %s", dead.run.job_name, dead.run.run_id, dead.reason)
        yield instance


def observe(node: Node, told: Mapping[str, str]) -> None:
    """Write an observation with these addresses onto the page of a partition."""
    key = team_key(pipeline_from_environment().team, node.asset)
    metadata = {name: dg.MetadataValue.url(address) for name, address in told.items()}
    with open_instance() as instance:
        instance.report_runless_asset_event(
            dg.AssetObservation(asset_key=key, partition=node.partition, metadata=metadata)
        )


def _storage_folder() -> Path:
    return Path(os.environ["EMBED_PIPELINE_DAGSTER_STORAGE"])


def execute(
    definitions: dg.Definitions,
    work: Work,
    instance: dg.DagsterInstance,
    *,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> tuple[str, ...]:
    """Run one piece of work; returns the errors of its failed steps, empty when it succeeded.

    `run_id`: of the run that is made; left out: a new one.

    Raises:
        KeyboardInterrupt: the run was interrupted; it is canceled, and what its steps had finished is kept.
    """
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)  # Pipes is in preview, and says so at each use
    run_id = run_id or str(uuid.uuid4())
    with ExitStack() as unheard:
        unheard.enter_context(_unheard_by_children())
        events = _RunEvents(instance, run_id, helped=unheard.close)
        _CONSOLE.addHandler(events)
        try:
            # As in Dagster's own commands: records are written whole, an interrupt meets the next step at the latest.
            with capture_interrupts():
                result = definitions.resolve_job_def(work.job.name).execute_in_process(
                    instance=instance,
                    partition_key=None if work.partition == ALL else work.partition,
                    raise_on_error=False,
                    tags={**(tags or {}), **process_tags(run_id), **({DUE_TAG: "true"} if work.key else {})},
                    run_config={"loggers": {"console": {}}},
                    run_id=run_id,
                )
                interrupted = check_captured_interrupt()
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            cancel_run(instance, run_id)
            raise KeyboardInterrupt from None
        finally:
            _CONSOLE.removeHandler(events)
    if _broke_off(result):
        instance.report_run_canceled(result.dagster_run, message="Interrupted.")
        interrupted = True
    if interrupted or result.dagster_run.status is dg.DagsterRunStatus.CANCELED:
        raise KeyboardInterrupt
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    errors = tuple(_message(failure.error) for failure in failures if failure.error is not None)
    return errors or (() if result.success else (f"run {result.run_id} failed",))


def _broke_off(result: dg.ExecuteInProcessResult) -> bool:
    """Whether the run was interrupted between its steps, which Dagster takes for a failure."""
    failures = [event.job_failure_data for event in result.all_events if event.is_job_failure]
    return any(failure.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION for failure in failures)


def cancel_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Record that a run was canceled, where there is one that has not ended."""
    run = instance.get_run_by_id(run_id)
    if run and not run.is_finished:
        instance.report_run_canceled(run, message="Interrupted.")


@contextmanager
def _unheard_by_children() -> Iterator[None]:
    """Children begun inside do not hear Ctrl-C; this process does, by its other threads."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _RunEvents(logging.Handler):
    """What must happen at an event of a run, in the middle of it.

    An interrupted step is the end of a canceled run: Dagster else takes an interrupt of its own for a failure. Once the
    helpers run that copy output into Dagster's logs, and are to outlive Ctrl-C, `helped` is called.
    """

    def __init__(self, instance: dg.DagsterInstance, run_id: str, helped: Callable[[], None]) -> None:
        super().__init__()
        self.instance, self.run_id, self.helped = instance, run_id, helped

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", None) or {}
        event, run = meta.get("dagster_event"), None
        if not event or meta.get("run_id") != self.run_id:
            return
        if event.event_type is dg.DagsterEventType.LOGS_CAPTURED:
            self.helped()
        if event.is_step_failure:
            source = event.step_failure_data.error_source
            run = self.instance.get_run_by_id(self.run_id) if source and source.value == "INTERRUPT" else None
        if run and run.status not in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED):
            self.instance.report_run_canceling(run, message="Interrupted.")


Tell = Callable[[str, int, str], None]
"""Gets what a run says: the name of the step, empty between steps, the level as in `logging`, and the words."""


@contextmanager
def told_to(tell: Tell) -> Iterator[None]:
    """Inside, what assets say in this process goes to `tell`; else it is printed."""
    before, _WORDS.tell = _WORDS.tell, tell
    try:
        yield
    finally:
        _WORDS.tell = before


class _Words(logging.Handler):
    """Hands on what assets say, and which step has begun; what Dagster says about itself stays in the UI."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", None) or {}
        step, event = str(meta.get("step_key") or ""), meta.get("dagster_event")
        if event:
            if event.event_type is dg.DagsterEventType.STEP_START:
                self.tell(step, record.levelno, "")
            return
        words = printable(meta.get("orig_message") or record.getMessage())
        # A training that was stopped or broke off has said so itself.
        if record.levelno >= logging.INFO and not words.startswith(_PIPES_CUT_OFF):
            self.tell(step, record.levelno, words)


@dataclass
class PlainWords:
    """Prints a line for everything that is said; how far a step is, every ten seconds at most."""

    write: Callable[[str], object] = field(default=lambda line: print(line, file=sys.stderr))
    clock: Callable[[], float] = time.monotonic
    _told_at: float | None = field(default=None, init=False)

    def __call__(self, step: str, level: int, words: str) -> None:
        """See Tell."""
        if not words:
            return
        if level < logging.WARNING and read_progress(words):
            now = self.clock()
            if self._told_at is not None and now - self._told_at < _PLAIN_SECONDS:
                return
            self._told_at = now
        mark = "" if level < logging.WARNING else f"{logging.getLevelName(level).lower()}: "
        self.write(f"    {mark}{words}")


_WORDS = _Words(PlainWords())


def _make_console(_: dg.InitLoggerContext) -> logging.Logger:
    """A logger that tells what assets say."""
    logger = _CONSOLE
    logger.setLevel(logging.DEBUG)  # at which Dagster tells of its events, see _RunEvents
    logger.propagate = False
    if _WORDS not in logger.handlers:
        logger.addHandler(_WORDS)
    return logger


terse_console = dg.LoggerDefinition(
    _make_console, description="The words of the assets, one line each; Dagster's own events stay in the UI."
)


def _message(error: SerializableErrorInfo) -> str:
    """The words of the error that left the asset, then those of its causes where they say more."""
    while error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    if error.cls_name == "DagsterAssetCheckFailedError":  # what the check found is told beside it
        return f"a blocking check did not pass: {', '.join(error.message.strip().splitlines()[1:])}"
    told, cause = [_own_words(error.message).removeprefix("ValueError: ")], error.cause
    while cause is not None:
        words = _own_words(cause.message)
        if not any(part in earlier for part in (words, words.partition(": ")[2] or words) for earlier in told):
            told.append(f"Cause: {words}")
        cause = cause.cause
    return "\n".join([*told, error.to_string()] if is_debugging() else told)


def _own_words(message: str) -> str:
    """Without the class before them where it is one of ours, which its sentence says better."""
    return message.strip().partition(": ")[2] if message.startswith("embed_pipeline.") else message.strip()
