"""The search in blocks finds what a flat index finds, with vectors in memory or on disk."""

from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.retrieval.blocks import block_index, search_block
from embed_pipeline.retrieval.faiss_index import GPU_HITS, build_index
from embed_pipeline.retrieval.search import top_k

QUERIES = [f"q{at}" for at in range(7)]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    found = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    found[40:140] = found[7]  # a hundred equal vectors: ties at every cut
    return found


@pytest.mark.parametrize("block_rows", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [1, 20, 150, 900])
def test_hits_are_those_of_a_flat_index_whatever_the_block(vectors: np.ndarray, block_rows: int, k: int) -> None:
    rows = np.concatenate([np.arange(30, 200), np.arange(299, 199, -1)])
    ids, queries = [f"p{row:03}" for row in rows], vectors[[7, 1, 2, 3, 4, 5, 6]] + np.float32(0.01)
    flat = build_index(ids, vectors[rows], encoder_fingerprint="x")
    blocks = block_index(ids, vectors, rows, block_rows=block_rows)
    assert top_k(blocks, QUERIES, queries, k) == top_k(flat, QUERIES, queries, k)


def test_vectors_on_disk_give_the_same_hits(vectors: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors)
    mapped, rows = np.load(tmp_path / "v.npy", mmap_mode="r"), np.arange(300)
    ids = [f"p{row:03}" for row in rows]
    found = [top_k(block_index(ids, v, rows, block_rows=50), QUERIES, vectors[:7], 30) for v in (vectors, mapped)]
    assert found[0] == found[1]


def test_more_hits_than_a_gpu_can_find_are_found_on_the_processor() -> None:
    block = np.random.default_rng(2).normal(size=(GPU_HITS + 9, 8)).astype(np.float32)
    scores, rows = search_block(block[:3], block, GPU_HITS + 1, "cuda")
    products = block[:3] @ block.T
    np.testing.assert_allclose(scores, -np.sort(-products, axis=1)[:, : GPU_HITS + 1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(products, rows, 1), scores, rtol=1e-4, atol=1e-5)


def test_a_broken_vector_is_refused(vectors: np.ndarray) -> None:
    broken = vectors.copy()
    broken[211, 3] = np.nan
    with pytest.raises(ValueError, match="the vector in row 211 holds NaN"):
        top_k(block_index([f"p{i}" for i in range(300)], broken, np.arange(300), block_rows=64), ["q"], broken[:1], 3)
