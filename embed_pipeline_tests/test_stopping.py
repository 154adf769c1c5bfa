"""Ctrl-C and SIGTERM, as real signals to the process alone and to its group: all that was started ends, in seconds."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from embed_pipeline_tests.small_project import (
    edit_dataset,
    edit_yaml,
    is_training,
    make_rows,
    mark_project,
    write_project,
    write_workbook,
)

ROOT = Path(__file__).parents[1]
SECONDS = 5.0
"""What a user waits at most, where every process has a processor."""


def allowed_seconds() -> float:
    """What a user waits at most, longer by as many processes as wait for each processor; at least one does here."""
    return SECONDS * (1 + max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


class Command:
    """A command under way in a process group of its own, as a shell starts it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.output = folder, folder / "output.txt"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_PIPELINE_", "DAGSTER_HOME"))}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "embed_pipeline", *arguments],
                cwd=folder,
                env={**environment, "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def listens(self) -> bool:
        """Whether the command has begun to handle signals."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def stop(self, number: signal.Signals, *, group: bool = False, times: int = 1) -> float:
        """Send the signal; returns how long the command took to end, with every process it had started."""
        tree = psutil.Process(self.process.pid).children(recursive=True)
        started = time.monotonic()
        for at in range(times):
            time.sleep(0.4 if at else 0)
            (os.killpg if group else os.kill)(self.process.pid, number)
        self.process.wait(timeout=60)
        took = time.monotonic() - started
        psutil.wait_procs(tree, timeout=3)
        assert not [process for process in tree if is_running(process)], self.said()
        assert self.process.returncode == 128 + number, self.said()
        return took


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    write_project(tmp_path)
    edit_dataset(tmp_path / "data" / "small", variants=["tuned"])
    mark_project(tmp_path)
    yield tmp_path
    for process in psutil.process_iter(["cwd"]):  # only where a test failed
        if process.info["cwd"] == str(tmp_path):
            process.kill()


def make_long(folder: Path) -> None:
    edit_yaml(folder / "data" / "recipes" / "tuned.yaml", "training", epochs=3000)


def make_large(folder: Path) -> None:
    rows = [(f"{number} {row[0]}", *row[1:]) for number in range(100) for row in make_rows()]
    write_workbook(folder / "data" / "small" / "first.xlsx", rows)
    edit_dataset(folder / "data" / "small", variants=["base"])


def runs(folder: Path) -> dict[str, str]:
    """The status of the newest run of each job."""
    with dg.DagsterInstance.local_temp(str(folder / ".embed_pipeline" / "dagster")) as instance:
        return {run.job_name: run.status.value for run in reversed(instance.get_runs())}


def count_vectors(folder: Path) -> int:
    found = 0
    for path in (folder / ".embed_pipeline" / "vectors").glob("*.sqlite"):
        with sqlite3.connect(path) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
            found += sum(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in tables)
    return found


def nothing_half_written(command: Command) -> bool:
    """After a clean end there is nothing; what a forced one left, as docs/projects.md says, `gc` takes away."""
    home = command.folder / ".embed_pipeline"
    if "Stopped by force" in command.said():
        assert Command(command.folder, "gc").process.wait(timeout=60) == 0
    return not [*home.glob("training-*"), *(home / "artifacts" / "staging").glob("*")]


def stop_in_training(folder: Path, number: signal.Signals, *, group: bool) -> None:
    make_long(folder)
    command = Command(folder, "run")
    command.wait_until(lambda: is_training(folder / ".embed_pipeline"))
    assert command.stop(number, group=group) < allowed_seconds()
    assert runs(folder)["finetune_variant"] == "CANCELED"
    assert set(runs(folder)) == {"read_workbooks", "prepare_dataset", "finetune_variant"}, "nothing was begun after it"
    assert "Stopped during finetune_variant small/tuned" in command.said()
    assert "mined_negatives[small/tuned]" in command.said() and "goes on from there" in command.said()
    assert "Traceback" not in command.said()
    assert nothing_half_written(command)


def test_a_run_stopped_in_training_is_canceled(folder: Path) -> None:
    stop_in_training(folder, signal.SIGINT, group=True)


@pytest.mark.slow
def test_after_a_run_that_was_stopped_in_training_the_next_one_completes(folder: Path) -> None:
    stop_in_training(folder, signal.SIGTERM, group=False)
    edit_yaml(folder / "data" / "recipes" / "tuned.yaml", "training", epochs=1)
    after = Command(folder, "run")
    assert after.process.wait(timeout=120) == 0, after.said()


@pytest.mark.slow
def test_runs_side_by_side_are_all_canceled(folder: Path) -> None:
    make_large(folder)
    make_long(folder)
    edit_dataset(folder / "data" / "small", variants=["base", "tuned"])
    command = Command(folder, "run", "--jobs", "2")
    command.wait_until(lambda: "evaluate_variant" in command.said() and count_vectors(folder) > 0)
    assert command.stop(signal.SIGINT, group=True) < allowed_seconds()
    found = runs(folder)
    assert found["finetune_variant"] == found["evaluate_variant"] == "CANCELED"
    # Where other work keeps the processors busy, the clean end may take too long.
    assert "which are canceled" in command.said() or "Stopped by force" in command.said()
    assert "Traceback" not in command.said() and "\n  failed" not in command.said()
    assert nothing_half_written(command)


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once(folder: Path) -> None:
    make_long(folder)
    command = Command(folder, "run")
    command.wait_until(lambda: is_training(folder / ".embed_pipeline"))
    assert command.stop(signal.SIGINT, times=2) < allowed_seconds()
    assert runs(folder)["finetune_variant"] == "CANCELED"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_run_stopped_while_encoding_keeps_what_is_encoded(folder: Path, number, group) -> None:
    make_large(folder)
    command = Command(folder, "run")
    command.wait_until(lambda: "prepare_dataset" in command.said())
    time.sleep(1.0)
    assert command.stop(number, group=group) < allowed_seconds()
    assert runs(folder)["prepare_dataset"] == "CANCELED"
    assert nothing_half_written(command)
    command = Command(folder, "run")
    command.wait_until(lambda: count_vectors(folder) > 0)
    assert command.stop(number, group=group) < allowed_seconds()
    assert runs(folder)["evaluate_variant"] == "CANCELED"
    assert nothing_half_written(command)
    assert count_vectors(folder) > 0


@pytest.mark.slow
def test_a_reproduction_stopped_ends_whole_and_changes_nothing(folder: Path) -> None:
    write_workbook(folder / "data" / "small" / "first.xlsx", make_rows() * 20)
    edit_dataset(folder / "data" / "small", variants=["base"])
    assert Command(folder, "run").process.wait(timeout=200) == 0
    command = Command(folder, "reproduce", "small/base")
    command.wait_until(lambda: any((folder / ".embed_pipeline" / "artifacts" / "staging").glob("reproduction-*")))
    assert command.stop(signal.SIGTERM) < allowed_seconds()
    assert nothing_half_written(command)
    command = Command(folder, "mteb", "small/base")
    command.wait_until(command.listens)
    time.sleep(0.5)
    assert command.stop(signal.SIGINT, group=True) < allowed_seconds()
    assert "Traceback" not in command.said()


def test_a_conversion_stopped_leaves_no_target(folder: Path) -> None:
    rows = "".join(f"{number},Where is thing {number}?,On shelf {number}.\n" for number in range(300_000))
    (folder / "in.csv").write_text(f"id,question,context\n{rows}", encoding="utf-8")
    command = Command(folder, "convert", "in.csv", "out.jsonl", "--to", "flagembedding")
    command.wait_until(command.listens)
    time.sleep(0.5)
    assert command.stop(signal.SIGINT) < allowed_seconds()
    assert not (folder / "out.jsonl").exists() and not list(folder.glob(".convert-*"))


@pytest.mark.slow
def test_the_ui_ends_with_the_run_it_started(folder: Path) -> None:
    make_long(folder)
    edit_dataset(folder / "data" / "small", variants=["bm25"])
    assert Command(folder, "run").process.wait(timeout=200) == 0
    edit_dataset(folder / "data" / "small", variants=["bm25", "tuned"])
    command = Command(folder, "dev", "--port", str(free_port()))
    command.wait_until(lambda: "Serving dagster-webserver" in command.said(), seconds=200)
    storage = str(folder / ".embed_pipeline" / "dagster")
    partition = ["--tags", json.dumps({"dagster/partition": "small/tuned"})]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "dagster",
            "job",
            "launch",
            "-w",
            "workspace.yaml",
            "-j",
            "finetune_variant",
            *partition,
        ],
        cwd=folder,
        env={**os.environ, "DAGSTER_HOME": str(folder), "EMBED_PIPELINE_DAGSTER_STORAGE": storage},
        check=True,
        capture_output=True,
    )
    command.wait_until(lambda: is_training(folder / ".embed_pipeline"), seconds=200)
    assert command.stop(signal.SIGINT, group=True) < allowed_seconds()
    assert runs(folder)["finetune_variant"] == "CANCELED"
    assert "Stopped" in command.said()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
