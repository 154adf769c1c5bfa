"""A real `embed-pipeline dev` on a free port, and its GraphQL for what a picture cannot prove."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from browser_tests.project import ROOT

Found = TypeVar("Found")

PATIENCE_SECONDS = 900.0
"""How long a state may take on a busy machine before the test gives up; nothing waits so long where all is well."""
_POLL_SECONDS = 1.0
_STATES = """{ assetNodes { assetKey { path } partitionStats
    { numPartitions numMaterialized numFailed numMaterializing } } }"""
_RUNS = "{ runsOrError(limit: 500) { ... on Runs { results { id status jobName tags { key value } } } } }"

_TICKS = """query($selector: InstigationSelector!) { instigationStateOrError(instigationSelector: $selector)
    { ... on InstigationState { ticks(limit: 100) { status skipReason runIds } } } }"""
_METADATA = """{ assetNodes { assetKey { path } assetMaterializations(limit: 1)
    { metadataEntries { label __typename } } } }"""
_STATE_WORDS = ("fresh", "stale", "missing", "waiting", "failed")


@dataclass(frozen=True)
class PartitionCounts:
    """How many partitions of an asset there are, and how many are green, red and under way."""

    all: int
    materialized: int
    failed: int
    materializing: int


class DevServer:
    """The server of one project folder, as a context manager; all state lies in the folder."""

    def __init__(self, root: Path, *, environment: Mapping[str, str]) -> None:
        self.root = root
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = root / "dev.log"
        self._environment = _clean_environment() | environment

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                _command("dev", "--port", str(self.port)),
                cwd=self.root,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for(self._loaded, "the code location")
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def type(self, *arguments: str) -> str:
        """What the command line prints in the project folder, whatever it ends with."""
        done = subprocess.run(
            _command(*arguments), cwd=self.root, env=self._environment, capture_output=True, text=True, timeout=300
        )
        return done.stdout + done.stderr

    def ask(self, query: str, **variables: object) -> Any:
        """The `data` of a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/graphql", body, headers), timeout=60) as answer:
            found = json.load(answer)
        assert not found.get("errors"), found["errors"]
        return found["data"]

    def wait_for(self, look: Callable[[], Found], what: str) -> Found:
        """The first true value of `look`.

        Raises:
            TimeoutError: it did not come within PATIENCE_SECONDS, or the server ended; with the end of its log.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := look()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                end = self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise TimeoutError(f"waited {PATIENCE_SECONDS:.0f} s for {what}. Last of {self.log}:\n{end}")
            time.sleep(_POLL_SECONDS)  # between two looks at the condition
        return found

    def partition_counts(self) -> dict[str, PartitionCounts | None]:
        """The counts of every partitioned asset; None for one without partitions."""
        return {node["assetKey"]["path"][-1]: _counts(node) for node in self.ask(_STATES)["assetNodes"]}

    def runs(self) -> list[dict[str, Any]]:
        """Every run, newest first: id, status, jobName, tags as a mapping."""
        runs = self.ask(_RUNS)["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in runs]

    def unfinished(self) -> list[dict[str, Any]]:
        """The runs that have not ended."""
        return [run for run in self.runs() if run["status"] not in ("SUCCESS", "FAILURE", "CANCELED")]

    def ticks(self, name: str) -> list[dict[str, Any]]:
        """The evaluations of a sensor or a schedule, newest first: status, skipReason, runIds."""
        selector = {"repositoryLocationName": "embed-pipeline", "repositoryName": "__repository__", "name": name}
        found = self.ask(_TICKS, selector=selector)["instigationStateOrError"]
        return found.get("ticks", [])

    def metadata(self) -> dict[str, dict[str, str]]:
        """The kinds of metadata of the newest materialisation of every asset, by key."""
        nodes = self.ask(_METADATA)["assetNodes"]
        return {
            node["assetKey"]["path"][-1]: {entry["label"]: entry["__typename"] for entry in made["metadataEntries"]}
            for node in nodes
            for made in node["assetMaterializations"]
        }

    def states(self) -> dict[str, str]:
        """What `embed-pipeline status` says of every partition: `asset[partition]` to its state."""
        lines = [line.split() for line in self.type("status").splitlines() if line and not line.startswith(" ")]
        return {f"{asset}[{partition}]": state for asset, partition, state, *_ in lines if state in _STATE_WORDS}

    def _loaded(self) -> bool:
        try:
            return bool(self.ask("{ assetNodes { id } }")["assetNodes"])
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def _counts(node: Mapping[str, Any]) -> PartitionCounts | None:
    stats = node["partitionStats"]
    names = ("numPartitions", "numMaterialized", "numFailed", "numMaterializing")
    return PartitionCounts(*(stats[name] for name in names)) if stats else None


def _command(*arguments: str) -> list[str]:
    # A shell starts what runs in its background deaf to Ctrl-C, and so are its children; the server is ended by it.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    return [sys.executable, "-c", f"{listen}; from embed_pipeline.cli import main; main()", *arguments]


def _clean_environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("EMBED_PIPELINE_", "DAGSTER_"))}
    return own | {"PYTHONPATH": str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "250"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
