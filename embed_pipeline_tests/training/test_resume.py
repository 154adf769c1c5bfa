"""A training that is killed goes on where it was and ends as if nothing had happened."""

import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from embed_pipeline.training.resume import find_damage, newest_sound, publish, seal
from embed_pipeline.training.training_run import train as train_here
from embed_pipeline_tests.small_project import write_model
from embed_pipeline_tests.training.conftest import StartJob, Train, digest, write_job

SAVE_STEPS, STEPS_PER_EPOCH, LAST_STEP = 3, 4, 8
VALIDATION = {"every": "2 steps", "measure": "ndcg@3", "stop_below_base": None}
TRAININGS = {
    "whole corpus, validated": {"candidates": "corpus", "validation": VALIDATION},
    "low-rank matrices with dropout, sampled": {
        "candidates": "sample",
        "sample_size": 3,
        "lora": {"rank": 4, "dropout": 0.2},
        "vocabulary_extension": None,
        "validation": VALIDATION,
    },
    "FlagEmbedding's own loss": {"candidates": "flagembedding", "train_group_size": 3, "validation": VALIDATION},
    "frozen layers kept, a draw of the queries": {
        "candidates": "sample",
        "sample_size": 3,
        "max_queries": 60,
        "freeze_layers": 1,
        "freeze_embeddings": True,
        "vocabulary_extension": None,
        "validation": VALIDATION,
    },
    "several batches a step": {"candidates": "flagembedding", "train_group_size": 3, "batch_size": 8}
    | {"gradient_accumulation_steps": 2},
}

QUICK = ("whole corpus, validated", "FlagEmbedding's own loss", "frozen layers kept, a draw of the queries")


class _Killed(BaseException):
    """Stands for the end of the process: nothing in the code under test catches it."""


class _KillBefore(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: object, state, control: object, **_: object) -> None:
        if state.global_step + 1 == self.step:
            raise _Killed


class _Runs:
    """Trainings of one recipe in this process."""

    def __init__(self, root: Path, model: Path, changes: dict) -> None:
        self.root, self.model, self.changes = root, model, changes
        self.said: list[str] = []

    def __call__(self, name: str, *callbacks: TrainerCallback, progress: Path | None = None) -> Path:
        job = write_job(
            self.root / name, self.model, progress=progress, save_steps=SAVE_STEPS, **{"epochs": 2, **self.changes}
        )
        self.said.clear()
        train_here(job, self.said.append, self.said.append, callbacks=callbacks)
        return job.output

    def kill(self, name: str, progress: Path, *, before: int) -> None:
        with pytest.raises(_Killed):
            self(name, _KillBefore(before), progress=progress)

    def steps_taken(self, name: str) -> list[int]:
        lines = (self.root / name / "work" / "speed.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["step"] for line in lines]


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("dropping"), dropout=0.2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, changes in TRAININGS.items()
    ],
)
def test_killed_before_any_step_it_takes_the_steps_that_are_left_and_ends_with_the_same_bytes(
    dropping: Path, tmp_path: Path, changes: dict
) -> None:
    run = _Runs(tmp_path, dropping, changes)
    expected = digest(run("uninterrupted"))
    assert run.steps_taken("uninterrupted") == list(range(1, LAST_STEP + 1))
    for step in (4, 5, 8):
        progress, saved = tmp_path / f"progress {step}", (step - 1) // SAVE_STEPS * SAVE_STEPS
        run.kill(f"killed {step}", progress, before=step)
        assert digest(run(f"resumed {step}", progress=progress)) == expected
        assert any(said.startswith(f"going on from step {saved}:") for said in run.said)
        assert run.steps_taken(f"resumed {step}") == list(range(saved + 1, LAST_STEP + 1))


def test_killed_twice_and_killed_behind_the_last_step_it_ends_with_the_same_bytes(
    dropping: Path, tmp_path: Path
) -> None:
    run, progress = _Runs(tmp_path, dropping, TRAININGS["whole corpus, validated"]), tmp_path / "progress"
    expected = digest(run("uninterrupted"))
    run.kill("first", progress, before=5)
    run.kill("second", progress, before=8)
    assert digest(run("third", progress=progress)) == expected
    assert digest(run("fourth", progress=progress)) == expected
    assert not (tmp_path / "fourth" / "work" / "speed.jsonl").exists()


