"""Assets and checks of the stage `adaptation`: what is put behind an encoder that stays as it is.

Checked: did it change anything, and for the better?
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.adaptation.building import build_adaptation
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.project.recipes import required
from embed_pipeline.retrieval.searching import encoding_counts

SPECS = [
    dg.AssetCheckSpec(
        "validation_gained",
        asset="adapter",
        description="The adapted vectors find more answers of validation queries than the encoder's own.",
    )
]

_REMEDY = (
    "Read the explanation: with no answer in reach of a training query write training queries for these passages, or "
    "choose method: linear; else fine-tune the encoder."
)
_REMEDIES = {"whiten": "The vectors are as they were: use the variant without adaptation, and remove this one."}


def define_assets(partitions: Partitions) -> Assets:
    """The asset `adapter`."""
    options = partial(asset_options, partitions, group="adaptation")

    @dg.asset(**options("adapter", kinds={"numpy"}, specs=SPECS))
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
            checks=results(outcomes_of(manifest), SPECS),
        )

    return [adapter]


def _adapt(step: Step, out: Path) -> dict[str, object]:
    dataset, adapted = read_dataset(step.folder("cleaned_qa")), step.variant.adapted
    encoder = required(step.search_of(adapted).encoder, "encoder") if adapted else step.base_encoder()
    found = build_adaptation(dataset, encoder, required(step.variant.recipe.adaptation, "adaptation"), out)
    step.context.log.info(str(found["explanation"]))
    return {**found, **encoding_counts(encoder), **describe_outcomes(check_adaptation(found))}


def check_adaptation(found: Mapping[str, object]) -> list[CheckOutcome]:
    """Validation before and after, with the preflight's explanation where nothing was gained."""
    before, after = float(str(found["validation_before"])), float(str(found["validation_after"]))
    figures = {"before": before, "after": after, "explanation": str(found["explanation"])}
    return [
        CheckOutcome(
            name="validation_gained",
            passed=after > before,
            figures={name: found[name] for name in ("gamma", "power") if isinstance(found.get(name), float)} | figures,  # pyright: ignore[reportArgumentType]
            remedy=_REMEDIES.get(str(found["method"]), _REMEDY),
        )
    ]
