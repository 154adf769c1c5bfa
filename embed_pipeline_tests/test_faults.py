"""What goes wrong around a run, as commands that users type: damage, several at once, names that Dagster misreads."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from embed_pipeline_tests.small_project import edit_dataset, make_rows, write_project, write_workbook

ROOT = Path(__file__).parents[1]


def make_project(folder: Path) -> Path:
    """A project of one data set and one variant, which runs in seconds."""
    write_project(folder)
    edit_dataset(folder / "data" / "small", variants=["bm25"])
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def start(folder: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("EMBED_PIPELINE_", "DAGSTER_HOME"))
    }
    return subprocess.Popen(
        [sys.executable, "-m", "embed_pipeline", *arguments],
        cwd=folder,
        env={**own, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def call(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    process = start(folder, *arguments, **variables)
    said = process.communicate(timeout=180)[0]
    return process.returncode, said


def add_dataset(folder: Path, name: str, rows: Sequence[Sequence[object]]) -> Path:
    shutil.copytree(folder / "data" / "small", folder / "data" / name)
    write_workbook(folder / "data" / name / "first.xlsx", rows)
    return folder / "data" / name


def table_of(folder: Path) -> Path:
    return folder / ".embed_pipeline" / "metrics.duckdb"


def test_a_data_set_whose_check_fails_stops_no_page_and_says_figure_and_remedy_where_it_is_named(folder: Path) -> None:
    add_dataset(folder, "tiny", make_rows()[:1])
    code, said = call(folder, "run")
    assert code == 1 and "Traceback" not in said, said
    assert (folder / ".embed_pipeline" / "reports" / "small.html").is_file(), said
    told = [line for line in said.splitlines() if "tiny" in line and "is failed" in line]
    assert told and all("See the check" not in line for line in told)
    assert "Nothing is built on it." in said
    code, said = call(folder, "status")
    assert next(line for line in said.splitlines() if line.startswith("report")).split()[2] == "fresh", said
