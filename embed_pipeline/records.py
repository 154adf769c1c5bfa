"""The vocabulary every stage speaks: passage, query, judgment, hit.

Belongs here: frozen records that cross a stage boundary. Does not belong here: anything that reads a file, computes, or
needs a package outside the standard library.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
EVALUATED_SPLIT: Split = "test"
CHOSEN_ON: Split = "validation"
"""What checkpoints, weights and thresholds are chosen and calibrated on; test queries never count."""

LANGUAGE = "language"
"""The attribute that holds an ISO 639 code, of a query or a passage."""

LABEL = "label"
"""The attribute that holds the label alone, of a passage that is a label with its description."""

Attributes = Mapping[str, str]

StoreKind = Literal["qdrant", "pgvector", "elasticsearch", "lancedb"]
STORES: tuple[StoreKind, ...] = get_args(StoreKind)
"""The vector stores that an index can be published to (stores/)."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One thing that can be found: a label, a paragraph, an answer. Attributes say what else is known of it."""

    id: str
    text: str
    attributes: Attributes = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Query:
    """One question, with the split that its group's hash put it in. Results can be sliced by each attribute."""

    id: str
    text: str
    split: Split
    attributes: Attributes = field(default_factory=dict, hash=False)


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
