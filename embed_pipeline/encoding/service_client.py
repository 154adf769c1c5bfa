"""One request to a service that speaks OpenAI's API: sent, repeated, or explained without the key.

Belongs here: the openai client, the key for the moment of a request, attempts and their deadline, what to do about a
status. Does not belong here: what is asked and how the answer is read (hosted_client.py and the chat client), what an
error means (service_errors.py).
"""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from embed_pipeline.encoding.service_errors import (
    OF_THE_ACCOUNT,
    OF_THE_TEXT,
    ServiceError,
    failure_in,
    hide_key,
    parse_body,
    status_of,
    words_of,
)
from embed_pipeline.encoding.service_settings import ServiceSettings
from embed_pipeline.encoding.usage import CallRefusedError
from embed_pipeline.paths import shorten

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

Answer = TypeVar("Answer")
BeforeAttempt = Callable[[bool], None]
"""Called before each attempt with whether the last got no answer at all; a CallRefusedError of it ends the request."""

_SHOWN_CHARACTERS = 400
_SECONDS_BETWEEN_WORDS = 10.0
_LARGEST_ERROR = 100_000
"""Bytes in which an error is looked for."""


@dataclass(frozen=True, slots=True)
class Sent(Generic[Answer]):
    """An answer as it came, and how long it took."""

    answer: Answer
    seconds: float
    """From sending the attempt that was answered until its answer was read."""


class _Attempts(threading.local):
    """The attempts of the request that this thread is at."""

    sent: int = 0
    answered: int = 0
    sent_at: float = 0.0
    most_bytes: int = 0
    found: str = ""
    before_attempt: BeforeAttempt = staticmethod(lambda silent: None)
    ended: CallRefusedError | ServiceError | None = None


