"""Whether a model folder can be run as it lies there: told from its files, before anything is encoded.

Belongs here: what is missing, cut off, of another model, or needs code or a library that is not run. Does not belong
here: what a whole folder says about its use (model_directory.py, layout.py), loading it (local.py). No torch, and
nothing of a weights file is read but its header, until its numbers are looked through before the model is loaded.
"""

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed_pipeline.encoding.file_record import is_as_recorded
from embed_pipeline.encoding.layout import read_json, read_layout, transformer_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POINTER_START = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024
"""A pointer is smaller than this; its standard says so."""
_OTHER_WEIGHTS = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.gguf",
    "*.onnx",
    "onnx/*.onnx",
    "openvino/*.bin",
)
_SINGLE_WEIGHTS, _SHARDED_WEIGHTS = "model.safetensors", "model.safetensors.index.json"
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.spm")
_LAYER_COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
_LAYER = re.compile(r"(?P<stack>.*?\b(?:layers?|h|blocks?))\.(?P<number>\d+)\.")
_TOKEN_EMBEDDINGS = re.compile(
    r"(?:^|\.)(?:word_embeddings|embed_tokens|tok_embeddings|wte|shared|word_embedding)\.weight$"
)
_FLOATS = {"F64", "F32", "F16", "BF16"}
_NEVER_LOADED = ("position_ids", "inv_freq", "masked_bias", "attn.bias")
"""Buffers that older versions saved and the network computes for itself."""
_LONGEST_HEADER = 100_000_000
"""The limit of the safetensors format."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a weights file's header."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def check_model_folder(directory: Path) -> None:
    """Returns where the folder holds a whole model with its tokenizer that needs no code of its own.

    Raises:
        ValueError: it does not; with the file, what was expected and found, and what to do.
    """
    if is_as_recorded(directory):
        return
    _refuse_pointers(directory)
    _refuse_adapter(directory)
    _refuse_no_config(directory)
    config = read_json(directory / "config.json")
    _refuse_other_weights(directory)
    _refuse_foreign_code(directory, config)
    _refuse_other_kinds(directory, config)
    tensors = weights_of(directory)
    _refuse_small_numbers(directory, tensors)
    _compare_layers(directory, config, tensors)
    _compare_tokenizer(directory, tensors)
    _refuse_other_case(directory)


def check_unused(directory: Path, unused: Iterable[str], used: Iterable[str], prefix: str) -> None:
    """Returns where no part of the network itself is among the weights that loading left unused.

    `used` are the names of the network's own weights, `prefix` is what stands before them in a file that has heads too.
    Heads, as a language model's and BERT's pooler, may be left unused.

    Raises:
        ValueError: a part of the network would not run.
    """
    parts = {name.partition(".")[0] for name in used}
    named = sorted(name.removeprefix(f"{prefix}.") for name in unused)
    left = [
        name
        for name in named
        if name.partition(".")[0] in parts and not name.endswith(_NEVER_LOADED) and "pooler" not in name.split(".")
    ]
    if left:
        raise ValueError(
            f"{directory}: the weights hold more of the network than config.json: unexpected {', '.join(left[:3])} "
            f"({len(left)} in all). Part of the network would not run; copy config.json and weights of one model."
        )


def weights_of(directory: Path) -> tuple[Tensor, ...]:
    """Names and shapes of all weights of a model folder, from the headers of its files.

    Raises:
        ValueError: a file is missing, cut off, or no safetensors.
    """
    return tuple(tensor for path in weight_files(directory) for tensor in _read_header(path))


def weight_files(directory: Path) -> list[Path]:
    """The files that hold the weights of a model folder.

    Raises:
        ValueError: one that the index names is missing.
    """
    if (directory / _SINGLE_WEIGHTS).is_file():
        return [directory / _SINGLE_WEIGHTS]
    index = directory / _SHARDED_WEIGHTS
    content = read_json(index)
    names = content.get("weight_map")
    if not isinstance(names, Mapping) or "metadata" not in content:  # transformers needs both
        raise ValueError(
            f"{index}: expected weight_map and metadata, found {', '.join(sorted(content)) or 'nothing'}. Copy it "
            "again, or save the model again with save_pretrained."
        )
    files = sorted({str(name) for name in names.values()})
    missing = [name for name in files if not (directory / name).is_file()]
    if missing:
        raise ValueError(
            f"{directory}: expected the {len(files)} files of weights that {_SHARDED_WEIGHTS} names, found "
            f"{len(files) - len(missing)}; missing: {', '.join(missing[:3])}. Copy the missing ones too."
        )
    return [directory / name for name in files]


def weights_are_finite(directory: Path) -> bool:
    """Whether all numbers in the files of the weights are.

    The files are read, not the network: what it has mapped of them stays out of memory until it is used, most words'
    vectors for good. Least and greatest are NaN where one is; torch.isfinite would make copies of all.
    """
    import torch
    from safetensors import safe_open

    def is_finite(tensor: torch.Tensor) -> bool:
        if not tensor.is_floating_point() or not tensor.numel():
            return True
        wide = tensor if tensor.itemsize > 1 else tensor.float()  # of float8 neither is known
        return bool(torch.isfinite(torch.stack(wide.aminmax())).all())

    for path in weight_files(directory):
        with safe_open(path, framework="pt") as weights:
            if not all(is_finite(weights.get_tensor(name)) for name in weights.keys()):  # noqa: SIM118
                return False
    return True


def refuse_broken_weights(directory: Path, network: "PreTrainedModel") -> None:
    """Raises ValueError that names a tensor of the network with NaN or infinity in it."""
    import torch

    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"{directory}: the weights {name} hold NaN or infinity, whatever the precision. The training that "
                "wrote them went wrong, or the file is damaged; name another checkpoint, or copy it again."
            )


def _refuse_pointers(directory: Path) -> None:
    for path in sorted((*directory.glob("*"), *directory.glob("[0-9]*_*/*"))):
        if not path.is_file() or path.stat().st_size > _POINTER_BYTES:
            continue
        content = path.read_bytes()
        if content.startswith(_POINTER_START):
            size = re.search(rb"^size (\d+)", content, re.MULTILINE)
            of = f" that stands for {int(size[1]) / 1e6:,.1f} MB" if size else ""
            raise ValueError(
                f"{path}: expected the file itself, found a Git LFS pointer of {len(content)} bytes{of}. Run "
                f"`git lfs pull` in {directory} (`git lfs install` before it, once), or download the model again."
            )


def _refuse_adapter(directory: Path) -> None:
    path = directory / "adapter_config.json"
    pickled = not any(directory.glob("*.safetensors")) and any(directory.glob("pytorch_model*.bin"))
    if not path.is_file() or pickled:
        return
    base = read_json(path).get("base_model_name_or_path")
    raise ValueError(
        f"{directory}: expected full weights, found a LoRA adapter (adapter_config.json) of the base model "
        f"{base or 'that it does not name'}. Merge it into its base model (peft: merge_and_unload, then "
        "save_pretrained of model and tokenizer) and name the merged directory."
    )


def _refuse_no_config(directory: Path) -> None:
    if (directory / "config.json").is_file():
        return
    read_layout(directory)  # modules that are no transformer, or lie elsewhere, are told by name
    below = sorted({*directory.glob("*/config.json"), *directory.glob("snapshots/*/config.json")})
    models = [str(path.parent.relative_to(directory)) for path in below if any(path.parent.glob("*.safetensors"))]
    hint = f" Below it there is a model in {', '.join(models[:3])}: name that folder." if models else ""
    raise ValueError(
        f"{directory}: expected a transformers model directory with config.json, found none. "
        f"Name a directory written by save_pretrained.{hint}"
    )


def _refuse_other_weights(directory: Path) -> None:
    if any((directory / name).is_file() for name in (_SINGLE_WEIGHTS, _SHARDED_WEIGHTS)):
        return
    partial = sorted(path.name for path in directory.glob("*.safetensors"))
    if partial:
        raise ValueError(
            f"{directory}: expected weights in {_SINGLE_WEIGHTS}, or several files and {_SHARDED_WEIGHTS}, found "
            f"{', '.join(partial[:3])}. Copy what is missing, or save the model again with save_pretrained."
        )
    found = sorted({path.relative_to(directory).as_posix() for kind in _OTHER_WEIGHTS for path in directory.glob(kind)})
    raise ValueError(
        f"{directory}: expected weights in *.safetensors, found {', '.join(found[:3]) or 'none'}. "
        "Convert them with save_pretrained; pickled weights and those of other programs are not loaded."
    )


def _refuse_foreign_code(directory: Path, config: Mapping[str, Any]) -> None:
    kind = str(config.get("model_type") or "")
    named = config.get("auto_map")
    if kind and _transformers_has(kind):
        return
    code = f", whose code lies with it (auto_map: {', '.join(sorted(named))})" if isinstance(named, Mapping) else ""
    raise ValueError(
        f"{directory / 'config.json'}: expected a model_type that the installed transformers knows, found "
        f"{kind or 'none'}{code}. Code of a model is never run here. Name a model of a kind that transformers has, a "
        "newer transformers if it has this one, or serve the model and name it as a service."
    )


@lru_cache(maxsize=64)
def _transformers_has(kind: str) -> bool:
    """Whether transformers knows the kind; it is imported only where no folder of it is called like the kind."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return True  # nothing is known; loading says that it is missing
    if (Path(next(iter(spec.submodule_search_locations))) / "models" / kind.replace("-", "_")).is_dir():
        return True
    from transformers import CONFIG_MAPPING

    return kind in CONFIG_MAPPING


