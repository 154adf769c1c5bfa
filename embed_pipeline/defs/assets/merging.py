"""Assets and checks of the stage `merging`: weights mixed, and the checkpoint that users are told to take.

Checked: is what was won kept, and what was known before?
"""

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, picture, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.merging.candidates import Candidate, Promoted, promote, read_promoted, write_promoted
from embed_pipeline.merging.promotion import (
    MergePoint,
    Promotion,
    Sweep,
    Trial,
    choose_alpha,
    measure_mixtures,
    mix,
    read_sweep,
    write_sweep,
)
from embed_pipeline.merging.settings import MergeSettings
from embed_pipeline.project.recipes import required
from embed_pipeline.reporting.plots import plot_trade_off
from embed_pipeline.retrieval.searching import Search

MODEL_FOLDER = "model"

MERGED_SPECS = [
    dg.AssetCheckSpec(
        "mixture_keeps_the_gain_within_the_loss",
        asset="merged_checkpoint",
        description="A mixture keeps kept_gain of the tuned model's gain and loses at most allowed_loss elsewhere.",
    )
]
PROMOTED_SPECS = [
    dg.AssetCheckSpec(
        "promoted_is_better_than_its_base",
        asset="promoted_checkpoint",
        description="The checkpoint that users are told to take was trained and beats its base on validation.",
    )
]


