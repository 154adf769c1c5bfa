"""Where a project lies and who runs it: full disks, folders nobody may write, other users, other clocks.

What takes root (mounts, other users) is skipped for others.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embed_pipeline.reporting.database import read_history, read_newest
from fault_tests.commands import ENVIRONMENT, call
from fault_tests.conftest import Figure
from fault_tests.project import copy_of, sound_store, state_of, write_short_project

as_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None or shutil.which("setpriv") is None,
    reason="takes root, mount and setpriv",
)
NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_short_project(tmp_path_factory.mktemp("places") / "template", "bm25", "base")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@as_root
@pytest.mark.parametrize("kilobytes", [400, 800, 1200, 1600, 2000, 2600, 3400, 4400])
def test_a_disk_that_fills_up_is_said_and_with_more_space_the_run_ends_as_if_it_had_been_there(
    template: Path, tmp_path: Path, kilobytes: int, figure: Figure
) -> None:
    """Wherever the space ends: the state folder lies on a disk of so many kilobytes, which then grows."""
    project = copy_of(template, tmp_path / "project")
    with small_disk(tmp_path / "disk", f"{kilobytes}k") as disk:
        environment = {"EMBED_PIPELINE_HOME": str(disk / "home")}
        code, said = call(project, "run", environment=environment)
        assert code == 0 or "space" in said or "full" in said, said
        figure(f"first run on a disk of {kilobytes:,} kB", "said what lacks space" if code else "had room")
        assert "Traceback" not in said and "please report it" not in said, said
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        code, said = call(project, "run", environment=environment)
        assert code == 0, said
        (project / ".embed_pipeline").symlink_to(disk / "home")
        sound_store(project)
        state_of(project)
        rows = read_history(disk / "home" / "metrics.duckdb")
        assert len(rows) == len({(row.dataset, row.variant, row.measured_on, row.slice, row.at) for row in rows})


@as_root
def test_a_folder_of_state_that_nobody_may_write_is_named_with_the_remedy(template: Path, tmp_path: Path) -> None:
    project = copy_of(template, tmp_path / "project")
    with small_disk(tmp_path / "disk", "100m") as disk:
        environment = {"EMBED_PIPELINE_HOME": str(disk / "home")}
        assert call(project, "run", environment=environment)[0] == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        # What only reads goes on; what writes says where it may not.
        for command in (("status",), ("metrics",)):
            code, said = call(project, *command, environment=environment)
            assert "Traceback" not in said and "please report it" not in said, said
            assert code == 0 or "EMBED_PIPELINE_HOME" in said, said
        (project / "data" / "small" / "labels.txt").open("a").write("新标签\n")
        code, said = call(project, "run", environment=environment)
        assert code == 1 and "disk" in said and "Traceback" not in said and "please report it" not in said, said


@as_root
def test_state_on_another_file_system_than_temporary_files_ends_as_on_the_same(template: Path, tmp_path: Path) -> None:
    plain = copy_of(template, tmp_path / "project")
    assert call(plain, "run")[0] == 0
    expected = state_of(plain)
    project = copy_of(template, tmp_path / "project")
    with small_disk(tmp_path / "disk", "200m") as disk:
        assert call(project, "run", environment={"EMBED_PIPELINE_HOME": str(disk / "home")})[0] == 0
        (project / ".embed_pipeline").symlink_to(disk / "home")
        assert state_of(project) == expected


@as_root
def test_a_second_user_without_the_right_to_write_is_told_so_and_with_it_goes_on(open_folder: Path) -> None:
    project = write_short_project(open_folder / "project", "bm25", "base")
    assert call(project, "run")[0] == 0
    code, said = _as_nobody(project, "status")
    assert code in (0, 1) and "Traceback" not in said and "please report it" not in said, said
    (project / "data" / "small" / "labels.txt").open("a").write("新标签\n")
    code, said = _as_nobody(project, "run")
    assert code == 1 and ("ermission denied" in said or "readonly" in said), said
    assert "Traceback" not in said and "please report it" not in said, said
    subprocess.run(["chmod", "-R", "a+rwX", project], check=True)
    code, said = _as_nobody(project, "run")
    assert code == 0, said


def _as_nobody(project: Path, *arguments: str) -> tuple[int, str]:
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", sys.executable, "-m"]
    done = subprocess.run(
        [*command, "embed_pipeline", *arguments],
        cwd=project,
        env={**os.environ, **ENVIRONMENT, "HOME": "/nonexistent", "EMBED_PIPELINE_MODELS": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout + done.stderr


_LATER = """
import datetime, time
import embed_pipeline.defs.assets.reporting as reporting
class Later(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(days=10)
reporting.datetime, wrong = Later, time.time
time.time = lambda: wrong() + 864000
"""
"""Puts the clock ten days on, and the time that a batch of rows is recorded with, which Python reads in C."""


def test_a_clock_that_was_set_back_makes_nothing_stale_and_keeps_the_order_of_history(
    template: Path, tmp_path: Path, figure: Figure
) -> None:
    """The first run is in ten days, as a clock that was wrong then had it."""
    project = copy_of(template, tmp_path / "project")
    home = project / ".embed_pipeline"
    code = f"{_LATER}import sys; sys.argv = ['embed-pipeline', 'run']\nfrom embed_pipeline.cli import main; main()"
    first = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env={**os.environ, **ENVIRONMENT}, capture_output=True
    )
    assert first.returncode == 0, first.stdout
    for path in (path for path in home.rglob("*") if path.is_file()):
        os.utime(path, (time.time() + 864000,) * 2)
    code, said = call(project, "run")
    assert code == 0 and "Everything is fresh" in said, said
    with (project / "data" / "small" / "labels.txt").open("a", encoding="utf-8") as file:
        file.write("新标签\n")
    code, said = call(project, "run")
    assert code == 0, said
    code, said = call(project, "run")
    assert code == 0 and "Everything is fresh" in said, said
    times = [row.evaluated_at for row in read_history(home / "metrics.duckdb")]  # in the order of their batches
    assert times[0] > times[-1]
    assert {row.evaluated_at for row in read_newest(home / "metrics.duckdb")} == {times[-1]}
    figure("runs after the clock was set back ten days that did what they should", 3)