def _refuse_other_kinds(directory: Path, config: Mapping[str, Any]) -> None:
    quantised = config.get("quantization_config")
    if isinstance(quantised, Mapping):
        raise ValueError(
            f"{directory / 'config.json'}: expected weights in float32, bfloat16 or float16, found quantised ones "
            f"({quantised.get('quant_method', 'quantization_config')}). Name the model that they were made of, or "
            "serve the model and name it as a service."
        )
    if config.get("is_encoder_decoder"):
        raise ValueError(
            f"{directory / 'config.json'}: expected a text encoder, found an encoder with a decoder behind it "
            f"({config.get('model_type')}), which gives no vector of a text alone. Name another model, or serve this "
            "one and name it as a service."
        )


def _refuse_small_numbers(directory: Path, tensors: tuple[Tensor, ...]) -> None:
    """Weights in few bits without a word of it in config.json would be taken for numbers as they stand."""
    small = [tensor for tensor in tensors if len(tensor.shape) > 1 and tensor.dtype not in _FLOATS]
    small = [tensor for tensor in small if not tensor.name.endswith(_NEVER_LOADED)]
    if small:
        raise ValueError(
            f"{directory}: expected weights in float32, bfloat16 or float16, found {small[0].name} in "
            f"{small[0].dtype} ({len(small)} such in all): a quantised model. Name the model that it was made of, or "
            "serve it and name it as a service."
        )


