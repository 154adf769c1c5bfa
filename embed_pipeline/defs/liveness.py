"""Which runs are alive: each says in its tags which process carries it; one whose process is gone is ended as failed.

A process that is killed says nothing: Dagster shows its runs as under way for ever, the sensor then waits for them and
the queue counts them. Belongs here: the tags, the heartbeat, ending the dead. Does not belong here: a run that is asked
to end (running, services).
"""

import logging
import os
import socket
import sys
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil

PROCESS_TAG = "embed_pipeline/process"
"""On every run: its own id, the host, the process and when that began. A run that was copied has another id."""
HEARTBEAT_TAG = "embed_pipeline/heartbeat"
"""When that process last said that it is there, in UTC; all that another host can know of it."""

BEAT_SECONDS = 60.0
SILENT_LIMIT = timedelta(minutes=10)
"""A run of another host that was not heard of for so long is dead; ten beats, for storage may be slow."""
UNKNOWN_LIMIT = timedelta(days=1)
"""The same for one without a tag: of an earlier version, or killed in the second before it got one."""

_UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class DeadRun:
    """A run that was ended here, and why."""

    run: dg.DagsterRun
    reason: str


def process_tags(run_id: str) -> dict[str, str]:
    """The tags of a run that this process carries."""
    pid = os.getpid()
    return {PROCESS_TAG: f"{run_id} {_host()} {pid} {_began(pid)}", HEARTBEAT_TAG: _stamp()}


def end_dead_runs(instance: dg.DagsterInstance) -> tuple[DeadRun, ...]:
    """End the runs whose process is gone, as failed with the reason, and free the places in pools that they hold."""
    found = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY)):
        run, reason = record.dagster_run, _cause_of_death(record)
        if reason is None:
            continue
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message=reason)
        else:
            instance.report_run_failed(run, message=reason)
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        found.append(DeadRun(run, reason))
    return tuple(found)


def keep_alive(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Tag a run that has begun in this process, and renew its heartbeat until it ends."""
    if _process_of(run) is None:
        instance.add_run_tags(run.run_id, process_tags(run.run_id))
    _HEART.add(instance, run.run_id)


def _cause_of_death(record: dg.RunRecord) -> str | None:
    """Why a run cannot be alive; None where it can."""
    now = datetime.now(UTC)
    process = _process_of(record.dagster_run)
    if process is None:
        silent = now - _in_utc(record.update_timestamp)
        return (
            f"Nothing was heard of this run for {_told(silent)}: it was broken off." if silent > UNKNOWN_LIMIT else None
        )
    host, pid, began = process
    if host == _host():
        found = _began(int(pid))
        if found == "" or found == began:
            return None
        return f"The process of this run (pid {pid}) is gone: it was killed, or the machine went down."
    beat = record.dagster_run.tags.get(HEARTBEAT_TAG)
    with suppress(ValueError):
        silent = now - datetime.fromisoformat(beat or "")
        if silent <= SILENT_LIMIT:
            return None
        return (
            f"Host {host.partition('/')[0]} was not heard of for {_told(silent)}: this run's process is taken for dead."
        )
    return None


def _process_of(run: dg.DagsterRun) -> tuple[str, str, str] | None:
    words = run.tags.get(PROCESS_TAG, "").split(" ")
    return (words[1], words[2], words[3]) if len(words) == 4 and words[0] == run.run_id and words[2].isdigit() else None


def _host() -> str:
    """The machine, and where Linux has several worlds of processes on it (containers), which of them."""
    with suppress(OSError):
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').readlink()}".replace(" ", "_")
    return socket.gethostname().replace(" ", "_")


def _began(pid: int) -> str:
    """What tells a process from a later one of the same number; `gone` where there is none, empty if it is hidden.

    On Linux counted in clock ticks from the boot, whose id stands before: setting the clock changes nothing.
    """
    if not psutil.pid_exists(pid):
        return "gone"
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""  # other users' processes may be hidden
        return "gone" if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return "gone"
    except psutil.Error:
        return ""


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _told(silent: timedelta) -> str:
    minutes = int(silent.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"


@dataclass
class _Heart:
    """One thread of this process that renews the heartbeats of the runs it carries."""

    runs: dict[str, "weakref.ref[dg.DagsterInstance]"] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None

    def add(self, instance: dg.DagsterInstance, run_id: str) -> None:
        with self.lock:
            self.runs[run_id] = weakref.ref(instance)
            if self.thread is None:
                self.thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
                self.thread.start()

    def _beat(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(BEAT_SECONDS)
            with self.lock:
                runs = dict(self.runs)
                if not runs:
                    self.thread = None
                    return
            for run_id, reference in runs.items():
                if not _renew(reference(), run_id):
                    with self.lock:
                        self.runs.pop(run_id, None)


def _renew(instance: dg.DagsterInstance | None, run_id: str) -> bool:
    """Whether the run goes on, and is to be renewed again."""
    if instance is None:
        return False
    try:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        instance.add_run_tags(run_id, {HEARTBEAT_TAG: _stamp()})
    except Exception:  # whatever the storage raises: a beat that is missed must not end the run
        logging.getLogger(__name__).debug("missed a heartbeat of run %s", run_id, exc_info=True)
    return True


_HEART = _Heart()
