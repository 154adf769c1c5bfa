"""Exported folders, run on the CPU as another program would: encoders and cross-encoders.

Belongs here: from a folder that `writing` wrote to something that encodes or scores. Does not belong here: which is
good enough (parity.py).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embed_pipeline.encoding.backends import Runner, run_onnx, run_openvino
from embed_pipeline.encoding.cross_encoder import CrossEncoder
from embed_pipeline.encoding.encoder import NOT_OF_A_MODEL, EncoderSettings, Role, joint_fingerprint
from embed_pipeline.encoding.local import run_batches
from embed_pipeline.encoding.tokens import load_tokenizer
from embed_pipeline.exporting.writing import ENCODER_FILE, MODEL_FILE, OPENVINO_FILE, TABLE_FILE, Inputs
from embed_pipeline.paths import digest_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH_TOKENS = 2048


class ExportedEncoder:
    """Implements Encoder for a folder of ONNX or OpenVINO."""

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

    def inputs_of(self, role: Role, texts: Sequence[str]) -> Iterator[Inputs]:
        """What the model is run with for each text alone, in order."""
        for ids in self._tokenise(role, texts):
            row = np.array([ids], dtype=np.int64)
            yield {"input_ids": row, "attention_mask": np.ones_like(row)}

    def _tokenise(self, role: Role, texts: Sequence[str]) -> list[list[int]]:
        self._tokenizer.enable_truncation(self.settings.max_length(role))
        formatted = [self.settings.format_text(role, text) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(formatted)]

    def _encode(self, role: Role, texts: Sequence[str]) -> np.ndarray:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        tokens = self._tokenise(role, texts) if texts else []
        for rows, found in run_batches(self._runner, tokens, self.padding, _BATCH_TOKENS):
            vectors[rows] = found
        return vectors

    def _fingerprint(self, role: Role) -> str:
        described = self.settings.model_dump(mode="json", exclude={*NOT_OF_A_MODEL})
        identity = {**described, "role": role, "model": self._digest}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _digest(self) -> str:
        return _model_digest(self.folder)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        return load_tokenizer(self.folder)

    @cached_property
    def _runner(self) -> Runner:
        if (self.folder / OPENVINO_FILE).is_file():
            # In float32 where it is not in 8 bits, so that processors with bfloat16 give no other vectors.
            return run_openvino(self.folder / OPENVINO_FILE, "float32")
        return run_onnx(self.folder / MODEL_FILE)


class ExportedCrossEncoder(CrossEncoder):
    """A cross-encoder's ONNX folder, asked as the original is: the same cutting, padding and batches."""

    def __init__(self, folder: Path, original: CrossEncoder) -> None:
        super().__init__(original.settings, directory=original.directory, device="cpu")
        self.folder = folder

    @property
    def fingerprint(self) -> str:
        """See PairScorer."""
        return hashlib.sha256(f"{super().fingerprint}\n{_model_digest(self.folder)}".encode()).hexdigest()

    def run(self, inputs: Inputs) -> np.ndarray:
        """See CrossEncoder."""
        return self._runner.run(*inputs.values()).reshape(-1)

    @cached_property
    def _runner(self) -> Runner:
        return run_onnx(self.folder / MODEL_FILE)


class StaticEncoder:
    """Implements Encoder for a folder of a static model: a text is the mean of its tokens' vectors, of length 1."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        self.folder = folder
        self._table = load_file(folder / TABLE_FILE)["embedding.weight"]
        self._tokenizer = load_tokenizer(folder)

    @property
    def query_fingerprint(self) -> str:
        """See Encoder; both roles are alike."""
        return digest_of(self.folder / TABLE_FILE)

    passage_fingerprint = fingerprint = query_fingerprint

    @property
    def dimension(self) -> int:
        """See Encoder."""
        return self._table.shape[1]

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), row i for text i; zeros for a text without tokens."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, found in enumerate(self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)):
            if found.ids:
                vectors[row] = self._table[found.ids].astype(np.float32).mean(axis=0)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    encode_passages = encode_queries


def _model_digest(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.name.startswith("model."))
    return hashlib.sha256("\n".join(map(digest_of, files)).encode()).hexdigest()
