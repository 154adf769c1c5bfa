"""Laws of the Faiss index and the one top-k, held against a search by hand."""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.dataset.formats import PassageFile
from embed_pipeline.records import Query
from embed_pipeline.retrieval.faiss_index import (
    ADDED_AT_ONCE,
    IndexSettings,
    PassageIndex,
    build_index,
    read_index,
    recall_against_exact,
    write_index,
)
from embed_pipeline.retrieval.search import DenseRetriever, top_k
from embed_pipeline.retrieval.searching import Search, write_search_index
from embed_pipeline_tests.fakes import FakeEncoder

ENCODER = "e" * 64


def unit_vectors(rows: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(ids: list[str], vectors: np.ndarray, query: np.ndarray, k: int) -> list[tuple[str, float]]:
    scores = [round(float(np.dot(query.astype(float), vector.astype(float))), 6) for vector in vectors]
    return sorted(zip(ids, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))[:k]


def index_of(ids: list[str], vectors: np.ndarray, settings: IndexSettings | None = None) -> PassageIndex:
    return build_index(ids, vectors, encoder_fingerprint=ENCODER, settings=settings)


@pytest.mark.parametrize("k", [1, 3, 10, 500])
def test_top_k_equals_brute_force(k: int) -> None:
    ids, vectors, queries = [f"p{row:03d}" for row in range(300)], unit_vectors(300), unit_vectors(40, seed=1)
    ranking = top_k(index_of(ids, vectors), [str(row) for row in range(40)], queries, k)
    for ranked, query in zip(ranking.queries, queries, strict=True):
        assert list(zip(ranked.passage_ids, ranked.scores, strict=True)) == brute_force(ids, vectors, query, k)


def test_ties_break_by_passage_id_also_when_more_tie_than_are_fetched() -> None:
    # 200 passages share one vector: the cut at 5 falls among equals, far beyond any fixed number of spare candidates.
    vectors = np.concatenate([np.repeat(unit_vectors(1), 200, axis=0), unit_vectors(100, seed=2)])
    shuffled = np.random.default_rng(3).permutation(300)
    ids = [f"p{row:03d}" for row in shuffled]
    query = vectors[:1]
    for k in (1, 5, 150, 250):
        (ranked,) = top_k(index_of(ids, vectors), ["q"], query, k).queries
        assert list(zip(ranked.passage_ids, ranked.scores, strict=True)) == brute_force(ids, vectors, query[0], k)


def test_the_order_of_passages_and_the_other_queries_change_no_hit() -> None:
    ids, vectors, queries = [f"p{row:03d}" for row in range(200)], unit_vectors(200), unit_vectors(50, seed=1)
    together = top_k(index_of(ids, vectors), [str(row) for row in range(50)], queries, 7)
    backwards = index_of(ids[::-1], vectors[::-1])
    alone = [top_k(backwards, [str(row)], queries[row : row + 1], 7).queries[0] for row in range(50)]
    assert list(together.queries) == alone


def test_k_beyond_the_corpus_gives_the_corpus_and_an_empty_corpus_no_hits() -> None:
    few = index_of(["a", "b"], unit_vectors(2))
    assert len(top_k(few, ["q"], unit_vectors(1), 10).hits()) == 2
    empty = index_of([], np.empty((0, 8), dtype=np.float32))
    assert [ranked.passage_ids for ranked in top_k(empty, ["q", "r"], unit_vectors(2), 10).queries] == [(), ()]
    assert top_k(few, [], np.empty((0, 8), dtype=np.float32), 10).hits() == ()


def test_hits_are_numbered_from_one_in_the_order_of_the_queries() -> None:
    hits = top_k(index_of(["a", "b", "c"], unit_vectors(3)), ["z", "y"], unit_vectors(2, seed=1), 2).hits()
    assert [(hit.query_id, hit.rank) for hit in hits] == [("z", 1), ("z", 2), ("y", 1), ("y", 2)]
    assert hits[0].score >= hits[1].score


EVERY_KIND = ["flat", "sq8", "hnsw", "ivf", "ivf_sq8", "IVF4,Flat", "PCA4,IVF4,SQ8"]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_is_written_alike_twice_and_read_back(kind: str, tmp_path: Path) -> None:
    settings = IndexSettings(kind=kind, ivf_lists=4, ivf_probes=4)
    ids, vectors, queries = [f"p{row:03d}" for row in range(300)], unit_vectors(300), unit_vectors(20, seed=1)
    digests = set()
    for name in ("one", "two"):
        write_index(index_of(ids, vectors, settings), tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == ["index.faiss", "index.json", "passage_ids.json"]
        digests.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    assert len(digests) == 1
    read = read_index(tmp_path / "one")
    assert (read.kind, read.encoder_fingerprint, read.passage_ids) == (kind, ENCODER, tuple(ids))
    query_ids = [str(row) for row in range(20)]
    built = index_of(ids, vectors, settings)
    assert top_k(read, query_ids, queries, 5) == top_k(built, query_ids, queries, 5)
    if kind in ("flat", "hnsw", "ivf", "IVF4,Flat"):  # all cells are looked at, and vectors are kept whole
        assert top_k(read, query_ids, queries, 5) == top_k(index_of(ids, vectors), query_ids, queries, 5)


@pytest.mark.parametrize("kind", ["sq8", "ivf", "PCA4,IVF4,SQ8"])
def test_threads_change_no_byte_of_what_is_built_on_several(kind: str, tmp_path: Path) -> None:
    import faiss

    threads, digests = faiss.omp_get_max_threads(), set()
    for count in (1, 2):
        faiss.omp_set_num_threads(count)
        try:
            write_index(
                index_of([str(row) for row in range(300)], unit_vectors(300), IndexSettings(kind=kind)), tmp_path
            )
        finally:
            faiss.omp_set_num_threads(threads)
        digests.add(hashlib.sha256((tmp_path / "index.faiss").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_recall_falls_with_the_cells_that_are_looked_at() -> None:
    ids, vectors = [f"p{row:04d}" for row in range(2000)], unit_vectors(2000, dimension=16)
    recalls = [
        recall_against_exact(
            index_of(ids, vectors, IndexSettings(kind="ivf", ivf_lists=50, ivf_probes=probes)), vectors
        )
        for probes in (50, 5, 1)
    ]
    assert recalls[0] == 1.0
    assert recalls[0] > recalls[1] > recalls[2] > 0.05
    assert recall_against_exact(index_of(ids, vectors, IndexSettings(kind="sq8")), vectors) > 0.9


def test_equal_passages_stand_for_each_other_in_the_recall() -> None:
    vectors = np.repeat(unit_vectors(3), 40, axis=0)
    assert recall_against_exact(index_of([str(row) for row in range(120)], vectors), vectors) == 1.0


def test_auto_is_exact_up_to_a_size() -> None:
    assert [IndexSettings().kind_for(passages) for passages in (10, 200_000, 200_001)] == ["flat", "flat", "hnsw"]


def test_what_is_no_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="ivf_sq8 or a Faiss factory string"):
        IndexSettings(kind="hsnw")
    with pytest.raises(ValueError, match="Faiss takes no 'IVF4,PQ3' for vectors of 8 numbers"):
        index_of(["a"], unit_vectors(1), IndexSettings(kind="IVF4,PQ3"))


@pytest.mark.parametrize(
    ("kind", "knob", "little", "much"),
    [
        ("hnsw", "hnsw_neighbours", 2, 32),
        ("hnsw", "hnsw_ef_construction", 1, 200),
        ("hnsw", "hnsw_ef_search", 1, 256),
        ("ivf", "ivf_probes", 1, 16),
        ("ivf", "ivf_lists", 64, 4),
    ],
)
def test_each_setting_of_an_approximate_index_decides_how_much_it_misses(
    kind: str, knob: str, little: int, much: int
) -> None:
    rest = {"hnsw_neighbours": 4, "hnsw_ef_construction": 20, "hnsw_ef_search": 12, "ivf_lists": 16, "ivf_probes": 2}
    ids, vectors, queries = [f"p{row:04d}" for row in range(2000)], unit_vectors(2000, 24), unit_vectors(60, 24, seed=1)
    query_ids = [str(row) for row in range(60)]

    def found(**settings: object) -> set[tuple[str, str]]:
        index = index_of(ids, vectors, IndexSettings.model_validate(settings))
        return {(hit.query_id, hit.passage_id) for hit in top_k(index, query_ids, queries, 10).hits()}

    exact = found()
    shares = [len(exact & found(kind=kind, **rest | {knob: value})) for value in (little, much)]
    assert shares[0] < 0.95 * shares[1]


def test_files_of_different_indexes_are_refused(tmp_path: Path) -> None:
    write_index(index_of(["a", "b"], unit_vectors(2)), tmp_path)
    (tmp_path / "passage_ids.json").write_text('["a"]')
    with pytest.raises(ValueError, match="different indexes"):
        read_index(tmp_path)


def test_queries_of_another_encoder_are_refused() -> None:
    encoder = FakeEncoder()
    vectors = encoder.encode_passages(["diabetes", "asthma"])
    index = build_index(["a", "b"], vectors, encoder_fingerprint=encoder.fingerprint)
    queries = [Query("q", "diabetes", "test")]
    assert [hit.passage_id for hit in DenseRetriever(index, FakeEncoder()).search(queries, 1)] == ["a"]
    for other in (FakeEncoder(weights="retrained"), FakeEncoder(query_instruction="query: ")):
        with pytest.raises(ValueError, match="Build the index again"):
            DenseRetriever(index, other).search(queries, 1)
    assert DenseRetriever(index, FakeEncoder()).search([], 1) == ()


def test_wrong_shapes_repeated_ids_and_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="one vector for each of 3"):
        index_of(["a", "b", "c"], unit_vectors(2))
    with pytest.raises(ValueError, match="'a' occurs more than once"):
        index_of(["a", "a"], unit_vectors(2))
    broken = unit_vectors(2)
    broken[1, 0] = np.nan
    with pytest.raises(ValueError, match="passage 'b'"):
        index_of(["a", "b"], broken)
    with pytest.raises(ValueError, match="shape"):
        top_k(index_of(["a", "b"], unit_vectors(2)), ["q"], unit_vectors(1, dimension=4), 1)
    with pytest.raises(ValueError, match="1 or more"):
        top_k(index_of(["a", "b"], unit_vectors(2)), ["q"], unit_vectors(1), 0)


def test_cuda_without_a_gpu_is_refused() -> None:
    import faiss

    if not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0:
        with pytest.raises(ValueError, match="found none"):
            top_k(index_of(["a", "b"], unit_vectors(2)), ["q"], unit_vectors(1), 1, device="cuda")


@pytest.mark.parametrize("kind", ["PQ4x4", "IVF4,PQ4x4", "OPQ4,IVF4,PQ4x4"])
def test_the_order_of_codes_that_no_search_here_uses_is_not_trained(kind: str) -> None:
    import faiss

    ids, vectors = [f"p{row:03d}" for row in range(300)], unit_vectors(300)
    built = index_of(ids, vectors, IndexSettings(kind=kind))  # it owns what it consists of
    index = faiss.downcast_index(built.faiss_index)
    while isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    assert index.do_polysemous_training is False and index.is_trained


def test_candidates_of_an_index_that_turns_vectors_are_scored_without_turning_them_back() -> None:
    import faiss

    class NeverTurnsBack(faiss.IndexPreTransform):
        def reconstruct_batch(self, *_: object) -> np.ndarray:
            raise AssertionError("turned back")

    ids, vectors, queries = [f"p{row:03d}" for row in range(300)], unit_vectors(300), unit_vectors(5)
    built = index_of(ids, vectors, IndexSettings(kind="OPQ4,IVF4,PQ4x4"))
    inner = faiss.downcast_index(built.faiss_index)
    turned = NeverTurnsBack(inner.chain.at(0), inner.index)
    found = top_k(replace(built, faiss_index=turned), [f"q{row}" for row in range(5)], queries, 7).queries
    for query, ranked in zip(queries, found, strict=True):
        decoded = built.faiss_index.reconstruct_batch([int(passage[1:]) for passage in ranked.passage_ids])
        assert len(ranked.scores) == 7
        assert ranked.scores == pytest.approx(decoded @ query, abs=2e-6)


@pytest.mark.parametrize("kind", ["PCA4,SQ8", "RR8,SQ8", "OPQ4_4,IVF4,PQ4x4"])
def test_scores_are_those_of_decoded_vectors_however_vectors_are_turned(kind: str) -> None:
    ids, vectors, queries = [f"p{row:03d}" for row in range(300)], unit_vectors(300), unit_vectors(5)
    built = index_of(ids, vectors, IndexSettings(kind=kind))
    for query, ranked in zip(queries, top_k(built, [*"abcde"], queries, 300).queries, strict=True):
        decoded = built.faiss_index.reconstruct_batch([int(passage[1:]) for passage in ranked.passage_ids])
        assert ranked.scores == pytest.approx(decoded @ query, abs=2e-6)


class ChecksumEncoder:
    """Implements Encoder in microseconds; `most` is the largest number of texts of a call."""

    fingerprint = query_fingerprint = passage_fingerprint = ENCODER
    dimension = 4
    most = 0

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        self.most = max(self.most, len(texts))
        sums = np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.uint32)
        return (sums[:, None] >> np.array([0, 8, 16, 24]) & 255).astype(np.float32) / 255

    encode_queries = encode_passages


def test_a_corpus_that_does_not_fit_into_memory_gets_the_index_of_one_that_does(tmp_path: Path) -> None:
    ids = [f"p{row:06d}" for row in range(ADDED_AT_ONCE + 3)]
    (tmp_path / "corpus.jsonl").write_text("".join(f'{{"id": "{one}", "text": "{one}"}}\n' for one in ids))
    settings, encoder = IndexSettings(kind="ivf_sq8", ivf_lists=4), ChecksumEncoder()
    search = Search("dense", "en", encoder, index=settings)
    found = write_search_index(search, PassageFile(tmp_path / "corpus.jsonl"), tmp_path)
    assert encoder.most == ADDED_AT_ONCE
    vectors = encoder.encode_passages(ids)
    whole = index_of(ids, vectors, settings)
    write_index(whole, tmp_path / "whole")
    for name in ("index.faiss", "passage_ids.json", "index.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert found["recall_at_10_against_exact"] == round(recall_against_exact(whole, vectors), 4)


@pytest.mark.parametrize("ids", [[], ["a"], ["a", '乙\n"', "\u2028"]])
def test_ids_are_written_as_json_writes_a_list(tmp_path: Path, ids: list[str]) -> None:
    write_index(index_of(ids, unit_vectors(3)[: len(ids)]), tmp_path)
    expected = json.dumps(ids, ensure_ascii=False, indent=1) + "\n"
    assert (tmp_path / "passage_ids.json").read_text(encoding="utf-8") == expected
