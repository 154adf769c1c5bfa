"""Whose an asset and a run is when several teams' code locations share one Dagster instance.

A shared instance keeps what it knows about an asset under the asset's key alone: two locations with equal keys would
show each other's runs. Does not belong here: where a team's files lie (project).
"""

import re
from collections.abc import Mapping

import dagster as dg

TEAM_TAG = "embed_pipeline/team"


def check_team(team: str | None) -> str | None:
    """The name as it is; None for a project that has its Dagster instance to itself.

    Raises:
        ValueError: the name cannot be part of an asset key.
    """
    if team is not None and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", team):
        raise ValueError(
            f"EMBED_PIPELINE_TEAM: expected a letter, then letters, digits and underscores, found {team!r}. Rename it."
        )
    return team


def team_key(team: str | None, asset: str) -> dg.AssetKey:
    """The key of a team's asset: `underwriting/cleaned_qa`, or `cleaned_qa` without a team."""
    return dg.AssetKey([team, asset] if team else [asset])


def assign_to_team(asset: dg.AssetsDefinition, team: str | None) -> dg.AssetsDefinition:
    """The asset with its checks and dependencies under the team's keys."""
    if team is None:
        return asset
    keys = {*asset.keys, *asset.dependency_keys}
    return asset.with_attributes(asset_key_replacements={key: team_key(team, key.path[-1]) for key in keys})


def team_tags(team: str | None) -> Mapping[str, str]:
    """The tag on every run of a team's jobs."""
    return {TEAM_TAG: team} if team else {}


def may_be_of(team: str | None, run: dg.DagsterRun) -> bool:
    """Whether a run is the team's or of nobody known: assets materialised by hand in the UI carry no job's tags."""
    return run.tags.get(TEAM_TAG, team) == team
