"""How sure a mean is and whether a difference could be chance: bootstrap intervals and sign-flip tests.

Belongs here: resampling over queries, on plain matrices, for the table and for what is chosen on validation. Does not
belong here: which variant is compared with which (evaluation/comparison).

scipy.stats has both (`bootstrap(method="percentile")`, `permutation_test(permutation_type="samples")`) for one column
at a time; a table has a hundred columns over the same queries. Here one draw of queries, or of signs, serves them all
as a matrix product. Tests hold both to scipy's figures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FloatArray = NDArray[np.float64]

_DRAWS_AT_ONCE = 8_000_000  # 64 MB of draws


class SignificanceSettings(BaseModel):
    """How intervals and tests are drawn; a different seed moves the last digit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resamples: int = Field(default=9999, ge=99, description="Draws of the bootstrap and of the sign-flip test.")
    confidence: float = Field(
        default=0.95, gt=0, lt=1, description="Share of the bootstrap means that an interval holds."
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="A difference with a larger p is no evidence.")
    power: float = Field(
        default=0.8, gt=0.5, lt=1, description="How surely the detectable difference would be called a difference."
    )
    seed: int = Field(default=13, ge=0, description="Seed of all draws.")


@dataclass(frozen=True, slots=True)
class Intervals:
    """Lower and upper bounds, one per column."""

    low: FloatArray
    high: FloatArray


def bootstrap_intervals(values: FloatArray, settings: SignificanceSettings) -> Intervals:
    """Percentile intervals of the column means of `values` (queries, columns) over resampled queries.

    Raises:
        ValueError: there are no queries.

    Source: Efron and Tibshirani 1993, chapter 13; equals scipy.stats.bootstrap(method="percentile").
    """
    queries = _count_queries(values)
    generator = np.random.default_rng(settings.seed)
    means = []
    for draws in _batches(settings.resamples, queries):
        drawn = generator.integers(0, queries, (draws, queries))
        cells = drawn + queries * np.arange(draws)[:, None]
        counts = np.bincount(cells.ravel(), minlength=draws * queries).reshape(draws, queries)
        means.append(counts @ values / queries)
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return Intervals(low=low, high=high)


def sign_flip_p_values(differences: FloatArray, settings: SignificanceSettings) -> FloatArray:
    """Two-sided p of each column mean of `differences` (queries, columns) under random signs: paired randomisation.

    Exact over all 2^n signs where those are no more than `resamples`; otherwise drawn, and the observed signs count as
    one draw, so p is never 0. A column of zeros has p = 1.

    Raises:
        ValueError: there are no queries.

    Source: Smucker, Allan, Carterette 2007; equals scipy.stats.permutation_test(permutation_type="samples").
    """
    queries = _count_queries(differences)
    observed = np.abs(differences.sum(axis=0))
    threshold = observed - 1e-9 * np.maximum(1.0, observed)  # equal sums must tie whatever the order of adding
    exact = queries < settings.resamples.bit_length()
    if exact:
        draws_total = 2**queries
        bits = np.arange(draws_total)[:, None] >> np.arange(queries) & 1
        reached = (np.abs((2.0 * bits - 1.0) @ differences) >= threshold).sum(axis=0)
        return reached / draws_total
    generator = np.random.default_rng(settings.seed)
    reached = np.ones(differences.shape[1])
    for draws in _batches(settings.resamples, queries):
        signs = 2.0 * generator.integers(0, 2, (draws, queries), dtype=np.int8) - 1.0
        reached += (np.abs(signs @ differences) >= threshold).sum(axis=0)
    return reached / (settings.resamples + 1)


def mcnemar_p_value(differences: FloatArray) -> float:
    """Two-sided exact p of McNemar's test on differences of 0/1 values, (queries,) of -1, 0 and 1.

    Under chance each query that only one side gets right is a fair coin. Without such a query p = 1.
    Source: McNemar 1947, exact form.
    """
    from scipy.stats import binomtest

    won, lost = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def adjust_p_values(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values corrected for their number (Holm's step-down), in the order given; never below the plain ones.

    Rejecting those up to alpha keeps the chance of a single wrong rejection at alpha. Source: Holm 1979.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for step, at in enumerate(sorted(range(len(p_values)), key=lambda at: (p_values[at], at))):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[at]))
        adjusted[at] = highest
    return tuple(adjusted)


def detectable_difference(differences: FloatArray, settings: SignificanceSettings, *, comparisons: int = 1) -> float:
    """The smallest true mean difference that a test on such `differences` (queries,) finds with the wanted power.

    At alpha divided by the number of comparisons. Never less than what the fewest queries give that can reach that
    alpha at all: 6 of one sign at alpha .05.
    Source: normal approximation, (z(1 - alpha / 2) + z(power)) * standard deviation / sqrt(queries).
    """
    queries, alpha = len(differences), settings.alpha / comparisons
    normal = NormalDist()
    spread = float(differences.std(ddof=1)) if queries > 1 else 0.0
    wanted = (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(settings.power)) * spread / math.sqrt(queries)
    fewest = math.ceil(1 - math.log2(alpha))
    return min(1.0, max(wanted, fewest / queries))


def _count_queries(values: FloatArray) -> int:
    if values.ndim != 2 or not values.shape[0]:
        raise ValueError(f"expected a matrix (queries, columns) with at least one query, found shape {values.shape}")
    return values.shape[0]


def _batches(draws: int, queries: int) -> list[int]:
    size = max(1, _DRAWS_AT_ONCE // queries)
    return [min(size, draws - start) for start in range(0, draws, size)]
