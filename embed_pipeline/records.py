"""The vocabulary every stage speaks: passage, query, judgment, hit.

Belongs here: frozen records that cross a stage boundary. Does not belong here: anything that reads a file, computes, or
needs a package outside the standard library.
"""

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Passage:
    """One thing that can be found: a label, a paragraph, an answer."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """One question, with the split that its group's hash put it in."""

    id: str
    text: str
    split: Split


@dataclass(frozen=True, slots=True)
class Judgment:
    """A passage is relevant to a query; a higher grade is more relevant, 0 is judged irrelevant."""

    query_id: str
    passage_id: str
    grade: int = 1


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a retriever returned for a query; rank 1 is the best, a higher score is better."""

    query_id: str
    passage_id: str
    rank: int
    score: float
