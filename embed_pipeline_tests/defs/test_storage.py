"""Dagster's storage: begun by many at once, left with two versions, damaged, in a folder that Dagster misreads."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from embed_pipeline.defs.storage import check_storage_folder, open_storage

ROOT = Path(__file__).parents[2]
_OPEN = """
import sys
from pathlib import Path
from embed_pipeline.defs.storage import open_storage
with open_storage(Path(sys.argv[1])) as instance:
    instance.get_runs()
"""


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("EMBED_PIPELINE_DAGSTER_STORAGE", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    return tmp_path / "dagster"


def test_several_that_open_a_new_storage_at_once_all_succeed(storage: Path) -> None:
    command = [sys.executable, "-c", _OPEN, str(storage)]
    opened = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=120)[1] for process in opened]
    assert [process.returncode for process in opened] == [0] * 4, errors
    for path in storage.rglob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_a_storage_that_was_left_with_two_versions_is_mended(storage: Path) -> None:
    with open_storage(storage):
        pass
    for path in storage.rglob("*.db"):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO alembic_version VALUES ('7e2f3204cf8e')")
    with open_storage(storage) as instance:
        assert instance.get_runs() == []


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_storage_is_named_with_the_command_that_sets_it_aside(storage: Path, content: bytes) -> None:
    with open_storage(storage):
        pass
    (path,) = storage.rglob("runs.db")
    for file in path.parent.glob("runs.db*"):
        file.unlink()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="nothing that a result depends on") as raised, open_storage(storage):
        pass
    assert str(raised.value).endswith(f"mv '{storage}' '{storage}.damaged'")
    shutil.move(storage, f"{storage}.damaged")
    with open_storage(storage) as instance:
        assert instance.get_runs() == []


@pytest.mark.parametrize("name", ["a%20b", "what?", "no#1"])
def test_a_folder_that_dagster_would_read_as_another_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a path without % . #.*Rename the folder"):
        check_storage_folder(tmp_path / name / "dagster")
    check_storage_folder(tmp_path / "a b (ä) & c" / "dagster")
