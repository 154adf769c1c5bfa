"""Queries that ask the same and are judged differently.

Belongs here: finding them in a written data set. Does not belong here: how many are too many (defs/checks).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.records import Query

Kind = Literal["disjoint", "opposite"]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two queries that are nearly the same; `first` has the smaller id.

    `disjoint`: both have relevant passages and share none. `opposite`: `passage_id` is relevant to one and judged
    irrelevant to the other, the first such passage by id.
    """

    first: Query
    second: Query
    similarity: float
    kind: Kind
    passage_id: str | None


def find_contradictions(dataset: RetrievalDataset, threshold: float) -> tuple[Contradiction, ...]:
    """One contradiction per query at most, with the most similar earlier query that contradicts it, by the ids.

    Two queries with different numbers in them ("article 12", "article 13") ask for different things and are never a
    contradiction. The search is exact.
    """
    sets = shingle_texts([canonical_form(query.text) for query in dataset.queries])
    index = NearDuplicateIndex(sets, threshold)
    grades = dataset.relevant()
    numbers = [_digits(query.text) for query in dataset.queries]
    found = []
    for position, query in enumerate(dataset.queries):
        candidates = []
        for near in index.find(position):
            other = dataset.queries[near.position]
            if numbers[near.position] != numbers[position]:
                continue
            contradiction = _contradiction(other, query, near.similarity, grades)
            if contradiction is not None:
                candidates.append(contradiction)
        index.add(position)
        if candidates:
            found.append(min(candidates, key=lambda item: (-item.similarity, item.first.id)))
    return tuple(sorted(found, key=lambda item: (item.first.id, item.second.id)))


def _contradiction(
    first: Query, second: Query, similarity: float, grades: Mapping[str, Mapping[str, int]]
) -> Contradiction | None:
    one, other = grades[first.id], grades[second.id]
    opposite = sorted(passage for passage in one.keys() & other.keys() if (one[passage] > 0) != (other[passage] > 0))
    if opposite:
        return Contradiction(first, second, similarity, "opposite", opposite[0])
    relevant = [{passage for passage, grade in judged.items() if grade > 0} for judged in (one, other)]
    if all(relevant) and not relevant[0] & relevant[1]:
        return Contradiction(first, second, similarity, "disjoint", None)
    return None


def _digits(text: str) -> str:
    return " ".join("".join(c if c.isdigit() else " " for c in text).split())
