"""The report: one HTML page per data set that needs nothing but itself.

Belongs here: arranging a report for the template. Does not belong here: computing figures, choosing rows (sections),
drawing (charts, planes), wording (words); markup is in page.html.j2, style in page.css.j2.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.paths import printable
from embed_pipeline.reporting import charts, planes, words
from embed_pipeline.reporting.metrics_table import MetricRow, row_of_today
from embed_pipeline.reporting.outcomes import Outcomes
from embed_pipeline.reporting.report_data import (
    PAIR_MEASURE,
    DatasetReport,
    HistoryPoint,
    Slicing,
    Suite,
    VariantRows,
    find_baseline,
    sort_pairs,
    sort_slicings,
    sort_suites,
    sort_variants,
)
from embed_pipeline.reporting.svg import Look, choose_looks, draw_key
from embed_pipeline.reporting.terminal import HEADLINE, SHOWN

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_FOLDER = Path(__file__).parent
WIDE, NARROW = 640, 350
_FEW_PAIRS = 36  # six languages fit into a narrow card


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    best: bool


@dataclass(frozen=True, slots=True)
class _Figure:
    """A drawing for wide and one for narrow screens; the page shows one of them."""

    wide: str
    narrow: str


@dataclass(frozen=True, slots=True)
class _Variant:
    rows: VariantRows
    look: Look
    sentence: str
    interval: str
    difference: str
    cells: tuple[_Cell, ...]
    lineage: Mapping[str, str]
    recipe: str


@dataclass(frozen=True, slots=True)
class _Score:
    variant: str
    look: Look
    drawing: str | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class _View:
    report: DatasetReport
    headline: Measure
    measures: tuple[Measure, ...]
    looks: Mapping[str, Look]
    baseline: str | None = None
    asked: MetricRow | None = None
    variants: tuple[_Variant, ...] = ()
    ceilings: tuple[str, ...] = ()
    difference_axis: str = ""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    evaluated_at: str = ""
    bars: _Figure | None = None
    latency: _Figure | None = None
    without_latency: tuple[str, ...] = ()
    training: _Figure | None = None
    history: _Figure | None = None
    points: tuple[HistoryPoint, ...] = ()
    slicings: tuple[tuple[Slicing, str], ...] = ()
    pairs: Mapping[str, str] = field(default_factory=dict)
    many_languages: bool = False
    suites: tuple[tuple[Suite, tuple[str, ...], str], ...] = ()
    scores: tuple[_Score, ...] = ()
    outcomes: tuple[tuple[Outcomes, str], ...] = ()


def render_page(report: DatasetReport, *, measures: Sequence[Measure] = SHOWN, headline: Measure = HEADLINE) -> str:
    """The page as HTML; without rows it says that nothing was evaluated.

    Equal input gives equal bytes. All texts are escaped, only `report.word_map` goes in as it is. Nothing is loaded and
    nothing runs: no script, no font, no image from elsewhere.
    """
    template = _environment().get_template("page.html.j2")
    return template.render(view=_arrange(report, tuple(measures), headline))


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "points": words.points,
        "amount": words.amount,
        "meaning": words.describe_measure,
        "p": words.bare_p,
        "moment": words.moment,
        "key": draw_key,
        "breakable": _breakable,
    }
    environment.globals |= {"SIGNS": words.SIGNS, "MISSING": words.MISSING, "PAIR_MEASURE": PAIR_MEASURE}
    return environment


def _finalize(value: object) -> object:
    """Texts without what a terminal obeys and a reader does not see; what is markup stays markup."""
    return type(value)(printable(value)) if isinstance(value, str) else value


def _breakable(name: str) -> "Markup":
    """The name, escaped, with a place to break its line after each underscore."""
    from markupsafe import Markup, escape

    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def _arrange(report: DatasetReport, measures: tuple[Measure, ...], headline: Measure) -> _View:
    sorted_variants = sort_variants(report.rows, headline)
    baseline = find_baseline(report.rows)
    order = {found.variant: i for i, found in enumerate(sorted_variants)}
    named = [row.variant for row in report.rows] + [point.variant for point in report.history]
    looks = choose_looks([*named, *(score.variant for score in report.scores)], baseline)
    if not sorted_variants:
        return _View(report=report, headline=headline, measures=measures, looks=looks)
    rows = [found.headline for found in sorted_variants if found.headline is not None]
    timed = planes.latency_points(rows)
    trained = planes.training_points(rows, report.training_seconds) if report.training_seconds else ()
    scale = charts.difference_scale(rows)
    current = [found for found in sorted_variants if not found.any_row.outdated] or sorted_variants
    columns = [[found.by_measure[m] for found in current if m in found.by_measure] for m in measures]
    best = [max((row.value for row in column), default=None) for column in columns]
    comparisons = sum(row.verdict is not None for row in rows)

    def variant(found: VariantRows) -> _Variant:
        row, look = found.headline, looks[found.variant]
        cells = [
            _Cell(words.percent(found.by_measure[m].value), found in current and found.by_measure[m].value == top)
            if m in found.by_measure
            else _Cell(words.MISSING, best=False)
            for m, top in zip(measures, best, strict=True)
        ]
        return _Variant(
            rows=found,
            look=look,
            sentence=words.describe_verdict(row, comparisons) if row else "",
            interval=charts.draw_interval(row, look) if row else "",
            difference=charts.draw_difference(row, scale) if row else "",
            cells=tuple(cells),
            lineage=_lineage(found.any_row),
            recipe=json.dumps(found.any_row.recipe, ensure_ascii=False, indent=2, sort_keys=True),
        )

    pairs = sort_pairs(report.rows, order)

    def suite(found: Suite) -> tuple[Suite, tuple[str, ...], str]:
        own = charts.difference_scale(found.rows)
        return found, tuple(charts.draw_difference(row, own) for row in found.rows), charts.draw_difference_axis(own)

    return _View(
        report=report,
        headline=headline,
        measures=measures,
        looks=looks,
        baseline=baseline,
        asked=row_of_today([found.any_row for found in sorted_variants]),
        variants=tuple(variant(found) for found in sorted_variants),
        ceilings=tuple(words.percent(column[0].ceiling) if column else words.MISSING for column in columns),
        difference_axis=charts.draw_difference_axis(scale),
        verdicts={v: count for v in words.SIGNS if (count := sum(row.verdict == v for row in rows))},
        evaluated_at=words.moment(max(found.any_row.evaluated_at for found in sorted_variants)),
        bars=_Figure(*(charts.draw_bars(rows, looks, width) for width in (WIDE, NARROW))) if rows else None,
        latency=_draw_cost(timed, looks, "ms per query"),
        without_latency=tuple(row.variant for row in rows if not row.latency_p50_ms),
        training=_draw_cost(trained, looks, "seconds of training, 1: none"),
        history=_Figure(*(planes.draw_history(report.history, looks, width) for width in (WIDE, NARROW)))
        if report.history
        else None,
        points=tuple(sorted(report.history, key=lambda point: (point.variant, point.evaluated_at))),
        slicings=tuple(
            (found, charts.draw_slices(found.groups, looks, found.name))
            for found in sort_slicings(report.rows, headline, order)
        ),
        pairs={name: charts.draw_matrix(found, name) for name, found in pairs.items()},
        many_languages=any(len(found) > _FEW_PAIRS for found in pairs.values()),
        suites=tuple(suite(found) for found in sort_suites(report.rows, headline, order)),
        scores=_scores(report, looks, order),
        outcomes=tuple(
            (found, charts.draw_outcomes(found))
            for found in sorted(report.outcomes, key=lambda o: (order.get(o.variant, len(order)), o.variant))
        ),
    )


def _draw_cost(points: Sequence[planes.CostPoint], looks: Mapping[str, Look], axis: str) -> _Figure | None:
    return _Figure(*(planes.draw_cost_quality(points, looks, w, axis) for w in (WIDE, NARROW))) if points else None


def _scores(report: DatasetReport, looks: Mapping[str, Look], order: Mapping[str, int]) -> tuple[_Score, ...]:
    found = []
    for scores in sorted(report.scores, key=lambda s: (order.get(s.variant, len(order)), s.variant)):
        threshold = scores.calibration.threshold if scores.calibration else None
        drawn = scores.distribution and planes.draw_distribution(scores.distribution, threshold, scores.variant)
        sentences = (
            words.describe_calibration(scores.calibration) if scores.calibration else "",
            words.describe_returned(scores.returned) if scores.returned else "",
        )
        sentence = " ".join(filter(None, sentences))
        if drawn or sentence:
            found.append(_Score(scores.variant, looks[scores.variant], drawn, sentence))
    return tuple(found)


def _lineage(row: MetricRow) -> Mapping[str, str]:
    named = {
        "raw file": row.raw_digest,
        "cleaned QA": row.cleaned_digest,
        "negatives": row.negatives_digest,
        "checkpoint": row.checkpoint_digest,
        "index": row.index_digest,
        "query metrics": row.query_metrics_digest,
        "git commit": row.git_commit,
        "run": row.run_id,
        "seed": row.seed,
        "evaluated": words.moment(row.evaluated_at),
    }
    return {name: str(value) for name, value in named.items() if value is not None}
