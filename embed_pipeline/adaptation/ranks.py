"""The rank of the best answer of each query, straight from vectors, a block of the corpus at a time.

Belongs here: measuring while an adaptation is being chosen. Does not belong here: the measures that are reported
(evaluation), which search an index.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from embed_pipeline.adaptation.reach import RelevantRows

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


def mean_reciprocal_rank(ranks: np.ndarray, cutoff: int = 10) -> float:
    """The mean of 1 / rank, 0 beyond the cutoff; 0 without queries."""
    return float(np.where(ranks <= cutoff, 1 / ranks, 0.0).mean()) if len(ranks) else 0.0


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
