"""The jobs: one per partition set, in the order in which they run."""

from typing import Any

import dagster as dg

from embed_pipeline.defs.catalogue import JOBS

UnresolvedJob = Any
"""What define_asset_job returns; dagster does not export the type."""


def define_jobs() -> dict[str, UnresolvedJob]:
    """The jobs of the graph by name, each with the partitions of its assets."""
    return {
        job.name: dg.define_asset_job(job.name, selection=list(job.assets), description=job.description) for job in JOBS
    }
