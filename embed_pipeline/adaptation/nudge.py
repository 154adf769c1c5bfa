"""NUDGE: corpus vectors moved towards the training queries that they answer, as far as validation likes it.

Belongs here: both variants of the shift and the choice of its size, gamma. Does not belong here: whether it can work
(reach.py), searching. Source: Zeighami, Wellmer, Parameswaran 2024, arXiv 2409.02343.

A passage without a training query never moves, so of all those only the best score per validation query is kept; the
rest is worked through a block at a time. Memory beside the corpus and its moved copy: the directions of the passages
that do move, and blocks of 256 queries by 16,384 passages.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from embed_pipeline.adaptation.gamma import MovableRows, best_gamma_on_grid, best_gamma_on_line
from embed_pipeline.adaptation.ranks import BLOCK_ROWS, best_ranks, check_rows, hit_rate, spans, unit_rows
from embed_pipeline.adaptation.reach import Reach, RelevantRows, explain_reach

Variant = Literal["nudge_m", "nudge_n"]

GRID = tuple(round(0.02 * step, 2) for step in range(25))
"""The values of gamma that NUDGE-N tries, as the paper does."""


@dataclass(frozen=True, slots=True)
class ShiftedCorpus:
    """Corpus vectors after the shift; to be searched by inner product, row i is still passage i."""

    vectors: np.ndarray
    """float32 (passages, dimension). nudge_n: of length 1. nudge_m: moved rows have other lengths."""
    variant: Variant
    gamma: float
    validation_before: float
    """hit_rate@1 of validation with the corpus as it was."""
    validation_after: float
    reach: Reach

    @property
    def explanation(self) -> str:
        """What came of it, in figures; says why where gamma is 0."""
        if not self.reach.queries_in_reach:
            return self.reach.explanation
        chosen = (
            f"gamma {self.gamma:.4g}: hit_rate@1 of {self.reach.queries} validation queries from "
            f"{100 * self.validation_before:.1f} to {100 * self.validation_after:.1f} %."
        )
        unmoved = "" if self.gamma else " No shift did better than none."
        return f"{chosen}{unmoved} {self.reach.explanation}"


def shift_corpus(
    corpus: np.ndarray,
    *,
    variant: Variant,
    train_queries: np.ndarray,
    train_relevant: RelevantRows,
    validation_queries: np.ndarray,
    validation_relevant: RelevantRows,
) -> ShiftedCorpus:
    """The corpus, first scaled to length 1, moved by the gamma that is best on validation; the input is not changed.

    nudge_m adds gamma times the direction of the summed training queries; its gamma is an exact maximum of validation
    hit_rate@1. nudge_n turns the vector on the sphere towards that direction, by at most gamma in squared distance and
    never beyond it; the best of GRID, the smallest of equals. Both take 0 where nothing is better than 0.

    Raises:
        ValueError: shapes do not fit, or a query has no relevant row.
    """
    check_rows(train_queries, corpus, train_relevant)
    check_rows(validation_queries, corpus, validation_relevant)
    reach = explain_reach(train_relevant, validation_relevant, passages=len(corpus))
    vectors = unit_rows(corpus)
    before = hit_rate(best_ranks(validation_queries, vectors, validation_relevant))
    if not reach.queries_in_reach:
        return ShiftedCorpus(vectors, variant, 0.0, before, before, reach)
    movable = movable_rows(vectors, train_queries, train_relevant, variant=variant)
    if variant == "nudge_m":
        gamma = best_gamma_on_line(vectors, movable, validation_queries, validation_relevant)
    else:
        gamma = best_gamma_on_grid(vectors, movable, validation_queries, validation_relevant, GRID)
    _move(vectors, movable, gamma, variant)
    after = hit_rate(best_ranks(validation_queries, vectors, validation_relevant)) if gamma else before
    return ShiftedCorpus(vectors, variant, gamma, before, after, reach)


def movable_rows(
    unit_corpus: np.ndarray, train_queries: np.ndarray, train_relevant: RelevantRows, *, variant: Variant
) -> MovableRows:
    """The rows with training queries, ascending, each with its direction of length 1 and its largest angle.

    nudge_m: the direction of the summed queries. nudge_n: the part of it at right angles to the vector, so that cos
    and sin of an angle turn the one into the other. A sum of zero, or one along the vector, gives a direction of zero.
    """
    rows = np.array(sorted({row for answers in train_relevant for row in answers}), dtype=np.int64)
    place = {int(row): at for at, row in enumerate(rows)}
    sums = np.zeros((len(rows), unit_corpus.shape[1]), dtype=np.float32)
    for query, answers in zip(train_queries, train_relevant, strict=True):
        for row in sorted(set(answers)):
            sums[place[row]] += query
    directions, angles = unit_rows(sums), np.full(len(rows), np.pi)
    if variant == "nudge_n":
        for block in spans(len(rows), BLOCK_ROWS):
            base = unit_corpus[rows[block]]
            cosines = (base * directions[block]).sum(axis=1)
            across = directions[block] - cosines[:, None] * base
            lengths = np.linalg.norm(across, axis=1)
            angles[block] = np.where(lengths > 1e-6, np.arctan2(lengths, cosines), 0.0)
            directions[block] = across / np.where(lengths > 1e-6, lengths, np.inf)[:, None]
    return MovableRows(rows=rows, directions=directions, angles=angles)


def _move(vectors: np.ndarray, movable: MovableRows, gamma: float, variant: Variant) -> None:
    if not gamma:
        return
    for block in spans(len(movable.rows), BLOCK_ROWS):
        rows, directions = movable.rows[block], movable.directions[block]
        if variant == "nudge_m":
            vectors[rows] += np.float32(gamma) * directions
        else:
            cosines, sines = movable.turn(gamma, block)
            vectors[rows] = cosines * vectors[rows] + sines * directions
