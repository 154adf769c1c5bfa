"""Vectors made alike in every direction: no labels are learnt from, one number is chosen on validation.

An encoder that saw few examples of a language or a domain lays its vectors into a narrow cone, where a few directions
that all texts share decide the similarity. Here each role loses its own mean, and each principal axis of the corpus is
divided by a power of its variance: 0.5 is whitening as in Su et al. 2021, arXiv 2103.15316, less is a part of it.

Belongs here: the matrix and the choice of the power. Does not belong here: applying and keeping it (adapter.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embed_pipeline.adaptation.adapter import LinearAdapter
from embed_pipeline.adaptation.linear import Asked, reciprocal_ranks
from embed_pipeline.significance import SignificanceSettings, adjust_p_values, sign_flip_p_values

_RIDGE = 0.01
"""Added to each variance, as a share of their mean: an axis that the corpus hardly uses is noise."""
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class TriedPower:
    """What one power came to; 0 is the encoder alone."""

    power: float
    validation_mrr_at_10: float
    p: float
    """Of the difference to the encoder alone, by the sign-flip test paired by query; corrected for all powers."""


@dataclass(frozen=True, slots=True)
class Whitening:
    """The adapter of the power that was taken, and all powers in ascending order."""

    adapter: LinearAdapter
    tried: tuple[TriedPower, ...]
    power: float


def whiten(
    corpus: np.ndarray,
    queries: np.ndarray,
    *,
    validation: Asked,
    powers: Sequence[float],
    encoder_fingerprint: str,
    normalize: bool = True,
) -> Whitening:
    """The power that is best on validation (MRR@10 over the whole corpus), of equal ones the smallest.

    Where its gain is not proven (p above .05) nothing is changed: the best of several powers is always somewhat ahead,
    and on few validation queries by chance. `queries` are what their mean is taken from: the training queries.

    Raises:
        ValueError: there are no queries or no validation queries, or shapes do not fit.
    """
    if not len(queries) or not len(validation.vectors):
        raise ValueError(
            f"whitening: {len(queries)} training and {len(validation.vectors)} validation queries. Both are needed."
        )
    means = queries.mean(axis=0, dtype=np.float64), corpus.mean(axis=0, dtype=np.float64)
    variances, axes = _principal_axes(corpus, means[1])

    def adapter(power: float) -> LinearAdapter:
        if power == 0:
            same = np.eye(corpus.shape[1], dtype=np.float32)
            return LinearAdapter(same, None, normalize, encoder_fingerprint)
        # Turned back to the old axes: which way an axis points is chance.
        matrix = ((axes * variances**-power) @ axes.T).astype(np.float32)
        query_mean, passage_mean = (mean.astype(np.float32) for mean in means)
        return LinearAdapter(matrix, matrix, normalize, encoder_fingerprint, query_mean, passage_mean)

    asked, settings = sorted({0.0, *powers}), SignificanceSettings()
    values = np.stack([reciprocal_ranks(adapter(power), corpus, validation) for power in asked], axis=1)
    p_values = adjust_p_values(sign_flip_p_values(values[:, 1:] - values[:, :1], settings).tolist())
    tried = tuple(map(TriedPower, asked, values.mean(axis=0).tolist(), (1.0, *p_values)))
    best = max(tried, key=lambda one: (one.validation_mrr_at_10, -one.power))
    power = best.power if best.p <= settings.alpha else 0.0
    return Whitening(adapter(power), tried, power)


def _principal_axes(corpus: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (dimension,) as shares of their mean, none of them 0, and the axes as columns; float64."""
    width = corpus.shape[1]
    total = np.zeros((width, width))
    for start in range(0, len(corpus), _ROWS_AT_ONCE):
        part = corpus[start : start + _ROWS_AT_ONCE].astype(np.float64) - mean
        total += part.T @ part
    variances, axes = np.linalg.eigh(total / len(corpus))
    mean_variance = variances.mean()
    if mean_variance <= 0:
        raise ValueError("whitening: all passages have the same vector. Name another encoder, or another corpus.")
    return np.maximum(variances, 0) / mean_variance + _RIDGE, axes
