"""Model folders of every common layout give sentence-transformers' own vectors; others are refused by name."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, LayerNorm, Normalize, Pooling, Transformer
from transformers import CONFIG_MAPPING, AutoModel

from embed_pipeline.encoding.description import describe_encoder
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.model_directory import model_digest, resolve_settings
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.training.finetune import check_trainable
from embed_pipeline_tests.small_project import LABELS, write_model

TEXTS = [*LABELS, "体检说肝上有油，可以投保不", "高压一百六，大脚趾半夜痛醒，尿酸六百多", "湿"]
MODES = ("cls", "mean", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean")


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


Save = Callable[..., Path]


@pytest.fixture
def save(transformer: Path, tmp_path: Path) -> Save:
    """Saves a model of the transformer, a pooling and further modules, as sentence-transformers does."""

    def build(*heads: object, pooling: object = "mean", prompts: dict[str, str] | None = None, **more: object) -> Path:
        torch.manual_seed(1)
        base = Transformer(str(transformer), max_seq_length=24)
        modules = [base, Pooling(32, pooling_mode=pooling), *heads]
        SentenceTransformer(modules=modules, prompts=prompts, device="cpu", **more).save(str(tmp_path / "saved"))
        return tmp_path / "saved"

    return build


def _dense(inputs: int = 32, outputs: int = 12, **changes: object) -> Dense:
    torch.manual_seed(2)
    return Dense(inputs, outputs, **changes)


def _compare(folder: Path, *, normalize: bool, prompt: str | None = None) -> LocalEncoder:
    """Our encoder, told nothing but the folder, against theirs."""
    encoder = load_local_encoder(EncoderSettings(model=str(folder), normalize=normalize, dtype="float32"))
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, prompt_name=prompt)
    ours = encoder.encode_queries(TEXTS) if prompt == "query" else encoder.encode_passages(TEXTS)
    assert ours.shape == theirs.shape == (len(TEXTS), encoder.dimension)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    return encoder


@pytest.mark.parametrize("mode", [*MODES, ("mean", "cls"), ("max", "weightedmean", "lasttoken")], ids=str)
def test_every_pooling_gives_the_vectors_of_sentence_transformers(save: Save, mode: object) -> None:
    encoder = _compare(save(pooling=mode), normalize=False)
    assert encoder.dimension == 32 * (1 if isinstance(mode, str) else len(mode))


@pytest.mark.parametrize(
    "heads",
    [
        pytest.param(lambda: [_dense()], id="tanh"),
        pytest.param(lambda: [_dense(bias=False, activation_function=torch.nn.Identity())], id="linear without bias"),
        pytest.param(lambda: [_dense(activation_function=torch.nn.GELU()), _dense(12, 7)], id="two"),
        pytest.param(lambda: [_dense(outputs=32, use_residual=True)], id="residual of equal size"),
        pytest.param(lambda: [_dense(use_residual=True, activation_function=torch.nn.ReLU())], id="residual"),
        pytest.param(lambda: [Normalize(), _dense(activation_function=torch.nn.Sigmoid())], id="normalize before"),
        pytest.param(lambda: [LayerNorm(32), _dense(activation_function=torch.nn.SiLU())], id="layer norm"),
    ],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_every_head_gives_the_vectors_of_sentence_transformers(
    save: Save, heads: Callable[[], list], normalize: bool
) -> None:
    _compare(save(*heads(), *([Normalize()] if normalize else [])), normalize=normalize)


SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
ARCHITECTURES = {
    "xlm-roberta": ("cls", {}),
    "mpnet": ("mean", {}),
    "distilbert": ("mean", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "modernbert": ("mean", {"global_attn_every_n_layers": 2, "local_attention": 16}),
    "nomic_bert": ("mean", {}),
    "qwen3": ("lasttoken", {"num_key_value_heads": 2, "head_dim": 16}),
    "gemma3_text": ("mean", {"num_key_value_heads": 2, "head_dim": 16, "use_bidirectional_attention": True}),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_kind_of_network_gives_the_vectors_of_sentence_transformers(
    transformer: Path, tmp_path: Path, kind: str
) -> None:
    """Of random weights, in batches of texts of several lengths, the tokenizer padding on the left."""
    pooling, changes = ARCHITECTURES[kind]
    torch.manual_seed(3)
    network = AutoModel.from_config(CONFIG_MAPPING[kind](**SMALL, **changes)).float()
    network.save_pretrained(tmp_path / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(transformer / name, tmp_path / "base" / name)
    if kind == "qwen3":
        _edit(tmp_path / "base" / "tokenizer_config.json", padding_side="left")
    modules = [Transformer(str(tmp_path / "base"), max_seq_length=24), Pooling(32, pooling_mode=pooling)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "saved"))
    _compare(tmp_path / "saved", normalize=False)


def test_weights_in_half_precision_are_read_as_they_are_and_computed_with_in_the_precision_of_the_settings(
    save: Save,
) -> None:
    folder = save()
    whole = load_local_encoder(EncoderSettings(model=str(folder), dtype="float32")).encode_passages(TEXTS)
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    half = load_local_encoder(EncoderSettings(model=str(folder), dtype="float32")).encode_passages(TEXTS)
    assert not np.array_equal(half, whole) and (half * whole).sum(axis=1).min() > 0.9999


def test_prompts_lengths_and_pooling_that_are_left_out_are_the_models_own(save: Save) -> None:
    folder = save(Normalize(), pooling="cls", prompts={"query": "请问：", "document": "说明："})
    encoder = _compare(folder, normalize=True, prompt="query")
    _compare(folder, normalize=True, prompt="document")
    found = encoder.settings
    assert (found.pooling, found.query_instruction, found.passage_instruction) == ("cls", "请问：", "说明：")
    assert (found.query_max_length, found.passage_max_length) == (24, 24)


def test_a_default_prompt_stands_before_queries_and_passages(save: Save) -> None:
    folder = save(prompts={"any": "找："}, default_prompt_name="any")
    found = resolve_settings(EncoderSettings(model=str(folder)), folder)
    assert (found.query_instruction, found.passage_instruction) == ("找：", "找：")


def test_what_was_resolved_once_is_what_a_described_checkpoint_says(save: Save, transformer: Path) -> None:
    resolved = resolve_settings(EncoderSettings(model="x"), save(prompts={"query": "请问："}))
    checkpoint = write_model(transformer.parent / "checkpoint")
    describe_encoder(checkpoint, resolved)
    assert resolve_settings(EncoderSettings(model="x"), checkpoint) == resolved


def test_a_folder_that_does_not_say_its_pooling_is_not_guessed(transformer: Path) -> None:
    with pytest.raises(ValueError, match=r"leave pooling out and no modules\.json states it"):
        load_local_encoder(EncoderSettings(model=str(transformer)))


def test_a_base_with_a_head_or_a_pooling_that_the_trainer_lacks_is_not_trained(save: Save) -> None:
    folder = save(_dense())
    with pytest.raises(ValueError, match="ends in 2_Dense, and the trainer would train it without"):
        check_trainable(folder, resolve_settings(EncoderSettings(model=str(folder)), folder))
    other = save(pooling="max")
    with pytest.raises(ValueError, match="found max"):
        check_trainable(other, resolve_settings(EncoderSettings(model=str(other)), other))
    plain = save(Normalize())
    check_trainable(plain, resolve_settings(EncoderSettings(model=str(plain)), plain))


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("2_Dense/config.json", {"activation_function": "os.system"}, "activation_function of GELU.*found system"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "from sentence_embedding"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "expected pooling of .*found attention"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt is false"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_file(save: Save, file: str, changes: dict, message: str) -> None:
    folder = save(_dense())
    _edit(folder / file, **changes)
    with pytest.raises(ValueError, match=message) as error:
        load_local_encoder(EncoderSettings(model=str(folder)))
    assert file in str(error.value)


def test_an_unknown_module_and_pickled_head_weights_are_refused(save: Save) -> None:
    folder = save(_dense())
    weights = folder / "2_Dense" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ValueError, match=r"weights of Dense in model\.safetensors, found pytorch_model\.bin"):
        load_local_encoder(EncoderSettings(model=str(folder)))
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.CNN"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="found CNN"):
        load_local_encoder(EncoderSettings(model=str(folder)))


def test_another_heads_weights_or_order_are_another_model(save: Save) -> None:
    first = model_digest(save(_dense(outputs=32), LayerNorm(32)))
    torch.manual_seed(9)
    other = Dense(32, 32)
    assert (
        len({first, model_digest(save(other, LayerNorm(32))), model_digest(save(LayerNorm(32), _dense(outputs=32)))})
        == 3
    )


def _encode(folder: Path, cache: VectorCache) -> tuple[np.ndarray, int]:
    encoder = CachedEncoder(load_local_encoder(EncoderSettings(model=str(folder))), cache)
    return encoder.encode_passages(TEXTS), encoder.encoded


def test_a_retrain_in_place_is_encoded_anew_even_with_the_old_size_and_time(save: Save, tmp_path: Path) -> None:
    folder, cache = save(_dense()), VectorCache(tmp_path / "vectors")
    before, _ = _encode(folder, cache)
    for weights in (folder / "model.safetensors", folder / "2_Dense" / "model.safetensors"):
        state, content = weights.stat(), bytearray(weights.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 512] = bytes(512)  # other weights of equal size
        weights.write_bytes(content)
        os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
        after, encoded = _encode(folder, cache)
        assert encoded == len(TEXTS) and not np.allclose(after, before)
        before = after


def test_another_folder_of_the_same_name_is_never_served_the_others_vectors(save: Save, tmp_path: Path) -> None:
    cache, found = VectorCache(tmp_path / "vectors"), []
    for place in ("first", "second"):
        torch.manual_seed(len(place))
        folder = save(Dense(32, 12))
        (tmp_path / place).mkdir()
        vectors, encoded = _encode(folder.rename(tmp_path / place / "model"), cache)
        assert encoded == len(TEXTS)
        found.append(vectors)
    assert not np.allclose(*found)


def test_a_renamed_or_moved_folder_keeps_every_vector(save: Save, tmp_path: Path) -> None:
    folder, cache = save(_dense()), VectorCache(tmp_path / "vectors")
    before, _ = _encode(folder, cache)
    (tmp_path / "elsewhere").mkdir()
    after, encoded = _encode(folder.rename(tmp_path / "elsewhere" / "renamed"), cache)
    assert encoded == 0
    np.testing.assert_array_equal(after, before)


def test_a_hub_name_is_found_in_the_hubs_cache_without_a_network(save: Save, tmp_path: Path) -> None:
    """The cache as huggingface_hub lays it out, heads included."""
    folder, commit = save(_dense(), Normalize()), "a" * 40
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
    code = (
        "from embed_pipeline.encoding.encoder import EncoderSettings\n"
        "from embed_pipeline.encoding.local import load_local_encoder\n"
        "encoder = load_local_encoder(EncoderSettings(model='owner/name'))\n"
        "print(encoder.dimension, encoder.encode_queries(['湿疹']).shape)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "12 (1, 12)\n", done.stderr
