"""A matrix behind an encoder that stays as it is: the files, and the encoder made of both.

Belongs here: applying, writing and reading an adapter. Does not belong here: training it (linear.py).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embed_pipeline.adaptation.ranks import unit_rows
from embed_pipeline.encoding.encoder import Encoder, Role, joint_fingerprint

ADAPTER_FILE = "adapter.safetensors"
_TENSORS = ("query", "passage", "query_mean", "passage_mean")


@dataclass(frozen=True, slots=True)
class LinearAdapter:
    """Row vectors times a matrix per role; a role without one keeps its vectors to the bit."""

    query: np.ndarray
    """float32 (dimension of the encoder, dimension afterwards)"""
    passage: np.ndarray | None
    """As query; None: passages are not mapped, and both dimensions are equal."""
    normalize: bool
    """Whether mapped vectors are scaled to length 1."""
    encoder_fingerprint: str
    """The encoder whose vectors it was trained on; it means nothing for another."""
    query_mean: np.ndarray | None = None
    """float32 (dimension of the encoder,): taken away before the matrix; None: nothing is."""
    passage_mean: np.ndarray | None = None
    """As query_mean; of no effect where passages are not mapped."""

    @property
    def dimension(self) -> int:
        """The length of a vector afterwards."""
        return int(self.query.shape[1])

    def matrix(self, role: Role) -> np.ndarray | None:
        """What vectors of the role are multiplied with; None where they stay."""
        return self.query if role == "query" else self.passage

    def mean(self, role: Role) -> np.ndarray | None:
        """What is taken away from vectors of the role before the matrix; None where nothing is."""
        return self.query_mean if role == "query" else self.passage_mean

    def apply(self, role: Role, vectors: np.ndarray) -> np.ndarray:
        """float32 (rows, dimension): the mapped vectors, or `vectors` itself where the role is not mapped."""
        matrix, mean = self.matrix(role), self.mean(role)
        if matrix is None:
            return vectors
        centred = np.asarray(vectors, dtype=np.float32) - (0 if mean is None else mean)
        mapped = centred @ matrix
        return unit_rows(mapped) if self.normalize else mapped

    def digest(self, role: Role) -> str | None:
        """sha256 hex of what changes the role's vectors; None where nothing does."""
        matrix, mean = self.matrix(role), self.mean(role)
        if matrix is None:
            return None
        content = b"".join(
            np.ascontiguousarray(part, dtype="<f4").tobytes() for part in (matrix, mean) if part is not None
        )
        return hashlib.sha256(f"{matrix.shape} {self.normalize}\n".encode() + content).hexdigest()


class AdaptedEncoder:
    """Implements Encoder; put the vector cache around the inner encoder, then another adapter encodes nothing again.

    A role that the adapter does not map keeps the inner fingerprint, so its cached vectors serve on.
    """

    def __init__(self, encoder: Encoder, adapter: LinearAdapter) -> None:
        """Raises ValueError when the adapter was trained on the vectors of another encoder."""
        found = (encoder.fingerprint, encoder.dimension)
        expected = (adapter.encoder_fingerprint, adapter.query.shape[0])
        if found != expected:
            raise ValueError(
                f"adapter: trained on encoder {expected[0][:12]} of dimension {expected[1]}, found encoder "
                f"{found[0][:12]} of dimension {found[1]}. Train the adapter again on this encoder's vectors."
            )
        self.encoder = encoder
        self.adapter = adapter

    @property
    def query_fingerprint(self) -> str:
        """See Encoder."""
        return self._fingerprint("query", self.encoder.query_fingerprint)

    @property
    def passage_fingerprint(self) -> str:
        """See Encoder."""
        return self._fingerprint("passage", self.encoder.passage_fingerprint)

    @property
    def fingerprint(self) -> str:
        """See Encoder."""
        return joint_fingerprint(self.query_fingerprint, self.passage_fingerprint)

    @property
    def dimension(self) -> int:
        """See Encoder."""
        return self.adapter.dimension

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self.adapter.apply("query", self.encoder.encode_queries(texts))

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self.adapter.apply("passage", self.encoder.encode_passages(texts))

    def around(self, encoder: Encoder) -> "AdaptedEncoder":
        """The same adapter behind another object for the same encoder, as one with or without a cache."""
        return AdaptedEncoder(encoder, self.adapter)

    def _fingerprint(self, role: Role, inner: str) -> str:
        digest = self.adapter.digest(role)
        return inner if digest is None else joint_fingerprint(inner, digest)


def write_adapter(adapter: LinearAdapter, directory: Path) -> Path:
    """The file adapter.safetensors, written into the directory; equal adapters give equal bytes."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    parts = {name: getattr(adapter, name) for name in _TENSORS}
    tensors = {name: np.ascontiguousarray(part, dtype=np.float32) for name, part in parts.items() if part is not None}
    described = {"encoder_fingerprint": adapter.encoder_fingerprint, "normalize": adapter.normalize}
    # One entry: the library writes several in an order that differs from run to run.
    save_file(tensors, directory / ADAPTER_FILE, metadata={"adapter": json.dumps(described, sort_keys=True)})
    return directory / ADAPTER_FILE


def read_adapter(directory: Path) -> LinearAdapter:
    """The adapter written there; raises ValueError when the file is missing or is something else."""
    from safetensors import safe_open

    path = directory / ADAPTER_FILE
    if not path.is_file():
        raise ValueError(f"{directory}: expected {ADAPTER_FILE}, found none. Train the adapter again.")
    with safe_open(path, framework="numpy") as file:
        stated = (file.metadata() or {}).get("adapter")
        names = set(file.keys())
        if stated is None or "query" not in names or not names <= {*_TENSORS}:
            raise ValueError(
                f"{path}: expected an adapter with the tensor query, and passage where passages are mapped, found "
                f"{', '.join(sorted(names))}. Name a folder that an adaptation wrote."
            )
        described = json.loads(stated)
        tensors = {name: file.get_tensor(name) for name in names}
        return LinearAdapter(
            query=tensors["query"],
            passage=tensors.get("passage"),
            normalize=described["normalize"],
            encoder_fingerprint=described["encoder_fingerprint"],
            query_mean=tensors.get("query_mean"),
            passage_mean=tensors.get("passage_mean"),
        )