class ServiceClient:
    """Asks the service that the settings name; for any number of threads."""

    path: ClassVar[str]
    """What the service's address does not hold, as /embeddings."""
    when_slow: ClassVar[str]
    when_limited: ClassVar[str]

    def __init__(self, settings: ServiceSettings, report: Callable[[str], None] | None = None) -> None:
        """`report` is told, every ten seconds at most, what a request is repeated for."""
        self._service = settings
        self._attempts = _Attempts()
        self._opening = threading.Lock()
        self._report = report
        self._reported_at = -_SECONDS_BETWEEN_WORDS

    @property
    def where(self) -> str:
        """The service and the model, for errors."""
        one = self._service
        return f"{one.title}: service {one.service}, model {one.model}, {one.url}"

    def send(
        self,
        create: Callable[["OpenAI"], object],
        expected: type[Answer],
        before_attempt: BeforeAttempt,
        *,
        most_bytes: int,
    ) -> Sent[Answer]:
        """What `create` gets from the service; 429, 5xx, timeouts and lost connections are repeated.

        An attempt ends after timeout_seconds, however little comes however often, and an answer at `most_bytes`.
        Status 200 with an error in it is what the error says.

        Raises:
            ServiceError: no key to send, refused, never answered, or answered with something else. It holds no key.
            CallRefusedError: by `before_attempt`.
        """
        self._read_key()
        here = self._attempts
        here.sent = here.answered = 0
        here.before_attempt, here.ended, here.most_bytes = before_attempt, None, most_bytes
        sent = self._try(create, expected)
        if isinstance(sent, Exception):
            # Raised outside of any except, so that no traceback leads back to the request and its headers.
            raise sent.with_traceback(None)
        return sent

    def remedy_of_refusal(self, message: str) -> str:
        """What to do about a status that says that the request is wrong."""
        raise NotImplementedError

    def explain(self, error: "OpenAIError | json.JSONDecodeError | None") -> ServiceError:
        """The error for people; None where an answer came that is none."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        if isinstance(error, APIStatusError):
            status, words = error.status_code, words_of(error.body) or error.message
            if 300 <= status < 400:
                words = f"moved to {error.response.headers.get('location', 'an address that it does not say')}"
            found, remedy = f"status {status} ({words})", self._remedy(status, words)
            return self._error(found, remedy, charges=False, code=str(error.code or ""), status=status)
        if isinstance(error, APITimeoutError):
            return self._error(f"no whole answer within {self._service.timeout_seconds:g} s", self.when_slow)
        if isinstance(error, APIConnectionError):
            return self._error("no connection", "Check base_url, the network, and whether the server runs.")
        found = "something else" if error is None else f"something that cannot be read ({type(error).__name__})"
        return self._error(found, f"Check base_url; it ends before {self.path}, for most servers with /v1.")

    @property
    def authorization(self) -> Any:
        """Headers of a request: none where there is no key."""
        from openai import omit

        return None if self._service.key_variable else {"Authorization": omit}

    def _try(
        self, create: Callable[["OpenAI"], object], expected: type[Answer]
    ) -> Sent[Answer] | ServiceError | CallRefusedError:
        from openai import OpenAIError

        here = self._attempts
        try:
            with self._opening:
                client = self._client
            answer = create(client)
        except (CallRefusedError, ServiceError) as error:
            return error
        except (OpenAIError, json.JSONDecodeError) as error:
            return here.ended or self.explain(error)
        if not isinstance(answer, expected):
            return self.explain(None)
        return Sent(answer=answer, seconds=time.perf_counter() - here.sent_at)

    def _remedy(self, status: int, message: str) -> str:
        variable = self._service.key_variable
        if status in (401, 403) and variable is None:
            return "The server wants a key: name its environment variable in api_key_variable."
        if status in (401, 403):
            return f"Put a key that is valid there, for this model, into the environment variable {variable}."
        if status < 400:
            return "Write the address where it is now into base_url; requests are not sent on, a key least of all."
        if OF_THE_ACCOUNT.search(message):
            return "Look at the account's quota and payment; repeating changes nothing."
        if status == 404:
            return "Correct model (azure: the deployment's name), api_version or base_url."
        if status == 429:
            return f"Wait, look at the account's quota, {self.when_limited}, or raise max_retries."
        if (status == 408 or status >= 500) and not OF_THE_TEXT.search(message):
            return "Run it again later."
        return self.remedy_of_refusal(message)

    def _error(self, found: str, remedy: str, *, charges: bool = True, code: str = "", status: int = 0) -> ServiceError:
        attempts = self._attempts.sent
        after = f" after {attempts} attempts" if attempts > 1 else ""
        key = self._read_key()
        found = shorten(hide_key(found, key), _SHOWN_CHARACTERS)
        message = f"{self.where}: expected an answer, found {found}{after}. {remedy}"
        return ServiceError(message, charges=charges, code=hide_key(code, key), status=status)

    @cached_property
    def _client(self) -> "OpenAI":
        from openai import AzureOpenAI, DefaultHttpxClient, OpenAI, omit

        one = self._service
        # What the environment holds for OpenAI is none of another server's business.
        foreign = None if one.service == "openai" else {"OpenAI-Organization": omit, "OpenAI-Project": omit}
        headers: Any = foreign  # the client drops an omitted header; its type does not say so
        exchange = self._exchange

        class Http(DefaultHttpxClient):
            def send(self, request: Any, **options: Any) -> Any:
                return exchange(super().send, request, options)

        # Not sent on elsewhere: POST would become GET, and Azure's key would go along.
        http_client = Http(follow_redirects=False)
        if one.service == "azure":
            return AzureOpenAI(
                azure_endpoint=one.url,
                api_version=one.api_version,
                api_key=self._read_key,
                default_headers=headers,
                timeout=one.timeout_seconds,
                max_retries=one.max_retries,
                http_client=http_client,
            )
        return OpenAI(
            base_url=one.url,
            api_key=self._read_key if one.key_variable else "none",
            timeout=one.timeout_seconds,
            max_retries=one.max_retries,
            default_headers=headers,
            http_client=http_client,
        )

    def _exchange(self, send: Callable[..., Any], request: Any, options: Mapping[str, Any]) -> Any:
        """One attempt, to the end of its answer: an httpx2.Response, under the status that its content comes to."""
        import httpx2

        self._before()
        here = self._attempts
        here.found = "no connection, or one that was lost"
        request.extensions["trace"] = self._bound_reads
        try:
            response = send(request, **{**options, "stream": True})
            try:
                content = self._read(response)
            finally:
                response.close()
        except httpx2.TimeoutException:
            here.found = f"no whole answer within {self._service.timeout_seconds:g} s"
            raise
        status, failure = response.status_code, None
        if status < 300 and not content.strip():
            failure = {"message": "an empty answer", "code": 502}
        elif status < 300 and len(content) < _LARGEST_ERROR:
            failure = failure_in(parse_body(content))
        if failure is not None:
            status, content = status_of(failure), json.dumps({"error": failure}).encode()
        headers = {n: v for n, v in response.headers.items() if n not in ("content-encoding", "content-length")}
        if status >= 400:
            words = words_of(parse_body(content[:_LARGEST_ERROR]))
            here.found = f"status {status} ({words or 'without words'})"
            if OF_THE_ACCOUNT.search(words) or OF_THE_TEXT.search(words):
                headers["x-should-retry"] = "false"  # the client obeys it
        whole = httpx2.Response(status, headers=headers, content=content, request=request)
        self.after_answer(whole)
        return whole

    def _read(self, response: Any) -> bytes:
        import httpx2

        here, parts, size = self._attempts, [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > here.most_bytes:
                here.ended = self._error(
                    f"an answer of more than {here.most_bytes / 1e6:.0f} MB",
                    f"Check base_url and model: none that fits is so large; {self.when_slow[0].lower()}"
                    f"{self.when_slow[1:]}",
                )
                raise here.ended
            if self._seconds_left() <= 0:
                raise httpx2.ReadTimeout("the deadline of the whole request", request=response.request)
        return b"".join(parts)

    def _bound_reads(self, event: str, info: Mapping[str, Any]) -> None:
        """Told of every connection: what is read from it ends with the request's deadline, headers too.

        The client's own limit is for each read alone: a byte a second would never reach it.
        """
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream = info["return_value"]
            read = stream.read

            def read_in_time(max_bytes: int, timeout: float | None = None) -> bytes:
                return read(max_bytes, max(self._seconds_left(), 1e-3))

            stream.read = read_in_time

    def _seconds_left(self) -> float:
        return self._attempts.sent_at + self._service.timeout_seconds - time.perf_counter()

    def _before(self) -> None:
        here = self._attempts
        if here.ended:
            raise here.ended
        silent = here.sent > here.answered
        here.answered = here.sent
        try:
            here.before_attempt(silent)
        except CallRefusedError as error:
            # Some versions of the client take it for a lost connection and come back.
            here.ended = error
            raise
        if here.sent and self._report and time.monotonic() - self._reported_at >= _SECONDS_BETWEEN_WORDS:
            self._reported_at = time.monotonic()
            found = shorten(hide_key(here.found, self._read_key()), _SHOWN_CHARACTERS)
            self._report(f"{self.where}: found {found}; asked again, attempt {here.sent + 1}")
        here.sent += 1
        here.sent_at = time.perf_counter()

    def after_answer(self, response: Any) -> None:
        """Called with every answer, refusals included, once it is read."""
        self._attempts.answered += 1

    def _read_key(self) -> str:
        variable = self._service.key_variable
        if variable is None:
            return ""
        key = os.environ.get(variable, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            found = "characters that no key has" if key else "nothing"
            raise ServiceError(
                f"{self.where}: expected the key in the environment variable {variable}, found {found}. Set it where "
                "the command starts, for example in .env; never in a recipe.",
                charges=False,
            )
        return key
