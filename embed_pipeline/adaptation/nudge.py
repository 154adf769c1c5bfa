"""NUDGE: corpus vectors moved towards the training queries that they answer, as far as validation likes it.

Belongs here: whether it can work, both variants of the shift, the choice of its size (the step with the best
hit_rate@1 on validation), its file and the encoder over it. Does not belong here: searching. Source: Zeighami, Wellmer,
Parameswaran 2024, arXiv 2409.02343.

A passage without a training query never moves, so of all those only the best score per validation query is kept; the
rest is worked through a block at a time. Memory beside the corpus and its moved copy: the directions of the passages
that do move, and blocks of 256 queries by 16,384 passages.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from embed_pipeline.adaptation.ranks import (
    BLOCK_ROWS,
    QUERIES_AT_ONCE,
    TIE,
    Reach,
    RelevantRows,
    best_ranks,
    check_rows,
    explain_reach,
    hit_rate,
    mask_answers,
    spans,
    unit_rows,
)
from embed_pipeline.encoding.encoder import Encoder, joint_fingerprint

_PARALLEL = 1e-7
_MARGIN = 1e-3


@dataclass(frozen=True, slots=True)
class MovableRows:
    """The corpus rows that can move, ascending, and where to: arrays of equal length."""

    rows: np.ndarray
    directions: np.ndarray
    """float32 (rows, dimension), of length 1 or 0"""
    angles: np.ndarray
    """The angle in radians between a vector and its goal: it turns no further."""

    def turn(self, gamma: float, block: slice) -> tuple[np.ndarray, np.ndarray]:
        """float32 cosines and sines, columns, of the turn that is gamma in squared distance, or less at the goal."""
        angles = np.minimum(np.arccos(1 - gamma / 2), self.angles[block])[:, None]
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Part:
    """A few queries and what competes with their answers: passages that stay, and those that move."""

    queries: np.ndarray
    relevant: RelevantRows
    best_resting: np.ndarray
    """The highest score of an irrelevant passage that does not move; -inf without one."""


def best_gamma_on_line(corpus: np.ndarray, movable: MovableRows, queries: np.ndarray, relevant: RelevantRows) -> float:
    """The gamma of `vector + gamma * direction` at which most queries have an answer on the first rank, exactly.

    Each answer leads all irrelevant passages in one interval of gamma; a query counts in the union of its answers'.
    Of equally good stretches the first, and its middle, which is no tie; 0 where that is as good as any.
    """
    starts: list[float] = []
    ends: list[float] = []
    for part in _parts(corpus, movable, queries, relevant):
        intervals = _leading(corpus, movable, part)
        for row, answers in enumerate(part.relevant):
            for low, high in _unite([intervals[row, answer] for answer in set(answers)]):
                starts.append(low)
                ends.append(high)
    return _most_covered(np.array(starts), np.array(ends))


def best_gamma_on_grid(
    corpus: np.ndarray, movable: MovableRows, queries: np.ndarray, relevant: RelevantRows, grid: Sequence[float]
) -> float:
    """The gamma of the grid whose turned vectors put an answer first for most queries; the smallest of equals."""
    hits = np.zeros(len(grid), dtype=np.int64)
    resting_rows = _resting(corpus, movable)
    for part in _parts(corpus, movable, queries, relevant):
        rivals = np.repeat(part.best_resting[:, None], len(grid), axis=1)
        best = np.full_like(rivals, -np.inf)
        for row, answers in enumerate(part.relevant):
            own = [answer for answer in answers if resting_rows[answer]]
            best[row] = max((float(corpus[answer] @ part.queries[row]) for answer in own), default=-np.inf)
        for block in spans(len(movable.rows), BLOCK_ROWS):
            straight = part.queries @ corpus[movable.rows[block]].T
            across = part.queries @ movable.directions[block].T
            answers = _answer_mask(part.relevant, movable.rows[block])
            for column, gamma in enumerate(grid):
                cosines, sines = movable.turn(gamma, block)
                scores = straight * cosines[:, 0] + across * sines[:, 0]
                best[:, column] = np.maximum(best[:, column], np.where(answers, scores, -np.inf).max(axis=1))
                rivals[:, column] = np.maximum(rivals[:, column], np.where(answers, -np.inf, scores).max(axis=1))
        hits += (best + TIE >= rivals).sum(axis=0)
    return float(grid[int(hits.argmax())])


def _parts(corpus: np.ndarray, movable: MovableRows, queries: np.ndarray, relevant: RelevantRows) -> Iterator[_Part]:
    resting = _resting(corpus, movable)
    for span in spans(len(queries), QUERIES_AT_ONCE):
        own, rows = queries[span], relevant[span]
        best = np.full(len(own), -np.inf, dtype=np.float32)
        for block in spans(len(corpus), BLOCK_ROWS):
            scores = own @ corpus[block].T
            mask_answers(scores, rows, block)
            scores[:, ~resting[block]] = -np.inf
            best = np.maximum(best, scores.max(axis=1, initial=-np.inf))
        yield _Part(own, rows, best)


def _resting(corpus: np.ndarray, movable: MovableRows) -> np.ndarray:
    resting = np.ones(len(corpus), dtype=bool)
    resting[movable.rows] = False
    return resting


def _answer_mask(relevant: RelevantRows, rows: np.ndarray) -> np.ndarray:
    return np.array([np.isin(rows, list(answers)) for answers in relevant])


def _leading(corpus: np.ndarray, movable: MovableRows, part: _Part) -> dict[tuple[int, int], tuple[float, float]]:
    """Per query and answer the gammas, from and to, at which it scores no less than every irrelevant passage."""
    place = {int(row): at for at, row in enumerate(movable.rows)}
    pairs = [(row, answer) for row, answers in enumerate(part.relevant) for answer in sorted(set(answers))]
    scores = {(row, answer): float(corpus[answer] @ part.queries[row]) for row, answer in pairs}
    slopes = {
        (row, answer): float(movable.directions[place[answer]] @ part.queries[row]) if answer in place else 0.0
        for row, answer in pairs
    }
    found = {
        pair: _narrow(np.array([part.best_resting[pair[0]] - scores[pair]]), np.array([slopes[pair]]), 0.0, np.inf)
        for pair in pairs
    }
    for block in spans(len(movable.rows), BLOCK_ROWS):
        rivals = ~_answer_mask(part.relevant, movable.rows[block])
        straight = part.queries @ corpus[movable.rows[block]].T
        moving = part.queries @ movable.directions[block].T
        for pair in pairs:
            row, mine = pair[0], rivals[pair[0]]
            behind, gains = straight[row][mine] - scores[pair], slopes[pair] - moving[row][mine]
            found[pair] = _narrow(behind, gains, *found[pair])
    return found


def _narrow(behind: np.ndarray, gains: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The gammas from low to high at which `behind <= gamma * gains` holds in every row."""
    rising, falling = gains > _PARALLEL, gains < -_PARALLEL
    if (behind[~rising & ~falling] > TIE).any():
        return np.inf, -np.inf
    low = max(low, float((behind[rising] / gains[rising]).max(initial=-np.inf)))
    return low, min(high, float((behind[falling] / gains[falling]).min(initial=np.inf)))


