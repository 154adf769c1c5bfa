"""Train, validation and test by a stable hash: what a query's split depends on, and what it does not.

It depends on the seed, the shares, and the queries read before it. It does not depend on any query read after it, so
appending rows or workbooks moves no old query.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.dataset.settings import DatasetSettings, SplitSettings, required
from embed_pipeline.records import SPLITS, Split


@dataclass(frozen=True, slots=True)
class SplitNeighbour:
    """An earlier text that is nearly the same, with the split it is in."""

    position: int
    split: Split
    similarity: float


@dataclass(frozen=True, slots=True)
class SplitConflict:
    """A text that is nearly the same as earlier ones of different splits; the earliest of each, in SPLITS' order."""

    position: int
    neighbours: tuple[SplitNeighbour, ...]


@dataclass(frozen=True, slots=True)
class SplitAssignment:
    """A split per text, None for those in conflict, which belong in no split."""

    splits: tuple[Split | None, ...]
    conflicts: tuple[SplitConflict, ...]


def hash_split(text: str, settings: SplitSettings) -> Split:
    """The split of a text that has no near duplicate before it: a hash of its canonical form and the seed."""
    digest = hashlib.sha256(f"{settings.seed}\n{canonical_form(text)}".encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    if share < settings.train:
        return "train"
    return "validation" if share < settings.train + settings.validation else "test"


def assign_splits(texts: Sequence[str], settings: SplitSettings, *, near_duplicate_threshold: float) -> SplitAssignment:
    """The split of every text, in reading order; the first n splits depend on the first n texts only.

    A text with near duplicates before it takes their split; if those are in different splits it is a conflict, and is
    itself no neighbour of later texts.
    """
    index = NearDuplicateIndex(shingle_texts([canonical_form(text) for text in texts]), near_duplicate_threshold)
    splits: list[Split | None] = []
    conflicts = []
    for position, found in index.find_each(earlier=True):
        near: dict[Split, SplitNeighbour] = {}
        for one in found:
            split = splits[one.position]
            if split and split not in near:
                near[split] = SplitNeighbour(one.position, split, one.similarity)
        if len(near) > 1:
            splits.append(None)
            conflicts.append(SplitConflict(position, tuple(near[split] for split in SPLITS if split in near)))
        else:
            splits.append(next(iter(near), None) or hash_split(texts[position], settings))
    return SplitAssignment(tuple(splits), tuple(conflicts))


def split_texts(texts: Sequence[str], settings: DatasetSettings) -> SplitAssignment:
    """The splits as a data set's settings ask for them; all test where it is for evaluation only."""
    if settings.evaluation_only or not texts:
        return SplitAssignment(("test",) * len(texts), ())
    shares = required(settings.split, "split")
    return assign_splits(texts, shares, near_duplicate_threshold=settings.near_duplicate_threshold)
