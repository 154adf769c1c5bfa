"""Figures about a written data set that its checks and its reader need, taken from the data set alone.

Belongs here: what is true of the data. Does not belong here: which figure fails a check (defs/checks).
"""

from collections import Counter
from dataclasses import dataclass

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.records import SPLITS, Passage, Query, Split


@dataclass(frozen=True, slots=True)
class Leak:
    """A validation or test query, and a training query that is (nearly) the same; 1 is exact."""

    query: Query
    train_query: Query
    similarity: float


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """How the passages of the corpus occur as positives; tuples are sorted by text.

    `never_in_train` are all that no training query has, `only_held_out` those of them that a validation or test query
    has, so that a trained encoder is asked for what it never saw. `shared` is the share of the passages with a query
    that have more than one: near 1 they are labels, near 0 texts of a corpus with a question each. 0 without judgments.
    """

    never_in_train: tuple[Passage, ...]
    only_held_out: tuple[Passage, ...]
    shared: float


def find_leaks(dataset: RetrievalDataset, threshold: float) -> tuple[Leak, ...]:
    """Every validation and test query with an exact or near duplicate in train, by query id.

    Each names its most similar training query, of equal ones the first by id. Recomputed from the texts, whatever the
    splitting did; the search is exact.
    """
    sets = shingle_texts([canonical_form(query.text) for query in dataset.queries])
    index = NearDuplicateIndex(sets, threshold)
    for position, query in enumerate(dataset.queries):
        if query.split == "train":
            index.add(position)
    leaks = []
    for position, query in enumerate(dataset.queries):
        if query.split == "train":
            continue
        nearest = min(index.find(position), key=lambda near: (-near.similarity, near.position), default=None)
        if nearest is not None:
            leaks.append(Leak(query, dataset.queries[nearest.position], nearest.similarity))
    return tuple(sorted(leaks, key=lambda leak: leak.query.id))


def find_empty_splits(dataset: RetrievalDataset) -> tuple[Split, ...]:
    """The splits without a query, in the order of SPLITS."""
    return tuple(split for split in SPLITS if not dataset.queries_of(split))


def describe_labels(dataset: RetrievalDataset) -> LabelFigures:
    """How labels occur over the splits."""
    split_of = {query.id: query.split for query in dataset.queries}
    positives = [judgment for judgment in dataset.judgments if judgment.grade > 0]
    in_train = {judgment.passage_id for judgment in positives if split_of[judgment.query_id] == "train"}
    held_out = {judgment.passage_id for judgment in positives} - in_train
    passages = sorted(dataset.passages, key=lambda passage: passage.text)
    uses = Counter(judgment.passage_id for judgment in positives)
    return LabelFigures(
        never_in_train=tuple(passage for passage in passages if passage.id not in in_train),
        only_held_out=tuple(passage for passage in passages if passage.id in held_out),
        shared=sum(count > 1 for count in uses.values()) / len(uses) if uses else 0.0,
    )
