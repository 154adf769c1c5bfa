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

    @property
    def dimension(self) -> int:
        """The length of a vector afterwards."""
        return int(self.query.shape[1])

    def matrix(self, role: Role) -> np.ndarray | None:
        """What vectors of the role are multiplied with; None where they stay."""
        return self.query if role == "query" else self.passage

    def apply(self, role: Role, vectors: np.ndarray) -> np.ndarray:
        """float32 (rows, dimension): the mapped vectors, or `vectors` itself where the role is not mapped."""
        matrix = self.matrix(role)
        if matrix is None:
            return vectors
        mapped = np.asarray(vectors, dtype=np.float32) @ matrix
        return unit_rows(mapped) if self.normalize else mapped

    def digest(self, role: Role) -> str | None:
        """sha256 hex of what changes the role's vectors; None where nothing does."""
        matrix = self.matrix(role)
        if matrix is None:
            return None
        content = np.ascontiguousarray(matrix, dtype="<f4")
        return hashlib.sha256(f"{matrix.shape} {self.normalize}\n".encode() + content.tobytes()).hexdigest()


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
    tensors = {"query": np.ascontiguousarray(adapter.query, dtype=np.float32)}
    if adapter.passage is not None:
        tensors["passage"] = np.ascontiguousarray(adapter.passage, dtype=np.float32)
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
        if stated is None or "query" not in names or not names <= {"query", "passage"}:
            raise ValueError(
                f"{path}: expected an adapter with the tensor query, and passage where passages are mapped, found "
                f"{', '.join(sorted(names))}. Name a folder that an adaptation wrote."
            )
        described = json.loads(stated)
        return LinearAdapter(
            query=file.get_tensor("query"),
            passage=file.get_tensor("passage") if "passage" in names else None,
            normalize=described["normalize"],
            encoder_fingerprint=described["encoder_fingerprint"],
        )
