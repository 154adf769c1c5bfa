"""The weighted sum of three scores, held against one computed by hand over the whole corpus."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.records import Passage, Query
from embed_pipeline.retrieval.faiss_index import build_index
from embed_pipeline.retrieval.hybrid import (
    VECTORS_ALONE,
    HybridRetriever,
    HybridSettings,
    HybridWeights,
    WeighedPoint,
    Weighing,
    read_weighing,
    split_query,
    write_weighing,
)
from embed_pipeline.retrieval.search import DenseRetriever
from embed_pipeline.retrieval.tfidf import TfidfSettings, build_tfidf_index, tfidf_scores, tfidf_top_k
from embed_pipeline_tests.fakes import FakeEncoder

LABELS = ("脂肪肝", "高血压", "痛风", "哮喘", "白内障", "湿疹", "骨折", "失眠", "胆囊息肉", "甲状腺结节")
PASSAGES = tuple(Passage(f"p{at:02d}", label) for at, label in enumerate(LABELS))
QUERIES = (
    Query("q0", "有痛风,血压也高,能买吗", "test"),
    Query("q1", "一跑就喘有哨音", "test"),
    Query("q2", "体检说胆囊有息肉、甲状腺结节、失眠", "test"),
    Query("q3", "?!", "test"),
)


def hybrid(weights: HybridWeights, encoder: FakeEncoder | None = None, *, depth: int = 100) -> HybridRetriever:
    encoder = encoder or FakeEncoder()
    vectors = encoder.encode_passages(LABELS)
    index = build_index([passage.id for passage in PASSAGES], vectors, encoder_fingerprint=encoder.fingerprint)
    return HybridRetriever(index, encoder, build_tfidf_index(PASSAGES, TfidfSettings()), weights, depth=depth)


def by_hand(query: Query, weights: HybridWeights, k: int) -> list[tuple[str, float]]:
    encoder = FakeEncoder()
    passages = encoder.encode_passages(LABELS).astype(float)
    whole = passages @ encoder.encode_queries([query.text])[0].astype(float)
    clauses = split_query(query.text) or (query.text,)
    parts = (encoder.encode_queries(clauses).astype(float) @ passages.T).max(axis=0)
    ngrams = tfidf_top_k(build_tfidf_index(PASSAGES, TfidfSettings()), [query], len(LABELS)).queries[0]
    lexical = dict(zip(ngrams.passage_ids, ngrams.scores, strict=True))
    scores = [
        round(float(whole[at] + weights.parts * parts[at] + weights.lexical * lexical.get(passage.id, 0.0)), 4)
        for at, passage in enumerate(PASSAGES)
    ]
    return sorted(zip([p.id for p in PASSAGES], scores, strict=True), key=lambda pair: (-pair[1], pair[0]))[:k]


@pytest.mark.parametrize("weights", [VECTORS_ALONE, HybridWeights(0.7, 0), HybridWeights(0, 2), HybridWeights(1, 0.3)])
@pytest.mark.parametrize("k", [1, 4, 10])
def test_the_score_is_the_weighted_sum_over_the_whole_corpus(weights: HybridWeights, k: int) -> None:
    hits = hybrid(weights).search(QUERIES, k)
    for query in QUERIES:
        own = [hit for hit in hits if hit.query_id == query.id]
        assert [hit.rank for hit in own] == list(range(1, k + 1))
        expected = by_hand(query, weights, k)
        assert [hit.passage_id for hit in own] == [passage for passage, _ in expected]
        assert [hit.score for hit in own] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_without_weights_it_is_the_search_with_vectors() -> None:
    retriever = hybrid(VECTORS_ALONE)
    assert retriever.search(QUERIES, 5) == DenseRetriever(retriever.index, retriever.encoder).search(QUERIES, 5)


def test_no_clause_is_encoded_where_parts_weigh_nothing() -> None:
    encoder = FakeEncoder()
    retriever = hybrid(HybridWeights(0, 1), encoder)
    encoder.calls.clear()
    retriever.search(QUERIES, 3)
    assert sorted(encoder.calls) == sorted(query.text for query in QUERIES)
    encoder.calls.clear()
    replace(retriever, weights=HybridWeights(0.1, 1)).search(QUERIES, 3)
    assert sorted(encoder.calls) == sorted(
        {*(q.text for q in QUERIES), *(c for q in QUERIES for c in split_query(q.text))}
    )


def test_what_only_one_score_finds_is_a_candidate_of_all() -> None:
    retriever = hybrid(HybridWeights(0.5, 5), depth=1)
    (scored,) = retriever.score([QUERIES[2]], 1)
    assert not scored.classifier.any()
    best = {one[0] for one in ([hit.passage_id for hit in hybrid(w).search([QUERIES[2]], 1)] for w in [VECTORS_ALONE])}
    assert best < set(scored.passage_ids)
    assert (scored.lexical >= 0).all() and (scored.parts >= scored.whole.min()).all()
    exact = tfidf_scores(retriever.lexical, [QUERIES[2].text]).toarray()[0]
    rows = [retriever.index.passage_ids.index(passage) for passage in scored.passage_ids]
    np.testing.assert_allclose(scored.lexical, exact[rows])


def test_an_empty_corpus_gives_no_hits() -> None:
    encoder = FakeEncoder()
    index = build_index([], np.zeros((0, 32), dtype=np.float32), encoder_fingerprint=encoder.fingerprint)
    empty = HybridRetriever(index, encoder, build_tfidf_index([], TfidfSettings()), HybridWeights(1, 1))
    assert empty.search(QUERIES, 3) == ()


def test_indexes_of_other_passages_are_refused() -> None:
    retriever = hybrid(VECTORS_ALONE)
    with pytest.raises(ValueError, match="vectors are of 10 passages, the n-grams of 9"):
        replace(retriever, lexical=build_tfidf_index(PASSAGES[1:], TfidfSettings()))
    with pytest.raises(ValueError, match="built with encoder"):
        replace(retriever, encoder=FakeEncoder(weights="other")).search(QUERIES, 1)


def test_of_equally_good_weights_the_smallest_are_chosen(tmp_path: Path) -> None:
    points = [(0.0, 0.0, 0.5), (0.0, 0.5, 0.8), (0.5, 0.0, 0.8), (0.0, 1.0, 0.8), (1.0, 1.0, 0.7)]
    weighing = Weighing.of("ndcg@10", [WeighedPoint(*weights, 0.0, 0.0, value) for *weights, value in points])
    assert weighing.weights == HybridWeights(parts=0.0, lexical=0.5)
    write_weighing(weighing, tmp_path)
    assert read_weighing(tmp_path) == weighing


@pytest.mark.parametrize("weights", [(), (0.5, 0.1), (0.1, 0.1), (-0.1, 1.0)])
def test_weights_that_do_not_ascend_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected ascending weights of 0 or more without doubles"):
        HybridSettings(dense="tuned", lexical_weights=weights)
