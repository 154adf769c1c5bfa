"""Laws of the local encoder: what its vectors equal, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.encoding.bundled import bundled_english_directory
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline.encoding.precision import AUTO_PRECISIONS, native_precision
from embed_pipeline.encoding.tokens import batches_of

TEXTS = [
    "can I buy cover with diabetes",
    "high blood pressure",
    "",
    "有点脂肪肝，能买百万医疗吗",
    "a long text that goes on " * 40,
    "nodule",
]


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


def test_vectors_equal_those_of_sentence_transformers(bundled_encoder: LocalEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    oracle = SentenceTransformer(str(bundled_english_directory()), device="cpu")
    oracle.max_seq_length = 64
    assert cosines(bundled_encoder.encode_queries(TEXTS), oracle.encode(TEXTS)).min() >= 0.9999


def test_mean_and_cls_pooling_equal_their_definition(settings: EncoderSettings, model_copy: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    (model_copy / "modules.json").unlink()
    tokenizer, network = AutoTokenizer.from_pretrained(model_copy), AutoModel.from_pretrained(model_copy).eval()
    hidden = []
    for text in TEXTS:
        with torch.inference_mode():
            tokens = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
            hidden.append(network(**tokens).last_hidden_state[0].numpy())
    definitions = {
        "mean": [rows.mean(axis=0) for rows in hidden],
        "cls": [rows[0] for rows in hidden],
        "last_token": [rows[-1] for rows in hidden],
    }
    for pooling, expected in definitions.items():
        ours = settings.model_copy(update={"model": str(model_copy), "pooling": pooling, "normalize": False})
        np.testing.assert_allclose(load_local_encoder(ours).encode_passages(TEXTS), np.stack(expected), atol=1e-4)


def test_batch_composition_and_order_do_not_change_a_vector(bundled_encoder: LocalEncoder) -> None:
    together = bundled_encoder.encode_queries(TEXTS)
    alone = np.concatenate([bundled_encoder.encode_queries([text]) for text in TEXTS])
    backwards = bundled_encoder.encode_queries(TEXTS[::-1])[::-1]
    assert cosines(together, alone).min() >= 0.99999
    assert cosines(together, backwards).min() >= 0.99999


def test_vectors_are_float32_of_length_one_and_empty_input_keeps_the_dimension(bundled_encoder: LocalEncoder) -> None:
    vectors = bundled_encoder.encode_passages(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert bundled_encoder.encode_passages([]).shape == (0, 384)


@pytest.mark.skipif(native_precision("cpu").name != "bfloat16", reason="the processor would emulate bfloat16")
def test_bfloat16_stays_close_to_float32(settings: EncoderSettings, bundled_encoder: LocalEncoder) -> None:
    half = load_local_encoder(settings.model_copy(update={"dtype": "bfloat16"}))
    assert cosines(half.encode_queries(TEXTS), bundled_encoder.encode_queries(TEXTS)).min() >= 0.999
    assert half.fingerprint != bundled_encoder.fingerprint


def test_an_instruction_is_the_text_put_before_it(settings: EncoderSettings, bundled_encoder: LocalEncoder) -> None:
    instructed = settings.model_copy(update={"query_instruction": "query", "instruction_format": "{}: {}"})
    by_settings = load_local_encoder(instructed).encode_queries(["diabetes"])
    np.testing.assert_allclose(by_settings, bundled_encoder.encode_queries(["query: diabetes"]), atol=1e-6)


def test_every_row_is_in_exactly_one_batch_within_the_budget() -> None:
    lengths = [5, 300, 1, 7, 7, 120, 64]
    batches = list(batches_of(lengths, 128))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 128 for batch in batches)


def test_a_batch_is_filled_up_by_less_than_a_batch_of_its_own_costs() -> None:
    lengths = [200, 199, 198, 30, 29, 28, 5, 4]
    batches = [[lengths[row] for row in batch] for batch in batches_of(lengths, 2048)]
    assert batches == [[200, 199, 198], [30, 29, 28, 5, 4]]
    assert [len(batch) for batch in batches_of([50] * 100, 2048)] == [40, 40, 20]


def test_progress_ends_at_the_number_of_texts(settings: EncoderSettings) -> None:
    seen: list[tuple[int, int]] = []
    encoder = load_local_encoder(settings, batch_tokens=64, progress=lambda done, total: seen.append((done, total)))
    encoder.encode_queries(TEXTS)
    assert len(seen) > 1
    assert seen[-1] == (len(TEXTS), len(TEXTS))


def test_fingerprint_and_dimension_need_no_torch() -> None:
    script = (
        "import sys\n"
        "from embed_pipeline.encoding.encoder import EncoderSettings\n"
        "from embed_pipeline.encoding.local import load_local_encoder\n"
        "from embed_pipeline.encoding.tokens import count_truncated\n"
        "s = EncoderSettings(model='bundled-english', pooling='mean', query_max_length=64, passage_max_length=64)\n"
        "e = load_local_encoder(s)\n"
        "count_truncated(s, 'query', ['a b'])\n"
        "print(len(e.fingerprint), e.dimension, 'torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["64", "384", "False", "False"]


def test_fingerprint_follows_content_not_place(settings: EncoderSettings, model_copy: Path, tmp_path: Path) -> None:
    original = load_local_encoder(settings).fingerprint
    assert load_local_encoder(settings, directory=model_copy).fingerprint == original
    renamed = model_copy.rename(tmp_path / "renamed")
    assert load_local_encoder(settings, directory=renamed).fingerprint == original
    retrain(renamed)
    assert load_local_encoder(settings, directory=renamed).fingerprint != original


def test_every_setting_that_changes_vectors_changes_its_roles_fingerprint(settings: EncoderSettings) -> None:
    plain = load_local_encoder(settings)
    assert plain.query_fingerprint == plain.passage_fingerprint

    def changed(**update: object) -> tuple[bool, bool]:
        other = load_local_encoder(settings.model_copy(update=update))
        return (
            other.query_fingerprint != plain.query_fingerprint,
            other.passage_fingerprint != plain.passage_fingerprint,
        )

    assert changed(query_instruction="q: ") == (True, False)
    assert changed(passage_max_length=32) == (False, True)
    assert changed(normalize=False) == (True, True)
    assert changed(dtype="bfloat16") == (True, True)
    assert changed(instruction_format="{} {}") == (False, False)


def test_where_the_processor_decides_vectors_are_kept_apart_and_an_index_fits_every_machine(
    settings: EncoderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = {dtype: load_local_encoder(settings.model_copy(update={"dtype": dtype})) for dtype in AUTO_PRECISIONS}
    auto = settings.model_copy(update={"dtype": "auto"})
    here, native = load_local_encoder(auto), native_precision("cpu").name
    assert (here.dtype, here.query_fingerprint) == (native, stated[native].query_fingerprint)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    masked = load_local_encoder(auto)
    assert (masked.dtype, masked.passage_fingerprint) == ("float32", stated["float32"].passage_fingerprint)
    assert masked.fingerprint == here.fingerprint == stated["float32"].fingerprint != stated["bfloat16"].fingerprint


def retrain(directory: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(directory / "model.safetensors")
    name = "encoder.layer.0.output.dense.bias"
    save_file({**weights, name: weights[name] + 0.1}, directory / "model.safetensors", metadata={"format": "pt"})


def test_a_model_that_changes_between_fingerprint_and_load_is_refused(
    settings: EncoderSettings, model_copy: Path
) -> None:
    encoder = load_local_encoder(settings, directory=model_copy)
    assert encoder.fingerprint
    retrain(model_copy)
    with pytest.raises(ValueError, match="changed after this encoder was opened"):
        encoder.encode_queries(["a"])


def test_weights_that_do_not_fill_the_model_are_refused(settings: EncoderSettings, model_copy: Path) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    with pytest.raises(ValueError, match="do not fill the model"):
        load_local_encoder(settings, directory=model_copy).encode_queries(["a"])


def test_pooling_that_contradicts_the_directory_is_refused_naming_both(settings: EncoderSettings) -> None:
    with pytest.raises(ValueError, match="pooling mean, the settings say cls"):
        load_local_encoder(settings.model_copy(update={"pooling": "cls"}))


def test_pooling_as_sentence_transformers_writes_it_today_is_understood(
    settings: EncoderSettings, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(bundled_english_directory()), device="cpu").save(str(tmp_path / "saved"))
    assert load_local_encoder(settings, directory=tmp_path / "saved").dimension == 384
    with pytest.raises(ValueError, match="pooling mean, the settings say last_token"):
        load_local_encoder(settings.model_copy(update={"pooling": "last_token"}), directory=tmp_path / "saved")


def test_a_prompt_other_than_the_models_is_refused(settings: EncoderSettings, model_copy: Path) -> None:
    prompts = {"prompts": {"query": "query: ", "document": ""}}
    (model_copy / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    for wrong in ("", "问："):
        other = settings.model_copy(update={"query_instruction": wrong})
        with pytest.raises(ValueError, match=f"prompt for a query is 'query: ', the settings say '{wrong}'"):
            load_local_encoder(other, directory=model_copy)
    agreeing = settings.model_copy(update={"query_instruction": "query: "})
    assert load_local_encoder(agreeing, directory=model_copy).dimension == 384


def test_pickled_weights_adapters_and_incomplete_directories_are_refused(
    settings: EncoderSettings, model_copy: Path, tmp_path: Path
) -> None:
    (model_copy / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="LoRA adapter"):
        load_local_encoder(settings, directory=model_copy)
    (model_copy / "model.safetensors").rename(model_copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"found pytorch_model\.bin"):
        load_local_encoder(settings, directory=model_copy)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_local_encoder(settings, directory=tmp_path / "nothing")


def test_a_length_beyond_the_models_positions_is_refused(settings: EncoderSettings) -> None:
    with pytest.raises(ValueError, match="512 positions"):
        load_local_encoder(settings.model_copy(update={"passage_max_length": 513}))


def test_no_device_or_precision_is_replaced_silently(
    settings: EncoderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(ValueError, match=r"dtype: expected arithmetic .*, found bfloat16, .* Set dtype: auto"):
        load_local_encoder(settings.model_copy(update={"dtype": "bfloat16"})).encode_queries(["a"])
    with pytest.raises(ValueError, match="float16 needs a GPU"):
        load_local_encoder(settings.model_copy(update={"dtype": "float16"}))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="found none"):
            load_local_encoder(settings, device="cuda").encode_queries(["a"])


def test_an_unknown_model_names_what_was_tried(settings: EncoderSettings) -> None:
    with pytest.raises(ValueError, match="no directory /nowhere/model"):
        resolve_model(settings.model_copy(update={"model": "/nowhere/model"}))


def test_a_hub_model_without_network_names_the_remedy(tmp_path: Path) -> None:
    script = (
        "from embed_pipeline.encoding.encoder import EncoderSettings\n"
        "from embed_pipeline.encoding.model_source import resolve_model\n"
        "s = EncoderSettings(model='owner/name', pooling='cls', query_max_length=8, passage_max_length=8)\n"
        "try:\n    resolve_model(s)\nexcept ValueError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "model 'owner/name': tried the directory" in result.stdout
    assert "set model to the path of its directory" in result.stdout


def test_settings_refuse_unknown_fields_and_unusable_formats() -> None:
    complete = {"model": "bundled-english", "pooling": "mean", "query_max_length": 8, "passage_max_length": 8}
    with pytest.raises(ValueError, match="Extra inputs"):
        EncoderSettings.model_validate({**complete, "poling": "cls"})
    with pytest.raises(ValueError, match="exactly twice"):
        EncoderSettings.model_validate({**complete, "instruction_format": "{}"})
    with pytest.raises(ValueError, match="no revisions"):
        EncoderSettings.model_validate({**complete, "revision": "main"})
