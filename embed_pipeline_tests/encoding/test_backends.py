"""Backends are one encoder: torch's vectors whatever the model, when `auto` changes over, what is kept, what fails."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.encoding import backends, converting, local
from embed_pipeline.encoding.backends import missing_packages
from embed_pipeline.encoding.encoder import NOT_OF_A_MODEL, Backend, EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.precision import native_precision

TEXTS = [
    "我肝上有油,能买吗",
    "痛风",
    "体检说高压一百六" * 10,
    "",
    "x",
    *(f"痒得流黄水{'很久' * at}" for at in range(9)),
]


@pytest.fixture(params=["openvino", "onnx"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """One that needs an extra; `make test` installs it, and where CI is set its absence is a failure."""
    if missing := missing_packages(request.param):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: {', '.join(missing)}")
    return request.param


def encoder_of(
    model: Path, backend: Backend, compiled: Path | None = None, told: list[str] | None = None, **changes: object
) -> LocalEncoder:
    settings = {"model": str(model), "pooling": "mean", "dtype": "float32", "backend": backend, **changes}
    lengths = {"query_max_length": 20, "passage_max_length": 30, "query_instruction": "我: "}
    return load_local_encoder(
        EncoderSettings.model_validate({**lengths, **settings}),
        directory=model,
        compiled=compiled,
        batch_tokens=64,
        report=None if told is None else told.append,
    )


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token", "max", "mean_sqrt_len", "weighted_mean", "cls+mean"])
def test_a_backend_gives_the_vectors_of_torch_whatever_the_pooling(
    small_model: Path, backend: Backend, pooling: str
) -> None:
    """Two lengths, a prompt on one side, an empty text, several batches: row i is the vector of text i."""
    normalize = pooling != "cls"
    expected = encoder_of(small_model, "torch", pooling=pooling, normalize=normalize)
    found = encoder_of(small_model, backend, pooling=pooling, normalize=normalize)
    assert found.encode_queries([]).shape == (0, expected.dimension)
    for role in ("queries", "passages"):
        theirs, ours = (getattr(one, f"encode_{role}")(TEXTS) for one in (expected, found))
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        np.testing.assert_allclose(getattr(found, f"encode_{role}")(TEXTS[4:5]), theirs[4:5], atol=1e-5)


def test_no_fingerprint_and_no_plan_tells_backends_apart(small_model: Path) -> None:
    def prints(backend: Backend, dtype: str) -> tuple[str, str, str]:
        encoder = encoder_of(small_model, backend, dtype=dtype)
        return encoder.query_fingerprint, encoder.passage_fingerprint, encoder.fingerprint

    alone = prints("torch", "float32")
    assert prints("openvino", "float32") == prints("onnx", "float32") == prints("auto", "float32") == alone
    assert prints("onnx", "auto") == alone  # onnxruntime has no bfloat16
    assert prints("openvino", "bfloat16") == prints("torch", "bfloat16") != alone
    assert "backend" in NOT_OF_A_MODEL


def test_bfloat16_of_openvino_is_made_of_the_whole_weights(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing_packages("openvino") or native_precision("cpu").name != "bfloat16":
        pytest.skip("openvino or bfloat16 is not there")
    monkeypatch.setattr(local, "CONVERSION_PAYS_TOKENS", 150)
    exact = encoder_of(small_model, "torch").encode_queries(TEXTS)
    encoder = encoder_of(small_model, "auto", dtype="bfloat16")
    encoder.encode_queries(TEXTS[:2])
    found = encoder.encode_queries(TEXTS)
    assert (found * exact).sum(axis=1).min() > 0.9999
    assert str(next(encoder.traceable.module.parameters()).dtype) == "torch.float32"


def test_auto_takes_openvino_once_it_pays_and_never_for_a_question(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing_packages("openvino"):
        pytest.skip("openvino is not installed")
    monkeypatch.setattr(local, "CONVERSION_PAYS_TOKENS", 150)
    told: list[str] = []
    encoder = encoder_of(small_model, "auto", told=told)
    expected = encoder_of(small_model, "torch").encode_queries(TEXTS)
    for _ in range(10):  # of one batch each
        np.testing.assert_allclose(encoder.encode_queries(TEXTS[:2]), expected[:2], atol=1e-6)
    assert len(told) == 1 and " by torch in float32, chosen for small calls alone so far; " in told[0]
    for _ in range(3):
        np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-5)
    assert len(told) == 2 and re.search(r" by openvino in float32, chosen for \d{3} tokens so far; ", told[1])
    assert encoder.traceable.module is not None  # loaded again where something else is made of it


def test_auto_goes_on_with_torch_where_openvino_is_missing_or_cannot_run_the_model_and_says_so(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CONVERSION_PAYS_TOKENS", 1)
    expected = encoder_of(small_model, "torch").encode_queries(TEXTS)
    monkeypatch.setitem(backends._PACKAGES, "openvino", ("a_package_that_is_not_there",))
    np.testing.assert_array_equal(encoder_of(small_model, "auto").encode_queries(TEXTS), expected)
    monkeypatch.setitem(backends._PACKAGES, "openvino", ())

    def fails(_: object) -> None:
        raise ValueError("no such operator")

    monkeypatch.setattr(backends, "convert_openvino", fails)
    told: list[str] = []
    encoder = encoder_of(small_model, "auto", told=told)
    for _ in range(2):
        np.testing.assert_array_equal(encoder.encode_queries(TEXTS), expected)
    assert [line for line in told if "no such operator" in line] == ["no such operator torch goes on"]
    with pytest.raises(ValueError, match="no such operator"):
        encoder_of(small_model, "openvino").encode_queries(TEXTS)


@pytest.mark.slow
def test_what_a_backend_made_is_kept_found_without_torchs_weights_and_made_again_when_damaged(
    small_model: Path, backend: Backend, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    model = Path(shutil.copytree(small_model, tmp_path / "model"))
    expected = encoder_of(model, backend, tmp_path / "compiled").encode_passages(TEXTS)
    (made,) = (path for path in (tmp_path / "compiled").iterdir() if path.is_dir())
    again = encoder_of(model, backend, tmp_path / "compiled")
    np.testing.assert_array_equal(again.encode_passages(TEXTS), expected)
    assert "_model" not in vars(again) and made in again.compiled_folders
    largest = max(made.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    np.testing.assert_array_equal(encoder_of(model, backend, tmp_path / "compiled").encode_passages(TEXTS), expected)

    opened = encoder_of(model, backend, tmp_path / "compiled")
    weights = load_file(model / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    save_file({**weights, name: weights[name][::-1].copy()}, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="changed after this encoder was opened"):
        opened.encode_passages(TEXTS)
    other = encoder_of(model, backend, tmp_path / "compiled")
    assert np.abs(other.encode_passages(TEXTS) - expected).max() > 1e-3
    assert made not in other.compiled_folders


@pytest.mark.slow
def test_a_model_is_converted_without_its_weights_in_this_process(
    small_model: Path, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What converting holds of them is several times their size; it goes back with the process that held it."""

    def loads(_: object) -> None:
        raise AssertionError("the weights were loaded here")

    expected = encoder_of(small_model, "torch").encode_passages(TEXTS)
    monkeypatch.setattr(local.LocalEncoder, "traceable", property(loads))
    found = encoder_of(small_model, backend, tmp_path / "compiled")
    np.testing.assert_allclose(found.encode_passages(TEXTS), expected, atol=1e-5)


