"""Which passages a step encodes and which of them are positive or negative for a query.

Belongs here: the rule behind `auto`, the seeded draw of a step, the masks. Does not belong here: the arithmetic on them
(loss.py). Everything is a function of settings, epoch and batch, so that every process draws the same and a resumed run
draws what the killed one would have drawn.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embed_pipeline.training.settings import Candidates, TrainingSettings

SMALL_CORPUS_TOKENS = 16_384
"""As much as 256 passages of 64 tokens: what 32 queries with seven mined negatives each encode."""
_LEAST_TOKENS = 3  # of any text: one of its own between two special ones


class Query(Protocol):
    """The rows of passages that a query knows (examples.TrainingQuery)."""

    @property
    def positives(self) -> tuple[int, ...]: ...

    @property
    def negatives(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class StepBatch:
    """The queries of one step over all processes, and when it is."""

    epoch: int
    number: int
    queries: tuple[int, ...]


def corpus_is_small(texts: int, tokens: int) -> bool:
    """Whether encoding the whole corpus in every step costs no more than mined negatives would."""
    return max(tokens, texts * _LEAST_TOKENS) <= SMALL_CORPUS_TOKENS


def resolve_candidates(
    asked: Candidates, *, corpus_texts: int, corpus_tokens: int, queries: int, queries_with_negatives: int
) -> Candidates:
    """What is asked for; for auto: corpus if it is small, else mined, else sample if most queries lack negatives."""
    if asked != "auto":
        return asked
    if corpus_is_small(corpus_texts, corpus_tokens):
        return "corpus"
    return "mined" if 2 * queries_with_negatives >= queries else "sample"


def draw_rows(
    batch: StepBatch,
    queries: Sequence[Query],
    kind: Candidates,
    settings: TrainingSettings,
    *,
    corpus_size: int,
) -> np.ndarray:
    """The passages of a step, ascending, each once, whichever of its queries brought it in."""
    if kind == "corpus":
        return np.arange(corpus_size)
    rows: set[int] = set()
    for at in batch.queries:
        rows.update(_group_of(queries[at], kind, settings, seed=f"{settings.seed}:{batch.epoch}:{at}"))
    if kind == "sample":
        drawn = random.Random(f"{settings.seed}:{batch.epoch}:step {batch.number}")
        rows.update(drawn.sample(range(corpus_size), min(settings.sample_size, corpus_size)))
    return np.array(sorted(rows))


def _group_of(query: Query, kind: Candidates, settings: TrainingSettings, *, seed: str) -> Iterable[int]:
    chance = random.Random(seed)
    with_negatives = kind != "in_batch" and query.negatives
    most = min(settings.positives_per_query, settings.train_group_size - 1 if with_negatives else len(query.positives))
    positives = _draw(query.positives, most, chance)
    if not with_negatives:
        return positives
    return (*positives, *_draw(query.negatives, settings.train_group_size - len(positives), chance))


def _draw(rows: tuple[int, ...], number: int, chance: random.Random) -> Sequence[int]:
    return rows if len(rows) <= number else chance.sample(rows, number)


def positive_mask(queries: Sequence[Query], columns: np.ndarray) -> np.ndarray:
    """bool (queries, columns): whether the passage in a column is a positive of the query, drawn for it or not.

    Equal passages are one row, so whatever is encoded for another query, on whichever process, is found here.
    """
    mask = np.zeros((len(queries), len(columns)), dtype=bool)
    for at, query in enumerate(queries):
        mask[at] = np.isin(columns, query.positives)
    return mask


def share_of(size: int, process: int, processes: int) -> range:
    """The places of `size` that a process takes care of; neighbours go to different processes."""
    return range(process, size, processes)
