"""How far corpus vectors are moved: the step with the best hit_rate@1 on validation.

Belongs here: the two searches over gamma. Does not belong here: directions and moving (nudge.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embed_pipeline.adaptation.ranks import BLOCK_ROWS, QUERIES_AT_ONCE, TIE, RelevantRows, mask_answers, spans

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
