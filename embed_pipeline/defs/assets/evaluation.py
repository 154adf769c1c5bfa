"""Assets and checks of the stage `evaluation`: what every test query scored, and what training cost elsewhere.

Checked: does the encoder see the texts it is measured on; did training cost more elsewhere than allowed?
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.artifacts import Manifest
from embed_pipeline.dataset.formats import RetrievalDataset, read_dataset
from embed_pipeline.defs.assets.publishing import (
    Assets,
    asset_options,
    detail_table,
    figure_table,
    materialized,
    picture,
    table,
)
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.lineage_links import link_chain, pages_of
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.tokens import count_truncated, count_unknown
from embed_pipeline.evaluation.comparison import Comparison, MeasureSummary, compare_queries, summarise
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.evaluation.measuring import (
    BASE_METRICS_FILE,
    METRICS_FILE,
    measure_elsewhere,
    measure_own_queries,
    profile_variant,
    read_calibration,
    read_language_pairs,
    read_returned,
    read_scores,
)
from embed_pipeline.evaluation.query_metrics import read_query_metrics, write_query_metrics
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import EVALUATED_SPLIT
from embed_pipeline.reporting.plots import plot_score_distribution
from embed_pipeline.reporting.words import describe_returned
from embed_pipeline.retrieval.searching import encoding_counts

# What is cut off is not searched: one text in twenty already moves a recall by up to five points.
TRUNCATED_LIMIT = 0.05
UNKNOWN_LIMIT = 0.05

SPECS = [
    dg.AssetCheckSpec(
        "queries_fit_query_max_length",
        asset="query_metrics",
        description=f"At most {TRUNCATED_LIMIT:.0%} of the test queries are longer than query_max_length tokens.",
    ),
    dg.AssetCheckSpec(
        "passages_fit_passage_max_length",
        asset="query_metrics",
        description=f"At most {TRUNCATED_LIMIT:.0%} of the passages are longer than passage_max_length tokens.",
    ),
    dg.AssetCheckSpec(
        "characters_are_known_to_the_tokenizer",
        asset="query_metrics",
        description=f"At most {UNKNOWN_LIMIT:.0%} of the test queries' characters are unknown to the tokenizer.",
    ),
]


def define_assets(partitions: Partitions) -> Assets:
    """The assets `query_metrics` and `general_metrics`."""
    options = partial(asset_options, partitions, group="evaluation")

    @dg.asset(**options("query_metrics", kinds={"python"}, cost="may_be_paid", specs=SPECS))
    def query_metrics(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One row per (test query, measure) of a variant, and beside it the hits themselves.

        Every judged query of the split counts; a query without hits scores 0; ties break by passage id. Also here: the
        scores of right and wrong hits, the calibrated threshold, MRR per pair of languages.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _measure(step, out))
        folder, checked = step.open(manifest), results(outcomes_of(manifest), SPECS)
        rows, metadata = len(read_query_metrics(folder / METRICS_FILE)), _describe_measured(step, manifest)
        return materialized(manifest, rows=rows, folder=folder, metadata=metadata, checks=checked)

    @dg.asset(**options("general_metrics", kinds={"python"}, cost="may_be_paid", specs=GENERAL_SPECS))
    def general_metrics(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One row per (query, measure) of each data set of the general suite, after training and before it.

        The difference is what the variant forgot.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _measure_general_suite(step, out))
        metadata = {"general_suite": detail_table(manifest, "general_suite")}
        folder, checked = step.open(manifest), results(outcomes_of(manifest), GENERAL_SPECS)
        rows = sum(len(read_query_metrics(file)) for file in folder.glob(f"*/{METRICS_FILE}"))
        return materialized(manifest, rows=rows, folder=folder, metadata=metadata, checks=checked)

    return [query_metrics, general_metrics]


def _measure(step: Step, out: Path) -> dict[str, object]:
    dataset, search, index = read_dataset(step.folder("cleaned_qa")), step.search(), step.folder("faiss_index")
    wanted = step.project.datasets[step.dataset].answer_precision
    measure_own_queries(search, index, dataset, out, wanted_precision=wanted)
    outcomes = check_tokens(step.variant, dataset, step.checkpoint() or step.base_directory())
    counts = encoding_counts(search.encoder)
    profile = profile_variant(search, index, dataset)
    queries = len(dataset.queries_of(EVALUATED_SPLIT))
    return {"queries": queries, **counts, "profile": asdict(profile), **describe_outcomes(outcomes)}


def _describe_measured(step: Step, manifest: Manifest) -> dict[str, dg.MetadataValue]:
    folder = step.open(manifest)
    means, headline = summarise(read_query_metrics(folder / METRICS_FILE)), step.project.headline(step.dataset)
    calibration, scores = read_calibration(folder), read_scores(folder)
    chain = link_chain(step.graph, step.node, manifest.digest, pages_of(step))
    found = {
        str(mean.measure): dg.MetadataValue.float(round(mean.value, 4)) for mean in means if mean.measure == headline
    }
    found |= {"measures": table(_by_cutoff(means)), "profile": detail_table(manifest, "profile"), "lineage": chain}
    if calibration:
        found["calibration"] = figure_table(asdict(calibration))
    if returned := read_returned(folder):
        found["returned"] = dg.MetadataValue.md(describe_returned(returned))
    if scores:
        png = plot_score_distribution(scores, calibration.threshold if calibration else None)
        found["scores"] = picture(png, "scores of relevant hits and of the best irrelevant one")
    pairs = [
        {"question": p.query_language, "passage": p.passage_language, "mrr@10": summarise(p.query_measures)[0].value}
        for p in read_language_pairs(folder)
    ]
    return {**found, "language_pairs": table(pairs)} if pairs else found


def _by_cutoff(means: Sequence[MeasureSummary]) -> list[dict[str, str]]:
    """A row per measure, a column per cutoff: the mean in percent and its 95 % interval."""
    rows: dict[str, dict[str, str]] = {}
    for mean in means:
        row = rows.setdefault(mean.measure.name, {"measure": mean.measure.name})
        interval = f"{100 * mean.low:.0f}\u2060–\u2060{100 * mean.high:.0f}"  # word joiners: no line ends inside
        row[f"@{mean.measure.cutoff}"] = f"{100 * mean.value:.1f} [{interval}]"
    return list(rows.values())


def _measure_general_suite(step: Step, out: Path) -> dict[str, object]:
    settings, trained = step.project.datasets[step.dataset], step.variant.is_trained
    search = step.search()
    base = step.search(before_training=True) if trained else None
    losses: dict[str, tuple[Comparison, ...]] = {}
    figures: dict[str, object] = {}
    for suite in settings.general_suite:
        dataset, language = read_dataset(step.folder("cleaned_qa", suite)), step.project.datasets[suite].language
        (out / suite).mkdir()
        after = measure_elsewhere(search.in_language(language), dataset)
        write_query_metrics(after, out / suite / METRICS_FILE)
        if base:
            before = measure_elsewhere(base.in_language(language), dataset)
            write_query_metrics(before, out / suite / BASE_METRICS_FILE)
            losses[suite] = compare_queries(before, after)
        figures |= {f"{suite} {mean.measure}": round(mean.value, 4) for mean in summarise(after)}
    by_training = step.variant.trains_reranker or (step.variant.first_stage or step.variant).is_trained
    outcomes = check_forgetting(losses, settings.general_loss_limit, trained=by_training)
    return {"general_suite": figures, **encoding_counts(search.encoder), **describe_outcomes(outcomes)}


def check_tokens(variant: Variant, dataset: RetrievalDataset, directory: Path | None) -> list[CheckOutcome]:
    """Share of test queries cut off, share of passages, and share of the queries' characters that are unknown.

    Where no tokenizer is at hand (words, n-grams, hosted encoders) both pass and say so.
    """
    settings = variant.encoder
    if not isinstance(settings, EncoderSettings):
        retriever = (variant.first_stage or variant).recipe.retriever
        note = "the tokenizer is the service's own" if settings else f"{retriever} has no tokenizer"
        return [
            CheckOutcome(name=spec.name, passed=True, figures={"note": note}, remedy="none needed") for spec in SPECS
        ]
    texts = [query.text for query in dataset.queries_of(EVALUATED_SPLIT)]
    truncated = count_truncated(settings, "query", texts, directory=directory)
    passages = [passage.text for passage in dataset.passages]
    cut = count_truncated(settings, "passage", passages, directory=directory)
    unknown = count_unknown(settings, texts, directory=directory)
    return [
        CheckOutcome(
            name="queries_fit_query_max_length",
            passed=truncated.share <= TRUNCATED_LIMIT,
            figures={
                "share_truncated": round(truncated.share, 4),
                "truncated": truncated.count,
                "queries": truncated.total,
                "limit": TRUNCATED_LIMIT,
            },
            remedy="Raise query_max_length in the recipe.",
        ),
        CheckOutcome(
            name="passages_fit_passage_max_length",
            passed=cut.share <= TRUNCATED_LIMIT,
            figures={
                "share_truncated": round(cut.share, 4),
                "truncated": cut.count,
                "passages": cut.total,
                "limit": TRUNCATED_LIMIT,
            },
            remedy="Raise passage_max_length in the recipe, or cut the passages into shorter ones.",
        ),
        CheckOutcome(
            name="characters_are_known_to_the_tokenizer",
            passed=unknown.share <= UNKNOWN_LIMIT,
            figures={
                "share_unknown": round(unknown.share, 4),
                "unknown": unknown.count,
                "characters": unknown.total,
                "limit": UNKNOWN_LIMIT,
            },
            remedy="Set vocabulary_extension in the recipe, or name a base encoder made for this language.",
        ),
    ]


FORGETTING = Measure("ndcg", 10)

GENERAL_SPECS = [
    dg.AssetCheckSpec(
        "general_quality_is_kept",
        asset="general_metrics",
        description=f"On no general suite is {FORGETTING} lower than before training, or without an untrained second "
        "stage, by more than general_loss_limit.",
    )
]


def check_forgetting(
    losses: Mapping[str, Sequence[Comparison]], limit: float, *, trained: bool = True
) -> list[CheckOutcome]:
    """The loss on each suite against the base model, with its interval; without a base there is nothing to lose.

    `trained`: whether training made the difference, else an untrained second stage did.
    """
    found = {
        suite: next(comparison for comparison in comparisons if comparison.measure == FORGETTING)
        for suite, comparisons in losses.items()
    }
    told = {suite: f"{100 * c.difference:+.1f} [{100 * c.low:+.1f}, {100 * c.high:+.1f}]" for suite, c in found.items()}
    return [
        CheckOutcome(
            name="general_quality_is_kept",
            passed=all(comparison.difference >= -limit for comparison in found.values()),
            figures={**(told or {"note": "nothing was trained"}), "measure": str(FORGETTING), "limit": limit},
            remedy=(
                "Train fewer epochs or with a lower learning rate, mix in general pairs"
                if trained
                else "Name another cross-encoder as rerank.model, or do without the second stage"
            )
            + ", or accept the loss: raise general_loss_limit in dataset.yaml.",
        )
    ]
