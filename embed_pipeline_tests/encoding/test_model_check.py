"""A folder that cannot be run as it lies there is refused when the model is resolved, by name and with a remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer

from embed_pipeline.encoding.cross_encoder import CrossEncoderSettings, load_cross_encoder
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.model_check import check_model_folder, check_unused
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline_tests.small_project import write_model

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 133466304\n"
)
TEXTS = ["体检说肝上有油", "痛风可以投保吗", "湿疹"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    modules = [Transformer(str(write_model(folder / "base")), max_seq_length=24), Pooling(32, pooling_mode="mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "whole"))
    return folder / "whole"


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    """A whole model of two layers that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**content, **changes}, ensure_ascii=False), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def settings_for(folder: Path) -> EncoderSettings:
    return EncoderSettings(model=str(folder), dtype="float32", normalize=False)


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({"query": "请问：", "document": ""}, "query"),
        ({"query": "", "document": "说明："}, "document"),
        ({"query": "", "passage": "说明：", "any": "找："}, "any"),
        ({"query": "请问：", "document": ""}, None),
        ({"query": "请问：", "corpus": ""}, "query"),
    ],
)
def test_an_empty_prompt_is_a_prompt_as_in_sentence_transformers(
    model: Path, prompts: dict[str, str], default: str | None
) -> None:
    edit(model / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default)
    theirs = SentenceTransformer(str(model), device="cpu")
    # The names that stand for passages, in the order in which they are looked for.
    name = next(one for one in ("document", "passage", "corpus") if one in prompts)
    ours = load_local_encoder(settings_for(model))
    np.testing.assert_allclose(ours.encode_queries(TEXTS), theirs.encode(TEXTS, prompt_name="query"), atol=1e-6)
    np.testing.assert_allclose(ours.encode_passages(TEXTS), theirs.encode(TEXTS, prompt_name=name), atol=1e-6)


def test_a_default_prompt_stands_where_the_files_have_no_prompt_of_the_role(model: Path) -> None:
    path = model / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"any": "找："}, "default_prompt_name": "any"}), encoding="utf-8")
    found = load_local_encoder(settings_for(model)).settings
    assert (found.query_instruction, found.passage_instruction) == ("找：", "找：")


def test_a_default_prompt_that_is_not_among_the_prompts_is_refused(model: Path) -> None:
    edit(model / "config_sentence_transformers.json", prompts={"query": "请问："}, default_prompt_name="doc")
    with pytest.raises(ValueError, match=r"config_sentence_transformers\.json: expected the prompt 'doc'.*found query"):
        load_local_encoder(settings_for(model))


def test_an_instruction_may_be_given_where_the_models_own_prompt_is_empty(model: Path) -> None:
    edit(model / "config_sentence_transformers.json", prompts={"query": "", "document": ""})
    asked = settings_for(model).model_copy(update={"query_instruction": "请问："})
    assert load_local_encoder(asked).settings.query_instruction == "请问："


# --- what is refused -------------------------------------------------------------------------------------------------


def _fewer_layers(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=1)


def _more_layers(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=3)


def _a_layer_lost_between(folder: Path) -> None:
    edit_weights(folder, lambda weights: {k: v for k, v in weights.items() if ".layer.0." not in k})


