"""Encoding on a cluster: every portion of texts is a call to a worker, and is what it would be on one machine.

Belongs here: which portion is computed how, and putting it on the nodes. Does not belong here: portions and what is
kept of them (encoding/vector_cache.py), what computes a portion (encoding/local.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from embed_pipeline.cluster.cluster import Cluster, check_seen
from embed_pipeline.encoding.backends import missing_packages
from embed_pipeline.encoding.encoder import (
    Backend,
    EncoderAround,
    EncoderSettings,
    Role,
    encode_as,
    fingerprint_as,
)
from embed_pipeline.encoding.local import CONVERSION_PAYS_TOKENS, Device, LocalEncoder, load_local_encoder

_CALLS_PER_WORKER = 2
"""One is computed while the next one's texts are on their way."""


class ClusterEncoder(EncoderAround[LocalEncoder]):
    """Implements Encoder and Parallel: a local encoder whose portions are computed on the nodes of a cluster.

    The same portions by the same backend in the same precision, so the same bytes, wherever the nodes' processors are
    alike. A single portion is computed here, unless GPUs are asked for: those are the nodes'.
    """

    def __init__(self, encoder: LocalEncoder, cluster: Cluster) -> None:
        self.encoder = encoder
        self.cluster = cluster

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self._encode("query", texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self._encode("passage", texts)

    def _encode(self, role: Role, texts: Sequence[str]) -> np.ndarray:
        if self.cluster.device == "cuda" and texts:
            ((_, vectors),) = self.encode_portions(role, [texts])
            return vectors
        return encode_as(self.encoder, role, texts)

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
            PortionWorker,
            fn_constructor_kwargs=self.worker_arguments(),
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                max_size=len(portions),
                initial_size=max(1, min(len(portions), self.cluster.workers(one))),
                max_tasks_in_flight_per_actor=_CALLS_PER_WORKER,
            ),
            num_cpus=one["CPU"],
            num_gpus=one.get("GPU"),
        )
        for row in encoded.iter_rows():
            if row["error"]:
                raise ValueError(row["error"])
            yield row["at"], np.frombuffer(row["vectors"], dtype=np.float32).reshape(-1, self.dimension)

    def rows(self, role: Role, portions: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
        """What a worker needs of each portion, in order; see PortionWorker."""
        fingerprint = fingerprint_as(self, role)
        for at, texts in enumerate(portions):
            backend = self._backend(role, texts)
            yield {"at": at, "role": role, "texts": list(texts), "backend": backend, "fingerprint": fingerprint}

    def worker_arguments(self) -> dict[str, Any]:
        """The arguments of PortionWorker: the precision is this machine's, so that the nodes' own does not matter."""
        return {
            "settings": self.encoder.settings.model_copy(update={"dtype": self.encoder.dtype}).model_dump(),
            "device": self.cluster.device,
            "directory": str(self._directory),
            "batch_tokens": self.encoder.batch_tokens,
            "compiled": str(self.cluster.storage / "compiled"),
        }

    @cached_property
    def _directory(self) -> Path:
        """The model where every node sees it; asked once, for its files may have to be read to name them."""
        return self.cluster.ship(self.encoder.directory)

    def _backend(self, role: Role, texts: Sequence[str]) -> Backend:
        """What one machine would compute the portion by, after those before it."""
        encoder = self.encoder
        if encoder.settings.backend != "auto" or self.cluster.device == "cuda" or missing_packages("openvino"):
            return encoder.backend_for(0)
        return encoder.backend_for(sum(map(len, encoder.token_ids(role, texts))))


class PortionWorker:
    """Computes portions on a node; a model is loaded at the first one and stays."""

    def __init__(
        self, *, settings: Mapping[str, Any], device: Device, directory: str, batch_tokens: int, compiled: str
    ) -> None:
        self.settings = EncoderSettings.model_validate(settings)
        self.device: Device = device
        self.directory, self.compiled = Path(directory), Path(compiled)
        self.batch_tokens = batch_tokens
        self.encoders: dict[str, LocalEncoder] = {}

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`at` of the portion, its float32 `vectors` as bytes, row after row, and the `error` that it ended with."""
        try:
            encoder = self._encoder(row["backend"])
            found = fingerprint_as(encoder, row["role"])
            if found != row["fingerprint"]:
                raise ValueError(
                    f"{self.directory}: expected the model {row['fingerprint'][:12]} on every node, found "
                    f"{found[:12]}. The nodes do not see the same folder."
                )
            vectors = encode_as(encoder, row["role"], list(row["texts"]))
            return {"at": row["at"], "vectors": vectors.tobytes(), "error": ""}
        except ValueError as error:  # it travels as its words; what Ray makes of it is a page
            return {"at": row["at"], "vectors": b"", "error": str(error)}

    def _encoder(self, backend: Backend) -> LocalEncoder:
        if backend not in self.encoders:
            check_seen(self.directory)
            # `auto` that has counted enough falls back to torch where a model cannot be converted, as on one machine.
            falls_back = self.settings.backend == "auto" and backend == "openvino"
            settings = self.settings if falls_back else self.settings.model_copy(update={"backend": backend})
            encoder = load_local_encoder(
                settings,
                device=self.device,
                directory=self.directory,
                batch_tokens=self.batch_tokens,
                compiled=self.compiled,
            )
            if falls_back:
                encoder.backend_for(CONVERSION_PAYS_TOKENS)
            self.encoders[backend] = encoder
        return self.encoders[backend]