def define_assets(partitions: Partitions) -> Assets:
    """The assets `merged_checkpoint` and `promoted_checkpoint`."""
    options = partial(asset_options, partitions, group="merging")

    @dg.asset(**options("merged_checkpoint", kinds={"pytorch", "huggingface"}, specs=MERGED_SPECS))
    def merged_checkpoint(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One model directory per merged variant: the mixture of base and tuned weights that keeps most of both.

        Every alpha of the recipe is measured on validation queries and on the general suite; test queries of the data
        set never count. promotion.json beside the weights holds the sweep. Rows: mixtures that were measured.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _merge(step, out))
        folder = step.open(manifest)
        sweep, checked = read_sweep(folder), results(outcomes_of(manifest), MERGED_SPECS)
        metadata = _describe_sweep(sweep, required(step.variant.recipe.merge, "merge"))
        return materialized(manifest, rows=len(sweep.points), folder=folder, metadata=metadata, checks=checked)

    @dg.asset(**options("promoted_checkpoint", kinds={"huggingface"}, specs=PROMOTED_SPECS))
    def promoted_checkpoint(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """The checkpoint of a data set that users should take: one model directory with its model card (README.md).

        Of the zero-shot, tuned and merged variants the best on validation of those that lose no more than
        promotion_loss_limit on any general suite. Rows: candidates.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _promote(step, out))
        folder = step.open(manifest)
        promoted = read_promoted(folder)
        metadata = {
            "why": dg.MetadataValue.md(promoted.reason),
            "candidates": table([asdict(candidate) for candidate in promoted.candidates]),
        }
        rows = len(promoted.candidates)
        return materialized(
            manifest,
            rows=rows,
            folder=folder,
            metadata=metadata,
            checks=results(outcomes_of(manifest), PROMOTED_SPECS),
        )

    return [merged_checkpoint, promoted_checkpoint]


def _trial(step: Step) -> Trial:
    settings = step.project.datasets[step.dataset]
    suites = {
        suite: (read_dataset(step.folder("cleaned_qa", suite)), step.project.datasets[suite].language)
        for suite in settings.general_suite
    }
    target = read_dataset(step.folder("cleaned_qa", step.dataset))
    return Trial(target, step.project.headline(step.dataset), suites)


def _merge(step: Step, out: Path) -> dict[str, object]:
    settings, encoder = required(step.variant.recipe.merge, "merge"), step.variant.local_encoder
    base = step.graph.local_encoder(encoder)
    tuned = [step.folder("finetuned_checkpoint", variant.key) for variant in step.variant.tuned]
    search = step.search(before_training=True)
    points = measure_mixtures(_trial(step), search, base.directory, tuned, settings, base.settings, step.cached)
    promotion = choose_alpha(
        points, allowed_loss=settings.allowed_loss, kept_gain=settings.kept_gain, otherwise=settings.otherwise
    )
    mix(base.directory, tuned, promotion.alpha, out, base.settings)
    write_sweep(points, promotion, out)
    step.context.log.info(promotion.reason)
    figures = {"alpha": promotion.alpha, "promoted": promotion.promoted, "reason": promotion.reason}
    return {**figures, **describe_outcomes(check_merged(promotion, settings))}


def _describe_sweep(sweep: Sweep, settings: MergeSettings) -> dict[str, dg.MetadataValue]:
    png = plot_trade_off(
        sweep.points, sweep.promotion, allowed_loss=settings.allowed_loss, kept_gain=settings.kept_gain
    )
    points = [{"alpha": point.alpha, "target": point.target, **point.suites} for point in sweep.points]
    return {"trade_off": picture(png, "target and general quality of each mixture"), "sweep": table(points)}


def _promote(step: Step, out: Path) -> dict[str, object]:
    settings, trial, found = step.project.datasets[step.dataset], _trial(step), []
    variants = [variant for variant in step.project.variants_of(step.dataset) if variant.is_checkpoint]
    measured: dict[str, MergePoint] = {}  # variants that share a base measure it once

    def measure(search: Search) -> MergePoint:
        key = required(search.encoder, "encoder").fingerprint
        if key not in measured:
            measured[key] = trial.measure(search, alpha=1.0)
        return measured[key]

    for variant in variants:
        point, base = measure(step.search_of(variant)), measure(step.search_of(variant, before_training=True))
        values = (point.target, point.general, base.target, base.general, point.lost(base))
        found.append(Candidate(variant.name, variant.is_trained, *values))
    promoted = promote(found, loss_limit=settings.promotion_loss_limit)
    chosen = next(variant for variant in variants if variant.name == promoted.chosen)
    weights = step.graph.topology.weights(chosen)
    base = step.graph.local_encoder(chosen.local_encoder)
    source = step.folder(weights.asset, weights.partition) if weights else base.directory
    shutil.copytree(source, out / MODEL_FOLDER)
    write_promoted(promoted, out, dataset=step.dataset, recipe=chosen.recipe.description, headline=settings.headline)
    step.context.log.info(promoted.reason)
    figures = {"variant": promoted.chosen, "reason": promoted.reason}
    return {**figures, **describe_outcomes(check_promoted(promoted))}


def check_merged(promotion: Promotion, settings: MergeSettings) -> list[CheckOutcome]:
    """The chosen alpha, its gain and loss, and the limits."""
    kept = promotion.kept_gain
    return [
        CheckOutcome(
            name="mixture_keeps_the_gain_within_the_loss",
            passed=promotion.within_bounds,
            figures={
                "alpha": promotion.alpha,
                "kept_gain": "no gain" if kept is None else round(kept, 4),
                "kept_gain_limit": settings.kept_gain,
                "general_loss": round(promotion.general_loss, 4),
                "allowed_loss": settings.allowed_loss,
            },
            remedy="Try finer alphas, train with a lower learning rate or with replay of general pairs, or accept: "
            "raise allowed_loss or lower kept_gain in the recipe.",
        )
    ]


def check_promoted(promoted: Promoted) -> list[CheckOutcome]:
    """Whether training paid for those who take the checkpoint."""
    chosen = next(one for one in promoted.candidates if one.variant == promoted.chosen)
    return [
        CheckOutcome(
            name="promoted_is_better_than_its_base",
            passed=chosen.trained and chosen.gain > 0,
            figures={
                "variant": chosen.variant,
                "gain": round(chosen.gain, 4),
                "general_loss": round(chosen.general_loss, 4),
            },
            remedy="Add a merged variant (merge.of) so that a mixture inside the limit exists, or raise "
            "promotion_loss_limit in dataset.yaml.",
        )
    ]
