"""Exact search over a corpus that need not fit into memory: block after block with a running best of each query.

Belongs here: what Faiss's flat index does, with the vectors where they lie (an array or a file mapped into memory).
Does not belong here: the order of equal scores and ties at the cut (search.py, ranking.py).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np

from embed_pipeline.retrieval.faiss_index import GPU_HITS, PassageIndex, refuse_missing_gpu

BLOCK_ROWS = 32_768


class EachBlock(Protocol):
    """Compares queries with block after block."""

    def __call__(
        self, queries: np.ndarray, k: int, starts: Sequence[int], block_at: Callable[[int], np.ndarray]
    ) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """What search_block finds in the block at each of `starts`, in their order."""
        ...


class BlockVectors:
    """Stands in for a flat Faiss index of inner products: search, reconstruct_batch, ntotal and d."""

    def __init__(
        self,
        vectors: np.ndarray,
        rows: np.ndarray,
        *,
        block_rows: int = BLOCK_ROWS,
        device: Literal["cpu", "cuda"] = "cpu",
        elsewhere: EachBlock | None = None,
    ) -> None:
        self._vectors = vectors
        self._rows = rows
        self._block_rows = block_rows
        self._device: Literal["cpu", "cuda"] = device
        self._elsewhere = elsewhere
        self.ntotal = len(rows)
        self.d = vectors.shape[1]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 scores and int64 positions in `rows`, both (queries, min(k, rows)), best first.

        Raises:
            ValueError: a vector holds NaN or infinity.
        """
        scores = np.empty((len(queries), 0), dtype=np.float32)
        positions = np.empty((len(queries), 0), dtype=np.int64)
        starts = range(0, self.ntotal, self._block_rows)
        each = self._elsewhere if self._elsewhere and len(starts) > 1 else self._each
        for start, (found, at) in zip(starts, each(queries, k, starts, self._block), strict=True):
            scores, positions = _best(np.hstack([scores, found]), np.hstack([positions, at + start]), k)
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)

    def reconstruct_batch(self, positions: np.ndarray) -> np.ndarray:
        """float32 (len(positions), d): the vectors at these positions of `rows`."""
        return np.asarray(self._vectors[self._rows[positions]])

    def _block(self, start: int) -> np.ndarray:
        rows = self._rows[start : start + self._block_rows]
        follows = len(rows) == rows[-1] - rows[0] + 1 and bool((np.diff(rows) == 1).all())
        block = self._vectors[rows[0] : rows[-1] + 1] if follows else self._vectors[rows]
        block = np.ascontiguousarray(block, dtype=np.float32)
        broken = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if broken.size:
            raise ValueError(
                f"search: the vector in row {rows[broken[0]]} holds NaN or infinity. The encoder is broken; encode "
                "again in float32."
            )
        return block

    def _each(
        self, queries: np.ndarray, k: int, starts: Sequence[int], block_at: Callable[[int], np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (search_block(queries, block_at(start), k, self._device) for start in starts)


def search_block(
    queries: np.ndarray, block: np.ndarray, k: int, device: Literal["cpu", "cuda"]
) -> tuple[np.ndarray, np.ndarray]:
    """float32 scores and int64 rows of the block, both (queries, min(k, rows)); above GPU_HITS on the processor."""
    import faiss

    k = min(k, len(block))
    if device == "cpu" or k > GPU_HITS:
        return faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)
    refuse_missing_gpu()
    return faiss.knn_gpu(faiss.StandardGpuResources(), queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)


def block_index(
    passage_ids: Sequence[str],
    vectors: np.ndarray,
    rows: np.ndarray,
    *,
    block_rows: int = BLOCK_ROWS,
    device: Literal["cpu", "cuda"] = "cpu",
    elsewhere: EachBlock | None = None,
) -> PassageIndex:
    """An index of the vectors (all, d) at `rows`, one passage id each, that copies none; search it with device cpu.

    `device` is where blocks are compared, `elsewhere` compares several of them on other machines. The hits are those
    of an exact index of the same vectors.
    """
    return PassageIndex(
        faiss_index=BlockVectors(  # type: ignore[arg-type]
            vectors, rows, block_rows=block_rows, device=device, elsewhere=elsewhere
        ),
        passage_ids=tuple(passage_ids),
        kind="flat",
        dimension=vectors.shape[1],
        encoder_fingerprint="only within this call",
    )


def _best(scores: np.ndarray, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    if scores.shape[1] <= k:
        return scores, positions
    kept = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.take_along_axis(scores, kept, 1), np.take_along_axis(positions, kept, 1)
