"""What an index of shorter or smaller vectors loses: cut dimensions, 8 bits, product quantisation, single bits.

Belongs here: the forms of vectors and what each finds of what exact search finds. Does not belong here: formats of the
model (parity.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.evaluation.comparison import Comparison, compare_variants
from embed_pipeline.evaluation.measures import Measure, QueryMeasure, canonical_passages
from embed_pipeline.evaluation.measuring import HITS_PER_QUERY, measure_hits
from embed_pipeline.records import EVALUATED_SPLIT
from embed_pipeline.retrieval.faiss_index import IndexSettings, PassageIndex, build_index
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking, rank_passages, reach_texts
from embed_pipeline.retrieval.search import top_texts

RECALLED = 10
RESCORED = 10
"""How many are found by single bits, and scored again, for each that is wanted."""
_CODES = 256
"""What one byte of product quantisation tells apart; fewer passages cannot be quantised so."""


@dataclass(frozen=True, slots=True)
class VectorForm:
    """An index of one kind over vectors of one length, against exact search with whole vectors in float32."""

    index: str
    """As a recipe's index.kind has it: `flat` is float32, `sq8` a byte per number, `PQ…` a byte per eight numbers. And
    `binary, sq8`: by a bit per number ten times as many are found, which sq8 orders."""
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
    import faiss

    ids, asked = [one.id for one in dataset.passages], [one.id for one in dataset.queries_of(EVALUATED_SPLIT)]
    canonical, found = canonical_passages(dataset.passages), list[VectorForm]()
    exact: Ranking | None = None
    for dimension in sorted({queries.shape[1], *dimensions}, reverse=True):
        short_queries, short = _cut(queries, dimension), _cut(passages, dimension)
        whole_bytes = dimension % 8 == 0
        kinds = ["flat", "sq8"]
        if whole_bytes and len(ids) >= _CODES:
            kinds.append(f"PQ{dimension // 8}x8np")  # np: without training for a search that nobody does, in minutes
        for kind in kinds:
            index = build_index(ids, short, encoder_fingerprint="", settings=IndexSettings(kind=kind))
            ranking, size = (
                top_texts(index, asked, short_queries, HITS_PER_QUERY, canonical),
                len(faiss.serialize_index(index.faiss_index)),
            )
            exact = exact or ranking
            found.append(_form(kind, dimension, size, ranking, exact, dataset, scores, headline))
            if kind == "sq8" and whole_bytes:
                ranking, bits = _rescored(index, asked, short_queries, short, canonical)
                found.append(_form("binary, sq8", dimension, bits + size, ranking, exact, dataset, scores, headline))
    return tuple(found)


def compare_on(headline: Measure, original: Sequence[QueryMeasure], found: Sequence[QueryMeasure]) -> Comparison:
    """What was found against the original on one measure, paired by query."""
    left, right = ([one for one in scores if one.measure == headline] for scores in (original, found))
    return compare_variants(left, {"found": right})["found"][0]


def _form(
    kind: str,
    dimension: int,
    size: int,
    ranking: Ranking,
    exact: Ranking,
    dataset: RetrievalDataset,
    scores: Sequence[QueryMeasure],
    headline: Measure,
) -> VectorForm:
    one = compare_on(headline, scores, measure_hits(dataset, EVALUATED_SPLIT, ranking.hits()))
    lost = [round(-100 * value, 4) + 0.0 for value in (one.difference, one.high, one.low)]
    pairs = zip(exact.queries, ranking.queries, strict=True)
    return VectorForm(
        kind, dimension, round(size / 1e6, 4), round(mean(shared_hits(*pair) for pair in pairs), 4), *lost
    )


def shared_hits(original: RankedQuery, found: RankedQuery) -> float:
    """The share of the original's first ten passages that are among the ten found."""
    best = original.passage_ids[:RECALLED]
    return len(set(best) & set(found.passage_ids[:RECALLED])) / max(len(best), 1)


def _rescored(
    index: PassageIndex,
    query_ids: Sequence[str],
    queries: np.ndarray,
    passages: np.ndarray,
    canonical: Mapping[str, str],
) -> tuple[Ranking, int]:
    """The best by the signs of the numbers, ordered by the index's scores; and the bytes of the signs."""
    import faiss

    bits = faiss.IndexBinaryFlat(index.dimension)
    bits.add(np.packbits(passages > 0, axis=1))

    def rank(rows: Sequence[int], k: int) -> list[RankedQuery]:
        asked = queries[list(rows)]
        _, candidates = bits.search(np.packbits(asked > 0, axis=1), min(len(passages), RESCORED * k))
        ranked = []
        for row, vector, near in zip(rows, asked, candidates, strict=True):
            scores = index.faiss_index.reconstruct_batch(near).astype(np.float64) @ vector.astype(np.float64)
            ranked.append(rank_passages(query_ids[row], [index.passage_ids[at] for at in near], scores, k))
        return ranked

    found = reach_texts(rank(range(len(query_ids)), HITS_PER_QUERY), rank, HITS_PER_QUERY, canonical)
    return Ranking(tuple(found)), len(faiss.serialize_index_binary(bits))


def _cut(vectors: np.ndarray, dimension: int) -> np.ndarray:
    if dimension == vectors.shape[1]:
        return vectors
    short = vectors[:, :dimension]
    return np.ascontiguousarray(short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12))
