"""Means with intervals, the verdict on a variant against a baseline, paired by query, and what got worse since before.

Belongs here: turning query measures into the figures of the table and into drops from one evaluation to the next. Does
not belong here: how chance is drawn (significance), what is stored (reporting), telling people (assembly.alerts).

Holm's correction is over the variants that are compared with one baseline. Nothing is corrected for the number of
measures looked at: decide on one first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.significance import (
    FloatArray,
    SignificanceSettings,
    adjust_p_values,
    bootstrap_intervals,
    detectable_difference,
    mcnemar_p_value,
    sign_flip_p_values,
)

Verdict = Literal["better", "worse", "no evidence"]


@dataclass(frozen=True, slots=True)
class MeasureSummary:
    """The mean of a measure over `queries` queries, with its bootstrap interval."""

    measure: Measure
    value: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Variant minus baseline on one measure: mean difference, interval, p of the paired test, and what that means.

    `p_adjusted` is corrected for the number of variants; `detectable` is the smallest difference that these queries
    would show with the wanted power after that correction.
    """

    measure: Measure
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    detectable: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Matrix:
    query_ids: tuple[str, ...]
    measures: tuple[Measure, ...]
    values: FloatArray  # (queries, measures)


def summarise(
    query_measures: Sequence[QueryMeasure], settings: SignificanceSettings | None = None
) -> tuple[MeasureSummary, ...]:
    """One summary per measure, in the order in which the measures first occur.

    Raises:
        ValueError: there is nothing to summarise, or not every query has every measure exactly once.
    """
    matrix = _matrix(query_measures)
    intervals = bootstrap_intervals(matrix.values, settings or SignificanceSettings())
    means = matrix.values.mean(axis=0)
    return tuple(
        MeasureSummary(
            measure, float(means[i]), float(intervals.low[i]), float(intervals.high[i]), len(matrix.query_ids)
        )
        for i, measure in enumerate(matrix.measures)
    )


def compare_variants(
    baseline: Sequence[QueryMeasure],
    variants: Mapping[str, Sequence[QueryMeasure]],
    settings: SignificanceSettings | None = None,
) -> dict[str, tuple[Comparison, ...]]:
    """Every variant against the baseline: one comparison per measure, in the order of the variant's measures.

    The p is McNemar's exact one where all values of a measure are 0 or 1, else that of paired randomisation. Holm's
    correction is over the variants, measure by measure. `better` and `worse` need an adjusted p of alpha at most and an
    interval without 0; everything else is `no evidence`.

    Raises:
        ValueError: two do not hold the same queries and measures.
    """
    settings = settings or SignificanceSettings()
    base = _matrix(baseline)
    tested = {name: _test(base, _matrix(values), settings) for name, values in variants.items()}
    found: dict[str, tuple[Comparison, ...]] = {}
    for name, own in tested.items():
        comparisons = []
        for measure, test in own.items():
            p_values = {other: tests[measure].p_value for other, tests in tested.items() if measure in tests}
            adjusted = dict(zip(p_values, adjust_p_values(list(p_values.values())), strict=True))[name]
            comparisons.append(
                Comparison(
                    measure=measure,
                    difference=test.difference,
                    low=test.low,
                    high=test.high,
                    p_value=test.p_value,
                    p_adjusted=adjusted,
                    detectable=detectable_difference(test.differences, settings, comparisons=len(p_values)),
                    verdict=_judge(adjusted, test.low, test.high, settings.alpha),
                )
            )
        found[name] = tuple(comparisons)
    return found


def compare_queries(
    baseline: Sequence[QueryMeasure], variant: Sequence[QueryMeasure], settings: SignificanceSettings | None = None
) -> tuple[Comparison, ...]:
    """The comparisons of a single variant; see compare_variants."""
    return compare_variants(baseline, {"variant": variant}, settings)["variant"]


def compare(
    measure: Measure,
    baseline: Mapping[str, float],
    variant: Mapping[str, float],
    settings: SignificanceSettings | None = None,
) -> Comparison:
    """The comparison on one measure from values by query id; see compare_queries."""
    sides = [
        [QueryMeasure(query_id, measure, value) for query_id, value in values.items()] for values in (baseline, variant)
    ]
    return compare_queries(sides[0], sides[1], settings)[0]


@dataclass(frozen=True, slots=True)
class _Test:
    difference: float
    low: float
    high: float
    p_value: float
    differences: FloatArray  # (queries,)


