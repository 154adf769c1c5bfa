"""Finding passages for queries: the one top-k that mining and evaluation share.

Belongs here: the search over a Faiss index, every retriever behind one call, a second stage behind a retriever. Does
not belong here: the order of equal scores (ranking.py), the lexical scores (lexical.py, tfidf.py), how rankings are
fused (fusion.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.records import Hit, Query
from embed_pipeline.retrieval.faiss_index import GPU_HITS, PassageIndex, refuse_missing_gpu
from embed_pipeline.retrieval.fusion import RANK_CONSTANT, ranking_of_hits, reciprocal_rank_fusion
from embed_pipeline.retrieval.lexical import LexicalIndex, lexical_top_k
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking, check_k, rank_passages, reach_texts
from embed_pipeline.retrieval.tfidf import TfidfIndex, tfidf_top_k

if TYPE_CHECKING:
    import faiss

_SPARE_CANDIDATES = 16
_QUERIES_PER_SEARCH = 1024
_FAISS_ERROR = 1e-5
"""More than the distance between a float32 score of Faiss and the exact inner product, relative to the largest."""


class Retriever(Protocol):
    """Queries in, hits out."""

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """At most k hits per query: queries in the order given, then rank from 1."""
        ...


@dataclass(frozen=True, slots=True)
class DenseRetriever:
    """Finds passages by inner product with the query's vector."""

    index: PassageIndex
    encoder: Encoder
    device: Literal["cpu", "cuda"] = "cpu"

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever; raises ValueError when the index was built with another encoder."""
        check_encoder(self.index, self.encoder)
        vectors = self.encoder.encode_queries([query.text for query in queries])
        return top_k(self.index, [query.id for query in queries], vectors, k, device=self.device).hits()


@dataclass(frozen=True, slots=True)
class LexicalRetriever:
    """Finds passages by BM25; a passage that shares no word with the query is no hit."""

    index: LexicalIndex

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever; queries may have fewer than k hits."""
        return lexical_top_k(self.index, queries, k).hits()


@dataclass(frozen=True, slots=True)
class TfidfRetriever:
    """Finds passages by the cosine of character n-grams; a passage that shares none with the query is no hit."""

    index: TfidfIndex

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever; queries may have fewer than k hits."""
        return tfidf_top_k(self.index, queries, k).hits()


@dataclass(frozen=True, slots=True)
class FusedRetriever:
    """Finds passages by the reciprocal of their ranks in what several retrievers find."""

    retrievers: tuple[Retriever, ...]
    depth: int = 100
    """Hits that each retriever is asked for, or k where that is more."""
    rank_constant: int = RANK_CONSTANT

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever; raises ValueError where a retriever gives a passage twice for one query."""
        query_ids = [query.id for query in queries]
        found = [retriever.search(queries, max(self.depth, k)) for retriever in self.retrievers]
        rankings = [ranking_of_hits(query_ids, hits) for hits in found]
        return reciprocal_rank_fusion(rankings, k, rank_constant=self.rank_constant).hits()


def check_encoder(index: PassageIndex, encoder: Encoder) -> None:
    """Guarantees that index and encoder agree on weights, prompts, lengths and precision; raises ValueError if not."""
    if index.encoder_fingerprint != encoder.fingerprint:
        raise ValueError(
            f"search: the index was built with encoder {index.encoder_fingerprint[:12]}, the queries would be encoded "
            f"with {encoder.fingerprint[:12]} (other weights, prompts, lengths or dtype). Build the index again."
        )


