"""A process that runs jobs on the instance of DAGSTER_HOME: `run_jobs.py PROJECT START JOB:PARTITION…`.

Says `ready`, waits for the file START, then runs the jobs one after another, and prints for each of its runs how many
assets it materialised and how many steps succeeded.
"""

import json
import os
import sys
import time
from pathlib import Path

import dagster as dg

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.graph.catalogue import ALL


def run_jobs(project: Path, start: Path, work: list[str]) -> dict[str, list[str]]:
    """The events of every run by its id: the kind of event and the asset, in order."""
    pipeline = PipelineResource(data=str(project / "data"), home=str(project / "home"), training_threads=1)
    definitions, events = build_definitions(pipeline), {}
    with dg.DagsterInstance.from_config(os.environ["DAGSTER_HOME"]) as instance:
        print("ready", flush=True)
        while not start.exists():
            time.sleep(0.02)
        for item in work:
            name, _, partition = item.partition(":")
            job = definitions.resolve_job_def(name)
            result = job.execute_in_process(instance=instance, partition_key=None if partition == ALL else partition)
            events[result.run_id] = [event.event_type_value for event in result.all_events]
    return events


if __name__ == "__main__":
    print(json.dumps(run_jobs(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
