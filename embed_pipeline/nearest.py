"""The nearest known text to one that is not known: for labels, headers, file names and fields that were mistyped."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Nearest:
    """A known text and its similarity to the unknown one, 0 to 100, one decimal."""

    text: str
    score: float


def nearest_text(text: str, known: Sequence[str], *, score_cutoff: float = 0) -> Nearest | None:
    """The known text with the highest normalised edit similarity; of equal ones the first in `known`.

    None if nothing is known or nothing resembles it at all.
    """
    from rapidfuzz import fuzz, process

    found = process.extractOne(text, known, scorer=fuzz.ratio, score_cutoff=score_cutoff)
    if found is None or found[1] == 0:
        return None
    return Nearest(found[0], round(found[1], 1))
