"""Word vectors trained on a data set's own texts, and a text as the weighted mean of its words' vectors.

Belongs here: training (skip-gram), the files, the Encoder. Does not belong here: cutting words (words.py), choosing the
texts: leave the validation and test queries out. The picture of the words is in reporting/word_map.py.
"""

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.encoding.encoder import joint_fingerprint
from embed_pipeline.encoding.words import word_cutter

WORDS_FILE = "words.json"
VECTORS_FILE = "vectors.npy"

_WORDS_PER_JOB = 1000
"""Words between two steps of the learning rate; gensim's 10,000 would give a small data set a handful of steps."""
_TEXTS_PER_BATCH = 1024


class WordVectorSettings(BaseModel):
    """How word vectors are trained and how much a frequent word counts in a text's vector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimension: int = Field(default=100, ge=1, description="Length of a vector.")
    window: int = Field(
        default=10, ge=1, description="Words to either side that a word is to predict; 10 spans most questions."
    )
    min_count: int = Field(default=1, ge=1, description="Occurrences below which a word gets no vector.")
    epochs: int = Field(
        default=40,
        ge=1,
        description="Passes over the texts; with 5, customary for large corpora, a small one learns nothing.",
    )
    negative: int = Field(default=5, ge=1, description="Random words that each true neighbour is told apart from.")
    smoothing: float = Field(
        default=1e-3,
        gt=0,
        description="a in the weight a / (a + share of the word among all words): smaller weakens frequent words more.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the first vectors and of the random words.")


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Row i of vectors, float32 (words, dimension), is words[i], seen counts[i] times; the most frequent word first."""

    words: tuple[str, ...]
    counts: tuple[int, ...]
    vectors: np.ndarray
    language: str
    settings: WordVectorSettings


def train_word_vectors(texts: Sequence[str], settings: WordVectorSettings, language: str) -> WordVectors:
    """The vectors of the texts' words, the same bytes for the same texts in the same order; no words give no rows.

    Words are cut as for BM25, so both rows see the same. One thread: with two, their timing would move the vectors.
    Source: Mikolov et al. 2013, skip-gram with negative sampling, by gensim.
    """
    from gensim.models import Word2Vec

    cut = word_cutter(language)
    sentences = [cut(text) for text in texts]
    counted = Counter(word for sentence in sentences for word in sentence)
    if not any(count >= settings.min_count for count in counted.values()):
        return WordVectors((), (), np.zeros((0, settings.dimension), np.float32), language, settings)
    model = Word2Vec(
        sentences,
        sg=1,
        vector_size=settings.dimension,
        window=settings.window,
        min_count=settings.min_count,
        epochs=settings.epochs,
        negative=settings.negative,
        seed=settings.seed,
        workers=1,
        batch_words=_WORDS_PER_JOB,
        hashfxn=_stable_hash,
    )
    words = tuple(str(word) for word in model.wv.index_to_key)
    counts = tuple(counted[word] for word in words)
    return WordVectors(words, counts, np.asarray(model.wv.vectors, dtype=np.float32), language, settings)


def write_word_vectors(word_vectors: WordVectors, directory: Path) -> None:
    """Writes words.json (language, settings, words, counts) and vectors.npy into the directory; nothing is pickled."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "language": word_vectors.language,
        "settings": word_vectors.settings.model_dump(),
        "words": word_vectors.words,
        "counts": word_vectors.counts,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    (directory / WORDS_FILE).write_text(text, encoding="utf-8")
    np.save(directory / VECTORS_FILE, word_vectors.vectors, allow_pickle=False)


def read_word_vectors(directory: Path) -> WordVectors:
    """The word vectors written there; raises ValueError when the two files do not belong together."""
    content = json.loads((directory / WORDS_FILE).read_text(encoding="utf-8"))
    settings = WordVectorSettings.model_validate(content["settings"])
    vectors = np.load(directory / VECTORS_FILE, allow_pickle=False)
    expected = (len(content["words"]), settings.dimension)
    if vectors.shape != expected or len(content["counts"]) != expected[0]:
        raise ValueError(
            f"{directory}: {WORDS_FILE} states words and dimension {expected}, found vectors of shape {vectors.shape} "
            f"and {len(content['counts'])} counts. The files are of different trainings; train again."
        )
    return WordVectors(tuple(content["words"]), tuple(content["counts"]), vectors, content["language"], settings)


class WordVectorEncoder:
    """Implements Encoder: the mean of a text's word vectors, rare words weighing more, scaled to length 1.

    Unknown words are left out. A text without a known word gets the zero vector: it scores 0 with every passage, so
    its hits come in the order of their ids.
    Source: Arora et al. 2017, SIF weights; their second step, taking out the common component, is left out, because
    it would make a text's vector depend on the other texts.
    """

    def __init__(self, word_vectors: WordVectors) -> None:
        self.word_vectors = word_vectors
        self._cut = word_cutter(word_vectors.language)
        self._row_of = {word: row for row, word in enumerate(word_vectors.words)}
        counts = np.asarray(word_vectors.counts, dtype=np.float64)
        smoothing = word_vectors.settings.smoothing
        self._weights = smoothing / (smoothing + counts / max(1.0, counts.sum()))

    @property
    def query_fingerprint(self) -> str:
        """The same as passage_fingerprint: both roles are encoded alike."""
        return self._role_fingerprint

    @property
    def passage_fingerprint(self) -> str:
        """The digest of words, counts, vectors, language and settings."""
        return self._role_fingerprint

    @property
    def fingerprint(self) -> str:
        """See Encoder."""
        return joint_fingerprint(self.query_fingerprint, self.passage_fingerprint)

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self.word_vectors.settings.dimension

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension); rows of length 1 or, without a known word, 0."""
        return self._encode(texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """The same as encode_queries."""
        return self._encode(texts)

    @cached_property
    def _role_fingerprint(self) -> str:
        own = self.word_vectors
        identity = {
            "arithmetic": 1,  # raise when a text's vector starts to be computed otherwise
            "words": own.words,
            "counts": own.counts,
            "language": own.language,
            "settings": own.settings.model_dump(),
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=True).encode())
        digest.update(np.ascontiguousarray(own.vectors, dtype="<f4").tobytes())
        return digest.hexdigest()

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        encoded = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _TEXTS_PER_BATCH):
            part = texts[start : start + _TEXTS_PER_BATCH]
            encoded[start : start + len(part)] = self._encode_batch(part)
        return encoded

    def _encode_batch(self, texts: Sequence[str]) -> np.ndarray:
        """float64; sums in the order of the words, so neighbours in the batch do not move a vector."""
        rows_of = [[self._row_of[word] for word in self._cut(text) if word in self._row_of] for text in texts]
        sums = np.zeros((len(texts), self.dimension))
        for at, rows in enumerate(rows_of):
            if rows:
                sums[at] = self._weights[rows] @ self.word_vectors.vectors[rows].astype(np.float64)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)


def _stable_hash(text: str) -> int:
    """Unlike hash(), the same in every process."""
    return zlib.crc32(text.encode())
