"""Passages of a corpus that say nearly the same.

Belongs here: finding them in bounded memory. Does not belong here: how many are too many (defs/checks).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.records import Passage

COMPARED_CHARACTERS = 300
"""Letters and digits of a passage that are compared: memory grows with them, and copies agree from the start."""
SIMILAR_FROM = 0.85
"""Jaccard similarity of character 3-grams, the default for queries too: about one word in ten differs."""


@dataclass(frozen=True, slots=True)
class DuplicatePassage:
    """A passage, and one with a smaller id that is nearly the same; 1 is equal but for case and punctuation."""

    passage: Passage
    earlier: Passage
    similarity: float


def find_duplicate_passages(
    passages: Sequence[Passage], *, threshold: float = SIMILAR_FROM, characters: int = COMPARED_CHARACTERS
) -> tuple[DuplicatePassage, ...]:
    """Every passage that has an earlier near duplicate, in the order given, with one of them.

    Passages of different numbers ("article 12") are near duplicates all the same: a reader or an encoder can hardly
    tell them apart. Exact on the compared characters. No pair is listed twice, so a group of n gives n - 1 entries.
    """
    sets = shingle_texts([canonical_form(passage.text)[:characters] for passage in passages])
    index = NearDuplicateIndex(sets, threshold)
    found = []
    for position, passage in enumerate(passages):
        near = next(index.find(position), None)
        index.add(position)
        if near is not None:
            found.append(DuplicatePassage(passage, passages[near.position], near.similarity))
    return tuple(found)
