"""Requests that come at the same time go through the model together, and only so many may wait.

While a batch is under way the next one gathers, so that nothing waits for a batch to fill. Belongs here: the queue and
its turns. Does not belong here: what is computed (served), HTTP (app).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Items in, a result for each in their order; called in the batcher's own thread, one call at a time."""


class QueueFullError(RuntimeError):
    """More is waiting than the queue may hold; the client should come again."""


@dataclass(eq=False)
class _Job:
    key: Hashable
    work: Work
    items: Sequence[Any]
    done: asyncio.Future
    results: list[Any] = field(default_factory=list)
    alone: bool = False
    """It was in a batch that failed, so it is tried by itself: another's bad text spoils nobody's answer."""

    @property
    def left(self) -> Sequence[Any]:
        return self.items[len(self.results) :]


class Batcher:
    """Takes turns among jobs; of a job with many items only `batch` at a time, so that short ones pass between.

    Not thread-safe: everything is called from one event loop.
    """

    def __init__(self, *, batch: int, capacity: int, report: Callable[[int], None]) -> None:
        self.batch = batch
        self.capacity = capacity
        self._report = report
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @property
    def waiting(self) -> int:
        """Items that wait or are under way."""
        return sum(len(job.left) for job in self._jobs)

    async def submit(self, key: Hashable, work: Work, items: Sequence[Any]) -> list[Any]:
        """What `work` gives for the items, in their order; jobs of one key may be worked on together.

        Items go in order of their length, so that of a large request like lengths go through the model together.

        Raises:
            QueueFullError: it does not fit into the queue. An empty queue takes any job.
        """
        waiting = self.waiting
        if waiting and waiting + len(items) > self.capacity:
            raise QueueFullError(f"{waiting} texts are waiting, {self.capacity} may")
        if not items:
            return []
        order = sorted(range(len(items)), key=lambda at: len(str(items[at])))
        job = _Job(key, work, [items[at] for at in order], asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._arrived.set()
        try:
            results = dict(zip(order, await job.done, strict=True))
            return [results[at] for at in range(len(items))]
        finally:
            if job in self._jobs:  # the one who asked is gone
                self._jobs.remove(job)

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._arrived.clear()
            taken = self._take()
            if not taken:
                await self._arrived.wait()
                continue
            portions = [(job, job.left[:size]) for job, size in taken]
            items = [item for _, portion in portions for item in portion]
            self._report(len(items))
            call = loop.run_in_executor(self._thread, taken[0][0].work, items)
            await asyncio.wait([call])
            self._hand_out(portions, call)

    def close(self) -> None:
        """Let the call under way end and take no other."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _take(self) -> list[tuple[_Job, int]]:
        """The first job and what else can go with it, each with how many of its items go."""
        taken: list[tuple[_Job, int]] = []
        room = self.batch
        for job in self._jobs:
            if taken and (job.key != taken[0][0].key or job.alone or taken[0][0].alone):
                continue
            size = min(room, len(job.left))
            taken.append((job, size))
            room -= size
            if room == 0:
                break
        return taken

    def _hand_out(self, portions: Sequence[tuple[_Job, Sequence[Any]]], call: asyncio.Future) -> None:
        error, start = call.exception(), 0
        for job, portion in portions:
            if job not in self._jobs:
                start += len(portion)
                continue
            if error is None:
                job.results += call.result()[start : start + len(portion)]
                start += len(portion)
                self._jobs.remove(job)
                if job.left:
                    self._jobs.append(job)  # behind those that came meanwhile
                else:
                    job.done.set_result(job.results)
            elif len(portions) > 1:
                job.alone = True
            else:
                self._jobs.remove(job)
                job.done.set_exception(error)
