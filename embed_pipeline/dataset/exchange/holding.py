"""What a format can hold of a data set, and the data set that is left when the rest is taken away.

Belongs here: the loss, counted before anything is written. Does not belong here: any format's layout.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.dataset.normalisation import passage_id, query_id
from embed_pipeline.dataset.pairs_file import PairsContent
from embed_pipeline.records import Judgment, Passage, Query, Split

NO_SPLIT: Split = "train"
"""The split of every query that comes from a format without splits."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a format holds; `True` everywhere is everything. Attributes: all, none, or the named ones."""

    query_ids: bool = True
    passage_ids: bool = True
    splits: bool = True
    grades: bool = True
    negatives: Literal["any", "none", "all_or_none"] = "any"  # all_or_none: every query has one, or none is written
    queries: Literal["any", "judged", "answered"] = "any"
    unjudged_passages: bool = True
    blank_passages: bool = True  # whose text is nothing but white space
    query_attributes: Literal["any"] | tuple[str, ...] = "any"
    passage_attributes: Literal["any"] | tuple[str, ...] = "any"
    refused_attributes: tuple[str, ...] = ()  # query attributes whose names mean something else in the format
    empty_attributes: bool = True


@dataclass(frozen=True, slots=True)
class NotHeld:
    """A part of a data set that a format has no place for, and how many records it touches."""

    what: str
    count: int


@dataclass(frozen=True, slots=True)
class Reduced:
    """A data set that a format holds without loss, and what was taken away for it."""

    dataset: RetrievalDataset
    not_held: tuple[NotHeld, ...]


def canonical_digest(dataset: RetrievalDataset) -> str:
    """sha256 (hex) of queries, splits, passages, judgments and attributes, in one order, whatever order they are in."""
    records = [
        *sorted(["query", q.id, q.text, q.split, sorted(q.attributes.items())] for q in dataset.queries),
        *sorted(["passage", p.id, p.text, sorted(p.attributes.items())] for p in dataset.passages),
        *sorted(["judgment", j.query_id, j.passage_id, j.grade] for j in dataset.judgments),
    ]
    return hashlib.sha256(json.dumps(records).encode()).hexdigest()


def to_dataset(content: PairsContent, default_split: Split = NO_SPLIT) -> RetrievalDataset:
    """The content as a data set; a query without a split gets the default.

    Raises:
        ValueError: as `build_dataset`.
    """
    return build_dataset(
        [
            Query(key, text, content.splits.get(key, default_split), content.attributes.get(key, {}))
            for key, text in content.queries.items()
        ],
        [Passage(key, text, content.passage_attributes.get(key, {})) for key, text in content.corpus.items()],
        [
            Judgment(query, passage, grade)
            for query, judged in content.relevant.items()
            for passage, grade in judged.items()
        ],
    )


def reduce_dataset(dataset: RetrievalDataset, holding: Holding) -> Reduced:
    """What a format holds of a data set, with what it does not hold counted; an empty list is no loss."""
    lost: dict[str, int] = {}
    if not holding.blank_passages:
        written = tuple(p for p in dataset.passages if p.text.strip())
        _count(lost, "passages without a text", len(dataset.passages) - len(written))
        kept = {p.id for p in written}
        dataset = replace(
            dataset, passages=written, judgments=tuple(j for j in dataset.judgments if j.passage_id in kept)
        )
    judgments = _held_judgments(dataset, holding, lost)
    if holding.queries == "any":
        queries = dataset.queries
    else:
        least = 1 if holding.queries == "answered" else 0
        known = {j.query_id for j in judgments if j.grade >= least}
        queries = tuple(q for q in dataset.queries if q.id in known)
        _count(
            lost, f"queries without a {'relevant' if least else 'judged'} passage", len(dataset.queries) - len(queries)
        )
        kept = {q.id for q in queries}
        judgments = [j for j in judgments if j.query_id in kept]
    if holding.negatives == "all_or_none":
        judgments = _all_or_no_negatives(judgments, lost)
    passages = dataset.passages
    if not holding.unjudged_passages:
        judged = {j.passage_id for j in judgments}
        passages = tuple(p for p in passages if p.id in judged)
        _count(lost, "passages without a judgment", len(dataset.passages) - len(passages))
    if not holding.splits:
        _count(lost, "splits", sum(q.split != NO_SPLIT for q in queries))
    queries = [_held_query(query, holding, lost) for query in queries]
    held_passages = []
    for passage in passages:
        attributes = _named(passage.attributes.items(), holding.passage_attributes)
        _count(lost, "passage attributes", len(passage.attributes) - len(attributes))
        held_passages.append(Passage(passage.id, passage.text, attributes))
    return Reduced(
        _renamed(queries, held_passages, judgments, holding, lost),
        tuple(NotHeld(what, count) for what, count in sorted(lost.items())),
    )


