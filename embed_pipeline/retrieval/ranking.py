"""The order of hits, the same for every retriever: better score first, equal scores by passage id.

Belongs here: Ranking, the one rule of ties, rankings of texts that passages share. Does not belong here: computing a
score, which passages share a text.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embed_pipeline.records import Hit

SCORE_DECIMALS = 6
"""Scores are rounded before they are ordered, so that the last bits of a float decide nothing."""


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """The hits of one query, best first; passage_ids and scores are of one length, possibly 0."""

    query_id: str
    passage_ids: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The hits of every query, in the order the queries were given."""

    queries: tuple[RankedQuery, ...]

    def hits(self) -> tuple[Hit, ...]:
        """One Hit per query and passage: queries in their order, then rank from 1."""
        return tuple(
            Hit(query_id=query.query_id, passage_id=passage_id, rank=rank, score=score)
            for query in self.queries
            for rank, (passage_id, score) in enumerate(zip(query.passage_ids, query.scores, strict=True), start=1)
        )


def rank_passages(query_id: str, passage_ids: Sequence[str], scores: Iterable[float], k: int) -> RankedQuery:
    """The k best of the candidates: by score rounded to six decimals, then by passage id; all of them if k is more."""
    rounded = np.round(np.asarray(scores, dtype=np.float64), SCORE_DECIMALS).tolist()
    best = sorted(zip(passage_ids, rounded, strict=True), key=lambda candidate: (-candidate[1], candidate[0]))[:k]
    return RankedQuery(
        query_id=query_id,
        passage_ids=tuple(passage_id for passage_id, _ in best),
        scores=tuple(score for _, score in best),
    )


def reach_texts(
    found: Sequence[RankedQuery],
    deeper: Callable[[Sequence[int], int], Sequence[RankedQuery]],
    k: int,
    canonical: Mapping[str, str],
) -> list[RankedQuery]:
    """The rankings with as many hits as it takes for k texts; `found` are those of k hits.

    `canonical` maps copies of a passage to the id that stands for its text. deeper(rows, depth) ranks some of the
    queries again, by their places in `found`, with fewer than depth hits only where there are no more; it is not asked
    for queries without copies among their hits.
    """
    ranked, depth = list(found), k
    open_rows: Sequence[int] = range(len(ranked)) if canonical else ()
    while open_rows := [
        row
        for row in open_rows
        if len(ranked[row].passage_ids) >= depth and _hits_for_texts(ranked[row], k, canonical) is None
    ]:
        depth *= 4
        for row, query in zip(open_rows, deeper(open_rows, depth), strict=True):
            end = _hits_for_texts(query, k, canonical)
            ranked[row] = RankedQuery(query.query_id, query.passage_ids[:end], query.scores[:end])
    return ranked


def unite_copies(query: RankedQuery, k: int, canonical: Mapping[str, str]) -> RankedQuery:
    """The k best texts, each with the score of its best passage and the id that stands for it."""
    best: dict[str, float] = {}
    for passage_id, score in zip(query.passage_ids, query.scores, strict=True):
        best.setdefault(canonical.get(passage_id, passage_id), score)
    return rank_passages(query.query_id, list(best), list(best.values()), k)


def _hits_for_texts(query: RankedQuery, k: int, canonical: Mapping[str, str]) -> int | None:
    """How many hits it takes for k texts; None where there are fewer."""
    texts: set[str] = set()
    for hits, passage_id in enumerate(query.passage_ids, start=1):
        texts.add(canonical.get(passage_id, passage_id))
        if len(texts) == k:
            return hits
    return None


def check_k(k: int) -> None:
    """Raises ValueError unless at least one hit is asked for."""
    if k < 1:
        raise ValueError(f"search: k must be 1 or more, found {k}. Ask for at least one hit.")
