"""Parts of a test set that behave differently: by language, by number of labels, by length, by what training saw.

Belongs here: which queries a slice holds. Does not belong here: measuring them (comparison), showing them (reporting).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.evaluation.measures import canonical_passages
from embed_pipeline.records import LANGUAGE, Query, Split

MOST_VALUES = 20
"""Values of an attribute beyond the most frequent ones are one slice, OTHER."""
OTHER = "other"
_SEEN_UP_TO = ((0, "unseen"), (4, "1 to 4"), (19, "5 to 19"))
_SEEN_OFTEN = "20 and more"


@dataclass(frozen=True, slots=True)
class Slice:
    """The queries that share a value of a property; `str` gives `labels: 2`."""

    property: str
    value: str
    query_ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.property}: {self.value}"


def slice_queries(dataset: RetrievalDataset, split: Split) -> tuple[Slice, ...]:
    """The slices of a split, every query in one slice of each property; a property of a single value gives none.

    `labels`: relevant passages of the query. `length`: thirds by characters, bounds in the value. `train frequency`:
    how many train queries have the query's rarest relevant passage (only where there are train queries). Passages of
    one text are one. Then every attribute of the queries, by name. Slices are in a reader's order.
    """
    queries = dataset.queries_of(split)
    canonical = canonical_passages(dataset.passages)
    relevant = {
        query: {canonical.get(passage, passage) for passage, grade in grades.items() if grade > 0}
        for query, grades in dataset.relevant().items()
    }
    in_train = Counter(passage for query in dataset.queries_of("train") for passage in relevant[query.id])
    found = [*_slice("labels", queries, lambda query: _label_count(len(relevant[query.id]))), *_by_length(queries)]
    if in_train:
        found += _slice(
            "train frequency", queries, lambda query: _frequency(min(in_train[p] for p in relevant[query.id]))
        )
    names = {name for query in queries for name in query.attributes}
    for name in sorted(names, key=lambda name: (name != LANGUAGE, name)):
        found += _by_attribute(name, queries)
    return tuple(found)


@dataclass(frozen=True, slots=True, order=True)
class _Value:
    order: int
    text: str


def _slice(name: str, queries: Sequence[Query], value_of: Callable[[Query], _Value]) -> list[Slice]:
    members: defaultdict[_Value, list[str]] = defaultdict(list)
    for query in queries:
        members[value_of(query)].append(query.id)
    ordered = sorted(members.items())
    return [Slice(name, value.text, tuple(ids)) for value, ids in ordered] if len(ordered) > 1 else []


def _label_count(count: int) -> _Value:
    return _Value(count, str(count)) if count < 4 else _Value(4, "4 and more")


def _frequency(count: int) -> _Value:
    for order, (limit, text) in enumerate(_SEEN_UP_TO):
        if count <= limit:
            return _Value(order, text)
    return _Value(len(_SEEN_UP_TO), _SEEN_OFTEN)


def _by_length(queries: Sequence[Query]) -> list[Slice]:
    lengths = sorted(len(query.text) for query in queries)
    if not lengths:
        return []
    short, long = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]

    def value_of(query: Query) -> _Value:
        if len(query.text) <= short:
            return _Value(0, f"up to {short} characters")
        return _Value(1, f"{short + 1} to {long}") if len(query.text) <= long else _Value(2, f"{long + 1} and more")

    return _slice("length", queries, value_of)


def _by_attribute(name: str, queries: Sequence[Query]) -> list[Slice]:
    counts = Counter(query.attributes[name] for query in queries if name in query.attributes)
    kept = sorted(counts, key=lambda value: (-counts[value], value))[:MOST_VALUES]
    order = {value: at for at, value in enumerate(kept)}

    def value_of(query: Query) -> _Value:
        value = query.attributes.get(name, OTHER)
        return _Value(order[value], value) if value in order else _Value(len(order), OTHER)

    return _slice(name, queries, value_of)
