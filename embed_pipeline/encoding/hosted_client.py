"""One request to a service that speaks OpenAI's embeddings API: the texts in, the answer read and checked.

Belongs here: what is particular to embeddings. Does not belong here: sending, repeating and explaining, which every
service shares (service_client.py); how texts become requests, what they cost (hosted.py).
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.service_client import ServiceClient
from embed_pipeline.paths import shorten

SAME_VECTORS = 8
"""Where so many different texts of one request, and all of them, get one vector, the service does not encode."""
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service answered, unchecked."""

    data: Sequence[Any]
    """The answer's entries, each with `index` and `embedding`."""
    tokens: int | None
    """What the service counted; None where it does not say."""
    seconds: float
    """From sending the attempt that was answered until its answer was read."""


class HostedClient(ServiceClient):
    """Sends texts to the service that the settings name."""

    path = "/embeddings"
    when_slow = "Raise timeout_seconds or lower batch_texts."
    when_limited = "lower batch_tokens"

    def __init__(self, settings: HostedEncoderSettings) -> None:
        super().__init__(settings)
        self.settings = settings

    def embed(self, texts: Sequence[str], *, after_silence: Callable[[], None] = lambda: None) -> Reply:
        """The answer for the texts; 429, 5xx, timeouts and lost connections are repeated as the settings say.

        `after_silence` is called before an attempt is repeated that got no answer at all, for which the service may
        charge nevertheless; a CallRefusedError that it raises ends the request.

        Raises:
            ServiceError: no key to send, refused, never answered, or answered with something else. It holds no key.
        """
        from openai import OpenAI, omit
        from openai.types import CreateEmbeddingResponse

        def create(client: OpenAI) -> object:
            return client.embeddings.create(
                input=list(texts),
                model=self.settings.model,
                dimensions=self.settings.dimensions or omit,
                encoding_format="base64",
                extra_headers=self.authorization,
            )

        sent = self.send(create, CreateEmbeddingResponse, lambda silent: after_silence() if silent else None)
        if not isinstance(sent.answer.data, list):
            raise self.explain(None)
        tokens = getattr(getattr(sent.answer, "usage", None), "total_tokens", None)
        return Reply(data=sent.answer.data, tokens=tokens if isinstance(tokens, int) else None, seconds=sent.seconds)

    def remedy_of_refusal(self, message: str) -> str:
        """See ServiceClient."""
        return (
            f"A text with more than {self.settings.max_length} tokens must be shortened or split; the model must know "
            "dimensions; lower batch_texts if there are too many."
        )

    def check(self, reply: Reply, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension) in the order of the texts.

        Raises:
            ValueError: another number of vectors, another length, a value that is not finite, a vector of zeros, or one
                vector for many texts (SAME_VECTORS and more; few short ones may hold the same unknown words).
        """
        count = len(texts)
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
                raise self._bad_answer("finite numbers", f"NaN or infinity for text {index}, {_shown(texts[index])}")
            if not row.any():
                raise self._bad_answer("vectors that say something", f"zeros alone for {_shown(texts[index])}")
        vectors = np.array(rows, dtype=np.float32)
        if count >= SAME_VECTORS and (vectors == vectors[0]).all():
            told = ", ".join(map(_shown, texts[:3]))
            raise self._bad_answer("a vector for each text", f"one and the same for all {count}: {told} …")
        return vectors

    def _bad_answer(self, expected: str, found: str) -> ValueError:
        return ValueError(
            f"{self.where}: expected {expected}, found {found}. Set model, dimensions and vector_dimension to what "
            "the service serves, or report it to its maintainers."
        )


def _shown(text: str) -> str:
    return repr(shorten(text, _SHOWN_CHARACTERS))


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
