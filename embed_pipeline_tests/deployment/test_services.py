"""The shipped units started for real: two teams' code locations, webserver and daemon on one PostgreSQL.

What is asked is asked of the webserver over HTTP, as the browser does.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from embed_pipeline.artifacts import Manifest
from embed_pipeline_tests.deployment.postgres_server import PostgresServer, free_port
from embed_pipeline_tests.deployment.services import CONFIGURATION, DEPLOY, PROGRAMS, UNITS, Unit, read_environment
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import make_rows, write_project, write_workbook, write_yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TEAMS = ("underwriting", "claims")
WAIT_SECONDS = 240.0
DATABASE = "services"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}

LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
ASSETS = "{ assetNodes { assetKey { path } repository { location { name } } } }"
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status tags { key value } } } }"
MATERIALISED = """query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
  assetMaterializations { runId partition metadataEntries { label ... on TextMetadataEntry { text } } } } } }"""


@dataclass(frozen=True)
class Servers:
    """The running services."""

    root: Path
    port: int
    processes: Mapping[str, subprocess.Popen[bytes]]

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        address = f"http://127.0.0.1:{self.port}/graphql"
        request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return found["data"]

    def wait(self, what: str, ask: Callable[[], Any]) -> Any:
        """The first true answer; fails with the services' logs when one ended or none came in time."""
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end and all(process.poll() is None for process in self.processes.values()):
            try:
                if answer := ask():
                    return answer
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass  # not listening yet
            time.sleep(0.5)
        logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(self.root.glob("*.log")))
        raise AssertionError(f"{what} did not come about\n{logs}")

    def launch(self, team: str, job: str, partition: str) -> str:
        """Starts a job of a team's location as the UI's launchpad does; returns the run's id."""
        selector = {"repositoryLocationName": team, "repositoryName": "__repository__", "jobName": job}
        tags = [{"key": "dagster/partition", "value": partition}]
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
        answer = self.ask(LAUNCH, params=params)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]


