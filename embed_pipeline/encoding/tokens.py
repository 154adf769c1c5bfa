"""What the tokenizer does to texts before any model sees them: the figures of the audits, batches of ids.

Belongs here: counting unknown characters and cut-off texts, batches of alike length and their padding, without torch.
Does not belong here: thresholds (the recipe's) and extending a vocabulary (training).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embed_pipeline.encoding.encoder import EncoderSettings, Role
from embed_pipeline.encoding.model_directory import resolve_settings
from embed_pipeline.encoding.model_source import resolve_model

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_BATCH = 4096

_BEGINNING_SHARE = 32
"""Beginning a batch, with its many small operations, costs this part of a full one: on a CPU 64 tokens, 5 to 15 ms."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """So many of a total: characters or texts."""

    count: int
    total: int

    @property
    def share(self) -> float:
        """count / total; 0.0 of nothing."""
        return self.count / self.total if self.total else 0.0


def batches_of(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Rows in batches of alike length, longest first, each within rows times longest <= batch_tokens, or one row.

    A batch ends, too, where filling up to its longest would cost more than beginning another.
    """
    rows: list[int] = []
    filled = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        filled += lengths[rows[0]] - lengths[row] if rows else 0
        if rows and ((len(rows) + 1) * lengths[rows[0]] > batch_tokens or filled * _BEGINNING_SHARE > batch_tokens):
            yield rows
            rows, filled = [], 0
        rows.append(row)
    if rows:
        yield rows


def pad_ids(
    sequences: "Sequence[np.ndarray | list[int]]", padding: int, length: int
) -> "tuple[np.ndarray, np.ndarray]":
    """Token ids and attention mask, int64 (sequences, length), filled up on the right."""
    ids = np.full((len(sequences), length), padding, dtype=np.int64)
    mask = np.zeros_like(ids)
    for at, sequence in enumerate(sequences):
        ids[at, : len(sequence)] = sequence
        mask[at, : len(sequence)] = 1
    return ids, mask


def count_unknown(settings: EncoderSettings, texts: Sequence[str], *, directory: Path | None = None) -> TokenCount:
    """The characters that the tokenizer maps to its unknown token, of all that are not white space.

    Nothing is cut off and no instruction added. A tokenizer without an unknown token (byte level) counts none.
    """
    source = directory or resolve_model(settings)
    unknown = _unknown_token(source)
    count = 0
    for text, encoding in _encodings(load_tokenizer(source), texts):
        for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
            if token == unknown:
                count += _visible(text[start:end])
    return TokenCount(count=count, total=sum(_visible(text) for text in texts))


def count_truncated(
    settings: EncoderSettings, role: Role, texts: Sequence[str], *, directory: Path | None = None
) -> TokenCount:
    """The texts longer than the role's maximum length, instruction and special tokens included, of all texts."""
    source = directory or resolve_model(settings)
    settings, tokenizer = resolve_settings(settings, source), load_tokenizer(source)
    formatted = [settings.format_text(role, text) for text in texts]
    limit = settings.max_length(role)
    count = sum(len(encoding.ids) > limit for _, encoding in _encodings(tokenizer, formatted))
    return TokenCount(count=count, total=len(texts))


def token_counter(directory: Path) -> Callable[[Sequence[str]], list[int]]:
    """A function that counts the tokens of texts, special tokens left out; the tokenizer is loaded once."""
    tokenizer = load_tokenizer(directory)

    def count(texts: Sequence[str]) -> list[int]:
        found: list[int] = []
        for start in range(0, len(texts), _BATCH):
            batch = tokenizer.encode_batch_fast(list(texts[start : start + _BATCH]), add_special_tokens=False)
            found += [len(encoding.ids) for encoding in batch]
        return found

    return count


def load_tokenizer(directory: Path) -> "Tokenizer":
    """The tokenizer of a model directory, with cutting and padding switched off."""
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"{directory}: expected tokenizer.json, found none. Load the model's tokenizer with transformers and save "
            "it there with save_pretrained."
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _encodings(tokenizer: "Tokenizer", texts: Sequence[str]) -> Iterator[tuple[str, "Encoding"]]:
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        yield from zip(batch, tokenizer.encode_batch(batch), strict=True)


def _unknown_token(directory: Path) -> str | None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = directory / name
        token = json.loads(path.read_text(encoding="utf-8")).get("unk_token") if path.is_file() else None
        if token is not None:
            return token["content"] if isinstance(token, dict) else token
    return None


def _visible(text: str) -> int:
    return sum(not character.isspace() for character in text)
