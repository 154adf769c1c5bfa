"""What goes wrong around a run, as commands that users type: damage, several at once, names that Dagster misreads."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from embed_pipeline.reporting.database import read_history, read_newest
from embed_pipeline_tests.small_project import (
    edit_dataset,
    make_rows,
    mark_project,
    write_project,
    write_workbook,
    write_yaml,
)

ROOT = Path(__file__).parents[1]


def make_project(folder: Path) -> Path:
    """A project of one data set and one variant, which runs in seconds."""
    write_project(folder)
    edit_dataset(folder / "data" / "small", variants=["bm25"])
    mark_project(folder)
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


@pytest.mark.slow
def test_a_data_set_whose_check_fails_stops_no_page_and_says_figure_and_remedy_where_it_is_named(folder: Path) -> None:
    add_dataset(folder, "tiny", make_rows()[:1])
    code, said = call(folder, "run")
    assert code == 1 and "Traceback" not in said, said
    assert (folder / ".embed_pipeline" / "reports" / "small.html").is_file(), said
    told = [line for line in said.splitlines() if "tiny" in line and "] is failed:" in line]
    assert told and all("empty_splits" in line and "Add rows" in line for line in told), said
    assert "report[all] is failed" not in said
    code, said = call(folder, "status")
    assert next(line for line in said.splitlines() if line.startswith("report")).split()[2] == "fresh", said


@pytest.mark.slow
def test_a_table_that_is_damaged_and_a_page_that_is_deleted_are_made_again_and_no_evaluation_twice(
    folder: Path,
) -> None:
    assert call(folder, "run")[0] == 0
    table, page = table_of(folder), folder / ".embed_pipeline" / "reports" / "small.html"
    before, text = read_history(table), page.read_bytes()
    page.unlink()
    assert "small.html is gone" in " ".join(call(folder, "why", "report")[1].split())
    assert call(folder, "run")[0] == 0
    assert page.read_bytes() == text and read_history(table) == before
    table.write_bytes(b"")
    code, said = call(folder, "run")
    assert code == 0 and len(read_history(table)) == len(before), said
    assert [(row.at, row.value) for row in read_history(table)] == [(row.at, row.value) for row in before]


@pytest.mark.slow
def test_what_was_removed_leaves_the_table_and_what_is_of_other_data_is_marked(folder: Path) -> None:
    write_yaml(folder / "data" / "recipes" / "tfidf.yaml", {"description": "n-grams", "retriever": "tfidf"})
    edit_dataset(folder / "data" / "small", variants=["bm25", "tfidf"])
    assert call(folder, "run")[0] == 0
    edit_dataset(folder / "data" / "small", variants=["bm25"])
    assert call(folder, "run")[0] == 0
    assert {row.variant for row in read_newest(table_of(folder))} == {"bm25"}
    assert "tfidf" not in call(folder, "metrics")[1]


@pytest.mark.slow
def test_eight_first_runs_together_all_succeed_and_append_one_batch(folder: Path) -> None:
    processes = [start(folder, "run") for _ in range(8)]
    said = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, said
    assert not any("Traceback" in one for one in said)
    rows = read_history(table_of(folder))
    assert len(rows) == len({(row.slice, row.at) for row in rows})
