"""A server on 127.0.0.1 that speaks OpenAI's embeddings API for any encoder, and fails when told to.

Answers POST <anything>/embeddings, so base_url may end with /v1 or anything else, and Azure's path
/openai/deployments/<name>/embeddings. Counts tokens as one per three bytes, rounded up, and two more for each text.
"""

import base64
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from embed_pipeline_tests.failing_server import FailingHandler, Failure


class EncodesPassages(Protocol):
    """What the server serves; LocalEncoder and FakeEncoder do."""

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in, answered or not."""

    path: str
    texts: tuple[str, ...]
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    """Names in lower case."""


Fail = Callable[[int, Call], Failure | None]
"""Given the call's number from 0 and the call: the failure, or None to answer it."""


def never(number: int, call: Call) -> Failure | None:
    """Every call is answered."""
    return None


def one_in_three(*, silent_seconds: float = 0.0) -> Fail:
    """Calls 1, 4, 7, … fail, in turn with 429, 500 and, if silent_seconds is given, no answer at all."""
    failures = [Failure(429), Failure(500)] + [Failure(silent_seconds=silent_seconds)] * (silent_seconds > 0)

    def fail(number: int, call: Call) -> Failure | None:
        return failures[number // 3 % len(failures)] if number % 3 == 1 else None

    return fail


class EmbeddingServer:
    """Use with `with`; `url` is its address without a path, `calls` holds every call in the order of arrival."""

    def __init__(
        self,
        encoder: EncodesPassages,
        *,
        fail: Fail = never,
        key: str | None = None,
        alter: Callable[[dict[str, Any]], object] = lambda answer: answer,
    ) -> None:
        """With `key`, a call without it is answered 401, and the error repeats what was sent, as a careless one would.

        `alter` may change an answer before it goes out; a str or bytes goes out as it is.
        """
        self.encoder = encoder
        self.fail = fail
        self.key = key
        self.alter = alter
        self.calls: list[Call] = []
        self.answered = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def tokens(self) -> int:
        """What all calls together would count, answered or not."""
        return sum(count_tokens(call.texts) for call in self.calls)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, call: Call) -> object:
        """What a call that does not fail is answered with."""
        with self._lock:
            vectors = np.asarray(self.encoder.encode_passages(list(call.texts)), dtype="<f4")
            self.answered += 1
        dimensions = call.body.get("dimensions")
        if dimensions:
            vectors = vectors[:, :dimensions]
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        as_text = call.body.get("encoding_format") == "base64"
        entries = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.tobytes()).decode() if as_text else row.tolist(),
            }
            for index, row in enumerate(vectors)
        ]
        # Backwards: the order of the entries promises nothing, index does.
        usage = {"prompt_tokens": count_tokens(call.texts), "total_tokens": count_tokens(call.texts)}
        answer = {"object": "list", "data": entries[::-1], "model": call.body.get("model", ""), "usage": usage}
        return self.alter(answer)

    def _refusal(self, number: int, call: Call) -> Failure | None:
        if self.key and self.key not in (call.headers.get("authorization", "")[7:], call.headers.get("api-key")):
            return Failure(401, f"Incorrect API key provided: {dict(call.headers)}")
        return self.fail(number, call)

    def _receive(self, call: Call) -> int:
        with self._lock:
            self.calls.append(call)
            return len(self.calls) - 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(FailingHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(self.path, tuple(body["input"]), body, headers)
                failure = server._refusal(server._receive(call), call)
                if failure:
                    self.send_failure(failure, str(failure.status))
                elif not self.path.split("?")[0].endswith("/embeddings"):
                    self.send(404, b'{"error": {"message": "no such path"}}', {})
                else:
                    answer = server.answer(call)
                    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                    self.send(200, content, {})

        return Handler


def count_tokens(texts: Sequence[str]) -> int:
    """Tokens as the server counts them."""
    return sum(-(-len(text.encode()) // 3) + 2 for text in texts)
