"""A training that is killed goes on where it was and ends as if nothing had happened."""

import subprocess
import time
from pathlib import Path

import pytest

from embed_pipeline.training.finetune import end_process_tree
from embed_pipeline_tests.training.conftest import StartJob, Train, digest

SETTINGS = {"epochs": 3, "vocabulary_extension": None, "precision": "float32"}


@pytest.fixture(scope="module")
def uninterrupted(train: Train) -> Path:
    return train(**SETTINGS)


def test_saving_on_the_way_changes_no_byte(train: Train, uninterrupted: Path, tmp_path: Path) -> None:
    assert digest(train(**SETTINGS, progress=tmp_path / "progress", save_steps=1)) == digest(uninterrupted)


@pytest.mark.parametrize("step", [2, 4, 7])
def test_killed_at_any_step_it_ends_with_the_same_bytes(
    train: Train, start: StartJob, uninterrupted: Path, tmp_path: Path, step: int
) -> None:
    progress = tmp_path / "progress"
    _kill_once(start(**SETTINGS, progress=progress, save_steps=1), lambda: (progress / f"checkpoint-{step}").is_dir())
    assert digest(train(**SETTINGS, progress=progress, save_steps=1)) == digest(uninterrupted)


def test_two_processes_go_on_alike(train: Train, start: StartJob, tmp_path: Path) -> None:
    settings = {**SETTINGS, "batch_size": 8, "processes": 2, "save_steps": 1}
    expected, progress = train(**settings, progress=tmp_path / "whole"), tmp_path / "killed"
    _kill_once(start(**settings, progress=progress), lambda: (progress / "checkpoint-3").is_dir())
    assert digest(train(**settings, progress=progress)) == digest(expected)


def _kill_once(process: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    end_process_tree(process.pid, grace_seconds=0)
    assert process.wait() != 0, "it ended by itself before it was killed"
