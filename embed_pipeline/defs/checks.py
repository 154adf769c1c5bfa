"""What a check found, kept in the artifact's manifest so that a cached artifact shows its checks again for free."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.artifacts import Manifest

_SHORT = 40
"""Longer figures are examples; they stand in the metadata alone."""


class CheckOutcome(BaseModel):
    """One check of one artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The statement that is true when it passes.")
    passed: bool
    blocking: bool = Field(default=False, description="Nothing downstream is built when it fails.")
    figures: Mapping[str, float | int | str] = Field(description="What was measured, and the limit.")
    remedy: str = Field(description="What to do when it fails.")


def describe_outcomes(outcomes: Sequence[CheckOutcome]) -> dict[str, Any]:
    """The outcomes as details of a manifest; a failed blocking check is named on its own, where the graph looks."""
    failed = [outcome.name for outcome in outcomes if outcome.blocking and not outcome.passed]
    details: dict[str, Any] = {"checks": [outcome.model_dump(mode="json") for outcome in outcomes]}
    if failed:
        details["failed_blocking_checks"] = ", ".join(failed)
    return details


def outcomes_of(manifest: Manifest) -> tuple[CheckOutcome, ...]:
    """The outcomes that were found when the artifact's bytes were made."""
    found = manifest.details.get("checks")
    return tuple(CheckOutcome.model_validate(item) for item in found) if isinstance(found, list) else ()


def results(outcomes: Sequence[CheckOutcome], specs: Sequence[dg.AssetCheckSpec]) -> list[dg.AssetCheckResult]:
    """The outcomes for Dagster, one for each declared check: a failed blocking one is an error, another one a warning.

    An artifact may have been made by a version with other checks: one that it was not asked, it passes and says so.
    """
    found = {outcome.name: outcome for outcome in outcomes}
    return [_result(found[spec.name]) if spec.name in found else _not_asked(spec.name) for spec in specs]


def _result(outcome: CheckOutcome) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.blocking else dg.AssetCheckSeverity.WARN,
        description=describe_outcome(outcome),
        metadata={**outcome.figures, "remedy": outcome.remedy},
    )


def _not_asked(name: str) -> dg.AssetCheckResult:
    told = "The version of embed-pipeline that made this artifact did not have this check."
    return dg.AssetCheckResult(check_name=name, passed=True, severity=dg.AssetCheckSeverity.WARN, description=told)


def per_partition(
    specs: Sequence[dg.AssetCheckSpec], partitions: dg.PartitionsDefinition
) -> Sequence[dg.AssetCheckSpec]:
    """The checks with a result of their own for each partition: what passes elsewhere does not hide what failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # partitioned checks are in preview, and say so at each use
        return [
            dg.AssetCheckSpec(
                spec.name,
                asset=spec.asset_key,
                description=spec.description,
                blocking=spec.blocking,
                partitions_def=partitions,
            )
            for spec in specs
        ]


def describe_outcome(outcome: CheckOutcome) -> str:
    """The figures that were measured, and where it failed what to do."""
    short = [f"{name}: {value}" for name, value in outcome.figures.items() if len(str(value)) <= _SHORT]
    told = "; ".join(short)
    return told if outcome.passed else f"{told}. {outcome.remedy}"
