"""Encoding on a cluster: every portion of texts is a call to a worker, and is what it would be on one machine.

Belongs here: putting the portions on the nodes. Does not belong here: what a worker is told and computes
(encoding/portions.py), portions and what is kept of them (encoding/vector_cache.py).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from embed_pipeline.cluster.cluster import Cluster, check_seen
from embed_pipeline.encoding.encoder import Backend, Role
from embed_pipeline.encoding.local import LocalEncoder
from embed_pipeline.encoding.portions import PortionWorker, SpreadEncoder

_CALLS_PER_WORKER = 2
"""One is computed while the next one's texts are on their way."""


class ClusterEncoder(SpreadEncoder):
    """Implements Encoder and Parallel: a local encoder whose portions are computed on the nodes of a cluster.

    A single portion is computed here, unless GPUs are asked for: those are the nodes'.
    """

    def __init__(self, encoder: LocalEncoder, cluster: Cluster) -> None:
        self.encoder = encoder
        self.cluster = cluster
        self.device = cluster.device

    def _encode(self, role: Role, texts: Sequence[str]) -> np.ndarray:
        if self.device == "cuda" and texts:
            ((_, vectors),) = self.encode_portions(role, [texts])
            return vectors
        return super()._encode(role, texts)

    def encode_portions(self, role: Role, portions: Sequence[Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """See Parallel. A portion whose node is lost is computed by another.

        Raises:
            ValueError: as LocalEncoder; a node does not see the model, or sees another one.
        """
        self.cluster.join()
        import ray.data  # pyright: ignore[reportMissingImports]

        one = self.cluster.worker()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        encoded = ray.data.from_items(list(self.rows(role, portions)), override_num_blocks=len(portions)).map(
            NodeWorker,
            fn_constructor_kwargs=self.node_arguments,
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                max_size=len(portions),
                initial_size=max(1, min(len(portions), self.cluster.workers(one))),
                max_tasks_in_flight_per_actor=_CALLS_PER_WORKER,
            ),
            num_cpus=one["CPU"],
            num_gpus=one.get("GPU"),
        )
        yield from map(self.vectors_of, encoded.iter_rows())

    @property
    def node_arguments(self) -> dict[str, Any]:
        """Those of NodeWorker."""
        return self.worker_arguments(self._directory, self.cluster.storage / "compiled")

    @cached_property
    def _directory(self) -> Path:
        """The model where every node sees it; asked once, for its files may have to be read to name them."""
        return self.cluster.ship(self.encoder.directory)


class NodeWorker(PortionWorker):
    """Computes portions on a node."""

    def encoder(self, backend: Backend) -> LocalEncoder:
        """The model, computed by that backend. Raises ValueError where the node does not see the model's folder."""
        check_seen(self.directory)
        return super().encoder(backend)
