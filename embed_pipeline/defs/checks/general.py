"""Checks of the general suite, part of the stage `evaluation`: did training cost more elsewhere than allowed?"""

from collections.abc import Mapping, Sequence

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.evaluation.comparison import Comparison
from embed_pipeline.evaluation.measures import Measure

FORGETTING = Measure("ndcg", 10)

SPECS = [
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
