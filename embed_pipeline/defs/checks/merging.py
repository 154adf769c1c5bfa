"""Checks of the stage `merging`: is what was won kept, and what was known before?"""

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.merging.candidates import Promoted
from embed_pipeline.merging.promotion import Promotion
from embed_pipeline.merging.settings import MergeSettings

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
