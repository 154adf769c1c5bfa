"""A model directory written as ONNX or in half precision, and the encoder that runs an ONNX folder.

Belongs here: writing and reading the folders. Does not belong here: whether one is good enough (parity).

An ONNX folder has model.onnx (`input_ids`, `attention_mask` in; `sentence_embedding` out: pooled, through the heads,
normalised), tokenizer.json and encoder.json (instructions, lengths, padding): all that another program needs.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embed_pipeline.encoding.description import DESCRIBED_POOLINGS, describe_encoder, write_json
from embed_pipeline.encoding.encoder import EncoderSettings, Role, joint_fingerprint
from embed_pipeline.encoding.heads import pool
from embed_pipeline.encoding.layout import MODULES_FILE
from embed_pipeline.encoding.local import LocalEncoder, batches_of
from embed_pipeline.encoding.tokens import load_tokenizer, pad_ids
from embed_pipeline.exporting.settings import Format
from embed_pipeline.merging.mixing import copy_description
from embed_pipeline.paths import digest_of

if TYPE_CHECKING:
    import onnxruntime
    import torch
    from tokenizers import Tokenizer

MODEL_FILE = "model.onnx"
ENCODER_FILE = "encoder.json"
_OPSET = 18
_BATCH_TOKENS = 2048
_PACKAGES = ("onnx", "onnxruntime")


def check_packages(formats: Sequence[Format]) -> None:
    """Raises ValueError where a format needs packages that are not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing and set(formats) - {"float16"}:
        raise ValueError(
            f"export: expected the packages {' and '.join(_PACKAGES)}, found no {' and no '.join(missing)}. Install "
            "them: pip install 'embed-pipeline[export]'; or leave onnx and onnx_int8 out of export.formats."
        )


def write_onnx(encoder: LocalEncoder, out: Path) -> None:
    """Write the encoder's model as ONNX; the same weights give the same bytes.

    Raises:
        ValueError: the architecture cannot be traced.
    """
    import torch

    out.mkdir(parents=True)
    model, settings = encoder.parts, encoder.settings

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.network

        def forward(self, input_ids: "torch.Tensor", attention_mask: "torch.Tensor") -> "torch.Tensor":
            hidden = self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
            pooled = model.heads(pool(hidden, attention_mask, settings.pooling or ""))
            return torch.nn.functional.normalize(pooled, dim=-1) if settings.normalize else pooled

    ids = model.tokenizer(["a b c", "a"], padding=True, return_tensors="pt")  # with padding, or the mask is traced away
    axes = {name: {0: "rows", 1: "tokens"} for name in ("input_ids", "attention_mask")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every shape it takes for constant; parity finds those
            torch.onnx.export(
                Whole().eval(),
                (ids["input_ids"], ids["attention_mask"]),
                str(out / MODEL_FILE),
                input_names=["input_ids", "attention_mask"],
                output_names=["sentence_embedding"],
                dynamic_axes={**axes, "sentence_embedding": {0: "rows"}},
                opset_version=_OPSET,
                dynamo=False,  # docs/adr/0024-exported-formats.md
            )
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"export: {encoder.directory} could not be traced for ONNX: {error}. Leave onnx and onnx_int8 out of "
            "export.formats."
        ) from error
    padding: Any = model.tokenizer.pad_token_id or 0
    _write_tokenizer_and_settings(encoder.directory, settings, padding, encoder.dimension, out)


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
    for name in ("tokenizer.json", ENCODER_FILE):
        (out / name).write_bytes((onnx_folder / name).read_bytes())


def write_float16(encoder: LocalEncoder, out: Path) -> None:
    """Write the model directory with its weights in half precision; sentence-transformers and transformers load it.

    Raises:
        ValueError: a weight is beyond what half precision can hold.
    """
    import torch
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True)
    source = encoder.directory
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
    if not (out / MODULES_FILE).is_file():
        if encoder.settings.pooling not in DESCRIBED_POOLINGS:
            raise ValueError(
                f"export: expected a pooling of {', '.join(DESCRIBED_POOLINGS)} where the model has no {MODULES_FILE}, "
                f"found {encoder.settings.pooling}. Leave float16 out of export.formats."
            )
        describe_encoder(out, encoder.settings)


class OnnxEncoder:
    """Implements Encoder for an ONNX folder, on the CPU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        described = json.loads((folder / ENCODER_FILE).read_text(encoding="utf-8"))
        self.settings = EncoderSettings(model=str(folder), **described["settings"])
        self.padding: int = described["padding"]
        self.dimension: int = described["dimension"]

    @property
    def query_fingerprint(self) -> str:
        """See Encoder."""
        return self._fingerprint("query")

    @property
    def passage_fingerprint(self) -> str:
        """See Encoder."""
        return self._fingerprint("passage")

    @property
    def fingerprint(self) -> str:
        """See Encoder."""
        return joint_fingerprint(self.query_fingerprint, self.passage_fingerprint)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self._encode("query", texts)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i."""
        return self._encode("passage", texts)

    def _encode(self, role: Role, texts: Sequence[str]) -> np.ndarray:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        self._tokenizer.enable_truncation(self.settings.max_length(role))
        formatted = [self.settings.format_text(role, text) for text in texts]
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(formatted)]
        for rows in batches_of([len(ids) for ids in tokens], _BATCH_TOKENS):
            batch = [tokens[row] for row in rows]
            ids, mask = pad_ids(batch, self.padding, max(map(len, batch)))
            (found,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
            vectors[rows] = np.asarray(found)
        return vectors

    def _fingerprint(self, role: Role) -> str:
        identity = {**self.settings.model_dump(mode="json", exclude={"model"}), "role": role, "model": self._digest}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.folder / MODEL_FILE)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        return load_tokenizer(self.folder)

    @cached_property
    def _session(self) -> "onnxruntime.InferenceSession":
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as many as the original has
        return onnxruntime.InferenceSession(str(self.folder / MODEL_FILE), options, providers=["CPUExecutionProvider"])


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_tokenizer_and_settings(
    source: Path, settings: EncoderSettings, padding: int, dimension: int, out: Path
) -> None:
    (out / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    described: dict[str, Any] = settings.model_dump(mode="json", exclude={"model", "revision"})
    write_json(out / ENCODER_FILE, {"settings": described, "padding": padding, "dimension": dimension})