@pytest.mark.slow
def test_what_the_converting_process_says_is_the_error_and_nothing_is_kept(
    small_model: Path, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file, save_file

    model = Path(shutil.copytree(small_model, tmp_path / "model"))
    weights = load_file(model / "model.safetensors")
    del weights["embeddings.word_embeddings.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{model}: the weights do not fill the model: missing"):
        encoder_of(model, backend, tmp_path / "compiled").encode_passages(TEXTS)
    monkeypatch.setattr(converting.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=f"converting the model for {backend} ended with status 1, expected 0"):
        encoder_of(small_model, backend, tmp_path / "compiled").encode_passages(TEXTS)
    assert not [path for path in (tmp_path / "compiled").iterdir() if path.is_dir()]


def test_a_missing_package_a_gpu_and_another_precision_are_refused_in_words(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="onnx computes in float32, found dtype bfloat16"):
        encoder_of(small_model, "onnx", dtype="bfloat16")
    settings = EncoderSettings(model=str(small_model), pooling="mean", backend="openvino")
    with pytest.raises(ValueError, match="expected backend auto or torch on a GPU, found openvino"):
        load_local_encoder(settings, directory=small_model, device="cuda")
    monkeypatch.setitem(backends._PACKAGES, "openvino", ("a_package_that_is_not_there",))
    with pytest.raises(ValueError, match=r"backend: expected .* found no a_package.*embed-pipeline\[openvino\].*torch"):
        encoder_of(small_model, "openvino").encode_queries(TEXTS)


def test_openvino_tells_its_makers_nothing(small_model: Path) -> None:
    if missing_packages("openvino"):
        pytest.skip("openvino is not installed")
    encoder_of(small_model, "openvino").encode_queries(TEXTS)
    assert sys.modules["openvino_telemetry"] is None
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__ == "openvino.tools.ovc.telemetry_stub"
