"""Runs at the same time on an instance as dagster.yaml sets it up: each partition made once, one training at a time."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.assets.publishing import GPU_POOL
from embed_pipeline.defs.jobs import STALE_TAG
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.reporting.database import read_history
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, write_project

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 120
_RUN_STALE = """
import dagster as dg, sys
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
job = build_definitions(PipelineResource(data=sys.argv[1], home=sys.argv[2])).resolve_job_def("run_stale")
with dg.DagsterInstance.get() as instance:
    sys.exit(not job.execute_in_process(instance=instance, raise_on_error=False).success)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineProject:
    """A project with an instance as the shipped dagster.yaml sets it up: pools of one, two runs at once."""
    data = write_project(tmp_path)
    edit_yaml(data / "recipes" / "tuned.yaml", "training", epochs=1)
    shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster.yaml")
    (tmp_path / "dagster").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("EMBED_PIPELINE_DAGSTER_STORAGE", str(tmp_path / "dagster"))
    with dg.DagsterInstance.get():  # two processes that create Dagster's storage at once fail
        return PipelineProject(tmp_path)


@pytest.mark.slow
def test_training_does_not_begin_while_another_run_holds_the_gpu_pool(project: PipelineProject) -> None:
    job, ended = build_definitions(project.pipeline).resolve_job_def("finetune_variant"), []
    for name in ("read_workbooks", "prepare_dataset"):
        project.execute(name, "small")
    with dg.DagsterInstance.get() as instance:
        storage = instance.event_log_storage
        assert storage.initialize_concurrency_limit_to_default(GPU_POOL)
        assert storage.claim_concurrency_slot(GPU_POOL, "another run", "finetuned_checkpoint").is_claimed

        def train() -> None:
            ended.append(job.execute_in_process(instance=instance, partition_key="small/tuned").success)

        thread = threading.Thread(target=train)
        thread.start()
        try:
            _wait_until(lambda: any(f"limit for pool {GPU_POOL}" in line for line in _lines(instance)))
            time.sleep(2)
            assert "mined_negatives" in _steps_begun(instance)
            assert "finetuned_checkpoint" not in _steps_begun(instance) and not ended
        finally:
            storage.free_concurrency_slots_for_run("another run")
            thread.join(TIMEOUT_SECONDS)
        assert ended == [True] and "finetuned_checkpoint" in _steps_begun(instance)
        assert storage.get_concurrency_info(GPU_POOL).active_slot_count == 0


def test_two_calls_for_all_that_is_stale_run_each_job_once_and_neither_waits_for_ever(project: PipelineProject) -> None:
    edit_dataset(project.dataset, variants=["bm25"])
    places = [str(project.root / "data"), str(project.root / "home")]
    command = [sys.executable, "-c", _RUN_STALE, *places]
    processes = [subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        assert [process.wait(timeout=TIMEOUT_SECONDS) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    with dg.DagsterInstance.get() as instance:
        runs = [run for run in instance.get_runs() if STALE_TAG in run.tags]
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert _built(instance) == {"raw_xlsx": 1, "cleaned_qa": 1, "faiss_index": 1, "query_metrics": 1}
    assert sorted(run.job_name for run in runs) == sorted(
        ["read_workbooks", "prepare_dataset", "evaluate_variant", "publish_metrics"]
    )
    rows = read_history(project.root / "home" / "metrics.duckdb")
    assert len(rows) == len({(row.slice, row.at) for row in rows}) and project.graph.store.read("report", ALL)


def _built(instance: dg.DagsterInstance) -> dict[str, int]:
    """How many materialisations were made, not found, over all runs."""
    counts = {}
    for asset in ("raw_xlsx", "cleaned_qa", "faiss_index", "query_metrics"):
        records = instance.fetch_materializations(dg.AssetKey(asset), limit=50).records
        made = [r.asset_materialization for r in records if r.asset_materialization]
        counts[asset] = sum(not one.metadata["cached"].value for one in made)
    return counts


def _lines(instance: dg.DagsterInstance) -> list[str]:
    return [entry.message for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]


def _steps_begun(instance: dg.DagsterInstance) -> set[str]:
    return {
        entry.step_key or ""
        for run in instance.get_runs()
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    }


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {TIMEOUT_SECONDS} s"
        time.sleep(0.2)
