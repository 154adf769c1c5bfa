"""One request to a service that speaks OpenAI's embeddings API: sent, repeated, read, or explained without the key.

Belongs here: the openai client, the key for the moment of a request, what a status means. Does not belong here: how
texts become requests, what they cost (hosted.py).
"""

import base64
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

_HIDDEN = "***"
_SHARED_CHARACTERS = 8
"""A piece of the key this long is hidden too: services repeat keys in part."""
_SHOWN_CHARACTERS = 400


class ServiceError(ValueError):
    """The service gave no usable answer."""

    def __init__(self, message: str, *, charges: bool) -> None:
        super().__init__(message)
        self.charges = charges
        """Whether the service may charge for the request: it did not refuse it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service answered, unchecked."""

    data: Sequence[Any]
    """The answer's entries, each with `index` and `embedding`."""
    tokens: int | None
    """What the service counted; None where it does not say."""
    seconds: float
    """From sending the attempt that was answered until its answer was read."""


class HostedClient:
    """Sends texts to the service that the settings name; for one thread."""

    def __init__(self, settings: HostedEncoderSettings) -> None:
        self.settings = settings
        self._attempts = 0
        self._answers = 0
        self._sent_at = 0.0
        self._after_silence: Callable[[], None] = lambda: None

    def embed(self, texts: Sequence[str], *, after_silence: Callable[[], None] = lambda: None) -> Reply:
        """The answer for the texts; 429, 5xx, timeouts and lost connections are repeated as the settings say.

        `after_silence` is called before an attempt is repeated that got no answer at all, for which the service may
        charge nevertheless; what it raises ends the request.

        Raises:
            ServiceError: no key to send, refused, never answered, or answered with something else. It holds no key.
        """
        self._read_key()
        self._attempts = self._answers = 0
        self._after_silence = after_silence
        reply = self._try(texts)
        if isinstance(reply, ServiceError):
            # Raised outside of any except, so that no traceback leads back to the request and its headers.
            raise reply
        return reply

    def check(self, reply: Reply, count: int) -> np.ndarray:
        """float32 (count, dimension) in the order of the texts.

        Raises:
            ValueError: another number of vectors, another length, or a value that is not finite.
        """
        found: dict[object, np.ndarray | None] = {getattr(one, "index", None): _decode(one) for one in reply.data}
        if len(reply.data) != count or set(found) != set(range(count)):
            raise self._bad_answer(
                f"{count} vectors, one per text", f"{len(reply.data)}, {len(found)} of them distinct"
            )
        rows = [found[index] for index in range(count)]
        for index, row in enumerate(rows):
            if row is None:
                raise self._bad_answer("numbers", f"something else for text {index}")
            if len(row) != self.settings.dimension:
                raise self._bad_answer(f"vectors of length {self.settings.dimension}", f"length {len(row)}")
            if not np.isfinite(row).all():
                raise self._bad_answer("finite numbers", f"NaN or infinity for text {index}")
        return np.array(rows, dtype=np.float32)

    def _bad_answer(self, expected: str, found: str) -> ValueError:
        return ValueError(
            f"{self._where}: expected {expected}, found {found}. Set model, dimensions and vector_dimension to what "
            "the service serves, or report it to its maintainers."
        )

    @property
    def _where(self) -> str:
        return f"hosted encoder: service {self.settings.service}, model {self.settings.model}, {self.settings.url}"

    def _try(self, texts: Sequence[str]) -> Reply | ServiceError:
        from openai import OpenAIError, omit
        from openai.types import CreateEmbeddingResponse

        try:
            response: object = self._client.embeddings.create(
                input=list(texts),
                model=self.settings.model,
                dimensions=self.settings.dimensions or omit,
                encoding_format="base64",
                extra_headers=None if self.settings.key_variable else {"Authorization": omit},
            )
        except (OpenAIError, json.JSONDecodeError) as error:
            return self._explain(error)
        if not isinstance(response, CreateEmbeddingResponse) or not isinstance(response.data, list):
            return self._explain(None)
        tokens = getattr(getattr(response, "usage", None), "total_tokens", None)
        return Reply(
            data=response.data,
            tokens=tokens if isinstance(tokens, int) else None,
            seconds=time.perf_counter() - self._sent_at,
        )

    def _explain(self, error: "OpenAIError | json.JSONDecodeError | None") -> ServiceError:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        if isinstance(error, APIStatusError):
            found = f"status {error.status_code} ({error.message})"
            return self._error(found, self._remedy(error.status_code), charges=False)
        if isinstance(error, APITimeoutError):
            found = f"nothing within {self.settings.timeout_seconds:g} s"
            return self._error(found, "Raise timeout_seconds or lower batch_texts.")
        if isinstance(error, APIConnectionError):
            return self._error("no connection", "Check base_url, the network, and whether the server runs.")
        found = "something else" if error is None else f"something that cannot be read ({type(error).__name__})"
        return self._error(found, "Check base_url; it ends before /embeddings, for most servers with /v1.")

    def _remedy(self, status: int) -> str:
        variable = self.settings.key_variable
        if status in (401, 403) and variable is None:
            return "The server wants a key: name its environment variable in api_key_variable."
        if status in (401, 403):
            return f"Put a key that is valid there, for this model, into the environment variable {variable}."
        if status == 404:
            return "Correct model (azure: the deployment's name), api_version or base_url."
        if status == 429:
            return "Wait, look at the account's quota, lower batch_tokens, or raise max_retries."
        if status == 408 or status >= 500:
            return "Run it again later."
        return (
            f"A text with more than {self.settings.max_length} tokens must be shortened or split; the model must know "
            "dimensions; lower batch_texts if there are too many."
        )

    def _error(self, found: str, remedy: str, *, charges: bool = True) -> ServiceError:
        after = f" after {self._attempts} attempts" if self._attempts > 1 else ""
        found = hide_key(found, self._read_key())
        if len(found) > _SHOWN_CHARACTERS:
            found = found[:_SHOWN_CHARACTERS] + "…"
        return ServiceError(f"{self._where}: expected an answer, found {found}{after}. {remedy}", charges=charges)

    @cached_property
    def _client(self) -> "OpenAI":
        from openai import AzureOpenAI, DefaultHttpxClient, OpenAI, omit

        # What the environment holds for OpenAI is none of another server's business.
        foreign = None if self.settings.service == "openai" else {"OpenAI-Organization": omit, "OpenAI-Project": omit}
        headers: Any = foreign  # the client drops an omitted header; its type does not say so
        http_client = DefaultHttpxClient(event_hooks={"request": [self._before], "response": [self._after]})
        if self.settings.service == "azure":
            return AzureOpenAI(
                azure_endpoint=self.settings.url,
                api_version=self.settings.api_version,
                api_key=self._read_key,
                default_headers=headers,
                timeout=self.settings.timeout_seconds,
                max_retries=self.settings.max_retries,
                http_client=http_client,
            )
        return OpenAI(
            base_url=self.settings.url,
            api_key=self._read_key if self.settings.key_variable else "none",
            timeout=self.settings.timeout_seconds,
            max_retries=self.settings.max_retries,
            default_headers=headers,
            http_client=http_client,
        )

    def _before(self, request: object) -> None:
        if self._attempts > self._answers:
            self._answers = self._attempts
            self._after_silence()
        self._attempts += 1
        self._sent_at = time.perf_counter()

    def _after(self, response: object) -> None:
        self._answers += 1

    def _read_key(self) -> str:
        variable = self.settings.key_variable
        if variable is None:
            return ""
        key = os.environ.get(variable, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            found = "characters that no key has" if key else "nothing"
            raise ServiceError(
                f"{self._where}: expected the key in the environment variable {variable}, found {found}. Set it where "
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


def _decode(entry: object) -> np.ndarray | None:
    """The entry's vector, from base64 or a list; None where it is neither."""
    found = getattr(entry, "embedding", None)
    try:
        if isinstance(found, str):
            return np.frombuffer(base64.b64decode(found, validate=True), dtype="<f4")
        with np.errstate(over="ignore"):  # infinity is found by the check
            return np.array(found, dtype=np.float32).reshape(-1) if isinstance(found, list) else None
    except (ValueError, TypeError, OverflowError):
        return None
