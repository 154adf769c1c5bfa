"""Whether a service still answers as it did: a few texts sent again, against the vectors that are kept of them.

Belongs here: choosing the texts and comparing. Does not belong here: when it is done and who is told (defs).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embed_pipeline.encoding.hosted import HostedEncoder
from embed_pipeline.encoding.vector_cache import VectorCache

_TEXTS_PER_LOOKUP = 1000


@dataclass(frozen=True, slots=True)
class SampleComparison:
    """Cosines between kept vectors and those that the service gives now, over `texts` texts; what asking cost."""

    texts: int
    lowest: float
    mean: float
    cost_usd: float


def compare_sample(encoder: HostedEncoder, cache: VectorCache, passages: Sequence[str]) -> SampleComparison | None:
    """The settings' `sample_texts` of the passages, encoded again and kept nowhere; None where no vector is kept yet.

    The texts are the same from night to night: the first by their SHA-256 of which a vector is kept. They go through
    the usage log and count towards `spend_limit_usd`.

    Raises:
        ValueError: as HostedEncoder.encode_passages; nothing is known then.
    """
    texts, kept = _choose(encoder, cache, passages)
    if not texts:
        return None
    spent = encoder.usage.spent_usd
    cosines = _cosines(kept, encoder.encode_passages(texts))
    cost = encoder.usage.spent_usd - spent
    return SampleComparison(len(texts), float(cosines.min()), float(cosines.mean()), cost)


def _choose(encoder: HostedEncoder, cache: VectorCache, passages: Sequence[str]) -> tuple[list[str], np.ndarray]:
    ordered = sorted(set(passages), key=lambda text: hashlib.sha256(text.encode()).digest())
    texts: list[str] = []
    vectors = np.empty((0, encoder.dimension), dtype=np.float32)
    for start in range(0, len(ordered), _TEXTS_PER_LOOKUP):
        portion = ordered[start : start + _TEXTS_PER_LOOKUP]
        lookup = cache.lookup(encoder.passage_fingerprint, portion, encoder.dimension)
        rows = np.flatnonzero(lookup.found)[: encoder.settings.sample_texts - len(texts)]
        texts += [portion[row] for row in rows]
        vectors = np.concatenate([vectors, lookup.vectors[rows]])
        if len(texts) == encoder.settings.sample_texts:
            break
    return texts, vectors


def _cosines(kept: np.ndarray, now: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(kept, axis=1) * np.linalg.norm(now, axis=1)
    # In float64: rounding must not look like a change. A vector of zeros is like no other.
    products = np.einsum("ij,ij->i", kept.astype(np.float64), now.astype(np.float64))
    return products / np.maximum(lengths.astype(np.float64), 1e-30)
