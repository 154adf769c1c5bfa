"""Models of one family mixed by weight: what tuning won is kept, much of what it forgot comes back.

Belongs here: reading, mixing and writing weights. Does not belong here: which mixture users get (promotion.py),
measuring. Source: Xiao et al. 2023, LM-Cocktail, arXiv 2311.13534.
"""

import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embed_pipeline.encoding.description import describe_encoder
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.layout import MODULES_FILE, read_layout
from embed_pipeline.encoding.model_directory import IDENTITY_PATTERNS
from embed_pipeline.encoding.tokens import load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "model.safetensors"
_DESCRIPTIONS = (MODULES_FILE, "sentence_bert_config.json", "config_sentence_transformers.json", "encoder.json")
_TYPE_NAMES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16", "torch.float64": "F64"}
_TYPE_NAMES |= {"torch.int64": "I64", "torch.int32": "I32", "torch.uint8": "U8", "torch.bool": "BOOL"}
_TYPE_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class _Source:
    """One model to mix: its weight, where each tensor lies, how many tokens its tokenizer knows."""

    directory: Path
    weight: float
    files: Mapping[str, Path]
    tokens: int

    def read(self, name: str) -> "Tensor":
        from safetensors import safe_open

        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name)


def merge_weights(
    models: Sequence[Path], weights: Sequence[float], output: Path, *, encoder: EncoderSettings | None = None
) -> Path:
    """The directory `output` with the weighted sum of the models' tensors, mixed in float32, one tensor at a time.

    The last of the models with the most tokens gives configuration, tokenizer and precision, and the rows of tokens
    that only some models know are mixed of those alone (their weights scaled to 1; where they are all 0, its own).
    With `encoder` the files of sentence-transformers are written anew, otherwise they are copied.

    Raises:
        ValueError: weights are not one per model, not negative and 1 together; tokens, shapes or tensors differ.
    """
    _check_weights(models, weights)
    sources = [_open_source(path, weight) for path, weight in zip(models, weights, strict=True)]
    reference = max(reversed(sources), key=lambda source: source.tokens)
    for source in sources:
        _check_alike(source, reference)
    output.mkdir(parents=True, exist_ok=True)
    copy_description(reference.directory, output)
    _write_mixture(sources, reference, output / WEIGHTS_FILE)
    if encoder is not None:
        describe_encoder(output, encoder)
    return output


def _check_weights(models: Sequence[Path], weights: Sequence[float]) -> None:
    if not models or len(models) != len(weights) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(
            f"merging: expected a weight of 0 or more per model, 1 together, found {len(models)} models and weights "
            f"{list(weights)}. Correct the weights."
        )


def _open_source(directory: Path, weight: float) -> _Source:
    from safetensors import safe_open

    if any(head.kind != "normalize" for head in read_layout(directory).heads):
        raise ValueError(f"{directory}: the model has heads of its own, which merging would leave out. Merge others.")
    files: dict[str, Path] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            files |= dict.fromkeys(file.keys(), path)
    if not files:
        raise ValueError(f"{directory}: expected weights in *.safetensors, found none. Save with save_pretrained.")
    return _Source(directory, weight, files, tokens=load_tokenizer(directory).get_vocab_size())


def _check_alike(source: _Source, reference: _Source) -> None:
    if source is reference:
        return
    known = load_tokenizer(reference.directory).get_vocab()
    moved = sorted(t for t, at in load_tokenizer(source.directory).get_vocab().items() if known.get(t) != at)
    if moved:
        raise ValueError(
            f"{source.directory}: {len(moved)} tokens have another id than in {reference.directory} or are missing "
            f"there, the first {moved[0]!r}. Only models of one vocabulary, or one that was extended, can be merged."
        )
    differing = [name for name in sorted({*source.files} ^ {*reference.files}) if _is_weight(name, source, reference)]
    if differing:
        raise ValueError(
            f"{source.directory}: {len(differing)} tensors are not in both this model and {reference.directory}, the "
            f"first {differing[0]}. Only models of one architecture can be merged."
        )


def _is_weight(name: str, *sources: _Source) -> bool:
    """Whether a tensor holds learnt numbers; positions counted by integers do not matter."""
    holder = next(source for source in sources if name in source.files)
    return holder.read(name).is_floating_point()


def _mix(name: str, sources: Sequence[_Source], reference: _Source) -> "Tensor":
    own = reference.read(name)
    if not own.is_floating_point():
        return own
    total, weights = own.float() * 0, own.float().new_zeros(len(own) if own.dim() else 1)
    for source in sources:
        tensor = own if source is reference else source.read(name)
        rows = _shared_rows(name, tensor, own, source, reference)
        total[:rows] += source.weight * tensor[:rows].float()
        weights[:rows] += source.weight
    lone = weights == 0
    total /= weights.masked_fill(lone, 1).reshape(-1, *[1] * (own.dim() - 1))
    total[lone] = own.float()[lone]
    return total.to(own.dtype)


def _shared_rows(name: str, tensor: "Tensor", own: "Tensor", source: _Source, reference: _Source) -> int:
    """How many first rows of the tensor mean the same in both models."""
    if tensor.shape == own.shape and source.tokens == reference.tokens:
        return len(own)
    per_token = "embed" in name and source.tokens <= len(tensor) and reference.tokens <= len(own)
    if tensor.shape[1:] == own.shape[1:] and per_token:
        return source.tokens  # rows behind are padding, or tokens that only the reference knows
    if tensor.shape == own.shape:
        return len(own)
    raise ValueError(
        f"{source.directory}: {name} has shape {tuple(tensor.shape)}, in {reference.directory} {tuple(own.shape)}. "
        "Only models of one architecture can be merged."
    )


def _write_mixture(sources: Sequence[_Source], reference: _Source, path: Path) -> None:
    """Header first, then tensor after tensor: the library's own writer would hold them all in memory."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(reference.files):
        tensor = reference.read(name)
        kind = _TYPE_NAMES[str(tensor.dtype)]
        start, end = end, end + tensor.numel() * _TYPE_BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(content)) + content)
        for name in sorted(reference.files):
            file.write(_bytes_of(_mix(name, sources, reference)))


def _bytes_of(tensor: "Tensor") -> bytes:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def copy_description(source: Path, output: Path) -> None:
    """Copy what makes a model directory loadable, without its weights but with those of its heads."""
    files = {path for pattern in IDENTITY_PATTERNS for path in source.glob(pattern) if path.is_file()}
    files |= {source / name for name in _DESCRIPTIONS if (source / name).is_file()}
    for path in sorted(files):
        if ".safetensors" not in path.name:
            shutil.copyfile(path, output / path.name)
    modules = source / MODULES_FILE
    for module in json.loads(modules.read_text(encoding="utf-8")) if modules.is_file() else ():
        if module["path"] and (source / module["path"]).is_dir():
            shutil.copytree(source / module["path"], output / module["path"], dirs_exist_ok=True)
