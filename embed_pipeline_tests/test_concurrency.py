"""Runs at the same time on an instance as dagster.yaml sets it up: each partition made once, one training at a time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.defs.stale_job import STALE_TAG
from embed_pipeline.reporting.database import read_history
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, write_project

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 240
_RUN = """
import dagster as dg, sys
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
data, home, job, *partition = sys.argv[1:]
pipeline = PipelineResource(data=data, home=home, training_threads=1)
with dg.DagsterInstance.get() as instance:
    result = build_definitions(pipeline).resolve_job_def(job).execute_in_process(
        instance=instance, partition_key=partition[0] if partition else None, raise_on_error=False
    )
sys.exit(not result.success)
"""


@pytest.fixture
def project(tmp_path: Path) -> PipelineProject:
    """A project with two trained variants, its data prepared, and the shipped dagster.yaml."""
    data = write_project(tmp_path)
    shutil.copyfile(data / "recipes" / "tuned.yaml", data / "recipes" / "other.yaml")
    edit_yaml(data / "recipes" / "tuned.yaml", "training", epochs=1)
    edit_yaml(data / "recipes" / "other.yaml", "training", epochs=1, learning_rate=1e-3)
    edit_dataset(data / "small", variants=["bm25", "tuned", "other"])
    shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster.yaml")
    (tmp_path / "dagster").mkdir()
    return PipelineProject(tmp_path)


def _environment(project: PipelineProject) -> dict[str, str]:
    storage = str(project.root / "dagster")
    return {**os.environ, "DAGSTER_HOME": str(project.root), "EMBED_PIPELINE_DAGSTER_STORAGE": storage}


def _start(project: PipelineProject, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", _RUN, str(project.root / "data"), str(project.root / "home"), *arguments]
    return subprocess.Popen(command, env=_environment(project), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _finish(*processes: subprocess.Popen) -> list[int]:
    try:
        return [process.wait(timeout=TIMEOUT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()


def _spans(instance: dg.DagsterInstance, step: str) -> list[tuple[float, float]]:
    """When a step began and ended, of every run that had it, by time."""
    found = []
    for run in instance.get_runs():
        times = [
            entry.timestamp
            for entry in instance.all_logs(run.run_id)
            if entry.step_key == step
            and entry.dagster_event_type in (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS)
        ]
        found += [(min(times), max(times))] if times else []
    return sorted(found)


def test_two_trainings_take_turns_in_the_gpu_pool_and_two_calls_for_all_make_each_partition_once(
    project: PipelineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in ("read_workbooks", "prepare_dataset"):
        project.execute(job, "small")
    assert _finish(*(_start(project, "finetune_variant", f"small/{name}") for name in ("tuned", "other"))) == [0, 0]
    # Two actions "run what is stale" at once; neither waits for the other for ever.
    assert _finish(_start(project, "run_stale"), _start(project, "run_stale")) == [0, 0]
    for name, value in _environment(project).items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as instance:
        first, second = _spans(instance, "finetuned_checkpoint")
        assert first[1] <= second[0], "both trained at once"
        by_asset = _built(instance)
        asked = {run.tags[STALE_TAG] for run in instance.get_runs() if STALE_TAG in run.tags}
    assert by_asset == {"faiss_index": 3, "query_metrics": 3, "mined_negatives": 2, "finetuned_checkpoint": 2}
    assert 1 <= len(asked) <= 2
    # Each publication appended its rows; none is lost.
    rows = read_history(project.root / "home" / "metrics.duckdb")
    newest = {(row.variant, row.at) for row in rows if row.covers_own_queries}
    assert len({variant for variant, _ in newest}) == 3 and len(rows) % len(newest) == 0


def _built(instance: dg.DagsterInstance) -> dict[str, int]:
    """How many materialisations of the variants' assets were made, not found, over all runs."""
    counts: dict[str, int] = {}
    for asset in ("faiss_index", "query_metrics", "mined_negatives", "finetuned_checkpoint"):
        records = instance.fetch_materializations(dg.AssetKey(asset), limit=50).records
        made = [r for r in records if r.asset_materialization and not r.asset_materialization.metadata["cached"].value]
        counts[asset] = len(made)
    return counts
