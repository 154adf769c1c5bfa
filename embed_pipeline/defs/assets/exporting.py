"""Assets of the stage `exporting`: a variant's encoder in the formats that it is deployed in."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.artifacts import Manifest
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, table
from embed_pipeline.defs.checks import exporting as checks
from embed_pipeline.defs.checks.outcome import describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.exporting.building import export_encoder
from embed_pipeline.exporting.parity import read_parity
from embed_pipeline.project.recipes import required


def define_assets(partitions: Partitions) -> Assets:
    """The asset `exported_model`."""
    options = partial(asset_options, partitions, group="exporting")

    @dg.asset(**options("exported_model", kinds={"onnx"}, specs=checks.SPECS))
    def exported_model(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """The encoder of a variant in the formats of its recipe, a folder each: ONNX, ONNX in 8 bits, half precision.

        Each is held against the original on the test questions; one that loses more than points_lost is not in the
        artifact, and the table says why. Rows: formats that were tried.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _export(step, out))
        folder = step.open(manifest)
        found, checked = read_parity(folder), results(outcomes_of(manifest), checks.SPECS)
        metadata = {"formats": _format_table(manifest, folder)}
        return materialized(manifest, rows=len(found), folder=folder, metadata=metadata, checks=checked)

    return [exported_model]


def _export(step: Step, out: Path) -> dict[str, object]:
    settings, dataset = required(step.variant.recipe.export, "export"), read_dataset(step.folder("cleaned_qa"))
    folder = step.checkpoint() or step.base_directory()
    # In float32 by torch, which is what the formats are made of: what bfloat16 rounds is not theirs.
    whole = step.variant.local_encoder.model_copy(update={"dtype": "float32", "backend": "torch"})
    encoder = load_local_encoder(whole, device="cpu", directory=folder)
    headline = step.project.headline(step.dataset)
    with step.work_folder() as work:
        found = export_encoder(encoder, dataset, out, work=work, headline=headline, settings=settings)
    step.context.log.info(f"{step.variant.key}: deploy {found.deploy or 'none'}")
    outcomes = checks.check_exported(found.parities, settings)
    speeds = {speed.name: asdict(speed) for speed in found.speeds}
    return {"deploy": found.deploy or "none", "speeds": speeds, **describe_outcomes(outcomes)}


def _format_table(manifest: Manifest, folder: Path) -> dg.MetadataValue:
    """A row per format, and the original's speed: size, speed on the machine that built it, what is lost."""
    speeds = manifest.details.get("speeds")
    took = (
        {name: dict(row) for name, row in speeds.items() if isinstance(row, dict)} if isinstance(speeds, dict) else {}
    )
    rows = [{"format": "original", **took.get("original", {})}]
    rows += [{**asdict(one), **took.get(one.format, {}), "refused": one.refused or ""} for one in read_parity(folder)]
    return table([{name: value for name, value in row.items() if name != "name"} for row in rows])
