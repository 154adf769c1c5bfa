"""A server on 127.0.0.1 that speaks OpenAI's chat API, answers by a function, and fails when told to.

Answers POST <anything>/chat/completions, so base_url may end with /v1 or anything else, and Azure's path
/openai/deployments/<name>/chat/completions. Counts tokens as one per three bytes, rounded up.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from embed_pipeline_tests.failing_server import FailingHandler, Failure


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One call as it came in, answered or not."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    """Names in lower case."""
    at: float
    """Seconds of the monotonic clock."""

    @property
    def user(self) -> str:
        """The last message."""
        return self.body["messages"][-1]["content"]

    @property
    def system(self) -> str:
        """The first message where it is the system's, else nothing."""
        first = self.body["messages"][0]
        return first["content"] if first["role"] == "system" else ""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the messages as the server counts them."""
        return sum(count_tokens(message["content"]) for message in self.body["messages"])


Respond = Callable[[ChatCall], object]
"""The message's text; a Mapping is written as JSON; None stands for a message without text."""
Fail = Callable[[int, ChatCall], Failure | None]
"""Given the call's number from 0 and the call: the failure, or None to answer it."""
NO_SCHEMA = Failure(400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported", {})


def never(number: int, call: ChatCall) -> Failure | None:
    """Every call is answered."""
    return None


def one_in(calls: int, *, silent_seconds: float = 0.0) -> Fail:
    """The second of each so many calls fails, in turn with 429, 500 and, if silent_seconds is given, no answer."""
    failures = [Failure(429), Failure(500)]
    if silent_seconds:
        failures.append(Failure(silent_seconds=silent_seconds))

    def fail(number: int, call: ChatCall) -> Failure | None:
        return failures[number // calls % len(failures)] if number % calls == 1 else None

    return fail


def refuse_schema(number: int, call: ChatCall) -> Failure | None:
    """Calls that ask for json_schema fail as at a service that does not know it."""
    return NO_SCHEMA if call.body.get("response_format", {}).get("type") == "json_schema" else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class ChatServer:
    """Use with `with`; `url` is its address without a path, `calls` holds every call in the order of arrival."""

    def __init__(
        self,
        respond: Respond,
        *,
        fail: Fail = never,
        key: str | None = None,
        delay_seconds: float = 0.0,
        alter: Callable[[dict[str, Any]], object] = lambda answer: answer,
    ) -> None:
        """With `key`, a call without it is answered 401, and the error repeats what was sent, as a careless one would.

        `alter` may change an answer before it goes out; bytes go out as they are.
        """
        self.respond = respond
        self.fail = fail
        self.key = key
        self.delay_seconds = delay_seconds
        self.alter = alter
        self.calls: list[ChatCall] = []
        self.answered: list[ChatCall] = []
        """The calls that were answered, in the order in which their answers went out."""
        self.most_at_once = 0
        """Calls that were being answered at one time, at most."""
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, call: ChatCall) -> object:
        """What a call that does not fail is answered with."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay_seconds)
        found = self.respond(call)
        text = json.dumps(found, ensure_ascii=False) if isinstance(found, Mapping) else found
        usage = {"prompt_tokens": call.prompt_tokens, "completion_tokens": count_tokens(str(text))}
        usage["total_tokens"] = sum(usage.values())
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": call.body["model"]}
        with self._lock:
            self._at_once -= 1
            self.answered.append(call)
        return self.alter({**answer, "choices": choices, "usage": usage})

    def _refusal(self, number: int, call: ChatCall) -> Failure | None:
        if self.key and self.key not in (call.headers.get("authorization", "")[7:], call.headers.get("api-key")):
            return Failure(401, f"Incorrect API key provided: {dict(call.headers)}")
        return self.fail(number, call)

    def _receive(self, call: ChatCall) -> int:
        with self._lock:
            self.calls.append(call)
            return len(self.calls) - 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(FailingHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = ChatCall(self.path, body, headers, time.monotonic())
                failure = server._refusal(server._receive(call), call)
                if failure:
                    self.send_failure(failure, "")
                elif not self.path.split("?")[0].endswith("/chat/completions"):
                    self.send(404, b'{"error": {"message": "no such path"}}', {})
                else:
                    answer = server.answer(call)
                    self.send(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), {})

        return Handler


def count_tokens(text: str) -> int:
    """Tokens as the server counts them."""
    return -(-len(text.encode()) // 3)
