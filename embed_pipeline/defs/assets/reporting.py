"""Assets and checks of the stage `reporting`: the metrics table and the reports.

Checked: did anything get worse since the evaluation before, is every model what it was?
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.artifacts import Manifest
from embed_pipeline.assembly.alerts import alert_hook, describe_drops
from embed_pipeline.assembly.collecting import (
    ROWS_FILE,
    collect_report,
    earlier_batches,
    measured_again,
    measured_variants,
    profiles,
    standing_variants,
)
from embed_pipeline.assembly.hosted_samples import Sample, newest_samples
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, picture, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, results
from embed_pipeline.defs.lineage_links import link_rows, pages_of
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.defs.running import DUE_TAG, NIGHTLY_TAG
from embed_pipeline.evaluation.comparison import Drop, find_drops
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.graph.node_settings import METRICS_FILE, REPORTS_FOLDER
from embed_pipeline.paths import write_whole
from embed_pipeline.reporting.database import Batch, Standing, append_metrics, read_history, read_newest
from embed_pipeline.reporting.metrics_table import MetricRow, make_rows, read_rows, stamp_rows, write_rows
from embed_pipeline.reporting.page import render_page
from embed_pipeline.reporting.plots import plot_history, plot_latency_quality, plot_measure
from embed_pipeline.reporting.report_data import HistoryPoint
from embed_pipeline.significance import SignificanceSettings

SPECS = [
    dg.AssetCheckSpec(
        "no_variant_got_worse",
        asset="metrics_table",
        description="No variant is proven to be worse on its headline measure than in the evaluation before.",
    ),
    dg.AssetCheckSpec(
        "hosted_models_are_unchanged",
        asset="metrics_table",
        description="Every hosted model still gives the vectors that are kept of it, on the sample sent at night.",
    ),
]


def define_assets(partitions: Partitions) -> Assets:
    """The assets `metrics_table` and `report`."""
    options = partial(asset_options, partitions, group="reporting")

    @dg.asset(**options("metrics_table", kinds={"duckdb"}, specs=SPECS))
    def metrics_table(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One row per (evaluation, data set, variant, split, measured_on, slice, measure): value, comparison, lineage.

        Every materialisation appends to the DuckDB table; the view metrics_newest shows the newest rows.
        """
        step = pipeline.step(context)
        # Before the table is written: a run that dies in between tells again, rather than never.
        outcomes = _look_for_drops(step)
        manifest = step.build(lambda out: _write_rows(step, out, outcomes))
        rows = stamp_rows(
            read_rows(step.open(manifest) / ROWS_FILE),
            run_id=context.run_id,
            git_commit=manifest.git_commit,
            evaluated_at=datetime.now(UTC),
            profiles=profiles(step.graph),
        )
        batch = _append(step, manifest, rows)
        outcomes = [*outcomes, check_hosted_models(newest_samples(step.graph))]
        metadata = {
            **_describe_rows(step, _standing_rows(step)),
            "batch": batch,
            **_report_paths(step, {row.dataset for row in rows}),
        }
        return materialized(manifest, rows=len(rows), metadata=metadata, checks=results(outcomes, SPECS))

    @dg.asset(**options("report", kinds={"html"}))
    def report(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One self-contained HTML page per data set: verdicts, slices, history, queries won and lost, lineage."""
        step = pipeline.step(context)
        manifest = step.build(lambda out: _write_reports(step, out))
        folder = step.project.home / REPORTS_FOLDER
        folder.mkdir(exist_ok=True)
        pages = sorted(step.open(manifest).glob("*.html"))
        for page in pages:
            write_whole(folder / page.name, page.read_bytes())
        metadata = _report_paths(step, {page.stem for page in pages})
        return materialized(manifest, rows=len(pages), folder=step.open(manifest), metadata=metadata)

    return [metrics_table, report]


def _append(step: Step, manifest: Manifest, rows: Sequence[MetricRow]) -> int:
    """The number of the batch: a new one for another evaluation, and for the same one where it was asked for anew."""
    tags = step.context.run.tags
    asked_for = tags.get(NIGHTLY_TAG) or ("" if DUE_TAG in tags else step.context.run_id)
    return append_metrics(
        step.project.home / METRICS_FILE,
        Batch(rows=rows, fingerprint=manifest.fingerprint, occasion=asked_for),
        standing=_standing(step),
        earlier=lambda: earlier_batches(step.graph, manifest),
        say=step.context.log.warning,
    )


def _standing(step: Step) -> tuple[Standing, ...]:
    """What stands, of variants on request too; where one of those cannot be read, of its data set the others."""
    asked = step.pipeline.model_copy(update={"on_request": True}).graph()
    found, unread = standing_variants(asked), asked.project.broken
    others = standing_variants(step.graph) if unread else ()
    return (*found, *(one for one in others if one.dataset in unread))


def _report_paths(step: Step, datasets: Collection[str]) -> dict[str, dg.MetadataValue]:
    """Where the page of each data set lies, or will lie once it is written."""
    folder = step.project.home / REPORTS_FOLDER
    return {f"page_{name}": dg.MetadataValue.path(folder / f"{name}.html") for name in sorted(datasets)}


def _write_rows(step: Step, out: Path, outcomes: list[CheckOutcome]) -> dict[str, object]:
    baselines = {name: settings.baseline_variant for name, settings in step.project.datasets.items()}
    rows = make_rows(list(measured_variants(step.graph, step.plan.inputs)), baselines, SignificanceSettings())
    write_rows(rows, out / ROWS_FILE)
    counts = {"variants": len({(row.dataset, row.variant) for row in rows}), "rows": len(rows)}
    return {**counts, **describe_outcomes(outcomes)}


def _look_for_drops(step: Step) -> list[CheckOutcome]:
    evaluated = measured_again(step.graph)
    drops = find_drops(evaluated)
    if drops:
        for problem in alert_hook().call(describe_drops(drops), run_id=step.context.run_id):
            step.context.log.error(problem)
    return check_drops(drops, compared=len(evaluated))


def _describe_rows(step: Step, rows: Sequence[MetricRow]) -> Mapping[str, dg.MetadataValue]:
    history = read_history(step.project.home / METRICS_FILE)
    shown: list[dict[str, object]] = []
    headline_rows: list[MetricRow] = []
    plots = {}
    for dataset in dict.fromkeys(row.dataset for row in rows):
        headline = step.project.headline(dataset)
        own, baseline = _headline_rows(rows, dataset, headline), step.project.datasets[dataset].baseline_variant
        headline_rows += own
        shown += [
            {
                "dataset": row.dataset,
                "variant": row.variant,
                "measure": str(headline),
                "value": row.value,
                "verdict": row.outdated or row.verdict or ("baseline" if row.variant == baseline else "not compared"),
                "p (Holm)": "" if row.p_adjusted is None else row.p_adjusted,
                "query ms p50": "" if row.latency_p50_ms is None else row.latency_p50_ms,
            }
            for row in own
        ]
        past = [
            HistoryPoint(r.variant, r.evaluated_at, r.value, r.low, r.high)
            for r in _headline_rows(history, dataset, headline)
        ]
        plots[f"plot_{dataset}"] = picture(plot_measure(own, headline), dataset)
        plots[f"history_{dataset}"] = picture(plot_history(past, headline), f"{dataset} over time")
        plots[f"latency_{dataset}"] = picture(plot_latency_quality(own, headline), f"{dataset}: latency and quality")
    lineage = link_rows(step.graph, headline_rows, pages_of(step))
    return {"headline": table(shown), "lineage": lineage, **plots}


def _headline_rows(rows: Sequence[MetricRow], dataset: str, headline: Measure) -> list[MetricRow]:
    return [row for row in rows if row.dataset == dataset and row.covers_own_queries and row.at == headline]


def _standing_rows(step: Step) -> tuple[MetricRow, ...]:
    """What everybody shows: the rows of metrics_newest, of the data sets that can be read."""
    path = step.project.home / METRICS_FILE
    rows = read_newest(path, say=step.context.log.warning) if path.exists() else ()
    return tuple(row for row in rows if row.dataset in step.project.datasets)


def _write_reports(step: Step, out: Path) -> dict[str, object]:
    rows = _standing_rows(step)
    history = read_history(step.project.home / METRICS_FILE)
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    for name in datasets:
        found = collect_report(step.graph, name, rows, history)
        page = render_page(found, headline=step.project.headline(name))
        (out / f"{name}.html").write_text(page, encoding="utf-8")
    return {"rows": len(rows), "pages": len(datasets)}


def check_drops(drops: Sequence[Drop], *, compared: int) -> list[CheckOutcome]:
    """The drops among `compared` variants that were measured again."""
    figures: dict[str, float | int | str] = {"measured_again": compared, "got_worse": len(drops)}
    return [
        CheckOutcome(
            name="no_variant_got_worse",
            passed=not drops,
            figures=figures | {f"drop_{at}": str(drop) for at, drop in enumerate(drops, start=1)},
            remedy="See what changed with `embed-pipeline why query_metrics <variant>`; go back to it, or accept the "
            "new figures: the next evaluation is compared with these.",
        )
    ]


def check_hosted_models(samples: Sequence[Sample]) -> CheckOutcome:
    """What the newest sample of each hosted model showed; one that was not asked is not known to have changed."""
    changed = [sample for sample in samples if sample.state == "changed"]
    return CheckOutcome(
        name="hosted_models_are_unchanged",
        passed=not changed,
        figures={
            "models_sampled": len(samples),
            "models_changed": len(changed),
            "cost_usd": sum(sample.cost_usd for sample in samples),
            **{f"model_{at}": str(sample) for at, sample in enumerate(samples, start=1)},
        },
        remedy="Its kept vectors are of another model than its new ones; nights leave its variants as they are. Write "
        "another word into `edition` of the recipe's encoder: every text is then encoded again, at its price.",
    )
