"""The jobs: one per partition set, in the order in which they run."""

from typing import Any

import dagster as dg

from embed_pipeline.defs.teams import team_key, team_tags
from embed_pipeline.graph.catalogue import JOBS

UnresolvedJob = Any
"""What define_asset_job returns; dagster does not export the type."""


def define_jobs(team: str | None = None) -> dict[str, UnresolvedJob]:
    """The jobs of the graph by name, each with the partitions of its assets."""
    return {
        job.name: dg.define_asset_job(
            job.name,
            selection=dg.AssetSelection.assets(*(team_key(team, asset) for asset in job.assets)),
            description=job.description,
            tags=team_tags(team),
        )
        for job in JOBS
    }
