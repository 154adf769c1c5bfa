"""What the README and the tutorial tell a reader to type is typed, in the order of the page, in folders of its own.

What comes before the first run is quick; the rest is slow, with small weights in place of the encoder, and once with
the real one. That each command exists is a test of its own for every page (test_documentation).
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from embed_pipeline_tests.documented_commands import read_blocks, text_commands
from embed_pipeline_tests.small_project import write_model

ROOT = Path(__file__).parents[1]
LEFT_OUT: Mapping[str, str] = {
    "make demo": "minutes of training; the tutorial and the walk through the UI run the same graph",
    "make test": "this test is part of it",
    "python3 -m venv": "the environment of the tests is one; the wheel is installed into a new one by test_wheel",
    ". .venv/bin/activate": "as above",
    "pip install": "as above",
    "embed-pipeline dev": "a server that ends when told to; the walk through the UI starts it",
}
"""Commands that are not typed here, and why."""
FIRST_RUN = "embed-pipeline run"
SOURCES: Mapping[str, tuple[str, int]] = {
    "README.md": ("questions.csv", 200),
    "docs/tutorial.md": ("symptoms.csv", 1000),
}
"""The file that a page expects in the reader's folder, and how many of the tutorial's questions it is given."""


@pytest.mark.parametrize("page", SOURCES)
def test_what_a_page_says_before_the_first_run_works(page: str, tmp_path: Path) -> None:
    _follow(page, tmp_path, model=None, runs=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SOURCES)
def test_the_commands_of_a_page_work_in_its_order(page: str, tmp_path: Path) -> None:
    _follow(page, tmp_path, model=write_model(tmp_path / "model", dropout=0.0), runs=True)


@pytest.mark.slow
def test_the_commands_of_the_readme_work_with_the_encoder_that_they_name(tmp_path: Path) -> None:
    _follow("README.md", tmp_path, model=None, runs=True)


def test_what_is_left_out_is_still_in_a_page() -> None:
    typed = [command for page in SOURCES for command in text_commands((ROOT / page).read_text(encoding="utf-8"))]
    assert [start for start in LEFT_OUT if not any(command.startswith(start) for command in typed)] == []


def _follow(page: str, folder: Path, *, model: Path | None, runs: bool) -> None:
    """Do what the page says: type the commands, write the lines into the files that it names, run its Python.

    Without `runs` only what stands before the first command that runs the graph.
    """
    name, questions = SOURCES[page]
    lines = (ROOT / "docs" / "tutorial" / "symptoms.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / name).write_text("".join(lines[: questions + 1]), encoding="utf-8")
    at = folder
    for block in read_blocks((ROOT / page).read_text(encoding="utf-8")):
        if block.title:
            _write_lines(at / block.title, block.text)
        elif block.language == "python" and runs:
            _run([sys.executable, "-c", block.text], at)
        elif block.language == "sh":
            for command in text_commands(block.whole):
                if command.startswith(FIRST_RUN) and not runs:
                    return
                at = _type(command, at)
                if command.startswith("embed-pipeline new") and model:
                    _replace_encoders(folder, model)


def _type(command: str, at: Path) -> Path:
    """The folder that the reader is in after the command."""
    words = shlex.split(command)
    if any(command.startswith(start) for start in LEFT_OUT):
        return at
    if words[0] == "cd":
        return at / words[1]
    if words[0] == "embed-pipeline":
        words = [sys.executable, "-c", "from embed_pipeline.cli import main; main()", *words[1:]]
    _run(words, at)
    return at


def _run(words: list[str], at: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("EMBED_PIPELINE_", "DAGSTER_"))}
    environment = own | {"PYTHONPATH": str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, cwd=at, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def _write_lines(path: Path, text: str) -> None:
    """Put each line in the place of the one with the same key."""
    before = content = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        key = line.partition(":")[0]
        content, found = re.subn(rf"^{re.escape(key)}:.*$", line, content, flags=re.M)
        assert found == 1, f"{path.name}: {found} lines begin with {key!r}"
    assert content != before, f"{path.name}: what the page says stands there already"
    path.write_text(content, encoding="utf-8")


def _replace_encoders(folder: Path, model: Path) -> None:
    """Name the small model in every recipe of the project, with a rate at which random weights learn something."""
    small = f"model: {model}\n  pooling: mean\n  query_max_length: 48\n  passage_max_length: 16\n"
    training = {"freeze_layers": "1", "learning_rate": "5.0e-3", "epochs": "2"}
    for recipe in folder.glob("*/data/recipes/e5*.yaml"):
        text = re.sub(r"model: bundled\n.*?(?=^\S|\Z)", small, recipe.read_text(encoding="utf-8"), flags=re.M | re.S)
        for field, value in training.items():
            text = re.sub(rf"\b{field}: \S+", f"{field}: {value}", text)
        recipe.write_text(text, encoding="utf-8")
