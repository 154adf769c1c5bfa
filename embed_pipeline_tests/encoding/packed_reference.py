"""A second reading of the packed model, by the format's description alone: its tokens by a plain search for the best
path, its vectors by numpy. Nothing of the package is used here.
"""

import math
import struct
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.special import erf


class PackedReference:
    """multilingual-e5-small as the 4-bit file says it, slow and plain."""

    def __init__(self, path: Path) -> None:
        self.file = path.read_bytes()
        self.sizes = struct.unpack_from("<7i", self.file, 8)
        (self.epsilon,) = struct.unpack_from("<f", self.file, 36)
        count, self.bos, self.eos, _, self.unknown = struct.unpack_from("<5i", self.file, 44)
        (length,) = struct.unpack_from("<Q", self.file, 64)
        at = 72 + 4 * (count + 1)
        ends = struct.unpack_from(f"<{count + 1}I", self.file, 72)
        self.scores = struct.unpack_from(f"<{count}f", self.file, at)
        text = self.file[at + 4 * count : at + 4 * count + length]
        self.pieces = [text[ends[i] : ends[i + 1]].decode() for i in range(count)]
        self.unknown_score = min(self.scores) - 10
        self.id_of = {piece: i for i, piece in enumerate(self.pieces)}
        at += 4 * count + length
        entries, length = struct.unpack_from("<iI", self.file, at)
        self.replacements, at = {}, at + 8
        for _ in range(entries):
            point, n = struct.unpack_from("<IB", self.file, at)
            self.replacements[chr(point)] = "".join(map(chr, struct.unpack_from(f"<{n}I", self.file, at + 5)))
            at += 5 + 4 * n
        (tensors,) = struct.unpack_from("<i", self.file, at)
        self.tensors, at = {}, at + 4
        for _ in range(tensors):
            (n,) = struct.unpack_from("<H", self.file, at)
            name = self.file[at + 2 : at + 2 + n].decode()
            self.tensors[name] = struct.unpack_from("<BIQQ", self.file, at + 2 + n)
            at += 2 + n + 21

    def tokens(self, text: str) -> list[int]:
        """The ids of a text with <s> and </s>; neighbouring unknown characters are one token, as in sentencepiece."""
        replaced = "".join(self.replacements.get(character, character) for character in text)
        words = [word for word in replaced.split(" ") if word]
        found: list[int] = []
        for word in words:
            found += self._best_path("▁" + word)
        return [self.bos, *found, self.eos]

    def _best_path(self, word: str) -> list[int]:
        longest = 64
        best: list[tuple[float, list[int]]] = [(0.0, [])] + [(-math.inf, [])] * len(word)
        for start in range(len(word)):
            score, path = best[start]
            for end in range(start + 1, min(len(word), start + longest) + 1):
                piece = self.id_of.get(word[start:end])
                if piece is not None and score + self.scores[piece] > best[end][0]:
                    best[end] = (score + self.scores[piece], [*path, piece])
            if score + self.unknown_score > best[start + 1][0]:
                joined = path if path and path[-1] == self.unknown else [*path, self.unknown]
                best[start + 1] = (score + self.unknown_score, joined)
        return best[-1][1]

    def tensor(self, name: str, *shape: int) -> np.ndarray:
        """float64 values of a tensor, block by block as the format says."""
        kind, elements, offset, size = self.tensors[name]
        if kind == 0:
            return np.frombuffer(self.file, "<f4", elements, offset).astype(float).reshape(shape)
        return self._blocks(offset, size).reshape(shape)

    def rows(self, name: str, ids: Sequence[int], width: int) -> np.ndarray:
        """Some rows of a blocked matrix."""
        _, _, offset, _ = self.tensors[name]
        size = width // 32 * 18
        return np.stack([self._blocks(offset + row * size, size).reshape(-1) for row in ids])

    def _blocks(self, offset: int, size: int) -> np.ndarray:
        raw = np.frombuffer(self.file, np.uint8, size, offset).reshape(-1, 18)
        scale = raw[:, :2].copy().view("<f2").astype(float)
        weights = np.concatenate([raw[:, 2:] % 16, raw[:, 2:] // 16], axis=1).astype(float) - 8
        return weights * scale

    def vector(self, text: str) -> np.ndarray:
        """The mean of the last layer's vectors, of length 1. Source: BERT, post-norm."""
        hidden, layers, heads, inner, *_ = self.sizes
        ids = self.tokens(text)
        x = self.rows("emb.word", ids, hidden) + self._positions[: len(ids)] + self.tensor("emb.type", -1, hidden)[0]
        x = self._normed(x, "emb.ln")
        for layer in range(layers):
            q, k, v = (self._linear(x, f"l{layer}.{name}", hidden, hidden) for name in "qkv")
            heads_of = [part.reshape(len(ids), heads, -1).transpose(1, 0, 2) for part in (q, k, v)]
            scores = heads_of[0] @ heads_of[1].transpose(0, 2, 1) / math.sqrt(hidden / heads)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            seen = (weights @ heads_of[2]).transpose(1, 0, 2).reshape(len(ids), hidden)
            x = self._normed(x + self._linear(seen, f"l{layer}.ao", hidden, hidden), f"l{layer}.aln")
            inside = self._linear(x, f"l{layer}.fi", inner, hidden)
            inside *= 0.5 * (1 + erf(inside / math.sqrt(2)))
            x = self._normed(x + self._linear(inside, f"l{layer}.fo", hidden, inner), f"l{layer}.oln")
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)

    @cached_property
    def _positions(self) -> np.ndarray:
        return self.tensor("emb.pos", -1, self.sizes[0])

    def _linear(self, x: np.ndarray, name: str, out: int, into: int) -> np.ndarray:
        return x @ self.tensor(f"{name}.w", out, into).T + self.tensor(f"{name}.b", out)

    def _normed(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon)
        return scaled * self.tensor(f"{name}.w", -1) + self.tensor(f"{name}.b", -1)
