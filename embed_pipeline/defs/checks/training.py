"""Checks of the stage `training`: did the weights learn anything?"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome

SPECS = [
    dg.AssetCheckSpec(
        "loss_is_finite_and_fell",
        asset="finetuned_checkpoint",
        blocking=True,
        description="Every logged loss is a number above 0, and the last third is lower than the first on average.",
    ),
    dg.AssetCheckSpec(
        "weights_changed",
        asset="finetuned_checkpoint",
        blocking=True,
        description="Training moved the weights away from the ones it started from.",
    ),
]


def check_training(log: Sequence[Mapping[str, float]], weight_change: float) -> list[CheckOutcome]:
    """Loss finite, above zero and falling; weights moved (`weight_change` is relative to their length)."""
    losses = [entry["loss"] for entry in log]
    third = max(1, len(losses) // 3)
    early, late = fmean(losses[:third]), fmean(losses[-third:])
    learned = all(math.isfinite(loss) and loss > 0 for loss in losses) and late < early
    return [
        CheckOutcome(
            name="loss_is_finite_and_fell",
            passed=learned,
            blocking=True,
            figures={
                "mean_of_first_third": f"{early:.4g}",
                "mean_of_last_third": f"{late:.4g}",
                "logged_steps": len(losses),
            },
            remedy="Lower learning_rate, or set precision: float32; read the loss curve in the metadata.",
        ),
        CheckOutcome(
            name="weights_changed",
            passed=weight_change > 0,
            blocking=True,
            figures={"relative_weight_change": weight_change},
            remedy="Raise learning_rate or epochs; with float16 look for overflow in the log.",
        ),
    ]
