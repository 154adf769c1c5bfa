"""An encoder that runs on this machine, through transformers.

Belongs here: tokenising, batching, the forward pass. Does not belong here: pooling and heads (heads.py), caching
(vector_cache.py), checking a model's files (model_directory.py). On CPU set MALLOC_MMAP_THRESHOLD_ and
MALLOC_TRIM_THRESHOLD_ in the environment of the process: it saves half of the time and more.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from embed_pipeline.encoding.encoder import EncoderSettings, Progress, Role, joint_fingerprint, role_fingerprint
from embed_pipeline.encoding.heads import load_heads, pool
from embed_pipeline.encoding.layout import read_layout
from embed_pipeline.encoding.model_check import check_unused
from embed_pipeline.encoding.model_directory import (
    FileState,
    file_states,
    model_digest,
    model_dimension,
    resolve_settings,
)
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline.encoding.precision import AUTO, native_precision, refuse_emulated, resolve_precision
from embed_pipeline.encoding.tokens import pad_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from embed_pipeline.encoding.heads import Transform

Device = Literal["cpu", "cuda"]

_BATCH_TOKENS: Mapping[Device, int] = {"cpu": 2048, "cuda": 65536}
"""On one CPU core 2,048 encodes 42 texts a second where 8,192 encodes 39 and 32,768 encodes 29."""


def load_local_encoder(
    settings: EncoderSettings,
    *,
    device: Device = "cpu",
    directory: Path | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> "LocalEncoder":
    """The encoder of a model directory, by default the one that settings.model names; its weights load on first use.

    batch_tokens bounds the memory of a forward pass: texts times the longest of them, in tokens; by default what is
    fastest on the device.
    Raises ValueError when the model is not found, contradicts the settings, or cannot run on the device as asked.
    """
    if device == "cpu" and settings.dtype == "float16":
        raise ValueError("encoder settings: dtype float16 needs a GPU, found device cpu. Set dtype to auto or float32.")
    source = directory or resolve_model(settings)
    return LocalEncoder(
        resolve_settings(settings, source),
        directory=source,
        device=device,
        batch_tokens=batch_tokens or _BATCH_TOKENS[device],
        progress=progress,
    )


class _Model(NamedTuple):
    network: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    heads: "Transform"


class LocalEncoder:
    """Implements Encoder for one model directory; fingerprints and dimension are read from its files alone."""

    def __init__(
        self,
        settings: EncoderSettings,
        *,
        directory: Path,
        device: Device,
        batch_tokens: int,
        progress: Progress | None,
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.device: Device = device
        self.batch_tokens = batch_tokens
        self.progress = progress
        self._states: tuple[FileState, ...] = file_states(directory)

    @cached_property
    def dtype(self) -> str:
        """The precision of the weights and of the arithmetic, `auto` resolved for this machine."""
        return resolve_precision(self.settings.dtype, self.device)

    @property
    def query_fingerprint(self) -> str:
        """See Encoder."""
        return role_fingerprint(self.settings, "query", self._digest, self.dtype)

    @property
    def passage_fingerprint(self) -> str:
        """See Encoder."""
        return role_fingerprint(self.settings, "passage", self._digest, self.dtype)

    @property
    def fingerprint(self) -> str:
        """See Encoder; with dtype auto that of float32 (docs/adr/0021-precision-follows-the-processor.md)."""
        dtype = "float32" if self.settings.dtype == AUTO else self.settings.dtype
        query = role_fingerprint(self.settings, "query", self._digest, dtype)
        return joint_fingerprint(query, role_fingerprint(self.settings, "passage", self._digest, dtype))

    @property
    def dimension(self) -> int:
        """See Encoder."""
        return self._dimension

    @cached_property
    def _dimension(self) -> int:
        return model_dimension(self.directory, self.settings.pooling)

    @property
    def parts(self) -> _Model:
        """Network, tokenizer and heads, loaded: what an export is made of."""
        return self._model

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "_model" in self.__dict__

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
        formatted = [self.settings.format_text(role, text) for text in texts]
        tokens = self._model.tokenizer(formatted, truncation=True, max_length=self.settings.max_length(role))
        token_ids: list[list[int]] = tokens["input_ids"]
        lengths = [len(ids) for ids in token_ids]
        if not min(lengths):
            raise ValueError(
                f"{self.directory}: text {lengths.index(0)} has no tokens: {texts[lengths.index(0)]!r}. Leave it out."
            )
        done = 0
        for rows in batches_of(lengths, self.batch_tokens):
            vectors[rows] = self._forward([token_ids[row] for row in rows])
            done += len(rows)
            if self.progress:
                self.progress(done, len(texts))
        if not np.isfinite(vectors).all():
            raise ValueError(f"{self.directory}: the model returned NaN or infinity. Set dtype to float32.")
        if not vectors.any(axis=1).all():
            text = texts[int(np.flatnonzero(~vectors.any(axis=1))[0])]
            raise ValueError(
                f"{self.directory}: expected vectors that say something, found zeros alone for {text[:40]!r}. Its "
                "weights are damaged or diverged: copy the model again, or train it with a lower learning_rate."
            )
        return vectors

    def _forward(self, batch: list[list[int]]) -> np.ndarray:
        import torch

        longest = max(map(len, batch))
        padding: Any = self._model.tokenizer.pad_token_id or 0
        ids, mask = (torch.from_numpy(part).to(self.device) for part in pad_ids(batch, padding, longest))
        with torch.inference_mode():
            hidden = self._model.network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            pooled = self._model.heads(pool(hidden, mask, self.settings.pooling or ""))
            if self.settings.normalize:
                pooled = torch.nn.functional.normalize(pooled, dim=-1)
            return pooled.cpu().numpy()

    @cached_property
    def _digest(self) -> str:
        return model_digest(self.directory)

    @cached_property
    def _model(self) -> _Model:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: expected a GPU because cuda was asked for, found none. Ask for cpu.")
        native = native_precision(self.device)
        refuse_emulated(self.settings.dtype, native, device=self.device, place="encoder settings: dtype")
        bars_were_shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            network, report = AutoModel.from_pretrained(
                self.directory,
                dtype=getattr(torch, self.dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(self.directory, local_files_only=True, trust_remote_code=False)
        finally:
            if bars_were_shown:
                logging.enable_progress_bar()
        missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
        if missing or report["mismatched_keys"]:
            raise ValueError(
                f"{self.directory}: the weights do not fill the model: missing {missing[:3]} ({len(missing)} in all), "
                f"of another shape {sorted(report['mismatched_keys'])[:3]}. Random numbers would stand in for them; "
                "save the model again with save_pretrained."
            )
        check_unused(self.directory, report["unexpected_keys"], network.state_dict(), network.base_model_prefix)
        _refuse_broken_weights(self.directory, network)
        if file_states(self.directory) != self._states:
            raise ValueError(
                f"{self.directory}: the files changed after this encoder was opened, so its fingerprint is another "
                "model's. Open the encoder again."
            )
        heads = load_heads(read_layout(self.directory).heads, device=self.device)
        return _Model(network.eval().to(self.device), tokenizer, heads)


def _refuse_broken_weights(directory: Path, network: "PreTrainedModel") -> None:
    import torch

    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"{directory}: the weights {name} hold NaN or infinity, whatever the precision. The training that "
                "wrote them went wrong, or the file is damaged; name another checkpoint, or copy it again."
            )


def batches_of(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Rows in batches of alike length, longest first, each within rows times longest <= batch_tokens, or one row."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if rows and (len(rows) + 1) * lengths[rows[0]] > batch_tokens:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
