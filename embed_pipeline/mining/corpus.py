"""The corpus as mining sees it: scores as the search computes them, equal texts known, chance per query.

Belongs here: what choosing negatives and reporting on them share. Does not belong here: either of the two.
"""

import hashlib
import random
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Passage

PORTION = 65_536
"""Passages whose vectors are in memory at once while they are encoded."""


def text_key(text: str) -> str:
    """What two texts share if they are the same but for width, case and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def query_random(settings: MiningSettings, query_id: str, purpose: str) -> random.Random:
    """Chance that belongs to one query, so that other queries do not move it."""
    digest = hashlib.sha256(f"{settings.seed}\n{purpose}\n{query_id}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def encode_to_file(
    encode: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str], dimension: int, path: Path
) -> np.ndarray:
    """float32 (len(texts), dimension), mapped from the file, which is written in portions; empty for no texts."""
    if not texts:
        return np.empty((0, dimension), dtype=np.float32)
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(texts), dimension))
    for start in range(0, len(texts), PORTION):
        vectors[start : start + PORTION] = encode(texts[start : start + PORTION])
        vectors.flush()
    return np.load(path, mmap_mode="r")


@dataclass(frozen=True, slots=True)
class MiningCorpus:
    """Passages with their vectors, in memory or mapped from a file; passages of one text are known as such."""

    passages: Sequence[Passage]
    vectors: np.ndarray
    rows: dict[str, int]  # passage id → row
    text_of: np.ndarray  # int64 per row: passages of one text have one number
    unique: np.ndarray  # int64, row of the smallest id of each text, in the order of ids

    @classmethod
    def of(cls, passages: Sequence[Passage], vectors: np.ndarray) -> "MiningCorpus":
        """The corpus of float32 vectors (passages, d); raises ValueError when they do not fit or ids repeat."""
        if vectors.ndim != 2 or len(vectors) != len(passages):
            raise ValueError(f"mining: expected a vector for each of {len(passages)} passages, found {vectors.shape}.")
        rows = {passage.id: row for row, passage in enumerate(passages)}
        if len(rows) < len(passages):
            raise ValueError(f"mining: {len(passages) - len(rows)} passage ids repeat. Unite passages of one id.")
        text_of = np.empty(len(passages), dtype=np.int64)
        numbers: dict[bytes, int] = {}  # digests, because the keys of a large corpus would be as large as its texts
        unique = []
        for passage_id in sorted(rows):
            row = rows[passage_id]
            key = hashlib.blake2b(text_key(passages[row].text).encode(), digest_size=16).digest()
            if key not in numbers:
                numbers[key] = len(numbers)
                unique.append(row)
            text_of[row] = numbers[key]
        return cls(passages, vectors, rows, text_of, np.array(unique, dtype=np.int64))

    def score(self, query_vector: np.ndarray, passage_id: str) -> float:
        """The inner product as the search computes it."""
        return float(self.vectors[self.rows[passage_id]].astype(np.float64) @ query_vector.astype(np.float64))

    def text(self, passage_id: str) -> str:
        """The text of a passage."""
        return self.passages[self.rows[passage_id]].text

    def text_number(self, passage_id: str) -> int:
        """What passages of one text share."""
        return int(self.text_of[self.rows[passage_id]])