def _held_judgments(dataset: RetrievalDataset, holding: Holding, lost: dict[str, int]) -> list[Judgment]:
    judgments = [j for j in dataset.judgments if j.grade > 0 or holding.negatives != "none"]
    _count(lost, "judgments of grade 0", len(dataset.judgments) - len(judgments))
    if holding.grades:
        return judgments
    _count(lost, "grades above 1", sum(j.grade > 1 for j in judgments))
    return [Judgment(j.query_id, j.passage_id, min(j.grade, 1)) for j in judgments]


def _all_or_no_negatives(judgments: list[Judgment], lost: dict[str, int]) -> list[Judgment]:
    if {j.query_id for j in judgments} == {j.query_id for j in judgments if j.grade == 0}:
        return judgments
    positive = [j for j in judgments if j.grade > 0]
    _count(lost, "judgments of grade 0 (some queries have none)", len(judgments) - len(positive))
    return positive


def _held_query(query: Query, holding: Holding, lost: dict[str, int]) -> Query:
    attributes = {
        name: value
        for name, value in _named(query.attributes.items(), holding.query_attributes).items()
        if name not in holding.refused_attributes and (value or holding.empty_attributes)
    }
    _count(lost, "query attributes", len(query.attributes) - len(attributes))
    return Query(query.id, query.text, query.split if holding.splits else NO_SPLIT, attributes)


def _named(items: Iterable[tuple[str, str]], names: Literal["any"] | tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in items if names == "any" or name in names}


def _renamed(
    queries: list[Query], passages: list[Passage], judgments: list[Judgment], holding: Holding, lost: dict[str, int]
) -> RetrievalDataset:
    """With ids from the texts where the format has none; what then has the same id is united, the first text stays."""
    query_ids = {q.id: q.id if holding.query_ids else query_id(q.text) for q in queries}
    passage_ids = {p.id: p.id if holding.passage_ids else passage_id(p.text) for p in passages}
    _count(lost, "query ids", sum(old != new for old, new in query_ids.items()))
    _count(lost, "passage ids", sum(old != new for old, new in passage_ids.items()))
    new_queries: dict[str, Query] = {}
    for q in queries:
        new_queries.setdefault(query_ids[q.id], Query(query_ids[q.id], q.text, q.split, q.attributes))
    new_passages: dict[str, Passage] = {}
    for p in passages:
        new_passages.setdefault(passage_ids[p.id], Passage(passage_ids[p.id], p.text, p.attributes))
    _count(lost, "queries of the same text", len(queries) - len(new_queries))
    _count(lost, "passages of the same text", len(passages) - len(new_passages))
    grades: dict[str, dict[str, int]] = {}
    for j in judgments:
        judged = grades.setdefault(query_ids[j.query_id], {})
        passage = passage_ids[j.passage_id]
        judged[passage] = max(j.grade, judged.get(passage, 0))
    united = [Judgment(query, passage, grade) for query, judged in grades.items() for passage, grade in judged.items()]
    return build_dataset(new_queries.values(), new_passages.values(), united)


def _count(lost: dict[str, int], what: str, count: int) -> None:
    if count:
        lost[what] = lost.get(what, 0) + count
