"""Assets of the stage `reporting`: the metrics table and the report."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import RetrievalDataset, read_dataset
from embed_pipeline.defs.assets.publishing import ASSET_OPTIONS, Assets, materialized, picture, table
from embed_pipeline.defs.graph import ALL, CODE_VERSIONS, EVALUATED_SPLIT, Node
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.project import Variant
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.evaluation.duplicates import canonical_passages
from embed_pipeline.evaluation.measures import ceilings
from embed_pipeline.evaluation.query_metrics import read_hits, read_query_metrics
from embed_pipeline.evaluation.significance import SignificanceSettings
from embed_pipeline.reporting.database import append_metrics
from embed_pipeline.reporting.metric_row import MetricRow
from embed_pipeline.reporting.outcomes import Outcomes, VariantResult, collect_outcomes
from embed_pipeline.reporting.page import render_page
from embed_pipeline.reporting.plots import plot_measure
from embed_pipeline.reporting.rows import Lineage, MeasuredVariant, make_rows, read_rows, stamp_rows, write_rows
from embed_pipeline.reporting.terminal import HEADLINE

METRICS_FILE = "metrics.duckdb"
ROWS_FILE = "rows.jsonl"
REPORT_FILE = "report.html"


def define_assets(partitions: Partitions) -> Assets:
    """The assets `metrics_table` and `report`."""

    @dg.asset(
        deps=["query_metrics"],
        group_name="reporting",
        kinds={"duckdb"},
        code_version=CODE_VERSIONS["metrics_table"],
        **ASSET_OPTIONS,
    )
    def metrics_table(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One row per (evaluation, data set, variant, split, measure): value, interval, comparison, lineage.

        Every materialisation appends to the DuckDB table; the view metrics_newest shows the newest rows.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _write_rows(step, out))
        rows = stamp_rows(
            read_rows(step.open(manifest) / ROWS_FILE),
            run_id=context.run_id,
            git_commit=manifest.git_commit,
            evaluated_at=datetime.now(UTC),
        )
        batch = append_metrics(step.project.home / METRICS_FILE, rows)
        headline = [row for row in rows if row.at == HEADLINE]
        shown = [
            {"dataset": r.dataset, "variant": r.variant, str(HEADLINE): r.value, "verdict": r.verdict or "baseline"}
            for r in headline
        ]
        plots = {
            f"plot_{dataset}": picture(plot_measure([r for r in headline if r.dataset == dataset], HEADLINE), dataset)
            for dataset in dict.fromkeys(row.dataset for row in headline)
        }
        return materialized(manifest, metadata={"headline": table(shown), "batch": batch, **plots})

    @dg.asset(
        deps=["metrics_table", "query_metrics", "cleaned_qa"],
        group_name="reporting",
        kinds={"html"},
        code_version=CODE_VERSIONS["report"],
        **ASSET_OPTIONS,
    )
    def report(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One self-contained HTML page: the table with verdicts and intervals, queries won and lost, lineage."""
        step = pipeline.step(context)
        manifest = step.build(lambda out: _write_report(step, out))
        page = step.project.home / REPORT_FILE
        page.write_bytes((step.open(manifest) / REPORT_FILE).read_bytes())
        return materialized(manifest, metadata={"page": dg.MetadataValue.path(page)})

    return [metrics_table, report]


def _measured(step: Step) -> list[Variant]:
    """The variants that have been measured, in the project's order."""
    store, variants = step.graph.store, step.project.variants.values()
    return [variant for variant in variants if store.read("query_metrics", variant.key) is not None]


def _write_rows(step: Step, out: Path) -> dict[str, object]:
    rows = _rows(step)
    write_rows(rows, out / ROWS_FILE)
    return {"variants": len({(row.dataset, row.variant) for row in rows}), "rows": len(rows)}


def _rows(step: Step) -> tuple[MetricRow, ...]:
    measured = []
    for variant in _measured(step):
        lineage = _lineage(step, variant)
        dataset = read_dataset(step.graph.store.open(lineage.cleaned_digest))
        measures = read_query_metrics(step.folder("query_metrics", variant.key) / "query_metrics.jsonl")
        limits = ceilings(
            dataset.judgments,
            [query.id for query in dataset.queries_of(EVALUATED_SPLIT)],
            canonical=canonical_passages(dataset.passages),
        )
        measured.append(MeasuredVariant(variant.dataset, variant.name, EVALUATED_SPLIT, measures, limits, lineage))
    baselines = {name: settings.variants[0] for name, settings in step.project.datasets.items()}
    return make_rows(measured, baselines, SignificanceSettings())


def _lineage(step: Step, variant: Variant) -> Lineage:
    """The digests that the variant's measured artifact itself was built from, whatever stands there now."""
    measured, key = step.graph.input(Node("query_metrics", variant.key)), variant.key
    cleaned = measured.inputs[f"cleaned_qa[{variant.dataset}]"]
    checkpoint = measured.inputs.get(f"finetuned_checkpoint[{key}]")
    negatives = (
        _inputs(step, "finetuned_checkpoint", key, checkpoint)[f"mined_negatives[{key}]"] if checkpoint else None
    )
    training = variant.recipe.training
    return Lineage(
        raw_digest=_inputs(step, "cleaned_qa", variant.dataset, cleaned)[f"raw_xlsx[{variant.dataset}]"],
        cleaned_digest=cleaned,
        negatives_digest=negatives,
        checkpoint_digest=checkpoint,
        index_digest=measured.inputs[f"faiss_index[{key}]"],
        query_metrics_digest=measured.digest,
        recipe=variant.recipe.model_dump(mode="json"),
        seed=training.seed if training else None,
    )


def _inputs(step: Step, asset: str, partition: str, digest: str) -> Mapping[str, str]:
    """What the newest version with these bytes was built from."""
    return next(m.inputs for m in step.graph.store.history(asset, partition) if m.digest == digest)


def _write_report(step: Step, out: Path) -> dict[str, object]:
    evaluation = step.graph.input(Node("metrics_table", ALL))
    rows = stamp_rows(
        read_rows(step.open(evaluation) / ROWS_FILE),
        run_id=evaluation.run_id,
        git_commit=evaluation.git_commit,
        evaluated_at=datetime.fromisoformat(evaluation.built_at),
    )
    outcomes = [outcome for dataset in step.project.datasets for outcome in _outcomes(step, dataset)]
    (out / REPORT_FILE).write_text(render_page(rows, outcomes), encoding="utf-8")
    return {"rows": len(rows)}


def _outcomes(step: Step, name: str) -> list[Outcomes]:
    dataset: RetrievalDataset | None = None
    results: dict[str, VariantResult] = {}
    for variant in _measured(step):
        if variant.dataset == name:
            dataset = dataset or read_dataset(step.folder("cleaned_qa", name))
            folder = step.folder("query_metrics", variant.key)
            measures, hits = read_query_metrics(folder / "query_metrics.jsonl"), read_hits(folder / "hits.jsonl")
            results[variant.name] = VariantResult(variant.name, measures, hits)
    baseline = results.pop(step.project.datasets[name].variants[0], None)
    if dataset is None or baseline is None:
        return []
    parts = {"queries": dataset.queries, "passages": dataset.passages, "judgments": dataset.judgments}
    return [
        collect_outcomes(baseline, result, dataset=name, split=EVALUATED_SPLIT, measure=HEADLINE, **parts)
        for result in results.values()
    ]