def test_without_its_checkpoint_or_from_other_weights_it_would_end_with_other_bytes(
    dropping: Path, tmp_path: Path
) -> None:
    """The control: what the digests above are equal to is not what any training would end with."""
    run, progress = _Runs(tmp_path, dropping, TRAININGS["whole corpus, validated"]), tmp_path / "progress"
    expected = digest(run("uninterrupted"))
    run.kill("killed", progress, before=5)
    weights = progress / "checkpoint-3" / "model.safetensors"
    other = {name: weight.clone() for name, weight in load_file(weights).items()}
    other["network.encoder.layer.0.output.dense.bias"] += 0.01
    save_file(other, weights)
    (progress / "checkpoint-3" / "digests.json").unlink()
    seal(progress / "checkpoint-3")
    assert digest(run("resumed", progress=progress)) != expected


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(dropping: Path, tmp_path: Path) -> None:
    run, progress = _Runs(tmp_path, dropping, TRAININGS["whole corpus, validated"]), tmp_path / "progress"
    expected = digest(run("uninterrupted"))
    run.kill("killed", progress, before=8)
    _cut(progress / "checkpoint-6" / "optimizer.pt")
    assert digest(run("resumed", progress=progress)) == expected
    assert any("checkpoint-6 cannot be used" in said and "optimizer.pt" in said for said in run.said)
    assert run.steps_taken("resumed")[0] == 4


def test_with_every_checkpoint_damaged_it_starts_over_and_says_so(dropping: Path, tmp_path: Path) -> None:
    run, progress = _Runs(tmp_path, dropping, TRAININGS["whole corpus, validated"]), tmp_path / "progress"
    expected = digest(run("uninterrupted"))
    run.kill("killed", progress, before=8)
    _cut(progress / "checkpoint-6" / "model.safetensors")
    _cut(progress / "checkpoint-3" / "digests.json")
    assert digest(run("resumed", progress=progress)) == expected
    assert any("starts over" in said for said in run.said)
    assert run.steps_taken("resumed")[0] == 1


def test_two_sound_checkpoints_are_kept_whatever_was_damaged_before(tmp_path: Path) -> None:
    def publish_step(step: int) -> None:
        folder = tmp_path / "partial" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"abc")
        seal(folder)
        publish(folder, tmp_path / folder.name)

    for step in (1, 2, 3):
        publish_step(step)
    assert not (tmp_path / "checkpoint-1").exists()
    (tmp_path / "checkpoint-3" / "weights").write_bytes(b"abd")
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "partial" / "checkpoint-5").mkdir()
    said: list[str] = []
    assert newest_sound(tmp_path, said.append) == tmp_path / "checkpoint-2"
    assert [line.partition(" ")[0] for line in said] == ["checkpoint-4", "checkpoint-3"]
    publish_step(4)
    kept = sorted(tmp_path.glob("checkpoint-*"))
    assert [path.name for path in kept] == ["checkpoint-2", "checkpoint-4"]
    assert not any(find_damage(path) for path in kept)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.slow
def test_one_process_killed_with_sigkill_ends_with_the_bytes_of_the_function_called_here(
    train: Train, start: StartJob, dropping: Path, tmp_path: Path
) -> None:
    settings = {**TRAININGS["whole corpus, validated"], "epochs": 6, "model": dropping, "save_steps": SAVE_STEPS}
    expected = _Runs(tmp_path, dropping, {**TRAININGS["whole corpus, validated"], "epochs": 6})("here")
    progress, said = tmp_path / "progress", tmp_path / "said"
    _kill_behind(start(**settings, progress=progress, said=tmp_path / "before"), progress, step=6)
    assert digest(train(**settings, progress=progress, said=said)) == digest(expected)
    assert _first_step(said) >= 6


@pytest.mark.slow
def test_two_processes_go_on_alike_and_validate_as_one(
    train: Train, start: StartJob, dropping: Path, tmp_path: Path
) -> None:
    settings = {**TRAININGS["whole corpus, validated"], "epochs": 6, "batch_size": 8, "model": dropping}
    settings |= {"processes": 2, "save_steps": SAVE_STEPS}
    expected, progress, said = train(**settings), tmp_path / "progress", tmp_path / "said"
    _kill_behind(start(**settings, progress=progress, said=tmp_path / "before"), progress, step=6)
    resumed = train(**settings, progress=progress, said=said)
    assert digest(resumed) == digest(expected)
    assert _first_step(said) >= 6
    alone = _Runs(tmp_path, dropping, {**TRAININGS["whole corpus, validated"], "epochs": 1})("alone")
    assert _summary(resumed)["validation_base"] == _summary(alone)["validation_base"]


def _summary(folder: Path) -> dict:
    return json.loads((folder / "training_summary.json").read_text(encoding="utf-8"))


def _first_step(said: Path) -> int:
    lines = said.read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("going on from step "))
    return int(line.removeprefix("going on from step ").partition(":")[0])


def _kill_behind(process: subprocess.Popen, progress: Path, *, step: int) -> None:
    deadline = time.monotonic() + 240
    while not any((progress / f"checkpoint-{at}").is_dir() for at in range(step, step + 30)):
        assert process.poll() is None, "it ended by itself before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in tree:
        one.kill()
    assert process.wait() == -9
