"""deploy/dagster.yaml on a real PostgreSQL: what is kept there, what stays on disk, what two processes at once lose."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from embed_pipeline.definitions import build_definitions
from embed_pipeline.evaluation.measures import MEASURES
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.freshness import assess
from embed_pipeline.reporting.database import read_newest
from embed_pipeline_tests.deployment.postgres_server import PostgresServer, is_required
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import make_rows, write_project, write_workbook, write_yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DATASETS = ("small", "other")
WAIT_SECONDS = 120.0


@dataclass(frozen=True)
class Finished:
    """A project of two data sets, each run by a process of its own at the same time, then published by this one."""

    project: PipelineProject
    environment: Mapping[str, str]
    events: Mapping[str, list[str]]
    """What each process saw of each of its runs: the kinds of events."""
    published: str
    """The run of this process."""


@pytest.fixture(scope="module")
def finished(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    project = PipelineProject(tmp_path_factory.mktemp("server"))
    write_two_datasets(project.root)
    (project.root / "instance").mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", project.root / "instance")
    environment = {
        **postgres.environment,
        "DAGSTER_HOME": str(project.root / "instance"),
        "EMBED_PIPELINE_DAGSTER_STORAGE": str(project.root / "storage"),
    }
    dagster = [sys.executable, "-m", "dagster", "instance", "migrate"]  # two processes that create tables might collide
    subprocess.run(dagster, env={**os.environ, **environment}, cwd=ROOT, check=True, capture_output=True)
    events = _run_at_once(project.root, environment)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
            job = build_definitions(project.pipeline).resolve_job_def("publish_metrics")
            published = job.execute_in_process(instance=instance).run_id
    return Finished(project, environment, events, published)


def write_two_datasets(root: Path) -> None:
    """The small project twice over, with the one variant that needs no model."""
    data = write_project(root)
    settings = yaml.safe_load((data / "small" / "dataset.yaml").read_text(encoding="utf-8"))
    write_yaml(data / "small" / "dataset.yaml", settings | {"variants": ["bm25"]})
    shutil.copytree(data / "small", data / "other")
    write_workbook(data / "other" / "first.xlsx", make_rows(seed=1))  # equal bytes would be served from the store


def _run_at_once(root: Path, environment: Mapping[str, str]) -> dict[str, list[str]]:
    processes = []
    for dataset in DATASETS:
        work = [f"read_workbooks:{dataset}", f"prepare_dataset:{dataset}", *[f"evaluate_variant:{dataset}/bm25"] * 2]
        script = [sys.executable, "-m", "embed_pipeline_tests.deployment.run_jobs", str(root), str(root / "start")]
        with (root / f"{dataset}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [*script, *work],
                    env={**os.environ, **environment},
                    cwd=ROOT,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
            )
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    (root / "start").touch()
    found: dict[str, list[str]] = {}
    for process, dataset in zip(processes, DATASETS, strict=True):
        output, _ = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0, (root / f"{dataset}.log").read_text()[-3000:]
        found |= json.loads(output)
    return found


def test_two_processes_at_once_lose_no_run_and_no_event(finished: Finished, postgres: PostgresServer) -> None:
    rows = postgres.query("SELECT run_id, status, start_time, end_time FROM runs")
    assert {(run, status) for run, status, *_ in rows} == {
        (run, "SUCCESS") for run in (*finished.events, finished.published)
    }
    for run, events in finished.events.items():
        stored = Counter(
            kind for (kind,) in postgres.query("SELECT dagster_event_type FROM event_logs WHERE run_id = %s", run)
        )
        seen = Counter(events)
        assert {kind: stored[kind] for kind in seen} == seen
    assert len(finished.events) == 8
    first, second = ([row for row in rows if row[0] in list(finished.events)[half]] for half in (slice(4), slice(4, 8)))
    assert any(a[2] < b[3] and b[2] < a[3] for a in first for b in second), "the processes did not run at once"


def test_every_artifact_on_disk_is_a_materialisation_in_postgresql(
    finished: Finished, postgres: PostgresServer
) -> None:
    graph = finished.project.graph
    stored = {
        (run, json.loads(key)[-1], partition, _digest(event))
        for run, key, partition, event in postgres.query(
            "SELECT run_id, asset_key, partition, event FROM event_logs "
            "WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        )
    }
    built = set()
    for node in graph.nodes():
        manifest = graph.store.read(node.asset, node.partition)
        assert manifest is not None
        partition = None if node.partition == ALL else node.partition
        built.add((manifest.run_id, node.asset, partition, manifest.digest))
    assert len(built) == 2 * 4 + 2
    assert built <= stored


def _digest(event: str) -> str:
    entries = json.loads(event)["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
    return next(entry["entry_data"]["text"] for entry in entries if entry["label"] == "digest")


def test_the_store_and_the_table_lie_on_disk_and_are_read_without_postgresql(finished: Finished) -> None:
    root, graph = finished.project.root, finished.project.graph
    assert not any(name in os.environ for name in finished.environment if "POSTGRES" in name)
    assert {assessment.state for assessment in assess(graph)} == {"fresh"}
    digests = {graph.input(node).digest for node in graph.nodes()}
    assert all(finished.project.object(digest).is_dir() and graph.store.open(digest) for digest in digests)
    rows = [row for row in read_newest(root / "home" / "metrics.duckdb") if row.covers_own_queries]
    assert {(row.dataset, row.at) for row in rows} == {(name, measure) for name in DATASETS for measure in MEASURES}


def test_nothing_is_written_beside_the_configuration_and_no_sqlite_takes_its_place(finished: Finished) -> None:
    root = finished.project.root
    assert [path.name for path in (root / "instance").rglob("*")] == ["dagster.yaml"]
    assert {path.suffix for path in (root / "storage").rglob("*") if path.is_file()} == {".out", ".err", ".complete"}


def test_the_password_is_in_no_file(finished: Finished, postgres: PostgresServer) -> None:
    files = [path for path in finished.project.root.rglob("*") if path.is_file()]
    assert files and [path for path in files if postgres.password.encode() in path.read_bytes()] == []


def test_a_missing_postgresql_is_an_error_in_ci_and_where_it_is_asked_for() -> None:
    assert is_required({"CI": "true"}) and is_required({"EMBED_PIPELINE_REQUIRE_POSTGRES": "1"})
    assert not is_required({}) and not is_required({"CI": "false"})
