"""Merging: a weighted sum of tensors and nothing else, across an extended vocabulary, alike in three libraries."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.model_directory import model_digest
from embed_pipeline.merging.mixing import WEIGHTS_FILE, merge_weights
from embed_pipeline.training.vocabulary import extend_vocabulary
from embed_pipeline_tests.small_project import LABELS, encoder_settings, write_model

EMBEDDINGS = "embeddings.word_embeddings.weight"


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / WEIGHTS_FILE)


def _encode(directory: Path) -> np.ndarray:
    settings = EncoderSettings.model_validate(encoder_settings(directory))
    return load_local_encoder(settings).encode_passages(sorted(LABELS))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models of one architecture and vocabulary."""
    return [write_model(tmp_path_factory.mktemp(f"model{seed}"), seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def extended(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second model with twelve more tokens."""
    output = tmp_path_factory.mktemp("extended")
    assert extend_vocabulary(models[1], "甲乙丙丁戊己庚辛壬癸子丑", output, seed=5) == 12
    return output


def test_every_tensor_is_the_weighted_sum(models: list[Path], tmp_path: Path) -> None:
    weights = (0.5, 0.3, 0.2)
    merged = _weights(merge_weights(models, weights, tmp_path / "merged"))
    parts = [_weights(model) for model in models]
    assert merged.keys() == parts[0].keys()
    for name, tensor in merged.items():
        expected = sum(weight * part[name].double() for weight, part in zip(weights, parts, strict=True))
        torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("at", [0, 1])
def test_the_whole_weight_on_one_model_is_that_model(models: list[Path], tmp_path: Path, at: int) -> None:
    merged = merge_weights(models[:2], (1 - at, at), tmp_path / "merged")
    for name, tensor in _weights(merged).items():
        assert torch.equal(tensor, _weights(models[at])[name])
    np.testing.assert_array_equal(_encode(merged), _encode(models[at]))


def test_rows_of_tokens_that_the_base_lacks_come_from_the_tuned_model(
    models: list[Path], extended: Path, tmp_path: Path
) -> None:
    merged = _weights(merge_weights((models[0], extended), (0.75, 0.25), tmp_path / "merged"))[EMBEDDINGS]
    base, tuned = _weights(models[0])[EMBEDDINGS], _weights(extended)[EMBEDDINGS]
    torch.testing.assert_close(merged[: len(base)], 0.75 * base + 0.25 * tuned[: len(base)])
    torch.testing.assert_close(merged[len(base) :], tuned[len(base) :])


def test_the_order_of_the_models_does_not_decide_who_gives_the_tokenizer(
    models: list[Path], extended: Path, tmp_path: Path
) -> None:
    for name, order in (("one", (models[0], extended)), ("two", (extended, models[0]))):
        merged = merge_weights(order, (0.5, 0.5), tmp_path / name)
        assert (merged / "tokenizer.json").read_bytes() == (extended / "tokenizer.json").read_bytes()
    assert model_digest(tmp_path / "one") == model_digest(tmp_path / "two")


def test_padding_rows_of_a_base_are_not_mixed_into_new_tokens(
    models: list[Path], extended: Path, tmp_path: Path
) -> None:
    padded = shutil.copytree(models[0], tmp_path / "padded")
    weights = _weights(padded)
    missing = len(_weights(extended)[EMBEDDINGS]) - len(weights[EMBEDDINGS])
    weights[EMBEDDINGS] = torch.cat([weights[EMBEDDINGS], torch.full((missing, 32), 99.0)])
    save_file(weights, padded / WEIGHTS_FILE, metadata={"format": "pt"})
    plain, other = (
        merge_weights((base, extended), (0.5, 0.5), tmp_path / name)
        for base, name in ((models[0], "plain"), (padded, "merged"))
    )
    assert model_digest(plain) == model_digest(other)


def test_a_merged_model_of_an_extended_vocabulary_loads_and_encodes(
    models: list[Path], extended: Path, tmp_path: Path
) -> None:
    settings = EncoderSettings.model_validate(encoder_settings(extended))
    merged = merge_weights((models[0], extended), (0.5, 0.5), tmp_path / "merged", encoder=settings)
    vectors = _encode(merged)
    assert np.isfinite(vectors).all()
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(merged)).encode(sorted(LABELS))
    assert (vectors * theirs).sum(axis=1).min() > 0.9999


def test_half_precision_is_mixed_in_float32_and_written_as_it_was(models: list[Path], tmp_path: Path) -> None:
    halves = []
    for at in (0, 1):
        half = shutil.copytree(models[at], tmp_path / f"half{at}")
        tensors = {name: tensor.bfloat16() for name, tensor in _weights(half).items()}
        save_file(tensors, half / WEIGHTS_FILE, metadata={"format": "pt"})
        halves.append(half)
    merged = _weights(merge_weights(halves, (0.5, 0.5), tmp_path / "merged"))[EMBEDDINGS]
    one, other = (_weights(half)[EMBEDDINGS].float() for half in halves)
    assert torch.equal(merged, ((one + other) / 2).bfloat16())


def test_integer_tensors_that_only_an_old_base_holds_do_not_matter(models: list[Path], tmp_path: Path) -> None:
    old = shutil.copytree(models[0], tmp_path / "old")
    save_file({**_weights(old), "embeddings.position_ids": torch.arange(64)}, old / WEIGHTS_FILE)
    merged = _weights(merge_weights((old, models[1]), (0.5, 0.5), tmp_path / "merged"))
    assert merged.keys() == _weights(models[1]).keys()


def test_the_same_merge_is_the_same_bytes(models: list[Path], tmp_path: Path) -> None:
    found = [merge_weights(models[:2], (0.4, 0.6), tmp_path / name) / WEIGHTS_FILE for name in ("a", "b")]
    assert found[0].read_bytes() == found[1].read_bytes()


def test_a_mixture_lies_between_the_base_and_the_mean_of_the_tuned_models(models: list[Path], tmp_path: Path) -> None:
    base, one, other = (_weights(model)[EMBEDDINGS] for model in models)
    for alpha, expected in ((0.0, base), (0.5, 0.5 * base + 0.25 * one + 0.25 * other), (1.0, (one + other) / 2)):
        weights = (1 - alpha, alpha / 2, alpha / 2)
        merged = merge_weights(models, weights, tmp_path / f"{alpha}")
        torch.testing.assert_close(_weights(merged)[EMBEDDINGS], expected)


def test_another_vocabulary_is_refused(models: list[Path], tmp_path: Path) -> None:
    stranger = shutil.copytree(models[1], tmp_path / "stranger")
    text = (stranger / "tokenizer.json").read_text(encoding="utf-8")
    (stranger / "tokenizer.json").write_text(text.replace('"[MASK]"', '"[HIDE]"'), encoding="utf-8")
    with pytest.raises(ValueError, match="tokens have another id"):
        merge_weights((models[0], stranger), (0.5, 0.5), tmp_path / "merged")


def test_another_architecture_is_refused(models: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(models[1], tmp_path / "other")
    save_file({**_weights(other), "extra.weight": torch.zeros(2)}, other / WEIGHTS_FILE)
    with pytest.raises(ValueError, match=r"the first extra\.weight"):
        merge_weights((models[0], other), (0.5, 0.5), tmp_path / "merged")
    save_file({**_weights(models[1]), "pooler.dense.bias": torch.zeros(7)}, other / WEIGHTS_FILE)
    with pytest.raises(ValueError, match=r"pooler\.dense\.bias has shape"):
        merge_weights((models[0], other), (0.5, 0.5), tmp_path / "again")


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.6), (-0.5, 1.5), ()])
def test_weights_that_are_no_mixture_are_refused(
    models: list[Path], tmp_path: Path, weights: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="Correct the weights"):
        merge_weights(models[:2], weights, tmp_path)
