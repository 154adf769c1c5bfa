"""Checks of the stage `adaptation`: did it change anything, and for the better?"""

from collections.abc import Mapping

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome

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
