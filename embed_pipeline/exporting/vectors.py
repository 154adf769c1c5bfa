"""What an index of shorter or smaller vectors loses: cut dimensions, 8 bits, product quantisation, single bits.

Belongs here: the forms of vectors and what each finds of what exact search finds. Does not belong here: formats of the
model (parity.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.evaluation.comparison import Comparison, compare_variants
from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.evaluation.measuring import HITS_PER_QUERY, measure_hits
from embed_pipeline.records import EVALUATED_SPLIT
from embed_pipeline.retrieval.index import PassageIndex
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking, rank_passages
from embed_pipeline.retrieval.search import top_k

if TYPE_CHECKING:
    import faiss

RECALLED = 10
RESCORED = 10
"""Hits of single bits that are scored again, for each hit that is wanted."""
_CODES = 256
"""What one byte of product quantisation tells apart; fewer passages cannot be quantised so."""


@dataclass(frozen=True, slots=True)
class VectorForm:
    """An index of one kind over vectors of one length, against exact search with whole vectors in float32."""

    vectors: str
    """flat: float32. SQ8: a byte per number. PQ: a byte per eight numbers. binary + SQ8: a bit per number finds ten
    times as many, SQ8 orders them."""
    dimension: int
    megabytes: float
    recall_at_10: float
    """Share of the ten exact hits among its own ten, the mean over queries."""
    points_lost: float
    low: float
    high: float


def compare_vectors(
    queries: np.ndarray,
    passages: np.ndarray,
    dataset: RetrievalDataset,
    scores: Sequence[QueryMeasure],
    *,
    dimensions: Sequence[int],
    headline: Measure,
) -> tuple[VectorForm, ...]:
    """Every kind of index over vectors of every length, the longest first; `scores` are those of exact search.

    queries, passages: float32 (rows, dimension), of length 1; a cut vector is scaled to length 1 again.
    """
    ids, asked = [one.id for one in dataset.passages], [one.id for one in dataset.queries_of(EVALUATED_SPLIT)]
    exact = [frozenset(one.passage_ids[:RECALLED]) for one in _searchers(passages)["flat"](ids, asked, queries)[0]]
    found = []
    for dimension in sorted({queries.shape[1], *dimensions}, reverse=True):
        cut = _cut(queries, dimension)
        for name, search in _searchers(_cut(passages, dimension)).items():
            ranked, size = search(ids, asked, cut)
            own = measure_hits(dataset, EVALUATED_SPLIT, Ranking(ranked).hits())
            one = compare_on(headline, scores, own)
            shared = [
                len(best & set(query.passage_ids[:RECALLED])) / max(len(best), 1)
                for best, query in zip(exact, ranked, strict=True)
            ]
            lost = [round(-100 * value, 4) + 0.0 for value in (one.difference, one.high, one.low)]
            found.append(VectorForm(name, dimension, round(size / 1e6, 4), round(float(np.mean(shared)), 4), *lost))
    return tuple(found)


def compare_on(headline: Measure, original: Sequence[QueryMeasure], found: Sequence[QueryMeasure]) -> Comparison:
    """What was found against the original on one measure, paired by query."""
    left, right = ([one for one in scores if one.measure == headline] for scores in (original, found))
    return compare_variants(left, {"found": right})["found"][0]


def _cut(vectors: np.ndarray, dimension: int) -> np.ndarray:
    if dimension == vectors.shape[1]:
        return vectors
    short = vectors[:, :dimension]
    return np.ascontiguousarray(short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12))


_Search = Callable[[Sequence[str], Sequence[str], np.ndarray], tuple[tuple[RankedQuery, ...], int]]
"""Passage ids, query ids and query vectors in; what is found and the index's bytes out."""


def _searchers(passages: np.ndarray) -> dict[str, _Search]:
    import faiss

    rows, dimension = passages.shape

    def filled(kind: str) -> "faiss.Index":
        index = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
        if kind.startswith("PQ"):
            index.pq.cp.min_points_per_centroid = 1  # else it warns; how good it is, the figures say
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # the order of sums moves k-means
        try:
            index.train(passages)
            index.add(passages)
        finally:
            faiss.omp_set_num_threads(threads)
        return index

    def plain(kind: str) -> _Search:
        def search(ids: Sequence[str], asked: Sequence[str], queries: np.ndarray) -> tuple:
            index = filled(kind)
            held = PassageIndex(index, tuple(ids), "flat", dimension, "")
            return top_k(held, asked, queries, HITS_PER_QUERY).queries, len(faiss.serialize_index(index))

        return search

    def binary(ids: Sequence[str], asked: Sequence[str], queries: np.ndarray) -> tuple:
        bits, eight = faiss.IndexBinaryFlat(dimension), filled("SQ8")
        bits.add(np.packbits(passages > 0, axis=1))
        _, candidates = bits.search(np.packbits(queries > 0, axis=1), min(rows, RESCORED * HITS_PER_QUERY))
        ranked = []
        for query, vector, near in zip(asked, queries, candidates, strict=True):
            scores = eight.reconstruct_batch(near).astype(np.float64) @ vector.astype(np.float64)
            ranked.append(rank_passages(query, [ids[at] for at in near], scores, HITS_PER_QUERY))
        size = len(faiss.serialize_index_binary(bits)) + len(faiss.serialize_index(eight))
        return tuple(ranked), size

    found = {"flat": plain("Flat"), "SQ8": plain("SQ8")}
    if dimension % 8 == 0:
        if rows >= _CODES:
            found["PQ"] = plain(f"PQ{dimension // 8}x8np")  # np: without what only polysemous search asks for, in minutes
        found["binary + SQ8"] = binary
    return found
