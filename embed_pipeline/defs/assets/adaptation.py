"""Assets of the stage `adaptation`: what is put behind an encoder that stays as it is."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.adaptation.building import build_adaptation
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, table
from embed_pipeline.defs.checks import adaptation as checks
from embed_pipeline.defs.checks.outcome import describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.project.recipes import required
from embed_pipeline.retrieval.searching import encoding_counts


def define_assets(partitions: Partitions) -> Assets:
    """The asset `adapter`."""
    options = partial(asset_options, partitions, group="adaptation")

    @dg.asset(**options("adapter", kinds={"numpy"}, specs=checks.SPECS))
    def adapter(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One adaptation per adapted variant: a matrix behind the encoder, or the moved vectors of passages (NUDGE).

        Learnt from the train queries or computed from the corpus, chosen on validation; the encoder's weights are not
        touched. Rows: passes over the train queries, powers that were tried, or moved passages.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _adapt(step, out))
        passes = manifest.details.get("passes")
        rows = [row for row in passes if isinstance(row, Mapping)] if isinstance(passes, list) else []
        return materialized(
            manifest,
            rows=len(rows) or int(str(manifest.details.get("moved_passages", 0))),
            folder=step.open(manifest),
            metadata={"passes": table(rows)},
            checks=results(outcomes_of(manifest), checks.SPECS),
        )

    return [adapter]


def _adapt(step: Step, out: Path) -> dict[str, object]:
    dataset, adapted = read_dataset(step.folder("cleaned_qa")), step.variant.adapted
    encoder = required(step.search_of(adapted).encoder, "encoder") if adapted else step.base_encoder()
    found = build_adaptation(dataset, encoder, required(step.variant.recipe.adaptation, "adaptation"), out)
    step.context.log.info(str(found["explanation"]))
    return {**found, **encoding_counts(encoder), **describe_outcomes(checks.check_adaptation(found))}
