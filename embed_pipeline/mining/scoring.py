"""Scores that margins and groups see: inner products of the encoder that searched, or a cross-encoder's.

Belongs here: one call for either, many queries at once. Does not belong here: which passages are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.mining.corpus import MiningCorpus
from embed_pipeline.mining.settings import MiningSettings

_DECIMALS = 6
"""As in a ranking: the last bits of a float decide nothing."""


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
