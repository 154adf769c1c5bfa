"""A smaller data set that asks the same kind of question: for sweeps that would take hours on the whole.

Belongs here: drawing. Does not belong here: splitting (splitting.py), what is measured on the draw.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TypeVar

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.records import Split

Item = TypeVar("Item")


def draw_by_hash(items: Sequence[Item], most: int | None, key: Callable[[Item], str]) -> list[Item]:
    """At most so many, in their order: those whose key has the smallest SHA-256, so that a new one moves few others."""
    if most is None or len(items) <= most:
        return list(items)
    places = sorted(range(len(items)), key=lambda at: hashlib.sha256(key(items[at]).encode()).digest())
    return [items[at] for at in sorted(places[:most])]


def draw_with(needed: AbstractSet[str], items: Iterable[str], limit: int, chance: random.Random) -> AbstractSet[str]:
    """All that is needed and, drawn from the others, as many as make it `limit` together."""
    others = [item for item in items if item not in needed]
    return needed | set(chance.sample(others, min(len(others), max(0, limit - len(needed)))))


def sample_dataset(
    dataset: RetrievalDataset, split: Split, *, max_queries: int, max_passages: int, seed: int
) -> RetrievalDataset:
    """The queries of one split, at most so many, and the corpus, at most so large; their relevant passages all stay.

    Drawn with the seed, so that equal data give equal draws; below both limits nothing is left out.
    """
    chance = random.Random(f"{seed}:{split}")
    queries = sorted(dataset.queries_of(split), key=lambda query: query.id)
    if len(queries) > max_queries:
        queries = sorted(chance.sample(queries, max_queries), key=lambda query: query.id)
    asked = {query.id for query in queries}
    needed = {j.passage_id for j in dataset.judgments if j.query_id in asked and j.grade > 0}
    passages = dataset.passages
    if len(passages) > max_passages:
        drawn = draw_with(needed, sorted(passage.id for passage in passages), max_passages, chance)
        passages = tuple(passage for passage in passages if passage.id in drawn)
    kept = {passage.id for passage in passages}
    return replace(
        dataset,
        queries=tuple(queries),
        passages=passages,
        judgments=tuple(j for j in dataset.judgments if j.query_id in asked and j.passage_id in kept),
    )
