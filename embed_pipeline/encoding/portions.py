"""Portions of texts computed elsewhere: in a process on each GPU of this machine, or on the nodes of a cluster.

Belongs here: what another process must be told to compute a portion as this one would, and computing it there. Does not
belong here: starting those processes (gpus.py, cluster/encoding.py), portions and what is kept of them
(vector_cache.py), running a model (local.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


class SpreadEncoder(EncoderAround[LocalEncoder]):
    """A local encoder whose portions other processes compute: by the same backend in the same precision.

    So they have the same bytes, wherever the processors or GPUs are alike.
    """

    device: Device

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self._encode("query", texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self._encode("passage", texts)

    def _encode(self, role: Role, texts: Sequence[str]) -> np.ndarray:
        return encode_as(self.encoder, role, texts)

    def rows(self, role: Role, portions: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
        """What a worker needs of each portion, in order; see PortionWorker."""
        fingerprint = fingerprint_as(self.encoder, role)
        for at, texts in enumerate(portions):
            backend = self._backend(role, texts)
            yield {"at": at, "role": role, "texts": list(texts), "backend": backend, "fingerprint": fingerprint}

    def worker_arguments(self, directory: Path, compiled: Path | None) -> dict[str, Any]:
        """The arguments of PortionWorker: the precision is this process's, so that the workers' own does not matter."""
        return {
            "settings": self.encoder.settings.model_copy(update={"dtype": self.encoder.dtype}).model_dump(),
            "device": self.device,
            "directory": str(directory),
            "batch_tokens": self.encoder.batch_tokens,
            "compiled": str(compiled) if compiled else None,
        }

    def vectors_of(self, answer: Mapping[str, Any]) -> tuple[int, np.ndarray]:
        """What a worker answered: position of the portion, float32 (its texts, dimension).

        Raises:
            ValueError: the worker's own, by its words.
        """
        if answer["error"]:
            raise ValueError(answer["error"])
        return answer["at"], np.frombuffer(answer["vectors"], dtype=np.float32).reshape(-1, self.dimension)

    def _backend(self, role: Role, texts: Sequence[str]) -> Backend:
        """What this process would compute the portion by, after those before it."""
        encoder = self.encoder
        if encoder.settings.backend != "auto" or self.device == "cuda" or missing_packages("openvino"):
            return encoder.backend_for(0)
        return encoder.backend_for(sum(map(len, encoder.token_ids(role, texts))))


class PortionWorker:
    """Computes portions where it is; a model is loaded at the first one and stays."""

    def __init__(
        self, *, settings: Mapping[str, Any], device: Device, directory: str, batch_tokens: int, compiled: str | None
    ) -> None:
        self.settings = EncoderSettings.model_validate(settings)
        self.device: Device = device
        self.directory = Path(directory)
        self.compiled = Path(compiled) if compiled else None
        self.batch_tokens = batch_tokens
        self.encoders: dict[str, LocalEncoder] = {}

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`at` of the portion, its float32 `vectors` as bytes, row after row, and the `error` that it ended with."""
        try:
            encoder = self.encoder(row["backend"])
            found = fingerprint_as(encoder, row["role"])
            if found != row["fingerprint"]:
                raise ValueError(
                    f"{self.directory}: expected the model {row['fingerprint'][:12]} wherever it is computed, found "
                    f"{found[:12]}. It was changed meanwhile, or the nodes do not see the same folder."
                )
            vectors = encode_as(encoder, row["role"], list(row["texts"]))
            return {"at": row["at"], "vectors": vectors.tobytes(), "error": ""}
        except ValueError as error:  # it travels as its words; what becomes of it between processes is a page
            return {"at": row["at"], "vectors": b"", "error": str(error)}

    def encoder(self, backend: Backend) -> LocalEncoder:
        """The model, computed by that backend."""
        if backend not in self.encoders:
            # `auto` that has counted enough falls back to torch where a model cannot be converted, as in one process.
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
