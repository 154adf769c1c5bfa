"""Each text found once, where a corpus has it under several ids: what is measured, not what is served.

Belongs here: any retriever as if copies were not in its corpus. Does not belong here: how far on a ranking is searched
for it (ranking.py), which passages are copies (evaluation/measures.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from embed_pipeline.records import Hit, Query
from embed_pipeline.retrieval.fusion import ranking_of_hits
from embed_pipeline.retrieval.hybrid import HybridRetriever
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking, reach_texts, unite_copies
from embed_pipeline.retrieval.search import FusedRetriever, RerankedRetriever, Retriever


@dataclass(frozen=True, slots=True)
class DistinctRetriever:
    """Finds texts with another retriever; queries whose hits hold copies are searched for again, further down."""

    retriever: Retriever
    canonical: Mapping[str, str]

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever; k counts texts, and a hit has the id that stands for its text."""

        def rank(rows: Sequence[int], depth: int) -> Sequence[RankedQuery]:
            asked = [queries[row] for row in rows]
            return ranking_of_hits([query.id for query in asked], self.retriever.search(asked, depth)).queries

        found = reach_texts(rank(range(len(queries)), k), rank, k, self.canonical)
        return Ranking(tuple(unite_copies(one, k, self.canonical) for one in found)).hits()


def without_copies(retriever: Retriever, canonical: Mapping[str, str]) -> Retriever:
    """The same as if copies were not in the corpus: they take no place in a ranking, nor in those it is made of.

    `canonical` maps copies of a passage to the id that stands for its text; without any, the retriever is itself.
    """
    if not canonical:
        return retriever
    if isinstance(retriever, RerankedRetriever):
        return replace(retriever, first_stage=without_copies(retriever.first_stage, canonical))
    if isinstance(retriever, FusedRetriever):
        return replace(retriever, retrievers=tuple(without_copies(one, canonical) for one in retriever.retrievers))
    if isinstance(retriever, HybridRetriever):
        return replace(retriever, canonical=canonical)
    return DistinctRetriever(retriever, canonical)
