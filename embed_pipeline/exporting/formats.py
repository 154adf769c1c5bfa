"""A model directory written as ONNX or in half precision, and the encoder that runs an ONNX folder.

Belongs here: writing and reading the folders. Does not belong here: whether one is good enough (parity).

An ONNX folder has model.onnx (`input_ids`, `attention_mask` in; `sentence_embedding` out: pooled, through the heads,
normalised), tokenizer.json and encoder.json (instructions, lengths, padding): all that another program needs.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embed_pipeline.encoding.backends import Runner, missing_packages, run_onnx, trace_onnx
from embed_pipeline.encoding.description import DESCRIBED_POOLINGS, describe_encoder, write_json
from embed_pipeline.encoding.encoder import NOT_OF_A_MODEL, EncoderSettings, Role, joint_fingerprint
from embed_pipeline.encoding.layout import MODULES_FILE
from embed_pipeline.encoding.local import LocalEncoder, run_batches
from embed_pipeline.encoding.tokens import load_tokenizer
from embed_pipeline.exporting.settings import Format
from embed_pipeline.merging.mixing import copy_description
from embed_pipeline.paths import digest_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL_FILE = "model.onnx"
ENCODER_FILE = "encoder.json"
_BATCH_TOKENS = 2048


def check_packages(formats: Sequence[Format]) -> None:
    """Raises ValueError where a format needs packages that are not installed."""
    missing = missing_packages("onnx")
    if missing and set(formats) - {"float16"}:
        raise ValueError(
            f"export: expected the packages of ONNX, found no {' and no '.join(missing)}. Install them: "
            "pip install 'embed-pipeline[export]'; or leave onnx and onnx_int8 out of export.formats."
        )


def write_onnx(encoder: LocalEncoder, out: Path) -> None:
    """Write the encoder's model as ONNX; the same weights give the same bytes.

    Raises:
        ValueError: the architecture cannot be traced.
    """
    out.mkdir(parents=True)
    try:
        trace_onnx(encoder.traceable, out / MODEL_FILE)
    except ValueError as error:
        raise ValueError(
            f"export: {encoder.directory}: {error}. Leave onnx and onnx_int8 out of export.formats."
        ) from error
    _write_tokenizer_and_settings(encoder.directory, encoder.settings, encoder.padding, encoder.dimension, out)


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
        for rows, found in run_batches(self._runner, tokens, self.padding, _BATCH_TOKENS):
            vectors[rows] = found
        return vectors

    def _fingerprint(self, role: Role) -> str:
        identity = {
            **self.settings.model_dump(mode="json", exclude=NOT_OF_A_MODEL),
            "role": role,
            "model": self._digest,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.folder / MODEL_FILE)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        return load_tokenizer(self.folder)

    @cached_property
    def _runner(self) -> Runner:
        return run_onnx(self.folder / MODEL_FILE)


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_tokenizer_and_settings(
    source: Path, settings: EncoderSettings, padding: int, dimension: int, out: Path
) -> None:
    (out / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    described: dict[str, Any] = settings.model_dump(mode="json", exclude=NOT_OF_A_MODEL)
    write_json(out / ENCODER_FILE, {"settings": described, "padding": padding, "dimension": dimension})