def _no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _tokenizer_of_a_larger_model(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"##{number}": len(vocabulary) + number for number in range(40)}
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _tokenizer_of_a_smaller_model(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"] = dict(list(content["model"]["vocab"].items())[:9])
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _word_list_of_another_model(folder: Path) -> None:
    _no_tokenizer(folder)
    (folder / "vocab.txt").write_text("\n".join(map(str, range(30_522))), encoding="utf-8")


def _pointer(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(POINTER, encoding="utf-8") and None


def _adapter_only(folder: Path) -> None:
    for path in folder.glob("*.*"):
        path.unlink()
    edit(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="BAAI/bge-small-zh-v1.5")
    save_file({"base.lora_A.weight": np.ones((2, 2), np.float32)}, folder / "adapter_model.safetensors")


def _adapter_in_a_folder_of_sentence_transformers(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    edit(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="BAAI/bge-small-zh-v1.5")


def _remote_code(folder: Path) -> None:
    edit(folder / "config.json", model_type="swift_bert", auto_map={"AutoModel": "modeling_swift.SwiftModel"})


def _a_module_of_its_own(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


def _no_model_type(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))


def _quantised(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


def _encoder_and_decoder(folder: Path) -> None:
    edit(folder / "config.json", model_type="t5", is_encoder_decoder=True)


def _cut_off(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _a_page_as_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("<!doctype html><title>Sign in</title>" * 40)


def _a_shard_is_missing(folder: Path) -> None:
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    files = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    edit(folder / "model.safetensors.index.json", weight_map=files, metadata={})


def _an_index_that_transformers_cannot_read(folder: Path) -> None:
    _a_shard_is_missing(folder)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": json.loads(path.read_text())["weight_map"]}))


def _shards_without_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")


def _weights_of_another_precision(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")


def _gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")


def _onnx(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "model.safetensors").rename(folder / "onnx" / "model.onnx")


def _a_folder_too_high(folder: Path) -> None:
    (folder / "checkpoint-500").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(folder / "checkpoint-500" / name)


def _hub_cache(folder: Path) -> None:
    (folder / "snapshots" / "abc").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(folder / "snapshots" / "abc" / name)


def _a_list_as_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _lower_case_of_its_own(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _other_layers_asked_for(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", config_args={"num_hidden_layers": 1})


def _lengths_of_its_own(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", query_length=6, document_length=10)


def _another_task(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", transformer_task="fill-mask")


def _cut_vectors(folder: Path) -> None:
    edit(folder / "config_sentence_transformers.json", truncate_dim=8)


def _transformer_in_a_folder(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    shutil.copytree(folder, folder / "0_Transformer")


def _transformer_in_a_folder_alone(folder: Path) -> None:
    _transformer_in_a_folder(folder)
    (folder / "config.json").unlink()


def _of_modules(*kinds: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for path in folder.glob("*.*"):
            path.unlink()
        listed = [
            {"path": f"{at}_{kind}", "type": f"sentence_transformers.models.{kind}"} for at, kind in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(listed))

    return write


def _small_numbers(folder: Path) -> None:
    edit_weights(folder, lambda weights: {k: v.astype(np.int8) if v.ndim == 2 else v for k, v in weights.items()})


def _packed_numbers(folder: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"
    edit_weights(folder, lambda weights: {**weights, name: np.zeros((32, 8), np.uint32)})


def _openvino(folder: Path) -> None:
    (folder / "openvino").mkdir()
    (folder / "model.safetensors").rename(folder / "openvino" / "openvino_model.bin")


CASES: dict[Callable[[Path], None], str] = {
    _fewer_layers: r"config\.json: .*found 1: unexpected encoder\.layer\.1\.\*.*copy config\.json",
    _more_layers: r"config\.json: the weights do not fill the model: .*found 3: missing encoder\.layer\.2\.\*",
    _a_layer_lost_between: r"missing encoder\.layer\.0\.\*",
    _no_tokenizer: r"expected the tokenizer's files .*found none.*Copy them",
    _tokenizer_of_a_larger_model: r"tokenizer\.json: .*rows of the model's embedding table, found one with .*another",
    _tokenizer_of_a_smaller_model: r"tokenizer\.json: .*found one with 9 ids",
    _word_list_of_another_model: r"vocab\.txt: .*found one with 30,522 ids",
    _pointer("model.safetensors"): r"model\.safetensors: .*Git LFS pointer .*133\.5 MB.*`git lfs pull` in",
    _pointer("tokenizer.json"): r"tokenizer\.json: .*Git LFS pointer.*`git lfs pull`",
    _pointer("1_Pooling/config.json"): r"1_Pooling.config\.json: .*Git LFS pointer.*`git lfs pull`",
    _adapter_only: r"LoRA adapter .*BAAI/bge-small-zh-v1\.5.*Merge it into its base",
    _adapter_in_a_folder_of_sentence_transformers: r"LoRA adapter .*Merge it into its base",
    _remote_code: r"found swift_bert, whose code lies with it \(auto_map: AutoModel\).*never run",
    _a_module_of_its_own: r"modules\.json: .*found custom_st\.Transformer.*serve",
    _no_model_type: r"expected a model_type .*found none",
    _quantised: r"found quantised ones \(gptq\)",
    _encoder_and_decoder: r"found an encoder with a decoder behind it \(t5\)",
    _cut_off: r"model\.safetensors: expected [\d,]+ bytes, as its header says, found [\d,]+\. Copy",
    _empty_weights: r"model\.safetensors: expected weights in the safetensors format, found a file of 0 bytes",
    _a_page_as_weights: r"model\.safetensors: .*begins with b'<!doctyp'",
    _a_shard_is_missing: r"2 files of weights .*found 1; missing: model-00002-of-00002\.safetensors",
    _an_index_that_transformers_cannot_read: r"expected weight_map and metadata, found weight_map\.",
    _shards_without_index: r"index\.json, found model-00001-of-00001\.safetensors",
    _weights_of_another_precision: r"found model\.fp16\.safetensors",
    _gguf: r"found model-q4\.gguf",
    _onnx: r"found onnx/model\.onnx",
    _a_folder_too_high: r"found none.*there is a model in checkpoint-500: name that folder",
    _hub_cache: r"there is a model in snapshots/abc",
    _a_list_as_config: r"config\.json: expected a JSON object, found list",
    _other_layers_asked_for: r"found config_args in its sentence_bert_config\.json.*other vectors",
    _lengths_of_its_own: r"found query_length, document_length in",
    _another_task: r"found transformer_task fill-mask in",
    _cut_vectors: r"config_sentence_transformers\.json: .*found truncate_dim 8",
    _transformer_in_a_folder: r"modules\.json: expected the transformer's files beside it.*found them in 0_Transformer",
    _transformer_in_a_folder_alone: r"found them in 0_Transformer.*save it again",
    _of_modules("StaticEmbedding", "Normalize"): r"modules\.json: .*found StaticEmbedding",
    _of_modules("Router"): r"modules\.json: .*found Router",
    _of_modules("Transformer", "WeightedLayerPooling"): r"found them in 0_Transformer",
    _small_numbers: r"found embeddings\.position_embeddings\.weight in I8 .*quantised model",
    _packed_numbers: r"found encoder\.layer\.0\.output\.dense\.weight in U32",
    _openvino: r"found openvino/openvino_model\.bin",
    _lower_case_of_its_own: r"do_lower_case is true .*and the tokenizer keeps upper case",
}


@pytest.mark.parametrize("damage", CASES, ids=lambda one: getattr(one, "__qualname__", "").strip("_"))
def test_what_cannot_be_run_is_refused_when_the_model_is_resolved(model: Path, damage: Callable[[Path], None]) -> None:
    damage(model)
    for resolve in (
        lambda: load_local_encoder(settings_for(model)),
        lambda: load_local_encoder(settings_for(Path("elsewhere")), directory=model),
    ):
        with pytest.raises(ValueError, match=f"(?s){model.name}.*{CASES[damage]}"):
            resolve()


def test_a_cross_encoder_and_the_tokenizers_figures_are_refused_alike(model: Path) -> None:
    _no_tokenizer(model)
    for resolve in (
        lambda: load_cross_encoder(CrossEncoderSettings.model_validate({"model": str(model)})),
        lambda: resolve_model(settings_for(model)),
    ):
        with pytest.raises(ValueError, match="expected the tokenizer's files"):
            resolve()


# --- what is not -----------------------------------------------------------------------------------------------------


def _with_a_language_models_head(folder: Path) -> None:
    def renamed(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        head = {"cls.predictions.bias": np.zeros(3, np.float32), "bert.pooler.dense.bias": np.zeros(32, np.float32)}
        body = {f"bert.{name}": tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
        return {**body, **head, "bert.embeddings.position_ids": np.arange(4)}

    edit_weights(folder, renamed)


def _with_code_beside_a_kind_that_is_known(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModel": "modeling.Model"})


def _with_a_larger_table(folder: Path) -> None:
    rows = json.loads((folder / "config.json").read_text())["vocab_size"] + 7
    edit(folder / "config.json", vocab_size=rows)
    name = "embeddings.word_embeddings.weight"
    edit_weights(folder, lambda weights: {**weights, name: np.resize(weights[name], (rows, 32))})


def _in_shards(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files: dict[str, str] = {}
    for number in (0, 1):
        part = {name: tensor for at, (name, tensor) in enumerate(weights.items()) if at % 2 == number}
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    edit(folder / "model.safetensors.index.json", weight_map=files, metadata={})


@pytest.mark.parametrize(
    "change",
    [_with_a_language_models_head, _with_code_beside_a_kind_that_is_known, _with_a_larger_table, _in_shards],
    ids=lambda one: one.__qualname__.strip("_"),
)
def test_what_can_be_run_gives_the_same_vectors_as_before(
    original: Path, model: Path, change: Callable[[Path], None]
) -> None:
    change(model)
    found = load_local_encoder(settings_for(model)).encode_queries(TEXTS)
    np.testing.assert_allclose(found, load_local_encoder(settings_for(original)).encode_queries(TEXTS), atol=1e-6)


def test_weights_of_another_shape_are_named_with_both_shapes(model: Path) -> None:
    name = "embeddings.position_embeddings.weight"
    edit_weights(model, lambda weights: {**weights, name: weights[name][:40]})
    with pytest.raises(ValueError, match=rf"{model.name}.*{name}.*\[40, 32\].*\[64, 32\]"):
        load_local_encoder(settings_for(model)).encode_queries(TEXTS)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_the_length_is_found_under_the_names_of_older_versions(model: Path, kind: str) -> None:
    (model / "sentence_bert_config.json").unlink()
    edit(model / f"sentence_{kind}_config.json", max_seq_length=9)
    found = load_local_encoder(settings_for(model))
    assert (found.settings.query_max_length, found.settings.passage_max_length) == (9, 9)
    theirs = SentenceTransformer(str(model), device="cpu").encode(["体检说肝上有油可以投保不" * 3])
    np.testing.assert_allclose(found.encode_passages(["体检说肝上有油可以投保不" * 3]), theirs, atol=1e-6)


def test_weights_of_the_network_that_loading_leaves_unused_are_refused(tmp_path: Path) -> None:
    used = ["encoder.layer.0.weight", "embeddings.weight"]
    check_unused(tmp_path, ["cls.bias", "bert.embeddings.position_ids", "bert.pooler.dense.weight"], used, "bert")
    with pytest.raises(ValueError, match=r"unexpected encoder\.norm\.weight \(1 in all\)"):
        check_unused(tmp_path, ["cls.bias", "bert.encoder.norm.weight"], used, "bert")


def test_weights_that_hold_nan_are_named_and_no_other_precision_is_advised(model: Path) -> None:
    name = "encoder.layer.1.output.dense.bias"
    edit_weights(model, lambda weights: {**weights, name: weights[name] + np.float32("nan")})
    check_model_folder(model)
    with pytest.raises(ValueError, match=r"the weights encoder\.layer\.1\.output\.dense\.bias hold NaN"):
        load_local_encoder(settings_for(model)).encode_queries(TEXTS)
