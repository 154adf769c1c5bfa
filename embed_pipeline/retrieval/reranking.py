"""Another order of a retriever's first hits, by a score for query and passage together.

Belongs here: the second stage behind any retriever. Does not belong here: the cross-encoder (encoding), its training
(reranking).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.records import Hit, Query
from embed_pipeline.retrieval.fusion import ranking_of_hits
from embed_pipeline.retrieval.ranking import Ranking, check_k, rank_passages
from embed_pipeline.retrieval.search import Retriever


@dataclass(frozen=True, slots=True)
class SecondStage:
    """How many hits of the first stage are scored, and how many of them stay."""

    top_k: int
    keep: int


@dataclass(frozen=True, slots=True)
class RerankedRetriever:
    """Finds passages with another retriever and orders the first `top_k` of them by a pair scorer."""

    first_stage: Retriever
    scorer: PairScorer
    texts: Mapping[str, str]
    """The text of every passage that the first stage can find, by id."""
    top_k: int
    keep: int

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever; a query has at most `keep` hits, and only what the first stage found."""
        check_k(k)
        text_of = {query.id: query.text for query in queries}
        found = ranking_of_hits(list(text_of), self.first_stage.search(queries, self.top_k)).queries
        pairs = [TextPair(text_of[one.query_id], self.texts[passage]) for one in found for passage in one.passage_ids]
        scores, ranked, start = self.scorer.score(pairs), [], 0
        for one in found:
            own = scores[start : start + len(one.passage_ids)].astype(np.float64)
            start += len(one.passage_ids)
            ranked.append(rank_passages(one.query_id, list(one.passage_ids), own, min(k, self.keep)))
        return Ranking(tuple(ranked)).hits()
