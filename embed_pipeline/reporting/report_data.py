"""What a report is made of: everything that one data set's page shows.

Belongs here: the records that are handed to the page, and its rows sorted into what it shows. Does not belong here:
collecting them (defs), drawing them (page, charts).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from embed_pipeline.evaluation.calibration import Calibration, ScoreDistribution
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.evaluation.returned_labels import ReturnChoice
from embed_pipeline.reporting.charts import language_pair
from embed_pipeline.reporting.metrics_table import ALL_QUERIES, FORGETTING, MetricRow
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
    """How a variant's scores separate relevant from irrelevant, from which score on to answer, and with how much.

    None: not known.
    """

    variant: str
    distribution: ScoreDistribution | None
    calibration: Calibration | None
    returned: ReturnChoice | None = None


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
    training_seconds: Mapping[str, float] = field(default_factory=dict)
    """Of the variants for which something was trained."""

    def __post_init__(self) -> None:
        others = sorted({row.dataset for row in self.rows} - {self.dataset})
        if others:
            raise ValueError(
                f"report of {self.dataset}: rows must be of this data set, found {', '.join(others)} too. "
                "Filter the rows by data set first."
            )


PAIR_MEASURE = Measure("mrr", 10)


@dataclass(frozen=True, slots=True)
class VariantRows:
    """A variant's rows on all its own queries, by measure."""

    variant: str
    by_measure: Mapping[Measure, MetricRow]
    headline: MetricRow | None

    @property
    def any_row(self) -> MetricRow:
        """The row that what holds for the whole variant is read from."""
        return self.headline or next(iter(self.by_measure.values()))


@dataclass(frozen=True, slots=True)
class Slicing:
    """One way to part the queries: its name, and per value the rows, in the order of the variants."""

    name: str
    groups: Mapping[str, tuple[MetricRow, ...]]


@dataclass(frozen=True, slots=True)
class Suite:
    """What the variants reach on another data set, and against what they were before their training."""

    name: str
    measure: Measure
    rows: tuple[MetricRow, ...]


def sort_variants(rows: Sequence[MetricRow], headline: Measure) -> tuple[VariantRows, ...]:
    """The variants that were measured on all own queries, the best on the headline first, then by name."""
    found: dict[str, dict[Measure, MetricRow]] = {}
    for row in rows:
        if row.covers_own_queries:
            found.setdefault(row.variant, {})[row.at] = row
    variants = [VariantRows(name, measured, measured.get(headline)) for name, measured in found.items()]
    return tuple(sorted(variants, key=lambda v: (-(v.headline.value if v.headline else -1.0), v.variant)))


def find_baseline(rows: Sequence[MetricRow]) -> str | None:
    """The variant that the others are compared with on their own queries; None where there is no comparison."""
    return next((row.baseline for row in rows if row.covers_own_queries and row.baseline), None)


def sort_slicings(rows: Sequence[MetricRow], headline: Measure, order: Mapping[str, int]) -> tuple[Slicing, ...]:
    """The slicings of the own queries on the headline measure, with names and values in the order of the rows."""
    found: dict[str, dict[str, list[MetricRow]]] = {}
    for row in rows:
        own = row.measured_on == row.dataset and row.slice != ALL_QUERIES and row.at == headline
        if own and language_pair(row) is None:
            name, _, value = row.slice.partition(": ")
            found.setdefault(name, {}).setdefault(value or name, []).append(row)
    return tuple(
        Slicing(name, {value: _in_order(those, order) for value, those in values.items()})
        for name, values in found.items()
    )


def sort_pairs(rows: Sequence[MetricRow], order: Mapping[str, int]) -> Mapping[str, tuple[MetricRow, ...]]:
    """The language pairs of each variant that has some."""
    found: dict[str, list[MetricRow]] = {}
    for row in _in_order(rows, order):
        if row.measured_on == row.dataset and row.at == PAIR_MEASURE and language_pair(row) is not None:
            found.setdefault(row.variant, []).append(row)
    return {variant: tuple(pairs) for variant, pairs in found.items()}


def sort_suites(rows: Sequence[MetricRow], headline: Measure, order: Mapping[str, int]) -> tuple[Suite, ...]:
    """The general suites by name; each on the measure of forgetting or, where it has none, on headline or first."""
    found: dict[str, list[MetricRow]] = {}
    for row in rows:
        if row.measured_on != row.dataset:
            name = row.measured_on if row.slice == ALL_QUERIES else f"{row.measured_on}, {row.slice}"
            found.setdefault(name, []).append(row)
    suites = []
    for name, those in sorted(found.items()):
        measured = {row.at for row in those}
        measure = next((wanted for wanted in (FORGETTING, headline) if wanted in measured), min(measured))
        suites.append(Suite(name, measure, _in_order([row for row in those if row.at == measure], order)))
    return tuple(suites)


def _in_order(rows: Sequence[MetricRow], order: Mapping[str, int]) -> tuple[MetricRow, ...]:
    return tuple(sorted(rows, key=lambda row: (order.get(row.variant, len(order)), row.variant)))
