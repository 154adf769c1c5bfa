"""Scores of query-passage pairs, kept across assets and runs, keyed by the weights' content and both texts.

Belongs here: asking the store before the model. Does not belong here: how entries lie on disk (vector_cache.py: a score
is a vector of length 1), the model (cross_encoder.py).
"""

import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline.encoding.encoder import Progress
from embed_pipeline.encoding.vector_cache import VectorCache

SCORE_DECIMALS = 5
"""Scores are rounded before they are kept, so that the last bits of a forward pass decide nothing."""

_PAIRS_PER_COMMIT = 256


class PairScorer(Protocol):
    """Pairs in, float32 scores out, one each; a higher score is more relevant. Equal fingerprints: equal scores."""

    @property
    def fingerprint(self) -> str:
        """The digest of everything that changes a score."""
        ...

    def score(self, pairs: Sequence[TextPair]) -> np.ndarray:
        """float32 (len(pairs),), also for no pairs."""
        ...


class CachedPairScorer:
    """Implements PairScorer; what is stored is never scored again, and every portion is stored when it is done."""

    def __init__(self, scorer: PairScorer, cache: VectorCache, *, progress: Progress | None = None) -> None:
        self.scorer = scorer
        self.cache = cache
        self.progress = progress
        self.scored = 0
        """Distinct pairs that went through the model, over all calls."""
        self.served = 0
        """Distinct pairs that came from the cache, over all calls."""

    @property
    def fingerprint(self) -> str:
        """See PairScorer."""
        return self.scorer.fingerprint

    def score(self, pairs: Sequence[TextPair]) -> np.ndarray:
        """float32 (len(pairs),), rounded to five decimals, row i for pair i."""
        distinct = list(dict.fromkeys(pairs))
        keys = [json.dumps(pair, ensure_ascii=True) for pair in distinct]
        found = self.cache.lookup(self.fingerprint, keys, 1)
        scores = found.vectors
        # Alike lengths together: less padding.
        missing = sorted(np.flatnonzero(~found.found).tolist(), key=lambda row: (-len(keys[row]), row))
        self.served += len(distinct) - len(missing)
        for start in range(0, len(missing), _PAIRS_PER_COMMIT):
            rows = missing[start : start + _PAIRS_PER_COMMIT]
            scores[rows, 0] = np.round(self.scorer.score([distinct[row] for row in rows]), SCORE_DECIMALS)
            self.cache.store(self.fingerprint, [keys[row] for row in rows], scores[rows])
            self.scored += len(rows)
            if self.progress:
                self.progress(start + len(rows), len(missing))
        row_of = {pair: row for row, pair in enumerate(distinct)}
        return scores[[row_of[pair] for pair in pairs], 0] if pairs else np.empty(0, dtype=np.float32)
