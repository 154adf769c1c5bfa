"""Tokenised texts, equal ones once.

Belongs here: many short sequences in two arrays, and which text is which row. Does not belong here: what the texts mean
to a query (examples.py), padding (collator.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embed_pipeline.encoding.encoder import EncoderSettings, Role

_PART = 4096


class Tokenizer(Protocol):
    """What of a transformers tokenizer is used here."""

    def __call__(self, text: list[str], /, *, truncation: bool, max_length: int | None) -> dict[str, list[list[int]]]:
        """A mapping whose `input_ids` are the tokens of each text."""
        ...


@dataclass(frozen=True)
class TokenTable:
    """Token sequences in a row; sequence i is tokens[starts[i]:starts[i + 1]]. Four bytes a token."""

    tokens: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per sequence."""
        return np.diff(self.starts)

    def row(self, at: int) -> np.ndarray:
        """The tokens of one sequence."""
        return self.tokens[self.starts[at] : self.starts[at + 1]]


@dataclass(frozen=True)
class TokenisedTexts:
    """The different token sequences of some texts in order of first appearance, and the row of every text.

    Texts that the tokenizer maps to the same tokens (equal texts; texts that differ in what it ignores, or behind the
    length limit) have the same vector and therefore the same row.
    """

    table: TokenTable
    rows: np.ndarray


def tokenise(texts: Sequence[str], role: Role, tokenizer: Tokenizer, settings: EncoderSettings) -> TokenisedTexts:
    """The texts with their role's instruction, cut to its length, each different sequence once."""
    row_of: dict[bytes, int] = {}
    rows, sequences = np.empty(len(texts), dtype=np.int64), []
    for start in range(0, len(texts), _PART):
        part = [settings.format_text(role, text) for text in texts[start : start + _PART]]
        ids = tokenizer(part, truncation=True, max_length=settings.max_length(role))["input_ids"]
        for at, sequence in enumerate(ids, start=start):
            array = np.asarray(sequence, dtype=np.int32)
            row = row_of.setdefault(array.tobytes(), len(sequences))
            if row == len(sequences):
                sequences.append(array)
            rows[at] = row
    starts = np.concatenate(([0], np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)))
    tokens = np.concatenate(sequences) if sequences else np.empty(0, dtype=np.int32)
    return TokenisedTexts(TokenTable(tokens, starts), rows)
