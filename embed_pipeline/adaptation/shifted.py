"""Corpus vectors that NUDGE moved: the file, and the encoder that gives them in place of the old ones.

Belongs here: writing, reading and serving moved vectors. Does not belong here: how far they move (nudge.py).
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embed_pipeline.encoding.encoder import Encoder, joint_fingerprint

SHIFTED_FILE = "shifted.safetensors"


class ShiftedEncoder:
    """Implements Encoder: a passage whose text was moved has its new vector, any other text the encoder's own.

    Vectors are to be searched by inner product: NUDGE-M leaves moved rows at other lengths than 1.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], vectors: np.ndarray, encoder_fingerprint: str) -> None:
        """`texts` are sha256 hex of passage texts, row i of `vectors` for text i.

        Raises:
            ValueError: the vectors were moved from those of another encoder.
        """
        if encoder.fingerprint != encoder_fingerprint:
            raise ValueError(
                f"moved vectors: made from encoder {encoder_fingerprint[:12]}, found encoder "
                f"{encoder.fingerprint[:12]}. Materialise the adapter again."
            )
        self.encoder = encoder
        self.encoder_fingerprint = encoder_fingerprint
        self.texts, self.vectors = tuple(texts), vectors
        self._row_of = {text: row for row, text in enumerate(texts)}
        content = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        self._digest = hashlib.sha256("\n".join(texts).encode() + content).hexdigest()

    @property
    def query_fingerprint(self) -> str:
        """See Encoder."""
        return self.encoder.query_fingerprint

    @property
    def passage_fingerprint(self) -> str:
        """See Encoder."""
        return joint_fingerprint(self.encoder.passage_fingerprint, self._digest)

    @property
    def fingerprint(self) -> str:
        """See Encoder."""
        return joint_fingerprint(self.query_fingerprint, self.passage_fingerprint)

    @property
    def dimension(self) -> int:
        """See Encoder."""
        return self.encoder.dimension

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self.encoder.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        found = np.array(self.encoder.encode_passages(texts), dtype=np.float32)
        for row, text in enumerate(texts):
            moved = self._row_of.get(digest_text(text))
            if moved is not None:
                found[row] = self.vectors[moved]
        return found

    def around(self, encoder: Encoder) -> "ShiftedEncoder":
        """The same moved vectors over another object for the same encoder, as one with or without a cache."""
        return ShiftedEncoder(encoder, self.texts, self.vectors, self.encoder_fingerprint)


def digest_text(text: str) -> str:
    """sha256 hex of a passage's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_shifted(texts: Sequence[str], vectors: np.ndarray, encoder_fingerprint: str, directory: Path) -> Path:
    """The file shifted.safetensors with the vectors of moved passages, sorted by the digest of their texts."""
    from safetensors.numpy import save_file

    digests = [digest_text(text) for text in texts]
    order = sorted(range(len(digests)), key=lambda row: digests[row])
    described = {"encoder_fingerprint": encoder_fingerprint, "texts": [digests[row] for row in order]}
    moved = np.ascontiguousarray(vectors[order], dtype=np.float32)
    save_file({"vectors": moved}, directory / SHIFTED_FILE, metadata={"shifted": json.dumps(described)})
    return directory / SHIFTED_FILE


def read_shifted(encoder: Encoder, directory: Path) -> ShiftedEncoder:
    """The encoder with the moved vectors of the directory; raises ValueError for another encoder or another file."""
    from safetensors import safe_open

    path = directory / SHIFTED_FILE
    with safe_open(path, framework="numpy") as file:
        stated = (file.metadata() or {}).get("shifted")
        if stated is None:
            raise ValueError(f"{path}: expected moved vectors, found another file. Materialise the adapter again.")
        described = json.loads(stated)
        return ShiftedEncoder(encoder, described["texts"], file.get_tensor("vectors"), described["encoder_fingerprint"])
