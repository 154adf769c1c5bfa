"""Training jobs on the small model, run by the real worker under torchrun."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.mining.groups import TrainingGroup, write_groups
from embed_pipeline.training.finetune import FinetuneJob, run_process_group, torchrun_command, worker_environment
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline_tests.small_project import LABELS, encoder_settings, make_rows, training_settings, write_model

Train = Callable[..., Path]


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout, so that one process and two see the same network."""
    return write_model(tmp_path_factory.mktemp("small_model"), dropout=0.0)


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Train:
    """Trains 64 questions of one label each and returns the checkpoint folder."""

    def run(*, processes: int = 1, encoder: dict | None = None, **changes: object) -> Path:
        root = tmp_path_factory.mktemp("training")
        for name in ("work", "output"):
            (root / name).mkdir()
        _write_inputs(root)
        settings = EncoderSettings.model_validate(encoder_settings(small_model, **(encoder or {})))
        job = FinetuneJob(
            groups=root / "groups.jsonl",
            corpus=root / "corpus.jsonl",
            base=small_model,
            work=root / "work",
            output=root / "output",
            encoder=settings,
            training=TrainingSettings.model_validate(training_settings(**changes)),
            device="cpu",
        )
        (root / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
        command = torchrun_command(root / "job.json", processes=processes)
        run_process_group(command, environment=worker_environment(threads=1))
        return root / "output"

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
