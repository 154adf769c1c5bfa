"""A model directory written in another format: ONNX in float32 and 8 bits, OpenVINO, half precision, a static table.

Belongs here: writing the folders. Does not belong here: running them (running.py), whether one is good enough
(parity.py).

An ONNX folder has model.onnx, tokenizer.json and encoder.json (instructions, lengths, padding): all that another
program needs. In: `input_ids`, `attention_mask`, int64 (rows, tokens), and `token_type_ids` for a cross-encoder that
has them. Out: `sentence_embedding`, float32 (rows, dimension), pooled, through the heads, normalised; of a
cross-encoder `logits`, float32 (rows, 1). An OpenVINO folder has model.xml and model.bin in the place of model.onnx.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embed_pipeline.encoding.backends import import_openvino, trace_network
from embed_pipeline.encoding.cross_encoder import INPUT_NAMES, CrossEncoder
from embed_pipeline.encoding.description import DESCRIBED_POOLINGS, describe_encoder, write_json
from embed_pipeline.encoding.encoder import NOT_OF_A_MODEL, EncoderSettings
from embed_pipeline.encoding.layout import MODULES_FILE
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.tokens import load_tokenizer
from embed_pipeline.exporting.settings import Format
from embed_pipeline.merging.mixing import copy_description

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

MODEL_FILE = "model.onnx"
OPENVINO_FILE = "model.xml"
ENCODER_FILE = "encoder.json"
TOKENIZER_FILE = "tokenizer.json"
TABLE_FILE = "model.safetensors"
"""Of a static model: `embedding.weight`, float16 (tokens, dimension)."""
Inputs = Mapping[str, np.ndarray]
"""What a model is run with: int64 (rows, tokens) by name."""
_STATIC_DIMENSION = 256
_TOKENS_AT_ONCE = 512
_RARE = 1e-4
"""From which frequency on a token counts less."""
_ONNX = ("onnx", "onnxruntime")
_PACKAGES: Mapping[Format, tuple[str, ...]] = {
    "onnx": _ONNX,
    "onnx_int8": _ONNX,
    "onnx_int8_static": _ONNX,
    "openvino_int8": (*_ONNX, "openvino", "nncf"),
}


def check_packages(formats: Sequence[Format]) -> None:
    """Raises ValueError where a format needs packages that are not installed."""
    for name in formats:
        missing = [package for package in _PACKAGES.get(name, ()) if find_spec(package) is None]
        if missing:
            extra = "export,openvino" if name == "openvino_int8" else "export"
            raise ValueError(
                f"export: {name} needs the packages {' and '.join(_PACKAGES[name])}, found no "
                f"{' and no '.join(missing)}. Install them: pip install 'embed-pipeline[{extra}]'; or leave {name} out "
                "of export.formats."
            )


def write_onnx(encoder: LocalEncoder, out: Path) -> None:
    """Write the encoder's model as ONNX; the same weights give the same bytes.

    Raises:
        ValueError: the architecture cannot be traced.
    """
    model = encoder.traceable
    inputs = {"input_ids": model.input_ids, "attention_mask": model.attention_mask}
    _trace(model.module, inputs, "sentence_embedding", encoder.directory, out)
    described: dict[str, Any] = encoder.settings.model_dump(mode="json", exclude={*NOT_OF_A_MODEL})
    content = {"settings": described, "padding": encoder.padding, "dimension": encoder.dimension}
    _describe(encoder.directory, content, out)


def write_pair_onnx(encoder: CrossEncoder, out: Path) -> None:
    """Write a cross-encoder as ONNX; the same weights give the same bytes.

    Raises:
        ValueError: the architecture cannot be traced.
    """
    import torch

    network, tokenizer = encoder.network, encoder.tokenizer

    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *values: "torch.Tensor") -> "torch.Tensor":
            return self.network(**dict(zip(names, values, strict=True))).logits.float()

    found = tokenizer(["a b", "a"], ["c", "b"], padding=True, return_tensors="pt")
    names = [name for name in INPUT_NAMES if name in found]
    _trace(Scores(), {name: found[name] for name in names}, "logits", encoder.directory, out)
    padding: Any = tokenizer.pad_token_id or 0
    settings = {"max_length": encoder.settings.max_length, "truncation": "only_second"}
    _describe(encoder.directory, {"settings": settings, "padding": padding, "inputs": names}, out)


def write_onnx_int8(onnx_folder: Path, out: Path) -> None:
    """Write an ONNX folder again with the weights of its matrices in 8 bits, per channel; activations as they come.

    Word embeddings are cut to 8 bits too: in multilingual encoders they are most of the model.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out.mkdir(parents=True)
    quantize_dynamic(
        str(onnx_folder / MODEL_FILE),
        str(out / MODEL_FILE),
        per_channel=True,
        reduce_range=False,
        weight_type=QuantType.QInt8,
    )
    _copy_description(onnx_folder, out)


def write_onnx_int8_static(onnx_folder: Path, sample: Sequence[Inputs], out: Path) -> None:
    """Write an ONNX folder again with weights (per channel) and activations in 8 bits, scaled by what the sample's are.

    Products of two activations, in attention, stay in float32: they are few and lose most.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Sample(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(sample)

        def get_next(self) -> Any:
            return next(self.left, None)

    out.mkdir(parents=True)
    graph = onnx.load(onnx_folder / MODEL_FILE).graph
    weights = {tensor.name for tensor in graph.initializer}
    quantize_static(
        str(onnx_folder / MODEL_FILE),
        str(out / MODEL_FILE),
        Sample(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather"],
        nodes_to_exclude=[node.name for node in graph.node if not weights.intersection(node.input)],
    )
    _copy_description(onnx_folder, out)


def write_openvino_int8(onnx_folder: Path, sample: Sequence[Inputs], out: Path) -> None:
    """Write an ONNX folder as OpenVINO, weights and activations in 8 bits, scaled by what the sample's are."""
    openvino = import_openvino()
    import nncf  # reports its use by the same package

    out.mkdir(parents=True)
    quantised = nncf.quantize(
        openvino.convert_model(str(onnx_folder / MODEL_FILE)),
        nncf.Dataset([dict(inputs) for inputs in sample]),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(sample),
    )
    openvino.save_model(quantised, str(out / OPENVINO_FILE))
    _copy_description(onnx_folder, out)


