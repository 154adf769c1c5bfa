"""An encoder that runs on this machine.

Belongs here: loading the model through transformers, tokenising, which backend computes. Does not belong here: what a
batch is (tokens.py), the backends (backends.py), pooling and heads (heads.py), caching (vector_cache.py), checking a
model's files (model_directory.py). On CPU set MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_: it saves half of the
time and more.
"""

import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from embed_pipeline.encoding import backends
from embed_pipeline.encoding.backends import Runner, Traceable
from embed_pipeline.encoding.converting import CONVERTED_FILES, convert_apart
from embed_pipeline.encoding.encoder import (
    Backend,
    EncoderSettings,
    Progress,
    Role,
    joint_fingerprint,
    role_fingerprint,
)
from embed_pipeline.encoding.file_record import make_once
from embed_pipeline.encoding.heads import load_heads, whole_model
from embed_pipeline.encoding.layout import read_layout
from embed_pipeline.encoding.model_check import check_unused, refuse_broken_weights, weights_are_finite
from embed_pipeline.encoding.model_directory import (
    FileState,
    file_states,
    model_digest,
    model_dimension,
    resolve_settings,
)
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline.encoding.precision import (
    AUTO,
    native_precision,
    refuse_emulated,
    refuse_missing_gpu,
    resolve_precision,
)
from embed_pipeline.encoding.tokens import batches_of, pad_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from embed_pipeline.encoding.heads import Transform

Device = Literal["cpu", "cuda"]

_BATCH_TOKENS: Mapping[Device, int] = {"cpu": 2048, "cuda": 65536}
"""On one CPU core 2,048 encodes 42 texts a second where 8,192 encodes 39 and 32,768 encodes 29."""

CONVERSION_PAYS_TOKENS = 100_000
"""Converting a model costs about what encoding so many tokens with it saves. Small and large models are alike in that:
both grow with the weights (docs/adr/0026)."""


