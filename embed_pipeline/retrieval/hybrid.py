"""Three scores of a passage made into one: the whole question's, the best of its parts, and the lexical one.

Belongs here: the scores of candidates, and their weighted sum as a ranking. Does not belong here: how the weights are
chosen (evaluation/weighing.py), where a question is cut (query_parts.py), rank fusion (fusion.py).

score(q, p) = cos(q, p) + parts · max over the clauses c of q of cos(c, p) + lexical · tfidf(q, p). All three are
cosines where the encoder's vectors have length 1, so that they need no common scale first. Source of the sum: Bruch,
Gai and Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval"; of the maximum: Khattab and Zaharia 2020,
"ColBERT", over clauses in place of tokens.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.records import Hit, Query
from embed_pipeline.retrieval.hybrid_weights import HybridWeights
from embed_pipeline.retrieval.index import PassageIndex
from embed_pipeline.retrieval.query_parts import split_query
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking, check_k, rank_passages
from embed_pipeline.retrieval.search import check_encoder, top_k
from embed_pipeline.retrieval.tfidf import TfidfIndex, queries_per_batch, rank_scores, tfidf_scores


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """What each of the three scores says about the candidates of one query; float64, side by side with passage_ids."""

    query_id: str
    passage_ids: tuple[str, ...]
    whole: np.ndarray
    parts: np.ndarray
    """Of a query of one clause the same as whole."""
    lexical: np.ndarray

    def rank(self, weights: HybridWeights, k: int) -> RankedQuery:
        """The k best by the weighted sum, then by passage id."""
        scores = self.whole + weights.parts * self.parts + weights.lexical * self.lexical
        return rank_passages(self.query_id, self.passage_ids, scores, k)


def rank_candidates(scored: Iterable[CandidateScores], weights: HybridWeights, k: int) -> Ranking:
    """The k best candidates of every query under the weights; scored once, they can be ranked under any."""
    return Ranking(tuple(one.rank(weights, k) for one in scored))


@dataclass(frozen=True)
class HybridRetriever:
    """Finds passages by the weighted sum; candidates are the first `depth` of each score, or k where that is more."""

    index: PassageIndex
    encoder: Encoder
    lexical: TfidfIndex
    weights: HybridWeights
    depth: int = 100
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        """Raises ValueError when the two indexes are of different passages."""
        if self.index.passage_ids != self.lexical.passage_ids:
            raise ValueError(
                f"hybrid search: the vectors are of {len(self.index.passage_ids)} passages, the n-grams of "
                f"{len(self.lexical.passage_ids)}, or their order differs. Build the index again."
            )

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever; raises ValueError when the index was built with another encoder."""
        check_k(k)
        scored = self.score(queries, max(k, self.depth), with_parts=self.weights.parts > 0)
        return rank_candidates(scored, self.weights, k).hits()

    def score(self, queries: Sequence[Query], depth: int, *, with_parts: bool = True) -> Iterator[CandidateScores]:
        """The candidates of every query with their scores, in the order of the queries.

        Without parts no clause is encoded, and the scores of the parts are those of the whole.
        """
        check_encoder(self.index, self.encoder)
        size = queries_per_batch(self.lexical)
        for start in range(0, len(queries), size):
            yield from self._score_batch(queries[start : start + size], depth, with_parts=with_parts)

    @cached_property
    def _row_of(self) -> Mapping[str, int]:
        return {passage_id: row for row, passage_id in enumerate(self.index.passage_ids)}

    def _score_batch(self, queries: Sequence[Query], depth: int, *, with_parts: bool) -> Iterator[CandidateScores]:
        clauses = [split_query(query.text) if with_parts else () for query in queries]
        questions = dict.fromkeys(query.text for query in queries)
        parts = dict.fromkeys(part for own in clauses for part in own if part not in questions)
        texts, vectors = [*questions, *parts], self.encoder.encode_queries(list(questions))
        if parts:  # by themselves: beside a long question each would be padded to its length
            vectors = np.concatenate([vectors, self.encoder.encode_queries(list(parts))])
        found = top_k(self.index, texts, vectors, depth, device=self.device).queries
        dense = {text: (vector, one.passage_ids) for text, vector, one in zip(texts, vectors, found, strict=True)}
        cosines = tfidf_scores(self.lexical, [query.text for query in queries])
        words = rank_scores(self.lexical, queries, cosines, depth)
        for at, (query, own) in enumerate(zip(queries, clauses, strict=True)):
            candidates = {*words[at].passage_ids, *(id_ for text in (query.text, *own) for id_ in dense[text][1])}
            rows = np.array(sorted(self._row_of[passage_id] for passage_id in candidates), dtype=np.int64)
            if not rows.size:
                yield CandidateScores(query.id, (), *np.zeros((3, 0)))
                continue
            passages = self.index.faiss_index.reconstruct_batch(rows).astype(np.float64)
            asked = np.stack([dense[text][0] for text in (query.text, *own)]).astype(np.float64)
            similar = asked @ passages.T
            yield CandidateScores(
                query.id,
                tuple(self.index.passage_ids[row] for row in rows.tolist()),
                whole=similar[0],
                parts=similar[1:].max(axis=0) if own else similar[0],
                lexical=cosines[[at], :][:, rows].toarray()[0],
            )
