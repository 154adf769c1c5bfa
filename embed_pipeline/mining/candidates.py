"""Candidates: the corpus as mining sees it, and what each miner finds there for a query besides its answers.

Belongs here: scores as the search computes them, equal texts known, chance per query; searching within the ranks of the
settings, in bounded memory; the scores that margins and groups see. Does not belong here: the choice among candidates
(negatives.py).
"""

import hashlib
import random
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.mining.settings import Miner, MiningSettings
from embed_pipeline.records import Passage, Query
from embed_pipeline.retrieval.blocks import BLOCK_ROWS, EachBlock, block_index
from embed_pipeline.retrieval.faiss_index import PassageIndex
from embed_pipeline.retrieval.lexical import LexicalIndex, LexicalSettings, build_lexical_index, lexical_top_k
from embed_pipeline.retrieval.ranking import RankedQuery
from embed_pipeline.retrieval.search import top_k

PORTION = 65_536
"""Passages whose vectors are in memory at once while they are encoded."""

_DECIMALS = 6
"""As in a ranking: the last bits of a float decide nothing."""

_HITS_AT_ONCE = 1_000_000
_QUERIES_AT_ONCE = 1024


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


class Asked(NamedTuple):
    """A query, its vector and the passages whose scores are wanted."""

    query: str
    vector: np.ndarray
    passage_ids: Sequence[str]


class Scores(Protocol):
    """Queries and passage ids in, their scores out."""

    def of(self, asked: Sequence[Asked]) -> list[list[float]]:
        """A list per query with a score per passage id, in their order."""
        ...


@dataclass(frozen=True)
class VectorScores:
    """Implements Scores by inner products in float64."""

    corpus: MiningCorpus

    def of(self, asked: Sequence[Asked]) -> list[list[float]]:
        """See Scores."""
        return [[self.corpus.score(one.vector, passage_id) for passage_id in one.passage_ids] for one in asked]


@dataclass(frozen=True)
class PairScores:
    """Implements Scores by a cross-encoder, all pairs in one call."""

    corpus: MiningCorpus
    scorer: PairScorer
    settings: MiningSettings

    def of(self, asked: Sequence[Asked]) -> list[list[float]]:
        """See Scores; rounded to six decimals after the activation."""
        pairs = [TextPair(one.query, self.corpus.text(passage_id)) for one in asked for passage_id in one.passage_ids]
        outputs = self.scorer.score(pairs).astype(np.float64)
        if self.settings.reranker is None or self.settings.reranker.activation == "sigmoid":
            outputs = 0.5 * (1 + np.tanh(outputs / 2))  # the logistic function, without overflow
        scores = np.round(outputs, _DECIMALS).tolist()
        ends = np.cumsum([len(one.passage_ids) for one in asked]).tolist()
        return [scores[end - len(one.passage_ids) : end] for one, end in zip(asked, ends, strict=True)]


def scores_of(corpus: MiningCorpus, settings: MiningSettings, reranker: PairScorer | None) -> Scores:
    """The scores that the settings mean.

    Raises:
        ValueError: the settings name a reranker and none is given, or the other way round.
    """
    if (reranker is None) != (settings.reranker is None):
        raise ValueError("mining: the settings and the call must both name a reranker or neither. Pass the one named.")
    return VectorScores(corpus) if reranker is None else PairScores(corpus, reranker, settings)


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates of one query: passage ids per miner, best first, and the inner products that were met."""

    query: Query
    vector: np.ndarray
    by_miner: Mapping[Miner, Sequence[str]]
    products: Mapping[str, float]


class CandidateSearch:
    """Searches one corpus; of passages with one text the smallest id stands for all."""

    def __init__(
        self,
        corpus: MiningCorpus,
        settings: MiningSettings,
        *,
        lexical: LexicalSettings | None = None,
        device: Literal["cpu", "cuda"] = "cpu",
        block_rows: int = BLOCK_ROWS,
        elsewhere: EachBlock | None = None,
    ) -> None:
        """Raises ValueError when the range is empty, or bm25 is a miner and `lexical` does not say how words are."""
        self._corpus = corpus
        self._settings = settings
        self._ranks = settings.ranks(len(corpus.unique))
        self._dense: PassageIndex | None = None
        self._lexical: LexicalIndex | None = None
        if "dense" in settings.miners:
            ids = [corpus.passages[row].id for row in corpus.unique]
            self._dense = block_index(
                ids, corpus.vectors, corpus.unique, block_rows=block_rows, device=device, elsewhere=elsewhere
            )
        if "bm25" in settings.miners:
            if lexical is None:
                raise ValueError("mining: the miner bm25 needs the language of the texts. Pass lexical settings.")
            self._lexical = build_lexical_index([corpus.passages[row] for row in corpus.unique], lexical)

    def find(
        self, queries: Sequence[Query], vectors: np.ndarray, excluded: Mapping[str, Collection[int]]
    ) -> Iterator[list[Found]]:
        """The candidates of all queries in their order, in portions that fit into memory.

        `excluded` holds per query id the numbers of the texts that are no candidates.
        """
        if not queries:
            return
        deepest = self._ranks.stop + max(len(excluded[query.id]) for query in queries)
        k = min(len(self._corpus.unique), deepest)
        portion = max(1, min(_QUERIES_AT_ONCE, _HITS_AT_ONCE // k))
        for start in range(0, len(queries), portion):
            rows = slice(start, start + portion)
            yield self._find(queries[rows], vectors[rows], excluded, k)

    def _find(
        self, queries: Sequence[Query], vectors: np.ndarray, excluded: Mapping[str, Collection[int]], k: int
    ) -> list[Found]:
        ranked: dict[Miner, Sequence[RankedQuery]] = {}
        for miner in self._settings.miners:
            if miner == "dense" and self._dense is not None:
                query_vectors = np.ascontiguousarray(vectors, dtype=np.float32)
                ranked[miner] = top_k(self._dense, [query.id for query in queries], query_vectors, k).queries
            elif self._lexical is not None:
                ranked[miner] = lexical_top_k(self._lexical, queries, k).queries
        found = []
        for row, query in enumerate(queries):
            dense = ranked.get("dense")
            products = dict(zip(dense[row].passage_ids, dense[row].scores, strict=True)) if dense else {}
            by_miner: dict[Miner, Sequence[str]] = {}
            for miner, hits in ranked.items():
                by_miner[miner] = self._within(hits[row].passage_ids, excluded[query.id])
            found.append(Found(query, vectors[row], by_miner, products))
        return found

    def _within(self, passage_ids: Sequence[str], excluded: Collection[int]) -> Sequence[str]:
        free = [passage_id for passage_id in passage_ids if self._corpus.text_number(passage_id) not in excluded]
        return free[self._ranks.start : self._ranks.stop]
