"""Ten nights of one project, each in a process of its own as the daemon starts them: quiet ones, a drop, an edit."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from embed_pipeline.definitions import build_definitions
from embed_pipeline.reporting.database import read_history
from embed_pipeline.reporting.metric_row import MetricRow
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_yaml, make_rows, write_full_project, write_workbook, write_yaml

MODEL_LIBRARIES = ("torch", "transformers", "FlagEmbedding", "openai", "gensim")
FIRST_NIGHT = datetime(2026, 3, 1, 2, 0)


def sleep(root: Path, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Let the nights pass as the schedule asks for them; what each one ran, and whether a model's library is loaded."""
    project = PipelineProject(root)
    with dg.DagsterInstance.local_temp(str(root / "dagster")) as instance:
        for night in range(first, last + 1):
            known = {run.run_id for run in instance.get_runs()}
            definitions = build_definitions(project.pipeline)
            context = dg.build_schedule_context(
                instance=instance,
                scheduled_execution_time=FIRST_NIGHT + timedelta(days=night - 1),
                repository_def=definitions.get_repository_def(),
            )
            tick = definitions.resolve_schedule_def("nightly_reevaluation").evaluate_tick(context)
            (request,) = tick.run_requests or []
            job = definitions.resolve_job_def("reevaluate")
            result = job.execute_in_process(instance=instance, tags=request.tags, raise_on_error=False)
            runs = [run for run in reversed(instance.get_runs()) if run.run_id not in known]
            yield {
                "night": night,
                "success": result.success,
                "tags": sorted({run.tags["embed_pipeline/nightly"] for run in runs}),
                "runs": [" ".join([run.job_name, *filter(None, [run.tags.get("dagster/partition")])]) for run in runs],
                "libraries": sorted(set(sys.modules) & set(MODEL_LIBRARIES)),
                "messages": [event.user_message for event in instance.all_logs(result.run_id) if event.dagster_event is None],
            }
