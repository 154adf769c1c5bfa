"""One request to a service that speaks OpenAI's API: sent, repeated, or explained without the key.

Belongs here: the openai client, the key for the moment of a request, attempts and what a status means. Does not belong
here: what is asked and how the answer is read (hosted_client.py and the chat client).
"""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from embed_pipeline.encoding.service_settings import ServiceSettings
from embed_pipeline.encoding.usage import CallRefusedError
from embed_pipeline.paths import shorten

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

Answer = TypeVar("Answer")
BeforeAttempt = Callable[[bool], None]
"""Called before each attempt with whether the last got no answer at all; a CallRefusedError of it ends the request."""

_HIDDEN = "***"
_SHARED_CHARACTERS = 8
"""A piece of the key this long is hidden too: services repeat keys in part."""
_SHOWN_CHARACTERS = 400


class ServiceError(ValueError):
    """The service gave no usable answer."""

    def __init__(self, message: str, *, charges: bool, code: str = "") -> None:
        super().__init__(message)
        self.charges = charges
        """Whether the service may charge for the request: it did not refuse it."""
        self.code = code
        """The service's own word for the reason; empty where it says none."""


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
    before_attempt: BeforeAttempt = staticmethod(lambda silent: None)
    ended: CallRefusedError | None = None


class ServiceClient:
    """Asks the service that the settings name; for any number of threads."""

    path: ClassVar[str]
    """What the service's address does not hold, as /embeddings."""
    when_slow: ClassVar[str]
    when_limited: ClassVar[str]

    def __init__(self, settings: ServiceSettings) -> None:
        self._service = settings
        self._attempts = _Attempts()
        self._opening = threading.Lock()

    @property
    def where(self) -> str:
        """The service and the model, for errors."""
        one = self._service
        return f"{one.title}: service {one.service}, model {one.model}, {one.url}"

    def send(
        self, create: Callable[["OpenAI"], object], expected: type[Answer], before_attempt: BeforeAttempt
    ) -> Sent[Answer]:
        """What `create` gets from the service; 429, 5xx, timeouts and lost connections are repeated.

        Raises:
            ServiceError: no key to send, refused, never answered, or answered with something else. It holds no key.
            CallRefusedError: by `before_attempt`.
        """
        self._read_key()
        here = self._attempts
        here.sent = here.answered = 0
        here.before_attempt, here.ended = before_attempt, None
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
            found, code = f"status {error.status_code} ({error.message})", str(error.code or "")
            return self._error(found, self._remedy(error.status_code, error.message), charges=False, code=code)
        if isinstance(error, APITimeoutError):
            return self._error(f"nothing within {self._service.timeout_seconds:g} s", self.when_slow)
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
        except CallRefusedError as error:
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
        if status == 404:
            return "Correct model (azure: the deployment's name), api_version or base_url."
        if status == 429:
            return f"Wait, look at the account's quota, {self.when_limited}, or raise max_retries."
        if status == 408 or status >= 500:
            return "Run it again later."
        return self.remedy_of_refusal(message)

    def _error(self, found: str, remedy: str, *, charges: bool = True, code: str = "") -> ServiceError:
        attempts = self._attempts.sent
        after = f" after {attempts} attempts" if attempts > 1 else ""
        key = self._read_key()
        found = shorten(hide_key(found, key), _SHOWN_CHARACTERS)
        message = f"{self.where}: expected an answer, found {found}{after}. {remedy}"
        return ServiceError(message, charges=charges, code=hide_key(code, key))

    @cached_property
    def _client(self) -> "OpenAI":
        from openai import AzureOpenAI, DefaultHttpxClient, OpenAI, omit

        one = self._service
        # What the environment holds for OpenAI is none of another server's business.
        foreign = None if one.service == "openai" else {"OpenAI-Organization": omit, "OpenAI-Project": omit}
        headers: Any = foreign  # the client drops an omitted header; its type does not say so
        http_client = DefaultHttpxClient(event_hooks={"request": [self._before], "response": [self.after_answer]})
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

    def _before(self, request: object) -> None:
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
        here.sent += 1
        here.sent_at = time.perf_counter()

    def after_answer(self, response: Any) -> None:
        """Called with every answer, refusals included, before it is read."""
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


def hide_key(text: str, key: str) -> str:
    """The text with *** for the key and for every piece of it of 8 characters or more."""
    if not key:
        return text
    size = min(_SHARED_CHARACTERS, len(key))
    pieces = {key[at : at + size] for at in range(len(key) - size + 1)}
    hidden = {at + step for at in range(len(text)) if text[at : at + size] in pieces for step in range(size)}
    return "".join(
        (_HIDDEN if at - 1 not in hidden else "") if at in hidden else character for at, character in enumerate(text)
    )
