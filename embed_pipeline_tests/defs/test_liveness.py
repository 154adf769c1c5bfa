"""Runs whose process was killed: they are ended with the reason; neither the sensor nor the queue waits for them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.liveness import HEARTBEAT_TAG, PROCESS_TAG, end_dead_runs, process_tags
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline_tests.small_project import edit_dataset, settle, write_project

ID = "3f0c1f0e-5a43-4a6e-9d0f-4d9f7e6d2b10"
ROOT = Path(__file__).parents[2]
_CARRY = """
import dagster as dg, sys, time
from embed_pipeline.defs.running import execute
from embed_pipeline.graph.catalogue import ALL, Job
from embed_pipeline.graph.work import Work
@dg.asset(pool="gpu")
def endless():
    print("begun", flush=True)
    open(sys.argv[1], "w").close()
    time.sleep(600)
job = dg.define_asset_job("endless_job", selection="*")
with dg.DagsterInstance.get() as instance:
    execute(dg.Definitions([endless], jobs=[job]), Work(Job("endless_job", ("endless",), ""), ALL, (), ""), instance)
"""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("EMBED_PIPELINE_DAGSTER_STORAGE", str(tmp_path / "dagster"))
    with dg.DagsterInstance.get() as found:
        yield found


def kill_a_run(folder: Path, name: str = "begun") -> None:
    """A run in a process of its own that is killed in the middle of its step."""
    process = subprocess.Popen([sys.executable, "-c", _CARRY, str(folder / name)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (folder / name).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def launchable(instance: dg.DagsterInstance) -> int:
    """How many of the queued runs the queue would launch now."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
    return len(daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None))


def test_killed_runs_stop_neither_the_sensor_nor_the_queue_nor_their_pool(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    kill_a_run(tmp_path)
    storage = instance.event_log_storage
    assert storage.get_concurrency_info("gpu").active_slot_count == 1
    write_project(tmp_path / "project")
    pipeline = PipelineResource(data=str(tmp_path / "project" / "data"), home=str(tmp_path / "project" / "home"))
    settle(Path(pipeline.data))
    definitions = build_definitions(pipeline)
    job = definitions.resolve_job_def("read_workbooks")
    location = RegisteredCodeLocationOrigin("embed-pipeline")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job.name)
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)
    (dead,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    other = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    instance.add_run_tags(other.run_id, {PROCESS_TAG: dead.tags[PROCESS_TAG].replace(dead.run_id, other.run_id)})
    assert launchable(instance) == 0, "two runs are thought to be under way"
    context = dg.build_sensor_context(
        instance=instance, resources={"pipeline": pipeline}, repository_def=definitions.get_repository_def()
    )
    tick = definitions.resolve_sensor_def("dead_runs").evaluate_tick(context)
    assert "2 ended" in (tick.skip_message or "")
    assert launchable(instance) == 1
    assert storage.get_concurrency_info("gpu").active_slot_count == 0
    found = instance.get_run_by_id(dead.run_id)
    assert found is not None and found.status is dg.DagsterRunStatus.FAILURE
    said = [entry.message for entry in instance.all_logs(dead.run_id) if entry.dagster_event]
    assert any("The process of this run" in line and "is gone" in line for line in said)


def test_the_sensor_asks_for_work_after_a_run_was_killed(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    kill_a_run(tmp_path)
    data = write_project(tmp_path / "project")
    edit_dataset(data / "small", automation="all")
    settle(data)
    pipeline = PipelineResource(data=str(data), home=str(tmp_path / "project" / "home"))
    definitions = build_definitions(pipeline)
    context = dg.build_sensor_context(
        instance=instance, resources={"pipeline": pipeline}, repository_def=definitions.get_repository_def()
    )
    tick = definitions.resolve_sensor_def("stale_partitions").evaluate_tick(context)
    assert [request.job_name for request in tick.run_requests or []] == ["read_workbooks"]


def _run(instance: dg.DagsterInstance, tags: dict[str, str], *, run_id: str | None = None) -> dg.DagsterRun:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def idle() -> None:
        nothing()

    return instance.create_run_for_job(idle, run_id=run_id, status=dg.DagsterRunStatus.STARTED, tags=tags)


def test_a_run_of_a_living_process_is_left_alone(instance: dg.DagsterInstance) -> None:
    run = _run(instance, process_tags(ID), run_id=ID)
    assert end_dead_runs(instance) == ()
    instance.report_run_failed(run)


def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it(instance: dg.DagsterInstance) -> None:
    tags = process_tags(ID)
    _run(instance, tags | {PROCESS_TAG: tags[PROCESS_TAG] + "0"}, run_id=ID)  # begun at another time
    assert [dead.run.run_id for dead in end_dead_runs(instance)] == [ID]


@pytest.mark.parametrize(("minutes", "dead"), [(2, False), (30, True)])
def test_a_run_of_another_host_is_judged_by_its_heartbeat(
    instance: dg.DagsterInstance, minutes: int, dead: bool
) -> None:
    beat = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    _run(instance, {PROCESS_TAG: f"{ID} elsewhere/pid:[1] 12 34", HEARTBEAT_TAG: beat}, run_id=ID)
    found = end_dead_runs(instance)
    assert bool(found) is dead
    assert not dead or "Host elsewhere was not heard of for 30 minutes" in found[0].reason


def test_a_run_started_again_from_a_dead_one_is_not_judged_by_the_copied_tags(instance: dg.DagsterInstance) -> None:
    _run(instance, {PROCESS_TAG: f"another-run {socket.gethostname()} 1 2"}, run_id=ID)
    assert end_dead_runs(instance) == ()


def test_a_run_that_was_being_canceled_is_canceled(instance: dg.DagsterInstance) -> None:
    tags = process_tags(ID)
    run = _run(instance, tags | {PROCESS_TAG: tags[PROCESS_TAG] + "0"}, run_id=ID)
    instance.report_run_canceling(run)
    end_dead_runs(instance)
    found = instance.get_run_by_id(ID)
    assert found is not None and found.status is dg.DagsterRunStatus.CANCELED


def test_whoever_starts_a_run_its_process_is_in_its_tags(tmp_path: Path) -> None:
    write_project(tmp_path)
    pipeline = PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home"))
    job = build_definitions(pipeline).resolve_job_def("read_workbooks")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, partition_key="small")
        run = instance.get_run_by_id(result.run_id)
        assert run is not None and run.tags[PROCESS_TAG].split()[2] == str(os.getpid())
        assert run.status is dg.DagsterRunStatus.SUCCESS
