"""The UI, its daemon and the runs they start, as one tree of processes that ends whole.

Belongs here: ending them so that Dagster's records say what happened. Does not belong here: starting them
(commands.dev).
"""

import json
import signal
from collections.abc import Collection, Sequence
from contextlib import suppress

import dagster as dg
import psutil
from dagster._core.storage.tags import GRPC_INFO_TAG

from embed_pipeline.defs.running import cancel_run
from embed_pipeline.interruption import end_process_tree

_UNDER_WAY = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)


class Services:
    """A process and its descendants, among them the runs that they started."""

    def __init__(self, pid: int, instance: dg.DagsterInstance) -> None:
        self.pid, self.instance = pid, instance
        self.canceled: list[dg.DagsterRun] = []

    def stop(self, grace_seconds: float) -> None:
        """End them, first with time to clean up; their runs are `canceled`."""
        tree = _tree(self.pid)
        self.canceled = _runs_of(tree, self.instance)
        for run in self.canceled:
            self.instance.report_run_canceling(run, message="Interrupted.")
        # A run first, so that it cleans up while what launched it still listens. What is in a session of its own, as a
        # training, is ended by the run that it belongs to.
        for process in reversed(tree):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs(tree, timeout=grace_seconds)
        for process in alive:
            end_process_tree(process.pid, grace_seconds=0)
        self.record()

    def force(self) -> None:
        """End them now."""
        tree = _tree(self.pid)
        self.canceled = self.canceled or _runs_of(tree, self.instance)
        end_process_tree(self.pid, grace_seconds=0)
        self.record()

    def record(self) -> None:
        """Say in Dagster's records that the runs were canceled, where they did not say so themselves."""
        for run in self.canceled:
            cancel_run(self.instance, run.run_id)


def _tree(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _runs_of(tree: Sequence[psutil.Process], instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs that code servers among the processes execute: others may share the instance."""
    words: set[str] = set()
    for process in tree:
        with suppress(psutil.Error):
            words.update(process.cmdline())
    found = instance.get_runs(dg.RunsFilter(statuses=list(_UNDER_WAY)))
    return [run for run in found if _is_served_by(run, words)]


def _is_served_by(run: dg.DagsterRun, words: Collection[str]) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return str(server.get("socket") or server.get("port")) in words
