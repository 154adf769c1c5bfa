"""Checks of the stage `reporting`: did anything get worse since the evaluation before, is every model what it was?"""

from collections.abc import Sequence

import dagster as dg

from embed_pipeline.assembly.hosted_samples import Sample
from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.evaluation.comparison import Drop

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
