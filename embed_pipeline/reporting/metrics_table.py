"""The metrics table: its columns, where each value comes from, and the comparison with each data set's baseline.

Belongs here: a row, putting evaluation's figures and an artifact's lineage into rows, and their file. Does not belong
here: computing figures, storing the table (database), showing it (terminal, page).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embed_pipeline.evaluation.comparison import Comparison, Verdict, compare_queries, compare_variants, summarise
from embed_pipeline.evaluation.latency import Profile
from embed_pipeline.evaluation.measures import Measure, MeasureName, QueryMeasure
from embed_pipeline.records import Split
from embed_pipeline.significance import SignificanceSettings

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


def row_of_today(rows: Sequence[MetricRow]) -> MetricRow:
    """The first row that is not outdated, else the first: what the test questions of today are like is read from it."""
    return next((row for row in rows if not row.outdated), rows[0])


PART_MEASURES = (Measure("hit_rate", 1), Measure("recall", 5), Measure("mrr", 10), Measure("ndcg", 10))
"""What slices and general suites are measured by, beside the headline."""
FORGETTING = Measure("ndcg", 10)
"""Of these, what is shown of general suites."""
_UNSET = datetime(1970, 1, 1, tzinfo=UTC)
_STAMPED = ("run_id", "git_commit", "evaluated_at", *Profile.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The digests that a variant's figures come from, its recipe, and the arithmetic of its training and vectors."""

    raw_digest: str
    cleaned_digest: str
    negatives_digest: str | None
    checkpoint_digest: str | None
    index_digest: str
    query_metrics_digest: str
    recipe: Mapping[str, Any]
    seed: int | None
    precision: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class MeasuredPart:
    """Some queries apart: a slice of the variant's own, a pair of languages, or a general suite.

    `ideal` is what the best possible ranking scores on them; `base` what the variant's model scored before training.
    """

    measured_on: str
    slice: str
    query_measures: Sequence[QueryMeasure]
    ideal: Sequence[QueryMeasure]
    base: Sequence[QueryMeasure] | None = None


@dataclass(frozen=True)
class MeasuredVariant:
    """What one variant scored on each test query of a data set, the best that any ranking could, and parts of it."""

    dataset: str
    variant: str
    split: Split
    query_measures: Sequence[QueryMeasure]
    ideal: Sequence[QueryMeasure]
    lineage: Lineage
    synthetic: str | None = None
    parts: Sequence[MeasuredPart] = field(default=())


def make_rows(
    variants: Sequence[MeasuredVariant], baselines: Mapping[str, str | None], settings: SignificanceSettings
) -> tuple[MetricRow, ...]:
    """The rows of every variant, in the order given: a row per measure, then those of its parts.

    Variants are compared with their data set's baseline if both were measured on the same cleaned data; otherwise the
    comparison stays empty, because a difference between two test sets says nothing. Slices are not compared: they show
    where a variant is good, the verdict is on all queries.
    """
    found: list[MetricRow] = []
    for dataset in dict.fromkeys(variant.dataset for variant in variants):
        own = [variant for variant in variants if variant.dataset == dataset]
        baseline = next((variant for variant in own if variant.variant == baselines.get(dataset)), None)
        compared = _compare(own, baseline, settings)
        for variant in own:
            whole = MeasuredPart(dataset, ALL_QUERIES, variant.query_measures, variant.ideal)
            name = baseline.variant if baseline else ""
            found += _part_rows(variant, whole, name, compared.get(variant.variant, ()), settings)
            for part in variant.parts:
                lost = compare_queries(part.base, part.query_measures, settings) if part.base else ()
                found += _part_rows(variant, part, BASE_MODEL, lost, settings)
    return tuple(found)


def stamp_rows(
    rows: Iterable[MetricRow],
    *,
    run_id: str | None,
    git_commit: str | None,
    evaluated_at: datetime,
    profiles: Mapping[tuple[str, str], Profile] | None = None,
) -> tuple[MetricRow, ...]:
    """The rows as one evaluation found them; `profiles` by data set and variant, for the rows on its own data set."""
    stamped = []
    for row in rows:
        profile = (profiles or {}).get((row.dataset, row.variant)) if row.covers_own_queries else None
        costs = asdict(profile) if profile else {}
        stamped.append(replace(row, run_id=run_id, git_commit=git_commit, evaluated_at=evaluated_at, **costs))
    return tuple(stamped)


def write_rows(rows: Iterable[MetricRow], path: Path) -> None:
    """Write one JSON object a line, without what differs from evaluation to evaluation: equal figures, equal bytes."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            fields = asdict(row) | dict.fromkeys(_STAMPED)
            del fields["outdated"]  # what is outdated is known where the row is read
            file.write(json.dumps(fields, ensure_ascii=False, sort_keys=True) + "\n")


def read_rows(path: Path) -> tuple[MetricRow, ...]:
    """The rows that `write_rows` wrote, in the order of the file, still to be stamped."""
    with path.open(encoding="utf-8") as file:
        return tuple(MetricRow(**{**json.loads(line), "evaluated_at": _UNSET}) for line in file)


def _compare(
    variants: Sequence[MeasuredVariant], baseline: MeasuredVariant | None, settings: SignificanceSettings
) -> dict[str, tuple[Comparison, ...]]:
    if baseline is None:
        return {}
    comparable = {
        variant.variant: variant.query_measures
        for variant in variants
        if variant is not baseline and variant.lineage.cleaned_digest == baseline.lineage.cleaned_digest
    }
    return compare_variants(baseline.query_measures, comparable, settings)


def _part_rows(
    variant: MeasuredVariant,
    part: MeasuredPart,
    baseline: str,
    comparisons: Sequence[Comparison],
    settings: SignificanceSettings,
) -> list[MetricRow]:
    ceilings = _means(part.ideal)
    compared = {comparison.measure: _comparison_fields(baseline, comparison) for comparison in comparisons}
    return [
        MetricRow(
            dataset=variant.dataset,
            variant=variant.variant,
            split=variant.split,
            measured_on=part.measured_on,
            slice=part.slice,
            measure=mean.measure.name,
            cutoff=mean.measure.cutoff,
            value=mean.value,
            low=mean.low,
            high=mean.high,
            queries=mean.queries,
            synthetic=variant.synthetic if part.measured_on == variant.dataset else None,
            ceiling=ceilings[mean.measure],
            evaluated_at=_UNSET,
            **asdict(variant.lineage),
            **compared.get(mean.measure, {}),
        )
        for mean in summarise(part.query_measures, settings)
    ]


def _comparison_fields(baseline: str, comparison: Comparison) -> dict[str, Any]:
    return {
        "baseline": baseline,
        "difference": comparison.difference,
        "difference_low": comparison.low,
        "difference_high": comparison.high,
        "p_value": comparison.p_value,
        "p_adjusted": comparison.p_adjusted,
        "detectable": comparison.detectable,
        "verdict": comparison.verdict,
    }


def _means(query_measures: Sequence[QueryMeasure]) -> dict[Measure, float]:
    values: dict[Measure, list[float]] = {}
    for result in query_measures:
        values.setdefault(result.measure, []).append(result.value)
    return {measure: sum(found) / len(found) for measure, found in values.items()}
