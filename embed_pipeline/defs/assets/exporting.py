"""Assets and checks of the stage `exporting`: a variant's model in the formats that it is deployed in.

Checked: does what is deployed answer as what was measured?
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from embed_pipeline.artifacts import Manifest
from embed_pipeline.assembly.variant_encoder import load_second_stage
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, picture, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.encoding.cross_encoder import load_cross_encoder
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.exporting.building import Export, Exported, export_cross_encoder, export_encoder
from embed_pipeline.exporting.parity import ORIGINAL, Parity, Speed, read_parity, read_vector_forms
from embed_pipeline.exporting.settings import ExportSettings
from embed_pipeline.project.recipes import required
from embed_pipeline.reporting.plots import plot_formats
from embed_pipeline.retrieval.search import RerankedRetriever
from embed_pipeline.retrieval.searching import open_retriever

SPECS = [
    dg.AssetCheckSpec(
        "a_format_answers_as_the_model",
        asset="exported_model",
        description="At least one format keeps the headline on the test questions within points_lost of the recipe.",
        blocking=True,
    ),
    dg.AssetCheckSpec(
        "every_format_answers_as_the_model",
        asset="exported_model",
        description="None of the recipe's formats was refused.",
    ),
]
_REMEDY = "Leave the format out of export.formats, or raise export.points_lost in the recipe if the loss can be borne."


def define_assets(partitions: Partitions) -> Assets:
    """The asset `exported_model`."""
    options = partial(asset_options, partitions, group="exporting")

    @dg.asset(**options("exported_model", kinds={"onnx"}, specs=SPECS))
    def exported_model(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """A variant's encoder, or its cross-encoder, in the formats of its recipe, a folder each.

        Each is held against the original on the test questions; one that loses more than points_lost is not in the
        artifact, and the table says why. The table of vectors says what a smaller index loses. Rows: formats that were
        tried.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _export(step, out))
        folder = step.open(manifest)
        found, speeds = read_parity(folder), _speeds(manifest)
        metadata = {
            "formats": _format_table(found, speeds),
            "vectors": table([asdict(one) for one in read_vector_forms(folder)]),
            "trade_off": picture(plot_formats(found, speeds), "points lost by milliseconds a question"),
        }
        checked = results(outcomes_of(manifest), SPECS)
        return materialized(manifest, rows=len(found), folder=folder, metadata=metadata, checks=checked)

    return [exported_model]


def _export(step: Step, out: Path) -> dict[str, object]:
    recipe, dataset = step.variant.recipe, read_dataset(step.folder("cleaned_qa"))
    settings, headline = required(recipe.export, "export"), step.project.headline(step.dataset)
    with step.work_folder() as work:
        export = Export(dataset, headline, settings, work, out)
        found = _export_cross_encoder(step, export) if recipe.rerank else _export_encoder(step, export)
    step.context.log.info(f"{step.variant.key}: deploy {found.deploy or 'none'}")
    outcomes = check_exported(found.parities, settings)
    speeds = {speed.name: asdict(speed) for speed in found.speeds}
    return {"deploy": found.deploy or "none", "speeds": speeds, **describe_outcomes(outcomes)}


def _export_encoder(step: Step, export: Export) -> Exported:
    # In float32 by torch, which is what the formats are made of: what bfloat16 rounds is not theirs.
    whole = step.variant.local_encoder.model_copy(update={"dtype": "float32", "backend": "torch"})
    encoder = load_local_encoder(whole, device="cpu", directory=step.checkpoint() or step.base_directory())
    training = step.variant.recipe.training_settings
    return export_encoder(encoder, export, dimensions=training.matryoshka_dimensions if training else ())


def _export_cross_encoder(step: Step, export: Export) -> Exported:
    retriever = open_retriever(step.search(), step.folder("faiss_index"))
    scorer = required(load_second_stage(step.graph, step.variant, step.opened), "rerank")
    if not isinstance(retriever, RerankedRetriever):
        raise TypeError(f"{step.variant.key}: expected a second stage, found {type(retriever).__name__}")
    return export_cross_encoder(load_cross_encoder(scorer.settings), retriever, export)


def _speeds(manifest: Manifest) -> dict[str, Speed]:
    found: Any = manifest.details["speeds"]
    return {name: Speed(**row) for name, row in found.items()}


def _format_table(found: Sequence[Parity], speeds: Mapping[str, Speed]) -> dg.MetadataValue:
    """A row per format, and the original's speed: size, speed on the machine that built it, what is lost."""
    took = {name: {"query_ms": one.query_ms, "texts_per_second": one.texts_per_second} for name, one in speeds.items()}
    rows = [{"format": ORIGINAL, **took.get(ORIGINAL, {})}]
    for one in found:
        told = {name: "" if value is None else value for name, value in asdict(one).items()}
        rows.append({**told, **took.get(one.format, {})})
    return table(rows)


def check_exported(found: Sequence[Parity], settings: ExportSettings) -> list[CheckOutcome]:
    """The points that each format loses, and the reason of those that are refused."""
    refused = {one.format: one.refused for one in found if one.refused}
    figures: dict[str, float | int | str] = {f"{one.format}_points_lost": one.points_lost for one in found}
    figures["points_lost_limit"] = settings.points_lost
    told = {f"{name}_refused": reason for name, reason in refused.items()}
    return [
        CheckOutcome(
            name="a_format_answers_as_the_model",
            passed=len(refused) < len(found),
            blocking=True,
            figures={**figures, **told},
            remedy=_REMEDY,
        ),
        CheckOutcome(
            name="every_format_answers_as_the_model", passed=not refused, figures={**figures, **told}, remedy=_REMEDY
        ),
    ]
