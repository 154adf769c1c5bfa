"""`run --jobs`: processes that run a piece of work each, killed, stopped, and held against one run at a time."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import psutil
import pytest

from embed_pipeline.commands.workers import Workers
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.graph.catalogue import JOBS
from embed_pipeline.graph.work import Work
from embed_pipeline_tests.small_project import edit_dataset, mark_project, write_project

ROOT = Path(__file__).parents[2]
WORK = Work(JOBS[0], "small", (), key="")


def test_a_worker_that_is_killed_is_an_error_of_its_run_and_one_that_is_stopped_is_interrupted() -> None:
    with ThreadPoolExecutor(2) as threads, Workers(2) as workers:
        begun = [threads.submit(workers.execute, WORK, f"run {at}", lambda *_: None) for at in range(2)]
        processes = [psutil.Process(worker.pid) for worker in workers._all]
        while sum(processes[0].cpu_times()[:2]) < 0.3:  # it loads what it needs, and was asked long since
            time.sleep(0.01)
        processes[0].kill()
        (killed,), (other,) = wait(begun, timeout=20, return_when=FIRST_COMPLETED)
        assert "its process ended with -9" in killed.result()[0]
        workers.stop()
        assert isinstance(other.exception(timeout=20), KeyboardInterrupt)
    assert not any(process.is_running() for process in processes)


def _run(folder: Path, *options: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EMBED_", "DAGSTER_HOME"))}
    command = [sys.executable, "-m", "embed_pipeline", "run", *options]
    done = subprocess.run(
        command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_runs_side_by_side_make_the_same_bytes_as_one_at_a_time(tmp_path: Path) -> None:
    write_project(tmp_path / "one")
    edit_dataset(tmp_path / "one" / "data" / "small", variants=["bm25", "base", "tuned"])
    mark_project(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    _run(tmp_path / "one")
    said = _run(tmp_path / "two", "--jobs", "2")
    assert "done finetune_variant small/tuned in" in said and "0 failed" in said
    found = []
    for name in ("one", "two"):
        root = tmp_path / name
        store = PipelineResource(data=str(root / "data"), home=str(root / ".embed_pipeline")).graph().store
        found.append({f"{one.asset} {one.partition}": one.digest for one in store.refs() if one.asset != "report"})
    assert found[0] == found[1] and len(found[0]) > 8
