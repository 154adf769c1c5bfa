"""The rank of the best answer of each query, straight from vectors, a block of the corpus at a time.

Belongs here: measuring while an adaptation is being chosen, and whether moving corpus vectors can work at all. Does not
belong here: the measures that are reported (evaluation), which search an index.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RelevantRows = Sequence[Sequence[int]]
"""Per query the corpus rows of its relevant passages."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far training queries reach into the answers of validation."""

    passages: int
    moved: int
    """Passages that have a training query: only these can be moved."""
    answers: int
    """Distinct passages that answer a validation query."""
    answers_with_training_query: int
    queries: int
    """Validation queries."""
    queries_in_reach: int
    """Validation queries of which at least one answer has a training query."""

    @property
    def share(self) -> float:
        """The share of validation answers that have a training query; 0 without answers."""
        return self.answers_with_training_query / self.answers if self.answers else 0.0

    @property
    def explanation(self) -> str:
        """What to expect, in one or two sentences with figures."""
        counted = (
            f"{self.answers_with_training_query} of {self.answers} validation answers ({100 * self.share:.1f} %) have "
            f"a training query, which puts {self.queries_in_reach} of {self.queries} validation queries in reach; "
            f"{self.moved} of {self.passages} passages can be moved."
        )
        if self.queries_in_reach:
            return counted
        return (
            f"{counted} Moving passages cannot bring these answers nearer, so gamma is 0 and nothing changes: split by "
            "query instead of by passage, write training queries for these passages, or train a linear adapter."
        )


def explain_reach(train_relevant: RelevantRows, validation_relevant: RelevantRows, *, passages: int) -> Reach:
    """The reach of training queries into validation, from the relevant rows alone; cheap enough to run first."""
    trained = {row for answers in train_relevant for row in answers}
    answers = {row for rows in validation_relevant for row in rows}
    return Reach(
        passages=passages,
        moved=len(trained),
        answers=len(answers),
        answers_with_training_query=len(answers & trained),
        queries=len(validation_relevant),
        queries_in_reach=sum(1 for rows in validation_relevant if trained.intersection(rows)),
    )


BLOCK_ROWS = 16_384
QUERIES_AT_ONCE = 256

TIE = 1e-6
"""Scores nearer than this, or this share, are equal: one vector's score differs by that from one product to another."""


def best_ranks(queries: np.ndarray, corpus: np.ndarray, relevant: RelevantRows) -> np.ndarray:
    """int64 (queries,): 1 plus how many irrelevant passages score over a millionth higher than the best relevant one.

    Other answers of the same query never count against it. Memory: a block of 256 queries and 16,384 passages.

    Raises:
        ValueError: shapes do not fit, or a query has no relevant row inside the corpus.
    """
    check_rows(queries, corpus, relevant)
    ranks = np.empty(len(queries), dtype=np.int64)
    for part in spans(len(queries), QUERIES_AT_ONCE):
        own, rows = queries[part], relevant[part]
        best = np.array([(corpus[list(answers)] @ query).max() for query, answers in zip(own, rows, strict=True)])
        higher = np.zeros(len(own), dtype=np.int64)
        for block in spans(len(corpus), BLOCK_ROWS):
            scores = own @ corpus[block].T
            mask_answers(scores, rows, block)
            higher += (scores > (best + TIE * np.maximum(np.abs(best), 1))[:, None]).sum(axis=1)
        ranks[part] = higher + 1
    return ranks


def hit_rate(ranks: np.ndarray, cutoff: int = 1) -> float:
    """The share of ranks up to the cutoff; 0 without queries."""
    return float((ranks <= cutoff).mean()) if len(ranks) else 0.0


def spans(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `length`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def mask_answers(scores: np.ndarray, relevant: RelevantRows, block: slice) -> None:
    """Sets the scores of a query's own answers inside the block of the corpus to -inf, in place."""
    for row, answers in enumerate(relevant):
        for answer in answers:
            if block.start <= answer < block.stop:
                scores[row, answer - block.start] = -np.inf


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """float32 copy with every row scaled to length 1; rows of zeros stay zeros."""
    unit = np.array(vectors, dtype=np.float32)
    for block in spans(len(unit), BLOCK_ROWS):
        lengths = np.linalg.norm(unit[block], axis=1, keepdims=True)
        unit[block] /= np.where(lengths > 0, lengths, 1)
    return unit


def check_rows(queries: np.ndarray, corpus: np.ndarray, relevant: Sequence[Sequence[int]]) -> None:
    """Guarantees one list of rows inside the corpus per query, and vectors of one length; raises ValueError."""
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            f"adaptation: expected query and corpus vectors of one length, found shapes {queries.shape} and "
            f"{corpus.shape}. Encode both with one encoder."
        )
    if len(relevant) != len(queries):
        raise ValueError(f"adaptation: {len(queries)} queries, {len(relevant)} lists of rows. Pass one list per query.")
    for at, answers in enumerate(relevant):
        outside = [row for row in answers if not 0 <= row < len(corpus)]
        if not answers or outside:
            raise ValueError(
                f"adaptation: query {at} needs relevant rows from 0 to {len(corpus) - 1}, found "
                f"{outside[0] if outside else 'none'}. Leave the query out or correct its rows."
            )
