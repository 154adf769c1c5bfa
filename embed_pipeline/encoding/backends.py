"""What computes vectors from token ids: torch, OpenVINO or onnxruntime, each behind one function.

Belongs here: tracing the model for another runtime, keeping what came of it, running it. Does not belong here: texts,
batches, which backend is taken when (local.py). Why it is so: docs/adr/0026-backends.md.
"""

import queue
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embed_pipeline.encoding.encoder import Backend

if TYPE_CHECKING:
    import openvino
    import torch

_PACKAGES: dict[Backend, tuple[str, ...]] = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime")}
_EXTRAS: dict[Backend, str] = {"openvino": "openvino", "onnx": "export"}
CONVERTING: tuple[Backend, ...] = ("openvino", "onnx")
"""The backends that make something of a model before they run it."""
_OPSET = 18


class Runner(NamedTuple):
    """A model that is ready to compute."""

    backend: Backend
    run: Callable[..., np.ndarray]
    """Token ids and mask, int64 (rows, tokens), to float32 (rows, dimension); a cross-encoder may have more."""
    streams: int
    """So many calls of `run` may be made side by side, from as many threads: each of them keeps one core busy."""


class Traceable(NamedTuple):
    """The whole model in float32 (heads.whole_model) and token ids with their mask to trace it with, of two lengths."""

    module: "torch.nn.Module"
    input_ids: "torch.Tensor"
    attention_mask: "torch.Tensor"


def missing_packages(backend: Backend) -> tuple[str, ...]:
    """The packages that a backend needs and that are not installed."""
    return tuple(name for name in _PACKAGES.get(backend, ()) if find_spec(name) is None)


def version(backend: Backend) -> str:
    """The versions of a backend's packages, one after the other: another one may convert otherwise."""
    return " ".join(metadata.version(name) for name in _PACKAGES[backend])


def check_backend(backend: Backend, *, place: str) -> None:
    """Raises ValueError where a backend needs packages that are not installed; `place` names file and field."""
    missing = missing_packages(backend)
    if missing:
        raise ValueError(
            f"{place}: expected the packages of the backend {backend}, found no {' and no '.join(missing)}. Install "
            f"them: pip install 'embed-pipeline[{_EXTRAS[backend]}]'; or set backend: auto or torch."
        )


def run_torch(module: "torch.nn.Module", device: str) -> Runner:
    """The model as transformers loaded it, on `device`; one call at a time has all cores."""
    import torch

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)).cpu().numpy()

    return Runner("torch", run, 1)


def trace_onnx(model: Traceable, path: Path) -> None:
    """Write the model as ONNX (`input_ids`, `attention_mask` in, `sentence_embedding` out); the same bytes each time.

    Raises:
        ValueError: the architecture cannot be traced.
    """
    inputs = {"input_ids": model.input_ids, "attention_mask": model.attention_mask}
    trace_network(model.module, inputs, "sentence_embedding", path)


def trace_network(module: "torch.nn.Module", inputs: "Mapping[str, torch.Tensor]", output: str, path: Path) -> None:
    """The same for any network of these inputs, (rows, tokens) each, and one output with a row for each of theirs."""
    import torch

    axes = {name: {0: "rows", 1: "tokens"} for name in inputs}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every shape it takes for constant; parity finds those
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                str(path),
                input_names=list(inputs),
                output_names=[output],
                dynamic_axes={**axes, output: {0: "rows"}},
                opset_version=_OPSET,
                dynamo=False,  # docs/adr/0024-exported-formats.md
            )
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"the model could not be traced for ONNX: {error}") from error


def run_onnx(path: Path) -> Runner:
    """An ONNX file on the CPU; one call at a time has all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    names = [one.name for one in session.get_inputs()]

    def run(*inputs: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])

    return Runner("onnx", run, 1)


def convert_openvino(model: Traceable) -> "openvino.Model":
    """The model as OpenVINO holds it, over the same weights in memory.

    Raises:
        ValueError: the architecture cannot be converted.
    """
    openvino = import_openvino()
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # tracing looks at every attribute of the network, and some of them warn
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inputs = {"input_ids": model.input_ids, "attention_mask": model.attention_mask}
            return openvino.convert_model(model.module, example_input=inputs)
    except Exception as error:  # whatever the tracer or the front end meet
        raise ValueError(f"the model could not be converted for OpenVINO: {error}. Set backend: torch.") from error
    finally:
        logging.set_verbosity(verbosity)


def save_openvino(model: Traceable, path: Path) -> None:
    """Write the model as OpenVINO's .xml and, beside it, .bin, which is mapped into memory where it is run."""
    import_openvino().save_model(convert_openvino(model), path, compress_to_fp16=False)


def run_openvino(model: "openvino.Model | Path", dtype: str) -> Runner:
    """A converted model, or its .xml, on the CPU in float32 or bfloat16: so many calls at a time as there are cores."""
    threads = _threads()
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
    }
    compiled = import_openvino().Core().compile_model(model, "CPU", settings)
    requests: queue.SimpleQueue = queue.SimpleQueue()  # one may be used by one thread at a time
    for _ in range(threads):
        requests.put(compiled.create_infer_request())

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        request = requests.get()
        try:
            return np.array(request.infer([ids, mask])[0])
        finally:
            requests.put(request)

    return Runner("openvino", run, threads)


def import_openvino() -> ModuleType:
    """OpenVINO, which would report its use; nncf, imported after it, as well."""
    # Its companion package reports every import and conversion to its makers, unasked; without it nothing is sent.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    return openvino


def _threads() -> int:
    """As many as torch has: OMP_NUM_THREADS, else the cores of this process."""
    import torch

    return torch.get_num_threads()
