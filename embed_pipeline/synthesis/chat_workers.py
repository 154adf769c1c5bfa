"""Threads that work through tasks in order and leave none behind, and the clock that says when one may send.

Belongs here: starting, stopping and waiting. Does not belong here: what the work is (hosted_chat.py).

Not concurrent.futures' pool: when a run is broken off, that one works through everything queued before the process may
end, and here every task costs money.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

_INTERRUPTED_SECONDS = 2.0
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Job(Generic[Task, Result]):
    task: Task
    future: Future[Result]


class Workers(Generic[Task, Result]):
    """Use with `with`: on leaving, what is under way is finished, nothing more is begun, and every thread has ended.

    An interrupt waits for what is under way no longer than a moment: what is answered until then is kept.
    """

    def __init__(self, work: Callable[[Task, threading.Event], Result], threads: int) -> None:
        """`work` is called with the task and an event that is set as soon as no more work is wanted."""
        self._work = work
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[_Job[Task, Result] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._error: BaseException | None = None

    def submit(self, task: Task) -> Future[Result]:
        """The task's result to come; tasks are begun in the order in which they are submitted."""
        job = _Job(task, Future[Result]())
        self._queue.put(job)
        if len(self._threads) < self._most:
            # A daemon: a process that ends without leaving the `with` need not wait for it.
            self._threads.append(threading.Thread(target=self._run, name="chat call", daemon=True))
            self._threads[-1].start()
        return job.future

    def result(self, future: Future[Result]) -> Result:
        """The result, waiting for it. Raises the first error of any task where this one was not done for an error."""
        error = future.exception()
        if error is not None:
            raise self._error or error
        return future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for _ in self._threads:
            self._queue.put(None)
        interrupted = error is not None and not isinstance(error, Exception)
        deadline = time.monotonic() + _INTERRUPTED_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()) if interrupted else None)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            if self._stop.is_set():
                job.future.set_exception(self._error or RuntimeError("the work had ended"))
                continue
            try:
                result = self._work(job.task, self._stop)
            except BaseException as error:  # it belongs to the thread that waits, which would else wait forever
                self._error = self._error or error
                self._stop.set()
                job.future.set_exception(error)
            else:
                job.future.set_result(result)


class Pace:
    """Attempts spread evenly, one every 60 / requests_per_minute seconds; for any number of threads."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._apart = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Returns when an attempt may be sent, or at once when `stop` is set."""
        while not stop.is_set():
            with self._lock:
                left = self._next - time.monotonic()
                if left <= 0:
                    self._next = time.monotonic() + self._apart
                    return
            stop.wait(left)

    def hold(self, seconds: float) -> None:
        """No attempt may be sent before so many seconds have passed."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
