"""One request to a service that speaks OpenAI's embeddings API: the texts in, the answer read and checked.

Belongs here: what is particular to embeddings. Does not belong here: sending, repeating and explaining, which every
service shares (service_client.py); how texts become requests, what they cost (hosted.py).
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from embed_pipeline.encoding.encoder import show_texts
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.service_client import ServiceClient
from embed_pipeline.encoding.service_errors import ServiceError
from embed_pipeline.encoding.vector_cache import SAME_VECTORS

_BYTES_PER_NUMBER = 32
_BYTES_AROUND = 2**20
_FORM_REFUSED = re.compile("base64|encoding_format", re.IGNORECASE)


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

    def __init__(self, settings: HostedEncoderSettings, report: Callable[[str], None] | None = None) -> None:
        super().__init__(settings, report)
        self.settings = settings
        self._form: Literal["base64", "float"] = "base64"

    def embed(
        self, texts: Sequence[str], *, after_silence: Callable[[], None] = lambda: None, repeats: int | None = None
    ) -> Reply:
        """The answer for the texts; 429, 5xx, timeouts and lost connections are repeated as the settings say.

        `after_silence` is called before an attempt is repeated that got no answer at all, for which the service may
        charge nevertheless; a CallRefusedError that it raises ends the request. `repeats` stands in for max_retries.
        A service that refuses vectors in base64 is asked for lists of numbers from then on.

        Raises:
            ServiceError: no key to send, refused, never answered, or answered with something else. It holds no key.
        """
        from openai import OpenAI, omit
        from openai.types import CreateEmbeddingResponse

        def create(client: OpenAI) -> object:
            if repeats is not None:
                client = client.with_options(max_retries=repeats)
            return client.embeddings.create(
                input=list(texts),
                model=self.settings.model,
                dimensions=self.settings.dimensions or omit,
                encoding_format=self._form,
                extra_headers=self.authorization,
            )

        def before_attempt(silent: bool) -> None:
            if silent:
                after_silence()

        most_bytes = _BYTES_AROUND + len(texts) * self.settings.dimension * _BYTES_PER_NUMBER
        try:
            sent = self.send(create, CreateEmbeddingResponse, before_attempt, most_bytes=most_bytes)
        except ServiceError as error:
            if self._form == "float" or error.status not in (400, 422) or not _FORM_REFUSED.search(str(error)):
                raise
            sent, self._form = None, "float"
        if sent is None:
            return self.embed(texts, after_silence=after_silence, repeats=repeats)
        if not isinstance(sent.answer.data, list):
            raise self.explain(None)
        tokens = getattr(getattr(sent.answer, "usage", None), "total_tokens", None)
        return Reply(data=sent.answer.data, tokens=tokens if isinstance(tokens, int) else None, seconds=sent.seconds)

    def remedy_of_refusal(self, message: str) -> str:
        """See ServiceClient."""
        if re.search("dimension|matryoshka", message, re.IGNORECASE):
            return "Leave dimensions out, and set vector_dimension to the length that the model has."
        if re.search(r"unsupported value|\bNaN\b", message):
            return "Its model gives no numbers for this text: change the text or leave it out, or serve another model."
        return (
            f"A text with more than {self.settings.max_length} tokens, or than the service reads, must be shortened or "
            "split: its row in its file, or documents.passage_tokens for documents; set max_length to what the service "
            "reads. Lower batch_texts if there are too many."
        )

    def read(self, reply: Reply, texts: Sequence[str]) -> tuple[np.ndarray, Mapping[int, str]]:
        """float32 (len(texts), dimension) in the order of the texts, and what is wrong with the rows that are none.

        A row is none that holds something else than finite numbers, or zeros alone.

        Raises:
            ValueError: another number of vectors, no order, another length, or one vector for many texts (SAME_VECTORS
                and more; few short ones may hold the same unknown words).
        """
        rows = [_decode(entry) for entry in self._in_order(reply, len(texts))]
        vectors = np.zeros((len(texts), self.settings.dimension), dtype=np.float32)
        problems = {}
        for at, row in enumerate(rows):
            if row is not None and row.shape != (self.settings.dimension,):
                raise self._bad_answer(
                    f"vectors of length {self.settings.dimension}", _describe(row, self.settings.dimension)
                )
            if row is None:
                problems[at] = "something else than numbers"
            elif not np.isfinite(row).all():
                problems[at] = "NaN, null or infinity"
            elif not row.any():
                problems[at] = "zeros alone"
            else:
                vectors[at] = row
        if len(texts) >= SAME_VECTORS and not problems and (vectors == vectors[0]).all():
            raise self._bad_answer(
                "a vector for each text", f"one and the same for all {len(texts)}: {show_texts(texts)}"
            )
        return vectors, problems

    def unusable(self, problems: Mapping[int, str], texts: Sequence[str]) -> ValueError:
        """The error for vectors that say nothing: which texts they are of."""
        kinds = ", ".join(dict.fromkeys(problems.values()))
        shown = show_texts([texts[at] for at in problems])
        return self._bad_answer("a vector of finite numbers for each text", f"{kinds} for {shown}")

    def _in_order(self, reply: Reply, count: int) -> list[Any]:
        if len(reply.data) != count:
            raise self._bad_answer(f"{count} vectors, one per text", f"{len(reply.data)}")
        if count == 1:
            return list(reply.data)  # there is no order to be wrong
        found = {getattr(one, "index", None): one for one in reply.data}
        if set(found) != set(range(count)):
            kinds = ", ".join(map(repr, sorted(found, key=repr)[:3]))
            raise self._bad_answer(
                f"an index from 0 to {count - 1} on each of {count} vectors",
                f"{len(found)} distinct ({kinds} …), so whose vector is whose is not known. Set batch_texts: 1, with "
                "which there is no order",
            )
        return [found[index] for index in range(count)]

    def _bad_answer(self, expected: str, found: str) -> ValueError:
        return ValueError(
            f"{self.where}: expected {expected}, found {found}. Set model, dimensions and vector_dimension to what "
            "the service serves, or report it to its maintainers."
        )


def _describe(row: np.ndarray, dimension: int) -> str:
    if row.ndim > 1:
        return f"{len(row)} vectors for one text. A server that gives one for each token needs a pooling"
    kinds = {2 * dimension: " (8 bytes a number?)", dimension // 2: " (2 bytes a number?)"}
    return f"length {len(row)}{kinds.get(len(row), '')}"


def _decode(entry: object) -> np.ndarray | None:
    """The entry's vector, from base64 or a list, which may stand in a list of its own; None where it is neither."""
    found = getattr(entry, "embedding", None)
    try:
        if isinstance(found, str):
            return np.frombuffer(base64.b64decode(found, validate=True), dtype="<f4")
        with np.errstate(over="ignore"):  # infinity is found by the check
            row = np.array(found, dtype=np.float32) if isinstance(found, list) else None
        return row[0] if row is not None and row.ndim == 2 and len(row) == 1 else row
    except (ValueError, TypeError, OverflowError):
        return None
