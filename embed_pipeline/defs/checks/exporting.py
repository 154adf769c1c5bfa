"""Checks of the stage `exporting`: does what is deployed answer as what was measured?"""

from collections.abc import Sequence

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.exporting.parity import Parity
from embed_pipeline.exporting.settings import ExportSettings

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
