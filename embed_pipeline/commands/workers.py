"""Runs in processes of their own, for `run --jobs`: several at a time, each as if it were the only one.

A worker runs one piece of work after another, as the command itself does where it runs one at a time: it is asked by a
line of JSON on its standard input, and tells by such lines what its steps say and how the run ended. Threads of a run
are not divided among the workers: what a training comes to depends on their number. Belongs here: both ends of that.
Does not belong here: running (defs.running), which work there is (graph.work), what is printed (live).
"""

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TextIO

from embed_pipeline.graph.catalogue import JOBS
from embed_pipeline.graph.work import Work
from embed_pipeline.interruption import end_children, end_process_tree, end_with_parent, interruptible

_STOPPING_SECONDS = 2.0
Tell = Callable[[str, int, str], None]
"""See defs.running.Tell."""


class Workers:
    """So many processes; a thread that asks for a run waits for one that is free."""

    def __init__(self, jobs: int) -> None:
        self._stopped = False
        self._all = [_start() for _ in range(jobs)]
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._all:
            self._free.put(worker)

    def execute(self, work: Work, run_id: str, tell: Tell) -> tuple[str, ...]:
        """As defs.running.execute; what the steps say goes to `tell`. That a worker was killed is an error of its run.

        Raises:
            KeyboardInterrupt: the workers were stopped meanwhile.
        """
        worker = self._free.get()
        if worker.poll() is not None:
            worker = _start()
            self._all.append(worker)
        try:
            return self._ask(worker, work, run_id, tell)
        finally:
            self._free.put(worker)

    def _ask(self, worker: "_Worker", work: Work, run_id: str, tell: Tell) -> tuple[str, ...]:
        assert worker.stdin and worker.stdout  # they were opened
        asked = {"job": work.job.name, "partition": work.partition, "key": work.key, "run_id": run_id}
        with suppress(BrokenPipeError, json.JSONDecodeError):  # it was killed
            print(json.dumps(asked), file=worker.stdin, flush=True)
            for line in worker.stdout:
                told = json.loads(line)
                if "errors" in told:
                    return tuple(told["errors"])
                tell(*told["said"])
        if self._stopped:
            raise KeyboardInterrupt
        return (f"run {run_id}: its process ended with {worker.wait()}; its page in the UI says how far it was.",)

    def stop(self) -> None:
        """End what is under way: the runs are canceled, and all that they started ends."""
        self._stopped = True
        for worker in self._all:
            if worker.poll() is None:
                worker.terminate()
        deadline = time.monotonic() + _STOPPING_SECONDS
        for worker in self._all:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                end_process_tree(worker.pid, grace_seconds=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


_Worker = subprocess.Popen[str]


def _start() -> _Worker:
    # In a session of its own: the terminal's Ctrl-C reaches this process alone, which ends the others in order.
    return subprocess.Popen(
        [sys.executable, "-m", "embed_pipeline.commands.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=end_with_parent,
    )


def serve(asked: TextIO, told: TextIO) -> None:
    """Run what each line asks for, until there are no more."""
    from embed_pipeline.definitions import defs
    from embed_pipeline.defs.running import cancel_run, execute, open_instance, told_to

    def tell(**content: object) -> None:
        print(json.dumps(content), file=told, flush=True)

    jobs = {job.name: job for job in JOBS}
    with interruptible(lambda _: None) as interruption, open_instance() as instance:
        try:
            for line in asked:
                run = json.loads(line)
                work, run_id = Work(jobs[run["job"]], run["partition"], (), run["key"]), run["run_id"]
                with (
                    told_to(lambda step, level, words: tell(said=(step, level, words))),
                    interruption.last_act(lambda run_id=run_id: cancel_run(instance, run_id)),
                ):
                    errors = execute(defs, work, instance, run_id=run_id)
                tell(errors=errors)
        except KeyboardInterrupt:
            end_children(grace_seconds=0.5)


def main() -> None:
    """Serve on standard input and output; what libraries print there leads nowhere: Dagster keeps each step's."""
    told, nowhere = os.fdopen(os.dup(1), "w", encoding="utf-8"), os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    serve(sys.stdin, told)


if __name__ == "__main__":
    main()
