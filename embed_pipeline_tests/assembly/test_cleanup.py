"""Laws of looking at kept vectors again: what is none of a text is found in cache and index, and made again."""

from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.artifacts import Plan
from embed_pipeline.assembly.cleanup import recheck_vectors, remove_unused
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.vector_cache import VectorCache
from embed_pipeline.graph.graph import VECTORS_FOLDER, Graph
from embed_pipeline.retrieval.faiss_index import IndexSettings, build_index, write_index
from embed_pipeline_tests.fakes import FakeEncoder
from embed_pipeline_tests.small_project import write_yaml

FINE = "kept vectors and indexes: each vector is one of a text"
PASSAGES = [f"tide {number}" for number in range(20)]


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A data set with one hosted variant, of which nothing is built."""
    data = tmp_path / "data"
    (data / "small").mkdir(parents=True)
    (data / "recipes").mkdir()
    (data / "small" / "tides.csv").write_text("question,passage\nwhen?,at noon\n", encoding="utf-8")
    pairs = {"file": "tides.csv", "columns": {"query": "question", "passage": "passage"}}
    split = {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": 0}
    dataset = {"description": "d", "language": "en", "pairs": [pairs], "split": split, "variants": ["hosted"]}
    write_yaml(data / "small" / "dataset.yaml", {**dataset, "baseline": "hosted"})
    encoder = {"service": "compatible", "base_url": "http://127.0.0.1:1/v1", "model": "sea", "vector_dimension": 4}
    write_yaml(data / "recipes" / "hosted.yaml", {"description": "h", "encoder": encoder})
    return PipelineResource(data=str(data), home=str(tmp_path / "home")).graph()


def index_of(graph: Graph, vectors: np.ndarray, kind: str = "flat") -> None:
    """Builds the variant's index, as an older version would have, of vectors that no check has seen."""
    fingerprint = encoder_of(graph).fingerprint

    def make(out: Path) -> dict[str, object]:
        settings = IndexSettings(kind=kind)
        write_index(build_index(PASSAGES, vectors, encoder_fingerprint=fingerprint, settings=settings), out)
        return {}

    settings = {"kind": kind, "sum": float(vectors.sum())}
    place = {"asset": "faiss_index", "partition": "small/hosted"}
    graph.store.build(Plan(**place, code_version="1", settings=settings, inputs={}), make)


def encoder_of(graph: Graph):  # type: ignore[no-untyped-def]
    settings = graph.project.variants["small/hosted"].encoder
    assert settings is not None
    return graph.base_encoder(settings)


def keep(graph: Graph, vectors: np.ndarray) -> VectorCache:
    cache = VectorCache(graph.project.home / VECTORS_FOLDER)
    cache.store(encoder_of(graph).passage_fingerprint, PASSAGES, vectors)
    return cache


def spoilt() -> np.ndarray:
    vectors = FakeEncoder(4).encode_passages(PASSAGES)
    vectors[3], vectors[7] = 0, [0, 2, 0, 0]
    return vectors


def test_good_vectors_are_left_alone_and_nothing_is_begun(graph: Graph) -> None:
    assert list(recheck_vectors(graph, dry_run=False)) == [FINE]
    vectors = FakeEncoder(4).encode_passages(PASSAGES)
    cache = keep(graph, vectors)
    index_of(graph, vectors)
    assert list(recheck_vectors(graph, dry_run=False)) == [FINE]
    assert cache.lookup(encoder_of(graph).passage_fingerprint, PASSAGES, 4).found.all()
    assert graph.store.read("faiss_index", "small/hosted") is not None


def test_a_dry_run_names_encoder_index_counts_and_command_and_changes_nothing(graph: Graph) -> None:
    cache = keep(graph, spoilt())
    index_of(graph, spoilt())
    for _ in range(2):
        of_cache, of_index = recheck_vectors(graph, dry_run=True)
        assert of_cache.startswith(
            "vectors of sea, passages: would remove 1 not of length 1, 1 zeros of 20 kept vectors"
        )
        assert of_index.startswith("faiss_index[small/hosted]: 1 not of length 1, 1 zeros of 20 vectors; it would be")
        assert of_index.endswith("embed-pipeline run --variant small/hosted")
    assert cache.lookup(encoder_of(graph).passage_fingerprint, PASSAGES, 4).found.all()
    assert graph.store.read("faiss_index", "small/hosted") is not None


def test_vectors_and_index_at_fault_go_and_the_index_is_built_anew(graph: Graph) -> None:
    cache = keep(graph, spoilt())
    index_of(graph, spoilt())
    assert len(list(recheck_vectors(graph, dry_run=False))) == 2
    found = cache.lookup(encoder_of(graph).passage_fingerprint, PASSAGES, 4).found
    assert np.flatnonzero(~found).tolist() == [3, 7]
    assert graph.store.read("faiss_index", "small/hosted") is None
    index_of(graph, spoilt())
    made = graph.store.read("faiss_index", "small/hosted")
    assert made is not None and not made.cached, "what was taken out is not served again"


def test_an_index_that_holds_vectors_compressed_goes_with_the_kept_vectors_of_its_encoder(graph: Graph) -> None:
    index_of(graph, FakeEncoder(4).encode_passages(PASSAGES), "sq8")
    assert list(recheck_vectors(graph, dry_run=False)) == [FINE]
    keep(graph, spoilt())
    _, of_index = recheck_vectors(graph, dry_run=False)
    assert of_index.startswith("faiss_index[small/hosted]: kept vectors of its encoder are at fault; it is taken out.")


def test_the_vectors_of_a_round_trip_s_encoder_stay_and_those_of_no_encoder_go(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "papers").mkdir(parents=True)
    (data / "papers" / "tides.md").write_text("# Tides\n\nThe tide turns at noon.\n", encoding="utf-8")
    content = {"description": "d", "language": "en", "documents": {"files": ["*.md"]}, "variants": ["bm25"]}
    write_yaml(data / "papers" / "dataset.yaml", {**content, "synthesis": {"round_trip": {"recipe": "paid"}}})
    (data / "recipes").mkdir()
    encoder = {"service": "compatible", "base_url": "http://127.0.0.1:1/v1", "model": "sea", "vector_dimension": 4}
    write_yaml(data / "recipes" / "paid.yaml", {"description": "p", "encoder": encoder})
    write_yaml(data / "recipes" / "bm25.yaml", {"description": "b", "retriever": "bm25"})
    asked = PipelineResource(data=str(data), home=str(tmp_path / "home")).graph()
    used = asked.base_encoder(HostedEncoderSettings.model_validate(encoder)).passage_fingerprint
    cache, vectors = VectorCache(asked.project.home / VECTORS_FOLDER), FakeEncoder(4).encode_passages(PASSAGES)
    for fingerprint in (used, "0" * 64):
        cache.store(fingerprint, PASSAGES, vectors)
    list(remove_unused(asked, dry_run=False))
    assert cache.lookup(used, PASSAGES, 4).found.all()
    assert not cache.lookup("0" * 64, PASSAGES, 4).found.any()
