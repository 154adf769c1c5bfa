"""What a user sees while runs are under way: in a terminal, and where there is none."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from embed_pipeline.commands.live import _Shown
from embed_pipeline.console import SafeConsole
from embed_pipeline.defs.running import PlainWords
from embed_pipeline_tests.small_project import edit_dataset, mark_project, write_project

INFO, WARNING = 20, 30
ROOT = Path(__file__).parents[2]
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def _screen() -> SafeConsole:
    return SafeConsole(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def _drawn(shown: _Shown) -> str:
    console = _screen()
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def test_a_step_that_says_how_far_it_is_has_a_bar_with_share_rate_and_time_left() -> None:
    shown = _Shown("finetune_variant small/tuned", _screen())
    shown.tell("finetuned_checkpoint", INFO, "trained 30 of 120 steps (25%), 2.5 steps/s, 36 s left; loss 0.1200")
    first, second = _drawn(shown).splitlines()[:2]
    assert "finetune_variant small/tuned" in first
    assert re.search(r"finetuned_checkpoint trained ━{6}─{18}  25% 2\.5 steps/s, 36 s left; loss 0\.1200", second)


def test_what_a_step_says_is_shown_until_the_next_word_or_step() -> None:
    shown = _Shown("clean", _screen())
    shown.tell("cleaned_qa", INFO, "read 10 of 100 rows (10%)")
    shown.tell("cleaned_qa", INFO, "a word about [brackets]")
    assert "a word about [brackets]" in _drawn(shown) and "10%" not in _drawn(shown)
    shown.tell("mined_negatives", INFO, "")
    assert "mined_negatives" in _drawn(shown) and "a word" not in _drawn(shown)


def test_a_warning_stays_on_the_screen() -> None:
    screen = _screen()
    _Shown("clean", screen).tell("cleaned_qa", WARNING, "40 of 60 rows were lost")
    assert "warning 40 of 60 rows were lost" in screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_line_that_is_too_long_for_the_terminal_is_cut_and_the_bar_is_not() -> None:
    shown, console = _Shown("finetune_variant small/tuned", _screen()), SafeConsole(width=80, file=io.StringIO())
    shown.tell("finetuned_checkpoint", INFO, f"trained 30 of 120 steps (25%), 2.5 steps/s; {'loss ' * 40}")
    with console.capture() as capture:
        console.print(shown)
    _, second, *rest = capture.get().splitlines()
    assert not rest and len(second) <= 80 and "finetuned_checkpoint trained" in second and "25%" in second


def test_without_a_terminal_progress_is_a_line_every_ten_seconds_and_words_are_all_printed() -> None:
    lines, now = [], 0.0
    words = PlainWords(lines.append, clock=lambda: now)
    for now in range(31):
        words("step", INFO, f"encoded {now + 1} of 40 texts (1%)")
    words("step", WARNING, "odd")
    words("step", INFO, "")
    assert lines == [
        *(f"    encoded {done} of 40 texts (1%)" for done in (1, 11, 21, 31)),
        "    warning: odd",
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path)
    edit_dataset(tmp_path / "data" / "small", variants=["bm25"])
    mark_project(tmp_path)
    return tmp_path


def _start(project: Path, output: int) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EMBED_", "DAGSTER_"))}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "120"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "embed_pipeline", "run"]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=output, stderr=output, stdin=output)


def _read_terminal(controller: int, process: subprocess.Popen) -> str:
    said = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # the other end is closed
            break
        said += part
    assert process.wait(timeout=60) == 0, said.decode(errors="replace")
    return said.decode()


def test_in_a_terminal_a_run_is_drawn_while_it_is_under_way_and_is_one_line_in_the_end(project: Path) -> None:
    controller, terminal = pty.openpty()
    process = _start(project, terminal)
    os.close(terminal)
    said = _read_terminal(controller, process)
    os.close(controller)
    left = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.rpartition(SHOW_CURSOR)[2])
    assert said.count(HIDE_CURSOR) == said.count(SHOW_CURSOR) > 0
    ends = re.findall(r"\x1b\[32mdone\x1b\[0m\s+\x1b\[1m([a-z_]+)", said)
    assert ends == ["read_workbooks", "prepare_dataset", "evaluate_variant", "publish_metrics"]
    assert "4 runs, 0 failed" in left
    assert "bm25" in left  # the table


def test_where_there_is_no_terminal_nothing_is_drawn(project: Path, tmp_path: Path) -> None:
    with (tmp_path / "said.txt").open("w+b") as output:
        assert _start(project, output.fileno()).wait(timeout=120) == 0
        output.seek(0)
        said = output.read().decode()
    assert "\x1b" not in said and "\r" not in said
    assert re.search(r"^    cleaned_qa\[small\] built in ", said, re.MULTILINE)
    assert re.search(r"^  done in [\d.]+ s$", said, re.MULTILINE)
