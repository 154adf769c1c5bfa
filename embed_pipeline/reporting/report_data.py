"""What a report is made of: everything that one data set's page shows.

Belongs here: the records that are handed to the page. Does not belong here: collecting them (defs), drawing them
(page, charts).
"""

from dataclasses import dataclass
from datetime import datetime

from embed_pipeline.evaluation.calibration import Calibration
from embed_pipeline.evaluation.score_distribution import ScoreDistribution
from embed_pipeline.reporting.metric_row import MetricRow
from embed_pipeline.reporting.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """The headline measure of a variant on all its own queries, as one evaluation found it, with its interval."""

    variant: str
    evaluated_at: datetime
    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.evaluated_at.tzinfo is None:
            raise ValueError(f"{self.variant}: evaluated_at needs a time zone, found {self.evaluated_at}")


@dataclass(frozen=True, slots=True)
class VariantScores:
    """How a variant's scores separate relevant from irrelevant, and from which score on to answer; None: not known."""

    variant: str
    distribution: ScoreDistribution | None
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """The report of one data set.

    `rows` are all of its newest rows: own queries, slices, language pairs, general suites. `word_map` is an SVG drawing
    and goes into the page as it is: it must be ours.
    """

    dataset: str
    description: str
    rows: tuple[MetricRow, ...]
    history: tuple[HistoryPoint, ...]
    scores: tuple[VariantScores, ...]
    outcomes: tuple[Outcomes, ...]
    word_map: str | None

    def __post_init__(self) -> None:
        others = sorted({row.dataset for row in self.rows} - {self.dataset})
        if others:
            raise ValueError(
                f"report of {self.dataset}: rows must be of this data set, found {', '.join(others)} too. "
                "Filter the rows by data set first."
            )