def _test(base: _Matrix, other: _Matrix, settings: SignificanceSettings) -> dict[Measure, _Test]:
    if base.query_ids != other.query_ids or set(base.measures) != set(other.measures):
        shared = len(set(base.query_ids) & set(other.query_ids))
        raise ValueError(
            f"a paired comparison needs equal queries and measures: baseline has {len(base.query_ids)} queries and "
            f"{len(base.measures)} measures, variant {len(other.query_ids)} and {len(other.measures)}, {shared} "
            "queries shared. Evaluate both on the same split."
        )
    paired = base.values[:, [base.measures.index(measure) for measure in other.measures]]
    differences = other.values - paired
    intervals = bootstrap_intervals(differences, settings)
    means, hit_like = (
        differences.mean(axis=0),
        [_is_binary(paired[:, i], other.values[:, i]) for i in range(len(other.measures))],
    )
    drawn = iter(sign_flip_p_values(differences[:, [not binary for binary in hit_like]], settings))
    return {
        measure: _Test(
            difference=float(means[i]),
            low=float(intervals.low[i]),
            high=float(intervals.high[i]),
            p_value=mcnemar_p_value(differences[:, i]) if hit_like[i] else float(next(drawn)),
            differences=differences[:, i],
        )
        for i, measure in enumerate(other.measures)
    }


def _is_binary(*columns: FloatArray) -> bool:
    return all(bool(np.isin(column, (0.0, 1.0)).all()) for column in columns)


def _judge(p_value: float, low: float, high: float, alpha: float) -> Verdict:
    if p_value > alpha or low <= 0 <= high:
        return "no evidence"
    return "better" if low > 0 else "worse"


def _matrix(query_measures: Sequence[QueryMeasure]) -> _Matrix:
    """Sorted by query id, so that what is drawn does not depend on the order of the file."""
    query_ids = sorted({result.query_id for result in query_measures})
    measures = tuple(dict.fromkeys(result.measure for result in query_measures))
    rows = {query_id: i for i, query_id in enumerate(query_ids)}
    columns = {measure: i for i, measure in enumerate(measures)}
    values = np.full((len(rows), len(columns)), np.nan)
    for result in query_measures:
        values[rows[result.query_id], columns[result.measure]] = result.value
    if not query_measures or np.isnan(values).any() or values.size != len(query_measures):
        raise ValueError(
            f"expected every query with every measure once: {len(rows)} queries x {len(columns)} measures, found "
            f"{len(query_measures)} values. Measure the queries again."
        )
    return _Matrix(tuple(query_ids), measures, values)


FEWEST_SHARED = 20
"""Fewer questions than this in both evaluations say nothing about a change."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What one variant scored in two evaluations, on the measure that counts for its data set."""

    variant: str
    measure: Measure
    before: Sequence[QueryMeasure]
    after: Sequence[QueryMeasure]


@dataclass(frozen=True, slots=True)
class Drop:
    """A variant that is proven to be worse than in the evaluation before, on the questions that both asked."""

    variant: str
    measure: Measure
    before: float
    after: float
    low: float
    high: float
    p_adjusted: float
    queries: int

    def __str__(self) -> str:
        return (
            f"{self.variant} {self.measure}: {100 * self.before:.1f} → {100 * self.after:.1f} "
            f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}], p={self.p_adjusted:.2g}, {self.queries} questions"
        )


def find_drops(evaluated: Sequence[Evaluated], settings: SignificanceSettings | None = None) -> tuple[Drop, ...]:
    """The variants that got worse: paired by question, corrected (Holm) for the number of variants that were compared.

    Only questions of both evaluations count, so questions that came or went move nothing. Variants with fewer than
    FEWEST_SHARED of them, or without any changed value, are left out.
    """
    settings = settings or SignificanceSettings()
    candidates = []
    for variant in evaluated:
        before, after = (_values(side, variant.measure) for side in (variant.before, variant.after))
        shared = sorted(before.keys() & after.keys())
        if len(shared) < FEWEST_SHARED or all(before[query] == after[query] for query in shared):
            continue
        sides = [[QueryMeasure(q, variant.measure, side[q]) for q in shared] for side in (before, after)]
        (found,) = compare_queries(sides[0], sides[1], settings)
        means = [sum(side[q] for q in shared) / len(shared) for side in (before, after)]
        candidates.append((variant, found, means, len(shared)))
    adjusted = adjust_p_values([found.p_value for _, found, _, _ in candidates])
    return tuple(
        Drop(variant.variant, variant.measure, means[0], means[1], found.low, found.high, p_adjusted, queries)
        for (variant, found, means, queries), p_adjusted in zip(candidates, adjusted, strict=True)
        if p_adjusted <= settings.alpha and found.high < 0
    )


def _values(results: Sequence[QueryMeasure], measure: Measure) -> Mapping[str, float]:
    return {result.query_id: result.value for result in results if result.measure == measure}
