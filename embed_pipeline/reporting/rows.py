"""Query measures to rows of the metrics table: means, intervals, and the comparison with each data set's baseline.

Belongs here: putting evaluation's figures and an artifact's lineage into rows, and their file. Does not belong here:
computing figures, storing the table.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embed_pipeline.evaluation.comparison import compare_queries, summarise
from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.evaluation.significance import SignificanceSettings
from embed_pipeline.records import Split
from embed_pipeline.reporting.metric_row import MetricRow

_UNSET = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The digests that a variant's figures come from, and its recipe."""

    raw_digest: str
    cleaned_digest: str
    negatives_digest: str | None
    checkpoint_digest: str | None
    index_digest: str
    query_metrics_digest: str
    recipe: Mapping[str, Any]
    seed: int | None


@dataclass(frozen=True)
class MeasuredVariant:
    """What one variant scored on each test query of a data set, and the best that any ranking could."""

    dataset: str
    variant: str
    split: Split
    query_measures: Sequence[QueryMeasure]
    ceilings: Mapping[Measure, float]
    lineage: Lineage


def make_rows(
    variants: Sequence[MeasuredVariant], baselines: Mapping[str, str], settings: SignificanceSettings
) -> tuple[MetricRow, ...]:
    """One row per variant and measure, in the order given; `evaluated_at`, run and commit are left for the evaluation.

    A variant is compared with its data set's baseline if both were measured on the same cleaned data; otherwise its
    comparison stays empty, because a difference between two test sets says nothing.
    """
    baseline = {v.dataset: v for v in variants if v.variant == baselines.get(v.dataset)}
    return tuple(row for variant in variants for row in _rows_of(variant, baseline.get(variant.dataset), settings))


def stamp_rows(
    rows: Iterable[MetricRow], *, run_id: str | None, git_commit: str | None, evaluated_at: datetime
) -> tuple[MetricRow, ...]:
    """The rows as one evaluation found them."""
    return tuple(replace(row, run_id=run_id, git_commit=git_commit, evaluated_at=evaluated_at) for row in rows)


def write_rows(rows: Iterable[MetricRow], path: Path) -> None:
    """Write one JSON object a line, without what differs from evaluation to evaluation: equal figures, equal bytes."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            fields = asdict(row) | {"run_id": None, "git_commit": None, "evaluated_at": None}
            file.write(json.dumps(fields, ensure_ascii=False, sort_keys=True) + "\n")


def read_rows(path: Path) -> tuple[MetricRow, ...]:
    """The rows that `write_rows` wrote, in the order of the file, still to be stamped."""
    with path.open(encoding="utf-8") as file:
        return tuple(MetricRow(**{**json.loads(line), "evaluated_at": _UNSET}) for line in file)


def _rows_of(
    variant: MeasuredVariant, baseline: MeasuredVariant | None, settings: SignificanceSettings
) -> list[MetricRow]:
    comparable = (
        baseline is not None
        and baseline is not variant
        and baseline.lineage.cleaned_digest == variant.lineage.cleaned_digest
    )
    compared = {}
    if comparable and baseline is not None:
        found = compare_queries(baseline.query_measures, variant.query_measures, settings)
        compared = {
            comparison.measure: {
                "baseline": baseline.variant,
                "difference": comparison.difference,
                "difference_low": comparison.low,
                "difference_high": comparison.high,
                "p_value": comparison.p_value,
                "verdict": comparison.verdict,
            }
            for comparison in found
        }
    return [
        MetricRow(
            dataset=variant.dataset,
            variant=variant.variant,
            split=variant.split,
            measure=mean.measure.name,
            cutoff=mean.measure.cutoff,
            value=mean.value,
            low=mean.low,
            high=mean.high,
            queries=mean.queries,
            ceiling=variant.ceilings[mean.measure],
            evaluated_at=_UNSET,
            **asdict(variant.lineage),
            **compared.get(mean.measure, {}),
        )
        for mean in summarise(variant.query_measures, settings)
    ]
