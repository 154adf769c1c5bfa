"""Stand-ins that implement the protocols, for tests that need vectors but no model."""

import hashlib
from collections.abc import Sequence

import numpy as np

from embed_pipeline.encoding.encoder import joint_fingerprint


class FakeEncoder:
    """Implements Encoder: the sum of one pseudo-random vector per character and pair of characters, length 1.

    Texts that share characters are similar. Other `weights` give other vectors and other fingerprints, as a retrain
    would; an instruction changes the queries' vectors and fingerprint only. `calls` records every text it encoded.
    """

    def __init__(self, dimension: int = 32, *, weights: str = "untrained", query_instruction: str = "") -> None:
        self.dimension = dimension
        self.weights = weights
        self.query_instruction = query_instruction
        self.calls: list[str] = []

    @property
    def query_fingerprint(self) -> str:
        return self._fingerprint(self.query_instruction)

    @property
    def passage_fingerprint(self) -> str:
        return self._fingerprint("")

    @property
    def fingerprint(self) -> str:
        return joint_fingerprint(self.query_fingerprint, self.passage_fingerprint)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode([self.query_instruction + text for text in texts], texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(list(texts), texts)

    def _encode(self, formatted: list[str], texts: Sequence[str]) -> np.ndarray:
        self.calls.extend(texts)
        vectors = np.zeros((len(formatted), self.dimension), dtype=np.float32)
        for row, text in enumerate(formatted):
            features = [text, *text, *(text[at : at + 2] for at in range(len(text) - 1))]
            total = np.sum([self._feature_vector(feature) for feature in features], axis=0)
            vectors[row] = total / np.linalg.norm(total)
        return vectors

    def _feature_vector(self, feature: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(f"{self.weights}\n{feature}".encode()).digest()[:8])
        return np.random.default_rng(seed).standard_normal(self.dimension)

    def _fingerprint(self, instruction: str) -> str:
        identity = f"fake\n{self.dimension}\n{self.weights}\n{instruction}"
        return hashlib.sha256(identity.encode()).hexdigest()