def _compare_layers(directory: Path, config: Mapping[str, Any], tensors: tuple[Tensor, ...]) -> None:
    stated = next((config[name] for name in _LAYER_COUNTS if isinstance(config.get(name), int)), None)
    numbers: dict[str, set[int]] = {}
    for tensor in tensors:
        found = _LAYER.match(tensor.name)
        if found:
            numbers.setdefault(found["stack"], set()).add(int(found["number"]))
    if stated is None or len(numbers) != 1:
        return  # several stacks: which of them the configuration counts is the architecture's; loading compares
    ((stack, present),) = numbers.items()
    expected = set(range(stated))
    if present != expected:
        beyond, missing = sorted(present - expected), sorted(expected - present)
        parts = [f"unexpected {stack}.{number}.*" for number in beyond[:3]]
        parts += [f"missing {stack}.{number}.*" for number in missing[:3]]
        what = "the weights do not fill the model" if missing else "layers are left out"
        raise ValueError(
            f"{directory / 'config.json'}: {what}: expected as many layers as the weights have ({len(present)}), found "
            f"{stated}: {', '.join(parts)} ({len(beyond) + len(missing)} in all). "
            f"{'Random numbers would stand in for them' if missing else 'Part of the network would not run'}; copy "
            "config.json and weights of one model."
        )


