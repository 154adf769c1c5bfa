"""Several GPUs of this machine: a process on each of them computes portions of texts, until all are done.

Belongs here: which GPUs there are, those processes and what becomes of them. Does not belong here: what is computed in
them (portions.py), portions and what is kept of them (vector_cache.py).
"""

import multiprocessing
import os
import signal
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import numpy as np

from embed_pipeline.encoding.encoder import Role, encode_as
from embed_pipeline.encoding.local import Device, LocalEncoder
from embed_pipeline.encoding.portions import PortionWorker, SpreadEncoder
from embed_pipeline.interruption import end_with_parent

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
PORTIONS_PAY = 200
"""From so many portions on the processes are started: that takes some ten seconds, in which one GPU may encode as many
texts. An estimate; not measured on several GPUs."""
_CALLS_PER_PROCESS = 3
"""Portions that wait, are under way, or are done and not fetched: more of them would only fill the memory."""


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this process, each as CUDA_VISIBLE_DEVICES names it for a process that shall see no other."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VISIBLE_VARIABLE, "").split(",") if name.strip()]
    return tuple(named[:count]) if named else tuple(map(str, range(count)))


def on_all_gpus(encoder: LocalEncoder) -> "LocalEncoder | GpusEncoder":
    """The same encoder, spread over the GPUs where it runs on them and there are several."""
    gpus = visible_gpus() if encoder.device == "cuda" else ()
    return GpusEncoder(encoder, gpus) if len(gpus) > 1 else encoder


class GpusEncoder(SpreadEncoder):
    """Implements Encoder and Parallel: a local encoder whose portions are computed by a process on each GPU.

    Few portions are computed here, on the first GPU. The processes stay, with their model, until this goes.
    """

    def __init__(
        self, encoder: LocalEncoder, gpus: Sequence[str], *, device: Device = "cuda", portions_pay: int = PORTIONS_PAY
    ) -> None:
        """`gpus` as in CUDA_VISIBLE_DEVICES. On the device `cpu` there are as many processes, which see all cores."""
        self.encoder = encoder
        self.gpus = tuple(gpus)
        self.device = device
        self.portions_pay = portions_pay
        self._processes: GpuProcesses | None = None

    def encode_portions(self, role: Role, portions: Sequence[Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """See Parallel.

        Raises:
            ValueError: as LocalEncoder.
            RuntimeError: a process ended before it was done; what came back before is not lost.
        """
        if self._processes is None and len(portions) < self.portions_pay:
            for at, texts in enumerate(portions):
                yield at, encode_as(self.encoder, role, texts)
            return
        if self._processes is None:
            self._processes = GpuProcesses(
                self.gpus, self.worker_arguments(self.encoder.directory, self.encoder.compiled)
            )
            weakref.finalize(self, self._processes.end)
        try:
            yield from map(self.vectors_of, self._processes.compute(self.rows(role, portions)))
        except EOFError as error:
            self._processes.end()
            self._processes = None
            raise RuntimeError(
                f"{self.encoder.directory}: a process that encoded on one of {len(self.gpus)} GPUs was killed or ran "
                f"out of memory. What was encoded is kept. Run the same again, with one GPU: {VISIBLE_VARIABLE}="
                f"{self.gpus[0]}."
            ) from error


class GpuProcesses:
    """A process on each GPU, and a thread here that waits for it.

    Pipes, not ProcessPoolExecutor: that of Python 3.11 was seen to wait forever after one of its processes was killed.
    """

    def __init__(self, gpus: Sequence[str], arguments: Mapping[str, Any]) -> None:
        """`arguments`: those of PortionWorker."""
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self._free: SimpleQueue[Connection] = SimpleQueue()
        self._connections: list[Connection] = []
        self._threads = ThreadPoolExecutor(len(gpus))
        for gpu in gpus:
            ours, theirs = context.Pipe()
            context.Process(target=_work, args=(theirs, gpu, arguments), daemon=True).start()
            theirs.close()
            self._connections.append(ours)
            self._free.put(ours)

    def compute(self, rows: Iterator[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """What PortionWorker answers to each row, as soon as it is there. Raises EOFError where a process is gone."""
        running: set[Future[dict[str, Any]]] = set()
        try:
            while True:
                more = islice(rows, _CALLS_PER_PROCESS * len(self._connections) - len(running))
                running |= {self._threads.submit(self._ask, row) for row in more}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        finally:
            for one in running:
                one.cancel()

    def _ask(self, row: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._free.get()
        try:
            connection.send(row)
            return connection.recv()
        except OSError as error:
            raise EOFError("the process at the other end is gone") from error
        finally:
            self._free.put(connection)

    def end(self) -> None:
        """The processes end where nobody can send them anything."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in self._connections:
            connection.close()


def _work(connection: Connection, gpu: str, arguments: Mapping[str, Any]) -> None:
    """What each process does, until the other end is closed."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which cleans up
    os.environ[VISIBLE_VARIABLE] = gpu
    worker = PortionWorker(**arguments)
    while True:
        try:
            row = connection.recv()
        except EOFError:
            return
        connection.send(worker(row))
