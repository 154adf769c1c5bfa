"""The order of hits, the same for every retriever: better score first, equal scores by passage id.

Belongs here: Ranking and the one rule of ties. Does not belong here: computing a score.
"""

from collections.abc import Iterable, Sequence
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


def check_k(k: int) -> None:
    """Raises ValueError unless at least one hit is asked for."""
    if k < 1:
        raise ValueError(f"search: k must be 1 or more, found {k}. Ask for at least one hit.")
