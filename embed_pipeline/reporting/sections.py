"""The rows of a report sorted into what its page shows: variants, slicings, language pairs, general suites.

Belongs here: choosing and ordering rows. Does not belong here: drawing them (charts, planes), markup (page).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.reporting.charts import language_pair
from embed_pipeline.reporting.evidence import FORGETTING
from embed_pipeline.reporting.metric_row import ALL_QUERIES, MetricRow

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
