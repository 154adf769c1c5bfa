"""A map of characters in the form that tokenizers and sentencepiece read: a double-array trie and the replacements.

Belongs here: building those bytes. Does not belong here: where a map comes from (packed_e5.py).

Source: sentencepiece, `Normalizer::EncodePrecompiledCharsMap`; darts-clone, `DoubleArrayUnit`.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_BLOCK = 256
"""A unit's children lie in one block: their place is its own, XOR its offset, XOR their byte."""
_OPEN_BLOCKS = 4
"""So many of the last blocks are searched for room; what is left free in earlier ones stays free."""
_LARGEST_OFFSET = 1 << 21
_HAS_VALUE = 1 << 8
_IS_VALUE = 1 << 31


def build_charsmap(replacements: Mapping[str, str]) -> bytes:
    """The `precompiled_charsmap` that replaces each of the given strings; the same bytes for the same map.

    Raises:
        ValueError: a key is empty, or a key or a replacement holds U+0000, which ends a string in this form.
    """
    wrong = [key for key, value in replacements.items() if not key or "\0" in key + value]
    if wrong:
        raise ValueError(
            f"character map: expected non-empty keys without U+0000, found {wrong[0]!r}. Leave the entry out."
        )
    root, texts = _Node(), bytearray()
    for key, value in sorted(replacements.items()):
        node = root
        for byte in key.encode():
            node = node.children.setdefault(byte, _Node())
        node.value = len(texts)
        texts += value.encode() + b"\0"
    units = _lay_out(root)
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(texts)


@dataclass
class _Node:
    children: dict[int, "_Node"] = field(default_factory=dict)
    value: int | None = None

    @property
    def labels(self) -> list[int]:
        """The bytes that lead on; 0 stands for the value, which lies in a unit of its own."""
        return [*([] if self.value is None else [0]), *sorted(self.children)]


def _lay_out(root: _Node) -> list[int]:
    """The units of the trie: each a label, the way to its children, and whether one of them is a value."""
    taken, bases, units = {0}, set[int](), [0] * _BLOCK
    pending: list[tuple[int, _Node]] = [(0, root)]
    lowest = 1
    while pending:
        place, node = pending.pop()
        labels = node.labels
        if not labels:  # an empty map
            break
        lowest = max(lowest, len(units) - _OPEN_BLOCKS * _BLOCK)
        while lowest in taken:
            lowest += 1
        base = next(one for one in _bases(lowest, labels[0]) if one not in bases and _all_free(one, labels, taken))
        bases.add(base)  # a unit knows its label and not its parent: two nodes must not share a base
        units += [0] * max(0, (base // _BLOCK + 1) * _BLOCK - len(units))
        units[place] |= (place ^ base) << 10 | (0 if node.value is None else _HAS_VALUE)
        for label in labels:
            taken.add(base ^ label)
            if label:
                units[base ^ label] = label
                pending.append((base ^ label, node.children[label]))
            else:
                units[base] = _IS_VALUE | (node.value or 0)
    return units


def _bases(lowest: int, label: int) -> Iterator[int]:
    """Where 0 would lie if the first child lay on a place from `lowest` on."""
    return (place ^ label for place in range(lowest, _LARGEST_OFFSET))


def _all_free(base: int, labels: list[int], taken: set[int]) -> bool:
    return not any(base ^ label in taken for label in labels)