def _compare_tokenizer(directory: Path, tensors: tuple[Tensor, ...]) -> None:
    files = [path for kind in _TOKENIZER_FILES for path in sorted(directory.glob(kind)) if path.is_file()]
    if not files:
        raise ValueError(
            f"{directory}: expected the tokenizer's files ({', '.join(_TOKENIZER_FILES)}), found none. Every word "
            "would be unknown. Copy them from the model that this one was made of, or save its tokenizer there with "
            "save_pretrained."
        )
    rows = {tensor.shape[0] for tensor in tensors if _TOKEN_EMBEDDINGS.search(tensor.name) and len(tensor.shape) == 2}
    state = files[0].stat()
    ids = _most_ids(files[0], state.st_size, state.st_mtime_ns)
    if len(rows) != 1 or ids is None:
        return
    (table,) = rows
    if ids > table or 2 * ids < table:
        raise ValueError(
            f"{files[0]}: expected a tokenizer for the {table:,} rows of the model's embedding table, found one with "
            f"{ids:,} ids. It is another model's. Copy the tokenizer's files of the model that the weights are of."
        )


def _refuse_other_case(directory: Path) -> None:
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file() or not transformer_settings(directory).get("do_lower_case"):
        return
    normalizer = json.dumps(read_json(tokenizer).get("normalizer"))
    if '"type": "Lowercase"' not in normalizer and '"lowercase": true' not in normalizer:
        raise ValueError(
            f"{directory}: do_lower_case is true in sentence_bert_config.json and the tokenizer keeps upper case: "
            "sentence-transformers would lower every text before it. Load the model there and save it again, which "
            "puts it into tokenizer.json."
        )


@lru_cache(maxsize=32)
def _most_ids(path: Path, size: int, modified_ns: int) -> int | None:
    """One more than the highest id that the tokenizer gives; None where its file does not say it plainly."""
    if path.name == "vocab.txt":
        return len(path.read_text(encoding="utf-8").splitlines())
    if path.suffix != ".json":
        return None
    content = read_json(path)
    if path.name == "vocab.json":
        return max((int(one) for one in content.values()), default=-1) + 1
    vocabulary = (content.get("model") or {}).get("vocab")
    if isinstance(vocabulary, Mapping):
        highest = max(vocabulary.values(), default=-1)
    elif isinstance(vocabulary, list):
        highest = len(vocabulary) - 1
    else:
        return None
    return max([highest, *(int(token["id"]) for token in content.get("added_tokens") or ())]) + 1


def _read_header(path: Path) -> Iterator[Tensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LONGEST_HEADER + 1
        content = file.read(length) if length <= min(_LONGEST_HEADER, size) else b""
    try:
        header = json.loads(content)
        entries = {name: one for name, one in header.items() if name != "__metadata__"}
        end = 8 + length + max((one["data_offsets"][1] for one in entries.values()), default=0)
        found = [Tensor(name, tuple(one["shape"]), one["dtype"]) for name, one in entries.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected weights in the safetensors format, found a file of {size:,} bytes that begins with "
            f"{start!r}. Copy it again, or save the model again with save_pretrained."
        ) from error
    if end != size:
        raise ValueError(f"{path}: expected {end:,} bytes, as its header says, found {size:,}. Copy the file again.")
    yield from found
