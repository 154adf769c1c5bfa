"""What the tests' servers of OpenAI's APIs share: how a call is failed when a test says so."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call is failed: with a status, or by waiting until the client has gone."""

    status: int = 500
    message: str = "failed as told"
    headers: Mapping[str, str] = field(default_factory=lambda: {"retry-after-ms": "1"})
    code: str | None = None
    """OpenAI's name of the error; None: what the server puts there."""
    silent_seconds: float = 0.0
    """Above 0: nothing is answered; the connection is closed after this long."""
    body: object = None
    """What is sent in place of OpenAI's form of an error: bytes as they are, anything else as JSON."""
    drip_seconds: float = 0.0
    """Above 0: status 200 and the body go out a byte at a time, so far apart."""


class FailingHandler(BaseHTTPRequestHandler):
    """Sends answers and failures; what is answered belongs to the server's own handler."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        """An answer, as JSON where it looks like that."""
        kind = "application/json" if content[:1] in b"{[" else "text/html"
        try:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:  # the client was killed
            self.close_connection = True

    def send_failure(self, failure: Failure, code: str) -> None:
        """The failure; `code` stands in OpenAI's form of an error where the failure names none."""
        if failure.silent_seconds:
            time.sleep(failure.silent_seconds)
            self.close_connection = True
            return
        code = code if failure.code is None else failure.code
        error = {"error": {"message": failure.message, "type": "error", "code": code}}
        body = failure.body if failure.body is not None else error
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if failure.drip_seconds:
            self._drip(content, failure.drip_seconds)
            self.close_connection = True
        else:
            self.send(failure.status, content, failure.headers)

    def _drip(self, content: bytes, seconds: float) -> None:
        """A byte at a time until the client has gone."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        with suppress(OSError):
            for byte in head.encode() + content:
                self.wfile.write(bytes([byte]))
                time.sleep(seconds)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""