def top_k(
    index: PassageIndex,
    query_ids: Sequence[str],
    query_vectors: np.ndarray,
    k: int,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Ranking:
    """The k best passages of every query, by inner product rounded to six decimals, then by passage id.

    query_vectors is float32 (queries, dimension). k beyond the corpus gives the whole corpus; an empty corpus gives
    queries without hits. Ties at the cut are exact: candidates are fetched until none that is left could enter, and
    scored in float64, so neither batch, thread count nor device moves a hit. (HNSW and IVF find their candidates
    approximately; where an
    index keeps codes in place of vectors, the score is that of the decoded vector.)
    """
    check_k(k)
    if query_vectors.shape != (len(query_ids), index.dimension):
        raise ValueError(
            f"search: expected vectors of shape {(len(query_ids), index.dimension)}, found {query_vectors.shape}. "
            "Encode the queries with the encoder of the index."
        )
    if not index.passage_ids:
        return Ranking(tuple(RankedQuery(query_id, (), ()) for query_id in query_ids))
    searchable = _on_gpu(index) if device == "cuda" else index.faiss_index
    ranked: list[RankedQuery] = []
    for start in range(0, len(query_ids), _QUERIES_PER_SEARCH):
        rows = slice(start, start + _QUERIES_PER_SEARCH)
        ranked += _search_batch(index, searchable, query_ids[rows], query_vectors[rows], k)
    return Ranking(tuple(ranked))


def top_texts(
    index: PassageIndex,
    query_ids: Sequence[str],
    query_vectors: np.ndarray,
    k: int,
    canonical: Mapping[str, str],
    *,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Ranking:
    """top_k, with as many hits as it takes for k texts (reach_texts)."""

    def deeper(rows: Sequence[int], depth: int) -> Sequence[RankedQuery]:
        asked = [query_ids[row] for row in rows]
        return top_k(index, asked, query_vectors[list(rows)], depth, device=device).queries

    found = top_k(index, query_ids, query_vectors, k, device=device).queries
    return Ranking(tuple(reach_texts(found, deeper, k, canonical)))


def _search_batch(
    index: PassageIndex, searchable: "faiss.Index", query_ids: Sequence[str], vectors: np.ndarray, k: int
) -> list[RankedQuery]:
    corpus = len(index.passage_ids)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    decoded, asked = _scored_in(index.faiss_index, vectors)
    ranked: dict[int, RankedQuery] = {}
    open_rows = np.arange(len(query_ids))
    wanted = min(corpus, k + _SPARE_CANDIDATES)
    while open_rows.size:
        asked_of = index.faiss_index if wanted > GPU_HITS else searchable
        scores, candidates = asked_of.search(vectors[open_rows], wanted)
        unfinished = []
        for row, row_scores, row_candidates in zip(open_rows.tolist(), scores, candidates, strict=True):
            ids = row_candidates[row_candidates >= 0]
            exact = decoded.reconstruct_batch(ids).astype(np.float64) @ asked[row]
            if wanted < corpus and len(ids) == wanted and _could_miss_a_tie(row_scores, exact, k):
                unfinished.append(row)
                continue
            ranked[row] = rank_passages(query_ids[row], [index.passage_ids[at] for at in ids], exact, k)
        open_rows = np.array(unfinished, dtype=np.int64)
        wanted = min(corpus, wanted * 4)
    return [ranked[row] for row in range(len(query_ids))]


def _scored_in(index: "faiss.Index", vectors: np.ndarray) -> tuple["faiss.Index", np.ndarray]:
    """What candidates are read from, and the queries as float64 whose inner products with them are the scores.

    An index that turns vectors first (OPQ) is read as it keeps them, and the query is turned: the inner product is the
    same, and turning every candidate back takes a quarter as long as the search.
    """
    import faiss

    asked = vectors.astype(np.float64)
    while isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        turns: list[Any] = [faiss.downcast_VectorTransform(chain.at(at)) for at in range(chain.size())]
        if not all(isinstance(t, faiss.LinearTransform) and t.is_orthonormal and not t.have_bias for t in turns):
            break
        for turn in turns:
            asked = asked @ faiss.vector_to_array(turn.A).reshape(turn.d_out, turn.d_in).T.astype(np.float64)
        index = faiss.downcast_index(index.index)
    return index, asked


def _could_miss_a_tie(faiss_scores: np.ndarray, exact: np.ndarray, k: int) -> bool:
    kth = np.sort(exact)[-k]
    return bool(faiss_scores[-1] > kth - _FAISS_ERROR * max(1.0, float(np.abs(exact).max())))


def _on_gpu(index: PassageIndex) -> "faiss.Index":
    import faiss

    refuse_missing_gpu()
    try:
        return faiss.index_cpu_to_all_gpus(index.faiss_index)
    except RuntimeError as error:
        raise ValueError(
            f"search: an index of kind {index.kind} cannot be searched on a GPU. Search on cpu, or set index.kind to "
            "flat or ivf."
        ) from error


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
