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


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """The mean of one measure for one variant of a data set on one split, as one evaluation found it.

    `low` and `high` bound `value`; `ceiling` is the best that any ranking could reach on these queries. `baseline`,
    `difference` (variant minus baseline, with its own bounds), `p_value` and `verdict` are all set or all None: the
    baseline itself has none. A digest is None where the variant has no such artifact.
    """

    dataset: str
    variant: str
    split: Split
    measure: MeasureName
    cutoff: int
    value: float
    low: float
    high: float
    queries: int
    ceiling: float
    baseline: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    verdict: Verdict | None = None
    raw_digest: str
    cleaned_digest: str
    negatives_digest: str | None = None
    checkpoint_digest: str | None = None
    index_digest: str | None = None
    query_metrics_digest: str
    recipe: Mapping[str, Any]
    seed: int | None = None
    git_commit: str | None = None
    run_id: str | None = None
    evaluated_at: datetime

    def __post_init__(self) -> None:
        compared = [self.difference, self.difference_low, self.difference_high, self.p_value, self.verdict]
        present = [value is not None for value in (self.baseline, *compared)]
        if any(present) and not all(present):
            raise ValueError(
                f"{self.dataset}/{self.variant} {self.at}: baseline, difference, its bounds, p_value and verdict go "
                "together; set all or none"
            )
        if self.evaluated_at.tzinfo is None:
            raise ValueError(
                f"{self.dataset}/{self.variant}: evaluated_at needs a time zone, found {self.evaluated_at}"
            )

    @property
    def at(self) -> Measure:
        """The measure with its cutoff, as `precise@5`."""
        return Measure(self.measure, self.cutoff)
