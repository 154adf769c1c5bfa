"""One row of the metrics table, and where its bytes came from.

Belongs here: the record that database, terminal, plots and page share. Does not belong here: storing or showing it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embed_pipeline.evaluation.comparison import Verdict
from embed_pipeline.evaluation.measures import Measure, MeasureName
from embed_pipeline.records import Split

ALL_QUERIES = "all"
"""The slice that leaves no query out."""

BASE_MODEL = "base model"
"""The baseline of a general suite: the variant's encoder before its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """The mean of one measure for one variant of a data set on one split, as one evaluation found it.

    `measured_on` is the data set whose queries were asked: the variant's own, or one of its general suite. `slice` says
    which of them, as `language: en`; ALL_QUERIES is all. `low` and `high` bound `value`; `ceiling` is the best that any
    ranking could reach on these queries. `baseline`, `difference` (variant minus baseline, with its own bounds),
    `p_value`, `p_adjusted` (Holm, over the variants compared with the baseline), `detectable` (the smallest difference
    these queries would show at 80 % power) and `verdict` are all set or all None: the baseline itself has none. On a
    general suite the baseline is BASE_MODEL, what the variant was before its training. What it costs to use the variant
    is in `cost_usd` (encoding corpus and queries once), `latency_p50_ms` and `latency_p95_ms` (one query, encoded and
    searched), `passages_per_second` (encoded in batches), `dimension` and `max_length` (tokens of a query); None where
    it was not measured or means nothing. `synthetic` says what wrote the queries, as `chat qwen3`; None where people
    did. A digest is None where the variant has no such artifact. `precision` is the arithmetic that its weights were
    trained in, `dtype` that of its vectors; None where nothing was trained or encoded here, or it was not recorded.
    `outdated` says of which other data or recipe than today's the figures are; such a row is compared with nothing.
    """

    dataset: str
    variant: str
    split: Split
    measured_on: str
    slice: str = ALL_QUERIES
    measure: MeasureName
    cutoff: int
    value: float
    low: float
    high: float
    queries: int
    synthetic: str | None = None
    ceiling: float
    baseline: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    verdict: Verdict | None = None
    cost_usd: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    passages_per_second: float | None = None
    dimension: int | None = None
    max_length: int | None = None
    raw_digest: str
    cleaned_digest: str
    negatives_digest: str | None = None
    checkpoint_digest: str | None = None
    index_digest: str | None = None
    query_metrics_digest: str
    recipe: Mapping[str, Any]
    seed: int | None = None
    precision: str | None = None
    dtype: str | None = None
    git_commit: str | None = None
    run_id: str | None = None
    evaluated_at: datetime
    outdated: str | None = None

    def __post_init__(self) -> None:
        bounds = [self.difference_low, self.difference_high, self.detectable]
        compared = [self.baseline, self.difference, *bounds, self.p_value, self.p_adjusted, self.verdict]
        present = [value is not None for value in compared]
        if any(present) and not all(present):
            raise ValueError(
                f"{self.dataset}/{self.variant} {self.at}: baseline, difference, its bounds, p_value, p_adjusted, "
                "detectable and verdict go together; set all or none"
            )
        if self.evaluated_at.tzinfo is None:
            raise ValueError(
                f"{self.dataset}/{self.variant}: evaluated_at needs a time zone, found {self.evaluated_at}"
            )

    @property
    def at(self) -> Measure:
        """The measure with its cutoff, as `precise@5`."""
        return Measure(self.measure, self.cutoff)

    @property
    def covers_own_queries(self) -> bool:
        """Whether the row counts every query of the variant's own data set."""
        return self.slice == ALL_QUERIES and self.measured_on == self.dataset

    @property
    def ceiling_share(self) -> float:
        """How much of the ceiling is reached, 0 to 1."""
        return self.value / self.ceiling if self.ceiling else 0.0
