"""The service's life: it listens, takes what is newer without dropping a request, and ends when it is asked to.

Belongs here: threads, sockets, reloading. Does not belong here: what is answered (app), signals (interruption).
"""

import asyncio
import errno
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from embed_pipeline.artifacts import DamagedObjectError
from embed_pipeline.assembly.variant_encoder import find_standing
from embed_pipeline.encoding.encoder import Role
from embed_pipeline.graph.graph import Graph
from embed_pipeline.serving.app import Service, build_app
from embed_pipeline.serving.batching import Batcher
from embed_pipeline.serving.metrics import Metrics
from embed_pipeline.serving.served import Served, has_changed, load_served

STOP_SECONDS = 20
"""How long requests under way may take to end."""
KEEP_SECONDS = 75
"""How long a connection without a request stays open: longer than proxies and clients keep theirs (nginx: 60), else
they send into one that has just been closed."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where the service listens and what it lets wait."""

    host: str = "127.0.0.1"
    port: int = 8000
    batch: int = 32
    """Questions of a search, or pairs, at once."""
    batch_tokens: int | None = None
    """Of texts to encode at once, about; None: as many as fill one pass of the encoder."""
    queue: int = 4096
    reload_seconds: float = 2.0
    api_key: str | None = None
    input_type: Role | None = None


class Server:
    """A service in a thread of its own; `start` returns when it answers."""

    def __init__(
        self, open_graph: Callable[[], Graph], name: str, settings: ServerSettings, say: Callable[[str], None]
    ) -> None:
        """Loads what stands for the name.

        Raises:
            UnknownNameError: there is no such data set or variant.
            MissingInputError: something was not built yet.
            ValueError: a model cannot be read, or another machine could ask without a key.
        """
        if settings.host not in LOOPBACK and not settings.api_key:
            raise ValueError(
                f"host {settings.host}: expected an API key where other machines can ask, found none. Set "
                "EMBED_PIPELINE_API_KEY, or listen on 127.0.0.1 behind a proxy that asks who one is."
            )
        self._open_graph, self._settings, self._say = open_graph, settings, say
        self._graph = open_graph()
        served = load_served(self._graph, name)
        metrics = Metrics()
        batcher = Batcher(
            batch=settings.batch,
            batch_tokens=settings.batch_tokens or served.batch_tokens,
            capacity=settings.queue,
            report=metrics.batch.observe,
        )
        self.service = Service(served, batcher, metrics, settings.api_key, settings.input_type)
        self._unusable: dict[str, str] | None = None
        self._complaint = ""
        self._server: uvicorn.Server | None = None
        # Not Thread.join: in Python 3.11 a KeyboardInterrupt inside it makes the thread count as ended (bpo-45274).
        self._ended = threading.Event()

    @property
    def served(self) -> Served:
        """What answers now."""
        return self.service.served

    def start(self) -> str:
        """Listen; returns the address.

        Raises:
            ValueError: the address is taken, or this machine has no such host.
        """
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        try:
            listening = socket.create_server((self._settings.host, self._settings.port), family=family, backlog=1024)
        except OSError as error:
            is_of_the_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
            wanted, option = ("a free port", "--port") if is_of_the_port else ("an address of this machine", "--host")
            raise ValueError(
                f"{self._settings.host}:{self._settings.port}: expected {wanted}, found {error.strerror}. Choose "
                f"another with {option}."
            ) from error
        # asyncio does it only for sockets that name TCP, which create_server's do not; an answer of two segments
        # would wait for the client's delayed acknowledgement, 40 ms. Accepted sockets inherit it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hosts = [*LOOPBACK, "[::1]"] if self._settings.host in LOOPBACK else ["*"]
        app = build_app(self.service, hosts=hosts, lifespan=self._lifespan)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_keep_alive=KEEP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        # In a thread: the signals are the main thread's, as in every command.
        threading.Thread(target=self._run, args=(self._server, listening), name="server", daemon=True).start()
        while not self._server.started and not self._ended.is_set():
            time.sleep(0.01)
        host = f"[{self._settings.host}]" if family == socket.AF_INET6 else self._settings.host
        return f"http://{host}:{listening.getsockname()[1]}"

    def wait(self) -> None:
        """Return when the service has ended; KeyboardInterrupt comes through."""
        self._ended.wait()

    def stop(self) -> None:
        """Take no new connection, answer what was asked, end."""
        if self._server is not None:
            self.service.stopping = True
            self._server.should_exit = True
            self._ended.wait()

    def reload(self) -> bool:
        """Take what the store has, if it is newer and whole; returns whether it was taken.

        What cannot be taken is named once, and the old one goes on answering.
        """
        if not has_changed(self._graph, self.served):
            return False
        found: dict[str, str] = {}
        try:
            graph = self._open_graph()
            found = find_standing(graph, self.served.name).digests
            if found == self._unusable:
                return False
            served = load_served(graph, self.served.name)
        except (ValueError, OSError, DamagedObjectError) as error:
            self._unusable = found or None  # loaded once; what does not stand yet is looked at again
            self._complain(error)
            return False
        self._graph, self._unusable, self._complaint = graph, None, ""
        self.service.served = served
        self.service.metrics.reloads["done"] += 1
        self._say(f"serving {served.variant} {served.checkpoint[:12]}")
        return True

    def _run(self, server: uvicorn.Server, listening: socket.socket) -> None:
        try:
            server.run([listening])
        finally:
            self._ended.set()

    def _complain(self, error: Exception) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            self.service.metrics.reloads["failed"] += 1
            answering = f"{self.served.variant} {self.served.checkpoint[:12]} goes on answering"
            self._say(f"what is newer was not taken, {answering}: {error}")

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.service.batcher.run()), asyncio.create_task(self._watch())]
        for task in tasks:
            task.add_done_callback(self._end_with)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.service.batcher.close()

    def _end_with(self, task: asyncio.Task) -> None:
        if not task.cancelled() and (error := task.exception()) and self._server:
            self._say(f"the service ends: {error!r}")
            self._server.should_exit = True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.reload_seconds)
            attempt = asyncio.ensure_future(asyncio.to_thread(self.reload))
            await asyncio.wait([attempt])
            if error := attempt.exception():  # out of memory, say; the next artifacts may fit
                self._complain(error if isinstance(error, Exception) else RuntimeError(str(error)))
