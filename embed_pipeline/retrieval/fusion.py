"""Several rankings made into one by reciprocal rank, which needs no common scale of scores.

Belongs here: the recipe's section, the fused score, and hits as the Ranking they came from. Does not belong here:
asking retrievers (search.py), the order of equal scores (ranking.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.records import Hit
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking, check_k, rank_passages

RANK_CONSTANT = 60
"""Of Cormack et al.: how little the first ranks are ahead of the next; not tuned here."""


class FusionSettings(BaseModel):
    """Which rankings become one, by the reciprocal of their ranks: BM25 and a dense variant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dense: str = Field(min_length=1, description="The dense part: a variant of the same data set, trained or not.")
    rank_constant: int = Field(RANK_CONSTANT, ge=1, description="How little the first ranks are ahead of the next.")
    depth: int = Field(100, ge=1, description="Hits that each part is asked for.")


def reciprocal_rank_fusion(rankings: Sequence[Ranking], k: int, *, rank_constant: int = RANK_CONSTANT) -> Ranking:
    """The k passages of every query with the highest sum of 1 / (rank_constant + rank), then by passage id.

    A passage that one ranking lacks counts in the others only. Queries keep their order; one without hits anywhere
    has none. Sums are rounded to six decimals like every score: at rank_constant 60 two neighbouring ranks of one
    list stay apart down to rank 900, beyond it the passage id may decide.

    Raises:
        ValueError: no ranking, other queries or another order of them, or a passage twice in one list.
    Source: Cormack, Clarke, Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet".
    """
    check_k(k)
    if rank_constant < 1:
        raise ValueError(f"rank fusion: rank_constant must be 1 or more, found {rank_constant}. 60 is customary.")
    if not rankings:
        raise ValueError("rank fusion: expected at least one ranking, found none. Name the retrievers to fuse.")
    query_ids = [query.query_id for query in rankings[0].queries]
    for at, ranking in enumerate(rankings[1:], start=2):
        if [query.query_id for query in ranking.queries] != query_ids:
            raise ValueError(
                f"rank fusion: ranking {at} must hold the {len(query_ids)} queries of the first one in the same order, "
                f"found {len(ranking.queries)} that differ. Search all with the same queries."
            )
    fused = []
    for lists in zip(*(ranking.queries for ranking in rankings), strict=True):
        scores: dict[str, float] = defaultdict(float)
        for ranked in lists:
            _check_no_passage_twice(ranked)
            for rank, passage_id in enumerate(ranked.passage_ids, start=1):
                scores[passage_id] += 1 / (rank_constant + rank)
        fused.append(rank_passages(lists[0].query_id, list(scores), list(scores.values()), k))
    return Ranking(tuple(fused))


def ranking_of_hits(query_ids: Sequence[str], hits: Iterable[Hit]) -> Ranking:
    """The Ranking whose hits() these are, with an empty list for every query that has none.

    Raises:
        ValueError: a query id occurs twice, a hit is of another query, or a query's ranks are not 1, 2, 3, ...
    """
    hits_of: dict[str, list[Hit]] = {query_id: [] for query_id in query_ids}
    if len(hits_of) != len(query_ids):
        raise ValueError("rank fusion: a query id occurs more than once. Unite queries of one id.")
    for hit in hits:
        if hit.query_id not in hits_of:
            raise ValueError(f"rank fusion: found a hit of query {hit.query_id!r}, which was not searched for.")
        if hit.rank != len(hits_of[hit.query_id]) + 1:
            raise ValueError(
                f"rank fusion: query {hit.query_id!r} needs a hit of rank {len(hits_of[hit.query_id]) + 1} next, found "
                f"rank {hit.rank}. A retriever must give the hits of a query best first, without gaps."
            )
        hits_of[hit.query_id].append(hit)
    return Ranking(
        tuple(
            RankedQuery(query_id, tuple(hit.passage_id for hit in found), tuple(hit.score for hit in found))
            for query_id, found in hits_of.items()
        )
    )


def _check_no_passage_twice(ranked: RankedQuery) -> None:
    if len(set(ranked.passage_ids)) != len(ranked.passage_ids):
        repeated = next(each for each in ranked.passage_ids if ranked.passage_ids.count(each) > 1)
        raise ValueError(
            f"rank fusion: query {ranked.query_id!r} has passage {repeated!r} more than once in one list, so it would "
            "count twice. Unite passages of one id before indexing."
        )
