"""How long one question takes, and how fast passages become searchable: measured, on the machine at hand.

Belongs here: timing. Does not belong here: what is timed (the caller hands over a function).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from embed_pipeline.records import Query

Item = TypeVar("Item")

SAMPLED_QUERIES = 30
SAMPLED_PASSAGES = 64
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a query from its text to its hits: the median, and what 95 % stay below."""

    p50_ms: float
    p95_ms: float

    def plus(self, other: "Latency | None") -> "Latency":
        """With what comes after it: the sums, of which the second is at least the 95th percentile of both together."""
        if other is None:
            return self
        return Latency(p50_ms=round(self.p50_ms + other.p50_ms, 3), p95_ms=round(self.p95_ms + other.p95_ms, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What it takes to use a variant: see MetricRow for the meaning of each figure; None where it means nothing."""

    cost_usd: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    passages_per_second: float | None = None
    dimension: int | None = None
    max_length: int | None = None


def measure_latency(search: Callable[[Query], object], queries: Sequence[Query]) -> Latency | None:
    """The latency over evenly spread queries, one after the other, after a few to warm up; None without a query."""
    chosen = spread(queries, SAMPLED_QUERIES)
    for query in chosen[:_WARM_UP]:
        search(query)
    return summarise_latency([_seconds(lambda query=query: search(query)) * 1000 for query in chosen])


def summarise_latency(milliseconds: Sequence[float]) -> Latency | None:
    """Median and 95th percentile; None without a value."""
    if not milliseconds:
        return None
    p50, p95 = np.percentile(milliseconds, [50, 95]).tolist()
    return Latency(p50_ms=round(p50, 3), p95_ms=round(p95, 3))


def measure_throughput(encode: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float | None:
    """Texts a second over evenly spread texts, in one call; None without a text."""
    chosen = spread(texts, SAMPLED_PASSAGES)
    if not chosen:
        return None
    encode(chosen[:_WARM_UP])
    return round(len(chosen) / max(_seconds(lambda: encode(chosen)), 1e-9), 2)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items, evenly spread over the sequence, the first among them."""
    step = max(1, -(-len(items) // count))
    return list(items[::step])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
