"""The corpus as mining sees it: scores as the search computes them, equal texts known, chance per query.

Belongs here: what choosing negatives and reporting on them share. Does not belong here: either of the two.
"""

import hashlib
import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Passage


def text_key(text: str) -> str:
    """What two texts share if they are the same but for width, case and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def query_random(settings: MiningSettings, query_id: str, purpose: str) -> random.Random:
    """Chance that belongs to one query, so that other queries do not move it."""
    digest = hashlib.sha256(f"{settings.seed}\n{purpose}\n{query_id}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


@dataclass(frozen=True, slots=True)
class MiningCorpus:
    """Passages with their vectors; passages of one text are known as such."""

    passages: Sequence[Passage]
    vectors: np.ndarray
    rows: dict[str, int]  # passage id → row
    keys: dict[str, str]  # passage id → text key
    unique: list[int]  # row of the smallest id of each text, in the order of ids

    @classmethod
    def of(cls, passages: Sequence[Passage], vectors: np.ndarray) -> "MiningCorpus":
        """The corpus of float32 vectors (passages, d); raises ValueError when they do not fit or ids repeat."""
        if vectors.ndim != 2 or len(vectors) != len(passages):
            raise ValueError(f"mining: expected a vector for each of {len(passages)} passages, found {vectors.shape}.")
        rows = {passage.id: row for row, passage in enumerate(passages)}
        if len(rows) < len(passages):
            raise ValueError(f"mining: {len(passages) - len(rows)} passage ids repeat. Unite passages of one id.")
        keys = {passage.id: text_key(passage.text) for passage in passages}
        first: dict[str, int] = {}
        for passage_id in sorted(rows):
            first.setdefault(keys[passage_id], rows[passage_id])
        return cls(passages, vectors, rows, keys, list(first.values()))

    def score(self, query_vector: np.ndarray, passage_id: str) -> float:
        """The inner product as the search computes it."""
        return float(self.vectors[self.rows[passage_id]].astype(np.float64) @ query_vector.astype(np.float64))

    def text(self, passage_id: str) -> str:
        """The text of a passage."""
        return self.passages[self.rows[passage_id]].text
