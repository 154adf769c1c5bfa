"""An encoder behind an HTTP service: texts in portions to the service, checked vectors back, every request accounted.

Belongs here: identity, portions, the spend limit around each request, the figures of the table. Does not belong here:
the request itself (hosted_client.py), the log file (usage.py), keeping vectors (vector_cache.py).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from embed_pipeline.encoding.encoder import Progress, RefusedTextsError, Role, joint_fingerprint
from embed_pipeline.encoding.hosted_client import HostedClient, Reply
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.service_errors import ServiceError
from embed_pipeline.encoding.usage import AnsweredRequest, UsageLog

_BYTES_PER_TOKEN = 3
"""An estimate, for portions and for a cost before the first request: about 4 in English, 3 in Chinese."""
_SPECIAL_TOKENS = 4
"""Of a text, at most. Its other tokens are at most its UTF-8 bytes, for every byte-level vocabulary."""
_OF_TEXTS = (400, 413, 422, 500)
"""Statuses that services use for a request of which one text cannot be encoded, or that is too large."""
_REPEATS_OF_ONE = 2
_QUERIES_TIMED = 30
"""The first queries go alone, so that the log knows what one question takes and not only what a full request does."""


def load_hosted_encoder(
    settings: HostedEncoderSettings,
    *,
    usage_directory: Path,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> "HostedEncoder":
    """The encoder that the settings name; no request is made and no key is read yet.

    `report` is told what a request is repeated for.
    """
    return HostedEncoder(settings, usage_directory=usage_directory, progress=progress, report=report)


class HostedEncoder:
    """Implements Encoder and Portioned through the openai client; for one thread."""

    def __init__(
        self,
        settings: HostedEncoderSettings,
        *,
        usage_directory: Path,
        progress: Progress | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.progress = progress
        self.usage = UsageLog(usage_directory / f"{self.fingerprint}.jsonl")
        self._client = HostedClient(settings, report)
        self._refused: frozenset[str] = frozenset()

    @property
    def query_fingerprint(self) -> str:
        """See Encoder; a service that changes its model under one name is seen by hosted_sample.py, not here."""
        return _role_fingerprint(self.settings, "query")

    @property
    def passage_fingerprint(self) -> str:
        """See Encoder; a service that changes its model under one name is seen by hosted_sample.py, not here."""
        return _role_fingerprint(self.settings, "passage")

    @property
    def fingerprint(self) -> str:
        """See Encoder."""
        return joint_fingerprint(self.query_fingerprint, self.passage_fingerprint)

    @property
    def dimension(self) -> int:
        """See Encoder; known without a request."""
        return self.settings.dimension

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i.

        Raises:
            SpendLimitError: the next request could pass the limit; wrapped in CachedEncoder, all before are kept.
            RefusedTextsError: the service refuses a request for what it holds, or a vector says nothing; wrapped in
                CachedEncoder, the texts are found, and all others kept.
            ValueError: no key, a text without characters, or no usable answer. No error holds the key.
        """
        return self._encode("query", texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i. Raises as encode_queries."""
        return self._encode("passage", texts)

    def portions(self, role: Role, texts: Sequence[str]) -> list[int]:
        """How many texts go into each request, in order: as many as batch_texts and batch_tokens allow, at least one.

        The first 30 queries over all runs go alone. A portion given alone is one request.
        """
        alone = self._queries_to_time() if role == "query" else 0
        sizes: list[int] = []
        tokens = 0.0
        for text in texts:
            own = _count_bytes([self.settings.format_text(role, text)]) / _BYTES_PER_TOKEN
            full = not sizes or sizes[-1] == self.settings.batch_texts or tokens + own > self.settings.batch_tokens
            if full or len(sizes) <= alone:
                sizes.append(0)
                tokens = 0.0
            sizes[-1] += 1
            tokens += own
        return sizes

    def cost_of(self, texts: Sequence[str]) -> float:
        """USD for encoding the distinct texts once, at the tokens per byte that the service counted so far.

        Exact when these are the texts that were encoded. Before the first request one token per 3 bytes is assumed.
        """
        requests = self.usage.requests
        sent = sum(request.bytes for request in requests)
        ratio = sum(request.tokens for request in requests) / sent if sent else 1 / _BYTES_PER_TOKEN
        return _count_bytes(list(dict.fromkeys(texts))) * ratio * self.settings.price / 1e6

    def request_milliseconds(self, texts: int | None = None) -> list[float]:
        """How long each answered request took, over all runs; with `texts`, only requests of that many texts."""
        return [request.seconds * 1000 for request in self.usage.requests if texts is None or request.texts == texts]

    def texts_per_second(self) -> float | None:
        """Texts by the seconds of the answered requests, one after the other; None before the first."""
        requests = self.usage.requests
        seconds = sum(request.seconds for request in requests)
        return sum(request.texts for request in requests) / seconds if seconds else None

    def _queries_to_time(self) -> int:
        timed = sum(request.role == "query" and request.texts == 1 for request in self.usage.requests)
        return max(_QUERIES_TIMED - timed, 0)

    def _encode(self, role: Role, texts: Sequence[str]) -> np.ndarray:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        start = 0
        for size in self.portions(role, texts):
            vectors[start : start + size] = self._request(role, texts[start : start + size])
            start += size
            if self.progress:
                self.progress(start, len(texts))
        return vectors

    def _request(self, role: Role, texts: Sequence[str]) -> np.ndarray:
        formatted = [self.settings.format_text(role, text) for text in texts]
        if not all(formatted):
            raise ValueError(f"hosted encoder: {role} {formatted.index('')} of the request is empty. Leave it out.")
        reply = self._ask(role, texts, formatted)
        if isinstance(reply, ServiceError):
            raise RefusedTextsError(str(reply))
        vectors, problems = self._client.read(reply, formatted)
        vectors = _normalize(vectors) if self.settings.normalize else vectors
        if problems:
            refused = {at: texts[at] for at in problems}
            raise RefusedTextsError(str(self._client.unusable(problems, formatted)), refused=refused, vectors=vectors)
        return vectors

    def _ask(self, role: Role, texts: Sequence[str], formatted: Sequence[str]) -> Reply | ServiceError:
        """The answer, which is paid and in the log; or the refusal of a request that other texts may not meet."""
        most_tokens = _count_bytes(formatted) + _SPECIAL_TOKENS * len(texts)
        reservations = [self._reserve(most_tokens)]
        # A part of a request that was refused in spite of all repeats: it is the texts, or soon known not to be.
        part = self._refused.issuperset(texts)
        repeats = min(self.settings.max_retries, _REPEATS_OF_ONE if len(texts) == 1 else 0) if part else None
        try:
            # What got no answer stays set aside, and the attempt that follows needs an amount of its own.
            reply = self._client.embed(
                formatted, after_silence=lambda: reservations.append(self._reserve(most_tokens)), repeats=repeats
            )
        except ServiceError as error:
            if reservations[-1] and not error.charges:
                self.usage.release(reservations[-1])
            if error.status not in _OF_TEXTS:
                raise
            reply = error
        if isinstance(reply, ServiceError):
            self._refused |= frozenset(texts)
            return reply
        tokens = most_tokens if reply.tokens is None else reply.tokens
        self.usage.settle(
            AnsweredRequest(
                reservation=reservations[-1],
                role=role,
                texts=len(texts),
                bytes=_count_bytes(texts),
                tokens=tokens,
                seconds=reply.seconds,
                cost_usd=tokens * self.settings.price / 1e6,
            )
        )
        return reply

    def _reserve(self, most_tokens: int) -> str | None:
        if not self.settings.price:
            return None
        return self.usage.reserve(most_tokens * self.settings.price / 1e6, self.settings.spend_limit_usd)


def _normalize(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1. A row that has it already stays as the service sent it, to the bit; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where((np.abs(lengths - 1) < 1e-6) | (lengths == 0), vectors, vectors / np.maximum(lengths, 1e-30))


def _count_bytes(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _role_fingerprint(settings: HostedEncoderSettings, role: Role) -> str:
    instruction = settings.instruction(role)
    identity = {
        "hosted": 1,  # raise when this module starts to compute other vectors
        "service": settings.service,
        "url": settings.url,
        "model": settings.model,
        "dimensions": settings.dimensions,
        "normalize": settings.normalize,
        "instruction": instruction,
        "instruction_format": settings.instruction_format if instruction else "",
        **({"edition": settings.edition} if settings.edition else {}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
