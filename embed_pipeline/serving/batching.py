"""Requests that come at the same time go through the model together, and only so many may wait.

While a batch is under way the next one gathers, so that nothing waits for a batch to fill. Belongs here: the queue,
its turns, what goes into a batch. Does not belong here: what is computed (served), HTTP (app).
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
    tokens: Sequence[int]
    counted: bool
    done: asyncio.Future
    left: list[int]
    """Places of the items that were not worked on yet, the shortest first."""
    results: dict[int, Any] = field(default_factory=dict)
    alone: bool = False
    """It was in a batch that failed, so it is tried by itself: another's bad text spoils nobody's answer."""


_Taken = list[tuple[_Job, list[int]]]
"""Jobs, and of each the places of the items that go."""


class Batcher:
    """Fills batches from all jobs that wait: an item of each new one, then those of like length, whosesoever they are.

    So a short job goes with the next batch of its key, however large those before it are, and little is padding.
    Not thread-safe: everything is called from one event loop.
    """

    def __init__(self, *, batch: int, batch_tokens: int, capacity: int, report: Callable[[int], None]) -> None:
        """A batch has at most `batch_tokens`, or one item; of what is counted `batch` items. `capacity` items may wait.

        `report` is told how many items go into each.
        """
        self.batch = batch
        self.batch_tokens = batch_tokens
        self.capacity = capacity
        self._report = report
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @property
    def waiting(self) -> int:
        """Items that wait or are under way."""
        return sum(len(job.left) for job in self._jobs)

    async def submit(
        self, key: Hashable, work: Work, items: Sequence[Any], tokens: Sequence[int], *, counted: bool = False
    ) -> list[Any]:
        """What `work` gives for the items, in their order; jobs of one key may be worked on together.

        `tokens`: the length of each, about. `counted`: not they fill a batch, but the number of items.

        Raises:
            QueueFullError: it does not fit into the queue. An empty queue takes any job.
        """
        waiting = self.waiting
        if waiting and waiting + len(items) > self.capacity:
            raise QueueFullError(f"{waiting} texts are waiting, {self.capacity} may")
        if not items:
            return []
        left = sorted(range(len(items)), key=tokens.__getitem__)
        job = _Job(key, work, items, tokens, counted, asyncio.get_running_loop().create_future(), left)
        self._jobs.append(job)
        self._arrived.set()
        try:
            results = await job.done
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
            items = [job.items[at] for job, places in taken for at in places]
            self._report(len(items))
            call = loop.run_in_executor(self._thread, taken[0][0].work, items)
            await asyncio.wait([call])
            self._hand_out(taken, call)

    def close(self) -> None:
        """Let the call under way end and take no other."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _take(self) -> _Taken:
        """The shortest item of the first job, and of each without a turn yet, then those nearest to its length."""
        if not self._jobs:
            return []
        first = self._jobs[0]
        jobs = [first] if first.alone else [job for job in self._jobs if job.key == first.key and not job.alone]
        near = first.tokens[first.left[0]]
        due = [(job, job.left[0]) for job in jobs if job is first or not job.results]
        waiting = [(job, at) for job in jobs for at in job.left]
        waiting.sort(key=lambda item: abs(item[0].tokens[item[1]] - near))
        taken: dict[_Job, list[int]] = {}
        room = self.batch if first.counted else self.batch_tokens
        for job, at in dict.fromkeys([*due, *waiting]):
            room -= 1 if first.counted else job.tokens[at]
            if room < 0 and taken:
                break
            taken.setdefault(job, []).append(at)
        return list(taken.items())

    def _hand_out(self, taken: _Taken, call: asyncio.Future) -> None:
        if error := call.exception():
            for job in self._standing(taken):
                if len(taken) > 1:
                    job.alone = True
                else:
                    self._jobs.remove(job)
                    job.done.set_exception(error)
            return
        results = iter(call.result())
        for job, places in taken:
            job.results |= {at: next(results) for at in places}
            job.left = [at for at in job.left if at not in job.results]
        for job in self._standing(taken):
            self._jobs.remove(job)
            if job.left:
                self._jobs.append(job)  # behind those that have waited since their last turn
            else:
                job.done.set_result(job.results)

    def _standing(self, taken: _Taken) -> list[_Job]:
        return [job for job, _ in taken if job in self._jobs]  # the others' askers are gone