def load_local_encoder(
    settings: EncoderSettings,
    *,
    device: Device = "cpu",
    directory: Path | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    compiled: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> "LocalEncoder":
    """The encoder of a model directory, by default the one that settings.model names; its weights load on first use.

    batch_tokens bounds the memory of a forward pass: texts times the longest of them, in tokens; by default what is
    fastest on the device. `compiled` keeps what other backends make of the model; without it each process makes it
    anew. `report` is told which backend computes.
    Raises ValueError when the model is not found, contradicts the settings, or cannot run on the device as asked.
    """
    if device == "cpu" and settings.dtype == "float16":
        raise ValueError("encoder settings: dtype float16 needs a GPU, found device cpu. Set dtype to auto or float32.")
    if device == "cuda" and settings.backend in ("openvino", "onnx"):
        raise ValueError(
            f"encoder settings: expected backend auto or torch on a GPU, found {settings.backend}, which is for the "
            "processor. Set backend to auto."
        )
    source = directory or resolve_model(settings)
    return LocalEncoder(
        resolve_settings(settings, source),
        directory=source,
        device=device,
        batch_tokens=batch_tokens or _BATCH_TOKENS[device],
        progress=progress,
        compiled=compiled,
        report=report,
    )


class Model(NamedTuple):
    """A model as transformers loaded it."""

    network: "PreTrainedModel"
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
        compiled: Path | None,
        report: Callable[[str], None] | None,
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.device: Device = device
        self.batch_tokens = batch_tokens
        self.progress = progress
        self.compiled = compiled
        self._report = report
        self._runner: Runner | None = None
        self._tokens_in_bulk = 0
        self._refused = False
        self._states: tuple[FileState, ...] = file_states(directory)

    @cached_property
    def dtype(self) -> str:
        """The precision of the arithmetic, `auto` resolved for this machine."""
        return resolve_precision(self.settings.asked_dtype, self.device)

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
        asked = self.settings.asked_dtype
        dtype = "float32" if asked == AUTO else asked
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
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "_model" in self.__dict__ or self._runner is not None

    @property
    def compiled_folders(self) -> tuple[Path, ...]:
        """Where what other backends made of this model is kept, whether it is there or not."""
        made = (self._compiled_folder(one) for one in backends.CONVERTING if not backends.missing_packages(one))
        return tuple(folder for folder in made if folder)

    def _compiled_folder(self, backend: Backend) -> Path | None:
        if self.compiled is None:
            return None
        identity = f"{self._digest} {self.settings.pooling} {self.settings.normalize} {backends.version(backend)}"
        return self.compiled / f"{backend}-{hashlib.sha256(identity.encode()).hexdigest()[:40]}"

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
        if not self.is_loaded:
            self._load_before_tokenizer(texts)
        token_ids = self.token_ids(role, texts)
        lengths = [len(ids) for ids in token_ids]
        if not min(lengths):
            raise ValueError(
                f"{self.directory}: text {lengths.index(0)} has no tokens: {texts[lengths.index(0)]!r}. Leave it out."
            )
        runner, done = self._runner_for(sum(lengths)), 0
        for rows, found in run_batches(runner, token_ids, self.padding, self.batch_tokens):
            vectors[rows] = found
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

    def _load_before_tokenizer(self, texts: Sequence[str]) -> None:
        """The weights first, unless only the tokens can say what computes: each is there twice while it is prepared.

        A tokenizer takes up to 300 MB, and what it adds to those two copies is the peak of the process.
        """
        if self.settings.backend in backends.CONVERTING:
            self._runner_for(0)
        elif self.settings.backend != AUTO or sum(map(len, texts)) < CONVERSION_PAYS_TOKENS:
            _ = self._model

    def token_ids(self, role: Role, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text as the model sees them."""
        formatted = [self.settings.format_text(role, text) for text in texts]
        return self._tokenizer(formatted, truncation=True, max_length=self.settings.max_length(role))["input_ids"]

    def backend_for(self, tokens: int) -> Backend:
        """What computes a call of so many tokens, which counts as made. What fits into one batch changes nothing."""
        if tokens > self.batch_tokens:
            self._tokens_in_bulk += tokens
        return self._wanted_backend()

    def _runner_for(self, tokens: int) -> Runner:
        wanted = self.backend_for(tokens)
        if self._runner is None or self._runner.backend != wanted:
            try:
                self._runner = self._open(wanted)
            except ValueError as error:
                if self.settings.backend != AUTO or wanted == "torch":
                    raise
                self._refused = True
                self.__dict__.pop("_model", None)  # it may be in another precision than torch computes in
                self._say(f"{error} torch goes on")
                self._runner = self._runner or self._open("torch")
        return self._runner

    def _wanted_backend(self) -> Backend:
        if self.settings.backend != AUTO:
            return self.settings.backend
        if self._runner and self._runner.backend == "openvino":
            return "openvino"
        pays = self._tokens_in_bulk >= CONVERSION_PAYS_TOKENS and self.device == "cpu"
        possible = pays and not self._refused and not backends.missing_packages("openvino")
        return "openvino" if possible else "torch"

    def _open(self, backend: Backend) -> Runner:
        backends.check_backend(backend, place="encoder settings: backend")
        native = native_precision(self.device)
        refuse_emulated(self.settings.dtype, native, device=self.device, place="encoder settings: dtype")
        started = time.monotonic()
        if backend == "torch":
            runner = backends.run_torch(self.traceable.module, self.device)
        else:
            runner = self._convert(backend)
            self._let_go()
        why = f"{self._tokens_in_bulk:,} tokens so far" if self._tokens_in_bulk else "small calls alone so far"
        why = f", chosen for {why}" if self.settings.backend == AUTO else ""
        took = time.monotonic() - started
        self._say(f"vectors of {self.directory.name} by {backend} in {self.dtype}{why}; ready in {took:.1f} s")
        return runner

    def _say(self, line: str) -> None:
        if self._report:
            self._report(line)

    def _convert(self, backend: Backend) -> Runner:
        folder = self._compiled_folder(backend)
        if folder is None:
            return self._convert_here(backend)
        self._let_go()
        settings = self.settings.model_copy(update={"backend": backend, "dtype": "float32"})
        make_once(folder, lambda out: convert_apart(settings, self.directory, backend, out))
        self._check_unchanged()
        path = folder / CONVERTED_FILES[backend]
        return backends.run_openvino(path, self.dtype) if backend == "openvino" else backends.run_onnx(path)

    def _convert_here(self, backend: Backend) -> Runner:
        if self.dtype != "float32":
            self.__dict__.pop("_model", None)  # others round by themselves, and are made of all there is
        if backend == "openvino":
            return backends.run_openvino(backends.convert_openvino(self.traceable), self.dtype)
        with TemporaryDirectory() as work:
            path = Path(work) / CONVERTED_FILES[backend]
            backends.trace_onnx(self.traceable, path)
            self._let_go()
            return backends.run_onnx(path)

    def _let_go(self) -> None:
        self.__dict__.pop("_model", None)
        gc.collect()  # tracing leaves cycles; or the weights would be in memory twice beside those of the runner

    @property
    def traceable(self) -> Traceable:
        """The whole model, loaded, and how to trace it: what other formats are made of."""
        import torch

        network, heads = self._model
        module = whole_model(network, heads, self.settings.pooling or "", normalize=self.settings.normalize)
        padding = getattr(network.config, "pad_token_id", None) or 0
        mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])  # with padding, or the mask is traced away
        return Traceable(module, torch.where(mask == 1, 1 if padding == 0 else 0, padding), mask)

    @cached_property
    def _digest(self) -> str:
        return model_digest(self.directory)

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.directory, local_files_only=True, trust_remote_code=False)

    @property
    def padding(self) -> int:
        """The token id that fills a batch up."""
        padding: Any = self._tokenizer.pad_token_id
        return padding or 0

    @cached_property
    def _model(self) -> Model:
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        refuse_missing_gpu(self.device)
        dtype = self.dtype if self._wanted_backend() == "torch" else "float32"
        broken = not weights_are_finite(self.directory)
        bars_were_shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            network, report = AutoModel.from_pretrained(
                self.directory,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
            )
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
        if broken:
            refuse_broken_weights(self.directory, network)
        self._check_unchanged()
        heads = load_heads(read_layout(self.directory).heads, device=self.device)
        return Model(network.eval().to(self.device), heads)

    def _check_unchanged(self) -> None:
        if file_states(self.directory) != self._states:
            raise ValueError(
                f"{self.directory}: the files changed after this encoder was opened, so its fingerprint is another "
                "model's. Open the encoder again."
            )


def run_batches(
    runner: Runner, token_ids: Sequence[list[int]], padding: int, batch_tokens: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """(rows, their vectors) batch after batch (see batches_of), as many computed side by side as the runner takes."""

    def compute(rows: list[int]) -> tuple[list[int], np.ndarray]:
        batch = [token_ids[row] for row in rows]
        return rows, runner.run(*pad_ids(batch, padding, max(map(len, batch))))

    batches = list(batches_of([len(ids) for ids in token_ids], batch_tokens))
    if runner.streams == 1 or len(batches) == 1:
        yield from map(compute, batches)
        return
    with ThreadPoolExecutor(runner.streams) as pool:
        yield from pool.map(compute, batches)
