"""S3 as moto plays it, in this process on a port of 127.0.0.1; a test may look at each change before it is made."""

import multiprocessing
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess
from threading import Event, Thread
from typing import Any, Self
from uuid import uuid4

import s3fs
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Hook = Callable[[str, str], bool]
"""Method and path of a request that changes something; True has it answered with 403."""
_REFUSED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


def fresh_process(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """A process that will be started anew: a fork of one with a server in its threads may wait for ever."""
    return multiprocessing.get_context("spawn").Process(target=work, args=arguments)


class _Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None: ...


class S3Server:
    """One server; `environment` is what a client needs to reach it."""

    def __init__(self) -> None:
        self.hook: Hook = lambda method, path: False
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Silent)
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "not-to-be-told",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        s3fs.S3FileSystem.clear_instance_cache()  # made without an endpoint they would go on asking this one

    @property
    def files(self) -> s3fs.S3FileSystem:
        """What lies there, as it is now."""
        keys = {"key": self.environment["AWS_ACCESS_KEY_ID"], "secret": self.environment["AWS_SECRET_ACCESS_KEY"]}
        endpoint = self.environment["AWS_ENDPOINT_URL"]
        return s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, **keys)

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        name = f"bucket-{uuid4().hex}"
        self.files.mkdir(name)
        return name

    def run_killed(self, due: Callable[[str], bool], work: Callable[..., object], *arguments: object) -> int | None:
        """Do the work in a process of its own that is killed at the first change of a path that is due.

        Returns its exit code; what it asked for then is refused.
        """
        gone, killed = Event(), False  # one thread alone may wait for a process

        def kill(method: str, path: str) -> bool:
            nonlocal killed
            if not killed and due(path):
                killed = True
                process.kill()
                gone.wait(10)
            return killed

        process, self.hook = fresh_process(work, *arguments), kill
        process.start()
        process.join(60)
        gone.set()
        self.hook = lambda method, path: False
        return process.exitcode

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD") and self.hook(method, environ["PATH_INFO"]):
            start_response(
                "403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(_REFUSED)))]
            )
            return [_REFUSED]
        return self._moto(environ, start_response)
