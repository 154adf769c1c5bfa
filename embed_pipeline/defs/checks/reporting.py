"""Checks of the stage `reporting`: did anything get worse since the evaluation before?"""

from collections.abc import Sequence

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.evaluation.drops import Drop

SPECS = [
    dg.AssetCheckSpec(
        "no_variant_got_worse",
        asset="metrics_table",
        description="No variant is proven to be worse on its headline measure than in the evaluation before.",
    )
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