def write_float16(source: Path, out: Path, settings: EncoderSettings | None) -> None:
    """Write a model directory with its weights in half precision; sentence-transformers and transformers load it.

    `settings` are the encoder's; None for a cross-encoder.

    Raises:
        ValueError: a weight is beyond what half precision can hold.
    """
    import torch
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True)
    copy_description(source, out)
    for path in sorted({*source.glob("*.safetensors"), *out.rglob("*.safetensors")}):
        target = path if path.is_relative_to(out) else out / path.name
        tensors = {}
        for name, tensor in load_file(path).items():
            half = tensor.to(torch.float16) if tensor.is_floating_point() else tensor
            if not torch.isfinite(half).all():
                raise ValueError(
                    f"export: {path.name}, {name} holds values beyond half precision. Leave float16 out of "
                    "export.formats."
                )
            tensors[name] = half.contiguous()
        save_file(tensors, target, metadata={"format": "pt"})
    for index in source.glob("*.safetensors.index.json"):
        (out / index.name).write_bytes(index.read_bytes())
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    write_json(out / "config.json", {**config, "dtype": "float16"})
    if settings and not (out / MODULES_FILE).is_file():
        if settings.pooling not in DESCRIBED_POOLINGS:
            raise ValueError(
                f"export: expected a pooling of {', '.join(DESCRIBED_POOLINGS)} where the model has no {MODULES_FILE}, "
                f"found {settings.pooling}. Leave float16 out of export.formats."
            )
        describe_encoder(out, settings)


def write_static(encoder: LocalEncoder, out: Path) -> None:
    """Write a vector per token, of which a text is the mean; sentence-transformers loads it.

    Every token goes through the encoder alone; its principal components stay, and the more frequent it is the less it
    weighs. How frequent says its place in the vocabulary (Zipf's law). Instructions and lengths have no part in it.

    Source: model2vec (Tulkens and van Dongen 2024); Arora et al. 2017 for the weights.
    """
    import torch
    from safetensors.torch import save_file

    tokenizer = load_tokenizer(encoder.directory)
    vectors = _token_vectors(encoder, tokenizer)
    vectors -= vectors.mean(axis=0)
    _, axes = np.linalg.eigh(vectors.T @ vectors)  # the least first
    frequencies = 1 / np.arange(2, len(vectors) + 2)
    weights = _RARE / (_RARE + frequencies / frequencies.sum())
    table = weights[:, None] * (vectors @ axes[:, ::-1][:, :_STATIC_DIMENSION])
    out.mkdir(parents=True)
    save_file({"embedding.weight": torch.from_numpy(table.astype(np.float16))}, out / TABLE_FILE)
    tokenizer.save(str(out / TOKENIZER_FILE))
    kind = "sentence_transformers.models"
    write_json(
        out / MODULES_FILE,
        [
            {"idx": 0, "name": "0", "path": "", "type": f"{kind}.StaticEmbedding"},
            {"idx": 1, "name": "1", "path": "1_Normalize", "type": f"{kind}.Normalize"},
        ],
    )
    (out / "1_Normalize").mkdir()


def _token_vectors(encoder: LocalEncoder, tokenizer: "Tokenizer") -> np.ndarray:
    """float32 (tokens, dimension): each token of the vocabulary through the encoder, between its special tokens."""
    import torch

    whole = encoder.settings.model_copy(update={"normalize": False})
    module = load_local_encoder(whole, device="cpu", directory=encoder.directory).traceable.module
    found = tokenizer.encode("a")
    own = [at for at, is_special in enumerate(found.special_tokens_mask) if not is_special]
    before, after = found.ids[: own[0]], found.ids[own[-1] + 1 :]
    parts = []
    for start in range(0, tokenizer.get_vocab_size(), _TOKENS_AT_ONCE):
        tokens = range(start, min(start + _TOKENS_AT_ONCE, tokenizer.get_vocab_size()))
        ids = torch.tensor([[*before, token, *after] for token in tokens])
        with torch.inference_mode():
            parts.append(module(ids, torch.ones_like(ids)).numpy())
    return np.concatenate(parts)


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _trace(
    module: "torch.nn.Module", inputs: "Mapping[str, torch.Tensor]", output: str, source: Path, out: Path
) -> None:
    out.mkdir(parents=True)
    try:
        trace_network(module.eval(), inputs, output, out / MODEL_FILE)
    except ValueError as error:
        raise ValueError(
            f"export: {source}: {error}. Leave the formats of ONNX and OpenVINO out of export.formats."
        ) from error


def _describe(source: Path, content: Mapping[str, Any], out: Path) -> None:
    (out / TOKENIZER_FILE).write_bytes((source / TOKENIZER_FILE).read_bytes())
    write_json(out / ENCODER_FILE, content)


def _copy_description(folder: Path, out: Path) -> None:
    for name in (TOKENIZER_FILE, ENCODER_FILE):
        (out / name).write_bytes((folder / name).read_bytes())
