"""Checks of the stage `training`: did the weights learn anything?"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome

SPECS = [
    dg.AssetCheckSpec(
        "loss_is_finite",
        asset="finetuned_checkpoint",
        blocking=True,
        description="Every logged loss is a number.",
    ),
    dg.AssetCheckSpec(
        "loss_fell",
        asset="finetuned_checkpoint",
        description="The last third of the losses is lower than the first by more than the batches differ by chance. "
        "Weights that were trained are measured all the same.",
    ),
    dg.AssetCheckSpec(
        "weights_changed",
        asset="finetuned_checkpoint",
        blocking=True,
        description="Training moved the weights away from the ones it started from.",
    ),
]

_ENOUGH_STEPS = 12
"""With fewer logged steps a third says too little of how much one batch differs from the next."""

_STANDARD_ERRORS = 2.0
"""A fall that is smaller than so many standard errors could be the luck of the batches."""


def check_training(log: Sequence[Mapping[str, float]], weight_change: float) -> list[CheckOutcome]:
    """Loss finite and falling; weights moved (`weight_change` is relative to their length)."""
    losses = [entry["loss"] for entry in log]
    odd = [entry for entry, loss in zip(log, losses, strict=True) if not math.isfinite(loss)]
    return [
        CheckOutcome(
            name="loss_is_finite",
            passed=not odd,
            blocking=True,
            figures={"logged_steps": len(losses), "not_a_number": len(odd)}
            | ({"first_at_step": int(odd[0].get("step", 0))} if odd else {}),
            remedy="Lower learning_rate, or set precision: float32; read the loss curve in the metadata.",
        ),
        _fall([loss for loss in losses if math.isfinite(loss)]),
        CheckOutcome(
            name="weights_changed",
            passed=weight_change > 0,
            blocking=True,
            figures={"relative_weight_change": weight_change},
            remedy="Raise learning_rate or epochs; with float16 look for overflow in the log.",
        ),
    ]


def _fall(losses: Sequence[float]) -> CheckOutcome:
    """Whether the mean loss fell by more than its noise: Welch's standard error of the first and the last third."""
    if len(losses) < _ENOUGH_STEPS:
        figures: dict[str, float | int | str] = {"logged_steps": len(losses), "judged_from": _ENOUGH_STEPS}
        return CheckOutcome(name="loss_fell", passed=True, figures=figures, remedy="")
    third = len(losses) // 3
    first, last = losses[:third], losses[-third:]
    early, late = fmean(first), fmean(last)
    noise = _STANDARD_ERRORS * math.sqrt((variance(first) + variance(last)) / third)
    if early == late == 0.0:
        remedy = (
            "Every loss is 0: the encoder tells these positives from all candidates already. Use harder candidates."
        )
    elif late > early + noise:
        remedy = "It rose: lower learning_rate, or raise warmup_ratio; read the loss curve in the metadata."
    else:
        remedy = "The table says whether it helped. If not: raise learning_rate or epochs, or use harder candidates."
    return CheckOutcome(
        name="loss_fell",
        passed=early - late > noise,
        figures={
            "mean_of_first_third": f"{early:.4g}",
            "mean_of_last_third": f"{late:.4g}",
            "noise": f"{noise:.2g}",
            "logged_steps": len(losses),
        },
        remedy=remedy,
    )
