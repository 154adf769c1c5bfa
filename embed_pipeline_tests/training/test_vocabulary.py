"""Extending the vocabulary: nothing stays unknown, nothing old moves."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.tokens import count_unknown, load_tokenizer
from embed_pipeline.training.vocabulary import extend_vocabulary, missing_characters
from embed_pipeline_tests.small_project import encoder_settings, make_rows, write_model

TEXTS = [row[0] or "" for row in make_rows()]
EMBEDDINGS = "embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def _extend(model: Path, output: Path, seed: int = 0) -> Path:
    extend_vocabulary(model, missing_characters(model, TEXTS, min_count=1), output, seed=seed)
    return output


def test_no_character_of_the_texts_stays_unknown(model: Path, tmp_path: Path) -> None:
    settings = EncoderSettings.model_validate(encoder_settings(model))
    assert count_unknown(settings, TEXTS).share > 0.2
    assert count_unknown(settings, TEXTS, directory=_extend(model, tmp_path / "extended")).count == 0


def test_known_characters_keep_their_ids_and_embeddings(model: Path, tmp_path: Path) -> None:
    extended = _extend(model, tmp_path / "extended")
    before, after = (load_file(path / "model.safetensors")[EMBEDDINGS] for path in (model, extended))
    assert torch.equal(before, after[: len(before)])
    known = [c for c in "".join(TEXTS) if c not in missing_characters(model, TEXTS, min_count=1)]
    old, new = (load_tokenizer(path) for path in (model, extended))
    assert all(old.encode(character).ids == new.encode(character).ids for character in known)


def test_new_embeddings_differ_from_each_other(model: Path, tmp_path: Path) -> None:
    known = len(load_file(model / "model.safetensors")[EMBEDDINGS])
    added = load_file(_extend(model, tmp_path / "extended") / "model.safetensors")[EMBEDDINGS][known:]
    assert len(torch.unique(added, dim=0)) == len(added) > 10


def test_the_same_seed_gives_the_same_weights_and_another_one_others(model: Path, tmp_path: Path) -> None:
    folders = [_extend(model, tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    first, again, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == again
    assert first != other


def test_rare_characters_are_left_out(model: Path) -> None:
    assert "鼗" not in missing_characters(model, ["鼗"], min_count=2)
    assert "鼗" in missing_characters(model, ["鼗鼗"], min_count=2)
