"""The report: one HTML page that needs nothing but itself.

Belongs here: arranging rows and outcomes for the template. Does not belong here: computing figures; markup is in
page.html.j2.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.reporting.metric_row import MetricRow
from embed_pipeline.reporting.outcomes import Outcomes
from embed_pipeline.reporting.terminal import (
    HEADLINE,
    SHOWN,
    format_difference,
    format_evidence,
    format_percent,
)

_TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True, slots=True)
class _VariantBlock:
    variant: str
    headline: MetricRow | None
    cells: tuple["_Cell", ...]
    lineage: tuple[tuple[str, str], ...]
    recipe: str


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    best: bool


@dataclass(frozen=True, slots=True)
class _DatasetBlock:
    name: str
    split: str
    queries: int
    evaluated_at: str
    ceilings: tuple[str, ...]
    variants: tuple[_VariantBlock, ...]
    outcomes: tuple[Outcomes, ...]


def render_page(
    rows: Sequence[MetricRow],
    outcomes: Sequence[Outcomes] = (),
    *,
    measures: Sequence[Measure] = SHOWN,
    headline: Measure = HEADLINE,
) -> str:
    """The page as HTML: a section per (data set, split) with table, intervals, verdicts, queries won and lost, lineage.

    `rows` holds one row per variant and measure, as read_newest gives it; no rows give a page that says so. Equal input
    gives an equal page. All texts are escaped.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": format_percent, "difference": format_difference, "evidence": format_evidence}
    keys = sorted({(row.dataset, row.split) for row in rows})
    blocks = [
        _arrange(
            [row for row in rows if (row.dataset, row.split) == key],
            [found for found in outcomes if (found.dataset, found.split) == key],
            measures,
            headline,
        )
        for key in keys
    ]
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(datasets=blocks, measures=[str(measure) for measure in measures], headline=str(headline))


def _arrange(
    rows: Sequence[MetricRow], outcomes: Sequence[Outcomes], measures: Sequence[Measure], headline: Measure
) -> _DatasetBlock:
    by_variant: dict[str, dict[Measure, MetricRow]] = {}
    for row in rows:
        by_variant.setdefault(row.variant, {})[row.at] = row
    columns = [[found[m] for found in by_variant.values() if m in found] for m in measures]
    best = [max((row.value for row in column), default=None) for column in columns]

    def block(variant: str, found: dict[Measure, MetricRow]) -> _VariantBlock:
        any_row = next(iter(found.values()))
        return _VariantBlock(
            variant=variant,
            headline=found.get(headline),
            cells=tuple(
                _Cell(format_percent(found[m].value), found[m].value == top) if m in found else _Cell("–", False)
                for m, top in zip(measures, best, strict=True)
            ),
            lineage=_lineage(any_row),
            recipe=json.dumps(any_row.recipe, ensure_ascii=False, indent=2, sort_keys=True),
        )

    def headline_value(variant: str) -> float:
        return by_variant[variant][headline].value if headline in by_variant[variant] else -1.0

    ordered = sorted(by_variant, key=lambda variant: (-headline_value(variant), variant))
    return _DatasetBlock(
        name=rows[0].dataset,
        split=rows[0].split,
        queries=rows[0].queries,
        evaluated_at=f"{max(row.evaluated_at for row in rows):%Y-%m-%d %H:%M} UTC",
        ceilings=tuple(format_percent(column[0].ceiling) if column else "–" for column in columns),
        variants=tuple(block(variant, by_variant[variant]) for variant in ordered),
        outcomes=tuple(sorted(outcomes, key=lambda found: (-headline_value(found.variant), found.variant))),
    )


def _lineage(row: MetricRow) -> tuple[tuple[str, str], ...]:
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
    }
    return tuple((name, str(value)) for name, value in named.items() if value is not None)
