"""The exact search of mining on a cluster: each block of vectors is compared by a worker on some node.

Belongs here: sending the blocks once, and the answers back in their order. Does not belong here: comparing a block, and
the best of all of them (retrieval/blocks.py).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from embed_pipeline.cluster.cluster import Cluster
from embed_pipeline.retrieval.blocks import search_block


class ClusterBlocks:
    """Implements EachBlock; the blocks stay with the nodes until this goes, a lost node's are compared by another."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.sent: dict[int, Any] = {}

    def __call__(
        self, queries: np.ndarray, k: int, starts: Sequence[int], block_at: Callable[[int], np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See EachBlock."""
        self.cluster.join()
        import ray  # pyright: ignore[reportMissingImports]

        one = self.cluster.worker()
        task = ray.remote(num_cpus=one["CPU"], num_gpus=one.get("GPU", 0), max_retries=-1)(search_block)
        asked, answers = ray.put(queries), []
        for start in starts:
            if start not in self.sent:
                self.sent[start] = ray.put(block_at(start))
            answers.append(task.remote(asked, self.sent[start], k, self.cluster.device))
        for answer in answers:
            yield ray.get(answer)