@pytest.fixture(scope="module")
def servers(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    root = tmp_path_factory.mktemp("services")
    postgres.query(f"CREATE DATABASE {DATABASE}")
    shared = {
        **read_environment(DEPLOY / "environment.example"),
        **postgres.environment,
        "EMBED_PIPELINE_POSTGRES_DATABASE": DATABASE,
        "EMBED_PIPELINE_DAGSTER_STORAGE": str(root / "dagster"),
        "EMBED_PIPELINE_WEB_PORT": str(free_port()),
    }
    ports = {team: str(free_port()) for team in TEAMS}
    _configure(root / "etc", ports)
    environments = {team: shared | _prepare_team(root / team, team, ports[team]) for team in TEAMS}
    units = {path.stem: (Unit(path), shared) for path in UNITS if "@" not in path.name}
    units |= {team: (Unit(path, team), environments[team]) for path in UNITS if "code@" in path.name for team in TEAMS}
    migrate = _start([f"{PROGRAMS}dagster", "instance", "migrate"], shared, root, "migrate")
    assert migrate.wait(timeout=WAIT_SECONDS) == 0, (root / "migrate.log").read_text()
    processes = {name: _start(unit.command(env), env, root, name) for name, (unit, env) in units.items()}
    try:
        yield Servers(root, int(shared["EMBED_PIPELINE_WEB_PORT"]), processes)
    finally:
        _stop(list(processes.values()))


def _configure(folder: Path, ports: Mapping[str, str]) -> None:
    folder.mkdir()
    (folder / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text(encoding="utf-8"))
    for entry in workspace["load_from"]:
        entry["grpc_server"]["port"] = int(ports[entry["grpc_server"]["location_name"]])
    write_yaml(folder / "workspace.yaml", workspace)


def _prepare_team(root: Path, team: str, port: str) -> dict[str, str]:
    """Writes the team's project: the same names in every team, other questions. Returns its environment file."""
    data = write_project(root)
    settings = yaml.safe_load((data / "small" / "dataset.yaml").read_text(encoding="utf-8"))
    write_yaml(data / "small" / "dataset.yaml", settings | {"variants": ["bm25"]})
    write_workbook(data / "small" / "first.xlsx", make_rows(seed=TEAMS.index(team)))
    return {
        **read_environment(DEPLOY / "team.environment.example"),
        "EMBED_PIPELINE_TEAM": team,
        "EMBED_PIPELINE_CODE_PORT": port,
        "EMBED_PIPELINE_DATA": str(data),
        "EMBED_PIPELINE_HOME": str(root / "home"),
    }


def _start(command: list[str], environment: Mapping[str, str], root: Path, name: str) -> subprocess.Popen[bytes]:
    """Starts a unit's command with its environment file and little else, as systemd does."""
    programs = f"{Path(sys.executable).parent}/"
    here = [word.replace(PROGRAMS, programs).replace(CONFIGURATION, str(root / "etc")) for word in command]
    inherited = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (root / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            here,
            env={**inherited, "DAGSTER_HOME": str(root / "etc"), **environment},
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ends the services and whatever they started."""
    everything = [child for process in processes for child in psutil.Process(process.pid).children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for child in psutil.wait_procs(everything, timeout=10)[1]:
        child.kill()


@pytest.fixture(scope="module")
def finished(servers: Servers) -> Mapping[str, tuple[str, ...]]:
    """Both teams have read and cleaned their data set of the same name; the runs of each team."""

    def are_loaded() -> bool:
        entries = servers.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        types = {entry["name"]: (entry["locationOrLoadError"] or {}).get("__typename") for entry in entries}
        return types == dict.fromkeys(TEAMS, "RepositoryLocation")

    servers.wait("both code locations", are_loaded)
    runs: dict[str, tuple[str, ...]] = dict.fromkeys(TEAMS, ())
    for job in ("read_workbooks", "prepare_dataset"):
        launched = {team: servers.launch(team, job, "small") for team in TEAMS}
        for team, run in launched.items():
            servers.wait(f"the end of {job}", lambda run=run: _status(servers, run) in ENDED)
            assert _status(servers, run) == "SUCCESS"
            runs[team] = (*runs[team], run)
    return runs


def _status(servers: Servers, run: str) -> str:
    return servers.ask(RUN, id=run)["runOrError"]["status"]


def _manifest(servers: Servers, team: str, asset: str) -> Manifest:
    return PipelineProject(servers.root / team).manifest(asset, "small")


def test_the_webserver_shows_each_teams_assets_in_its_own_location(servers: Servers, finished: object) -> None:
    nodes = servers.ask(ASSETS)["assetNodes"]
    found = {(node["repository"]["location"]["name"], *node["assetKey"]["path"]) for node in nodes}
    assert {location for location, *_ in found} == set(TEAMS)
    assert all(location == team for location, team, _ in found)
    assert {asset for location, _, asset in found if location == TEAMS[0]} == {
        asset for location, _, asset in found if location == TEAMS[1]
    }


@pytest.mark.parametrize("asset", ["raw_xlsx", "cleaned_qa"])
def test_partitions_of_the_same_name_stay_each_teams_own(
    servers: Servers, finished: Mapping[str, tuple[str, ...]], asset: str
) -> None:
    digests = {}
    for team in TEAMS:
        (one,) = servers.ask(MATERIALISED, key={"path": [team, asset]})["assetOrError"]["assetMaterializations"]
        digests[team] = next(entry["text"] for entry in one["metadataEntries"] if entry["label"] == "digest")
        assert (one["partition"], one["runId"] in finished[team]) == ("small", True)
        assert digests[team] == _manifest(servers, team, asset).digest
    assert digests[TEAMS[0]] != digests[TEAMS[1]]


def test_a_run_carries_its_team_and_goes_through_the_queue(
    servers: Servers, finished: Mapping[str, tuple[str, ...]], postgres: PostgresServer
) -> None:
    queued = postgres.query(
        "SELECT run_id FROM event_logs WHERE dagster_event_type = 'PIPELINE_ENQUEUED'", database=DATABASE
    )
    assert {run for (run,) in queued} == {run for runs in finished.values() for run in runs}
    for team in TEAMS:
        tags = {tag["key"]: tag["value"] for tag in servers.ask(RUN, id=finished[team][0])["runOrError"]["tags"]}
        assert tags["embed_pipeline/team"] == team


def test_no_service_has_the_password_in_its_arguments_or_files(
    servers: Servers, finished: object, postgres: PostgresServer
) -> None:
    for process in servers.processes.values():
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert not any(postgres.password in word for member in family for word in member.cmdline())
    files = [path for path in servers.root.rglob("*") if path.is_file()]
    assert [path for path in files if postgres.password.encode() in path.read_bytes()] == []
    assert sorted(path.name for path in (servers.root / "etc").iterdir()) == ["dagster.yaml", "workspace.yaml"]