def _unite(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    united: list[tuple[float, float]] = []
    for low, high in sorted(interval for interval in intervals if interval[0] <= interval[1]):
        if united and low <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], high))
        else:
            united.append((low, high))
    return united


def _most_covered(starts: np.ndarray, ends: np.ndarray) -> float:
    """The middle of the first stretch that lies in most of the closed intervals; 0 where 0 lies in as many."""
    points = np.unique(np.concatenate([starts, ends[np.isfinite(ends)], [0.0]]))
    begun, ended = np.sort(starts), np.sort(ends)
    middles = np.append((points[:-1] + points[1:]) / 2, points[-1] + max(points[-1], 1.0) * _MARGIN)
    covered = np.searchsorted(begun, middles, "right") - np.searchsorted(ended, middles, "left")
    at_zero = int((starts <= 0).sum())
    return float(middles[int(covered.argmax())]) if covered.max() > at_zero else 0.0


SHIFTED_FILE = "shifted.safetensors"


class ShiftedEncoder:
    """Implements Encoder: a passage whose text was moved has its new vector, any other text the encoder's own.

    Vectors are to be searched by inner product: NUDGE-M leaves moved rows at other lengths than 1.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], vectors: np.ndarray, encoder_fingerprint: str) -> None:
        """`texts` are sha256 hex of passage texts, row i of `vectors` for text i.

        Raises:
            ValueError: the vectors were moved from those of another encoder.
        """
        if encoder.fingerprint != encoder_fingerprint:
            raise ValueError(
                f"moved vectors: made from encoder {encoder_fingerprint[:12]}, found encoder "
                f"{encoder.fingerprint[:12]}. Materialise the adapter again."
            )
        self.encoder = encoder
        self.encoder_fingerprint = encoder_fingerprint
        self.texts, self.vectors = tuple(texts), vectors
        self._row_of = {text: row for row, text in enumerate(texts)}
        content = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        self._digest = hashlib.sha256("\n".join(texts).encode() + content).hexdigest()

    @property
    def query_fingerprint(self) -> str:
        """See Encoder."""
        return self.encoder.query_fingerprint

    @property
    def passage_fingerprint(self) -> str:
        """See Encoder."""
        return joint_fingerprint(self.encoder.passage_fingerprint, self._digest)

    @property
    def fingerprint(self) -> str:
        """See Encoder."""
        return joint_fingerprint(self.query_fingerprint, self.passage_fingerprint)

    @property
    def dimension(self) -> int:
        """See Encoder."""
        return self.encoder.dimension

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self.encoder.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        found = np.array(self.encoder.encode_passages(texts), dtype=np.float32)
        for row, text in enumerate(texts):
            moved = self._row_of.get(digest_text(text))
            if moved is not None:
                found[row] = self.vectors[moved]
        return found

    def around(self, encoder: Encoder) -> "ShiftedEncoder":
        """The same moved vectors over another object for the same encoder, as one with or without a cache."""
        return ShiftedEncoder(encoder, self.texts, self.vectors, self.encoder_fingerprint)


def digest_text(text: str) -> str:
    """sha256 hex of a passage's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_shifted(texts: Sequence[str], vectors: np.ndarray, encoder_fingerprint: str, directory: Path) -> Path:
    """The file shifted.safetensors with the vectors of moved passages, sorted by the digest of their texts."""
    from safetensors.numpy import save_file

    digests = [digest_text(text) for text in texts]
    order = sorted(range(len(digests)), key=lambda row: digests[row])
    described = {"encoder_fingerprint": encoder_fingerprint, "texts": [digests[row] for row in order]}
    moved = np.ascontiguousarray(vectors[order], dtype=np.float32)
    save_file({"vectors": moved}, directory / SHIFTED_FILE, metadata={"shifted": json.dumps(described)})
    return directory / SHIFTED_FILE


def read_shifted(encoder: Encoder, directory: Path) -> ShiftedEncoder:
    """The encoder with the moved vectors of the directory; raises ValueError for another encoder or another file."""
    from safetensors import safe_open

    path = directory / SHIFTED_FILE
    with safe_open(path, framework="numpy") as file:
        stated = (file.metadata() or {}).get("shifted")
        if stated is None:
            raise ValueError(f"{path}: expected moved vectors, found another file. Materialise the adapter again.")
        described = json.loads(stated)
        return ShiftedEncoder(encoder, described["texts"], file.get_tensor("vectors"), described["encoder_fingerprint"])


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
