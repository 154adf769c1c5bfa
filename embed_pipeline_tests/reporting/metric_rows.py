"""Rows as an evaluation would write them, with figures that are easy to recognise."""

from dataclasses import replace
from datetime import UTC, datetime

from embed_pipeline.reporting.metrics_table import MetricRow

ROW = MetricRow(
    dataset="disease",
    variant="minilm",
    split="test",
    measured_on="disease",
    measure="precise",
    cutoff=5,
    value=0.5,
    low=0.45,
    high=0.55,
    queries=600,
    ceiling=0.98,
    raw_digest="a" * 64,
    cleaned_digest="b" * 64,
    index_digest="e" * 64,
    query_metrics_digest="f" * 64,
    recipe={"encoder": {"model": "bundled-english"}, "note": "零样本"},
    seed=13,
    git_commit="0123abc",
    run_id="run-1",
    evaluated_at=datetime(2026, 11, 20, 3, 0, tzinfo=UTC),
)


def compared(row: MetricRow, difference: float, p_value: float, **changes) -> MetricRow:
    """The row against bm25, with an interval of 4 points to either side and one comparison more to correct for."""
    verdict = "no evidence" if 2 * p_value > 0.05 else "better" if difference > 0 else "worse"
    return replace(
        row,
        baseline="bm25",
        difference=difference,
        difference_low=difference - 0.04,
        difference_high=difference + 0.04,
        p_value=p_value,
        p_adjusted=min(1.0, 2 * p_value),
        detectable=0.037,
        verdict=verdict,
        **changes,
    )
