"""The record in a model folder: it notices what changed and spares reading what did not."""

import shutil
from pathlib import Path

import pytest

from embed_pipeline.encoding.file_record import (
    RECORD_FILE,
    is_as_recorded,
    record_files,
    recorded_sha256,
    verify_files,
)
from embed_pipeline.paths import digest_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written = tmp_path / "model"
    (written / "1_Pooling").mkdir(parents=True)
    (written / "model.safetensors").write_bytes(b"weights")
    (written / "1_Pooling" / "config.json").write_text("{}")
    record_files(written)
    return written


def test_what_is_as_it_was_recorded_is_known_without_reading(folder: Path) -> None:
    assert is_as_recorded(folder) and verify_files(folder)
    weights = folder / "model.safetensors"
    assert recorded_sha256(folder, "model.safetensors") == digest_of(weights)
    weights.chmod(0)
    assert recorded_sha256(folder, "model.safetensors")
    assert recorded_sha256(folder, "config.json") is None


def test_a_copy_without_its_times_is_read_once_and_kept(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert not is_as_recorded(copy) and recorded_sha256(copy, "model.safetensors") is None
    assert verify_files(copy) and is_as_recorded(copy)


@pytest.mark.parametrize("damage", ["changed", "longer", "missing", "record cut off", "no record"])
def test_a_damaged_folder_is_noticed(damage: str, folder: Path) -> None:
    weights, record = folder / "model.safetensors", folder / RECORD_FILE
    if damage == "missing":
        weights.unlink()
    elif damage == "no record":
        record.unlink()
    elif damage == "record cut off":
        record.write_bytes(record.read_bytes()[:40])
    else:
        weights.write_bytes(b"Weights" if damage == "changed" else b"weights.")
    assert not is_as_recorded(folder) and not verify_files(folder)
    assert recorded_sha256(folder, "model.safetensors") is None
