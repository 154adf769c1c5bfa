"""Training jobs on the small model, and their start by the real worker under torchrun."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.mining.groups import TrainingGroup, write_groups
from embed_pipeline.records import Judgment, Query
from embed_pipeline.training.finetune import FinetuneJob, torchrun_command, worker_environment
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline.training.validation_task import write_validation
from embed_pipeline_tests.small_project import LABELS, encoder_settings, make_rows, training_settings

Train = Callable[..., Path]
StartJob = Callable[..., subprocess.Popen]


def write_job(
    root: Path,
    model: Path,
    *,
    encoder: dict | None = None,
    progress: Path | None = None,
    save_steps: int = 1,
    tensorboard: Path | None = None,
    **changes: object,
) -> FinetuneJob:
    """The training of 64 questions of one label each, validated on the next 16, written into `root`."""
    for name in ("work", "output"):
        (root / name).mkdir(parents=True)
    _write_inputs(root)
    job = FinetuneJob(
        groups=root / "groups.jsonl",
        corpus=root / "corpus.jsonl",
        base=model,
        work=root / "work",
        output=root / "output",
        encoder=EncoderSettings.model_validate(encoder_settings(model, **(encoder or {}))),
        validation=root / "validation.jsonl",
        progress=progress,
        save_steps=save_steps,
        tensorboard=tensorboard,
        training=TrainingSettings.model_validate(training_settings(**changes)),
        device="cpu",
    )
    (root / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    return job


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> StartJob:
    """Starts a training and does not wait; what it says goes into `said` if that is given."""

    def run(
        *, processes: int = 1, root: Path | None = None, model: Path | None = None, said: Path | None = None, **job: Any
    ) -> subprocess.Popen:
        root = root or tmp_path_factory.mktemp("training")
        write_job(root, model or small_model, **job)
        command = torchrun_command(root / "job.json", processes=processes)
        with said.open("w") if said else nullcontext() as output:
            environment = {**os.environ, **worker_environment(threads=1)}
            return subprocess.Popen(command, env=environment, start_new_session=True, stdout=output)

    return run


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory, start: StartJob) -> Train:
    """Trains to the end and returns the checkpoint folder."""

    def run(*, root: Path | None = None, **changes: object) -> Path:
        root = root or tmp_path_factory.mktemp("training")
        status = start(root=root, **changes).wait()
        if status:
            raise RuntimeError(f"the training process ended with status {status}, expected 0")
        return root / "output"

    return run


@pytest.fixture(scope="session")
def train_here(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Train:
    """Trains to the end in this process, as one process of torchrun would, and returns the checkpoint folder."""
    from embed_pipeline.training.training_run import train

    torch.set_num_threads(1)

    def run(**changes: Any) -> Path:
        job = write_job(tmp_path_factory.mktemp("training") / "job", small_model, **changes)
        train(job, lambda _: None, lambda _: None)
        return job.output

    return run


def digest(folder: Path) -> str:
    """One digest over the names and bytes of all files of a folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return total.hexdigest()


def _write_inputs(root: Path) -> None:
    ids = {label: f"p{number}" for number, label in enumerate(LABELS)}
    with (root / "corpus.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f'{{"id": "{ids[label]}", "text": "{label}"}}\n' for label in LABELS)
    groups = []
    for number, row in enumerate(row for row in make_rows() if row[3] is None):
        label, others = row[2] or "", [other for other in LABELS if other != row[2]]
        groups.append(
            TrainingGroup(
                query_id=f"q{number:03}",
                query=row[0] or "",
                positive_ids=(ids[label],),
                positives=(label,),
                positive_scores=(0.9,),
                negative_ids=tuple(ids[other] for other in others),
                negatives=tuple(others),
                negative_scores=tuple(0.1 * at for at in range(len(others))),
            )
        )
    write_groups(groups[:64], root / "groups.jsonl")
    queries = [Query(group.query_id, group.query, "validation") for group in groups[64:80]]
    judgments = [Judgment(group.query_id, group.positive_ids[0], 1) for group in groups[64:80]]
    write_validation(queries, judgments, root / "validation.jsonl")
