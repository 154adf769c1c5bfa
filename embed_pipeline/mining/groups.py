"""Training groups: a query with its positives and hard negatives, and their file.

Belongs here: the record and its JSON lines. Does not belong here: choosing negatives or filling short groups.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """A query, its positives sorted by id, its negatives best score first; ids, texts and scores run side by side.

    `negative_sources` says per negative which miners found it, as `dense+bm25`; empty where nobody kept it.
    """

    query_id: str
    query: str
    positive_ids: tuple[str, ...]
    positives: tuple[str, ...]
    positive_scores: tuple[float, ...]
    negative_ids: tuple[str, ...]
    negatives: tuple[str, ...]
    negative_scores: tuple[float, ...]
    negative_sources: tuple[str, ...] = ()


class _GroupLine(BaseModel):
    """FlagEmbedding's field names, and ids."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(min_length=1, description="Query id.")
    query: str = Field(min_length=1, description="Query text.")
    pos: list[str] = Field(min_length=1, description="Texts of the positives.")
    neg: list[str] = Field(description="Texts of the negatives; may be empty.")
    pos_scores: list[float] = Field(description="A score per positive.")
    neg_scores: list[float] = Field(description="A score per negative.")
    pos_ids: list[str] = Field(description="An id per positive.")
    neg_ids: list[str] = Field(description="An id per negative.")
    neg_sources: list[str] = Field([], description="The miners per negative, joined by +; may be left out.")

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        for name, texts, scores, ids in (
            ("pos", self.pos, self.pos_scores, self.pos_ids),
            ("neg", self.neg, self.neg_scores, self.neg_ids),
        ):
            if not len(texts) == len(scores) == len(ids):
                raise ValueError(
                    f"{name}, {name}_scores and {name}_ids must be equally long, found {len(texts)}, {len(scores)} and "
                    f"{len(ids)}"
                )
        if self.neg_sources and len(self.neg_sources) != len(self.neg):
            raise ValueError(
                f"neg_sources must be as long as neg or left out, found {len(self.neg_sources)} and {len(self.neg)}"
            )
        both = sorted(set(self.pos) & set(self.neg))
        if both:
            raise ValueError(f"a positive must not be a negative too, found {both[0]!r}")
        return self


def write_groups(groups: Iterable[TrainingGroup], path: Path) -> None:
    """Writes a JSON line per group, sorted by query id; equal groups give equal bytes. FlagEmbedding reads the file.

    Raises:
        ValueError: a score is not finite.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for group in sorted(groups, key=lambda group: group.query_id):
            line = {
                "id": group.query_id,
                "query": group.query,
                "pos": group.positives,
                "neg": group.negatives,
                "pos_scores": group.positive_scores,
                "neg_scores": group.negative_scores,
                "pos_ids": group.positive_ids,
                "neg_ids": group.negative_ids,
            }
            if group.negative_sources:
                line["neg_sources"] = group.negative_sources
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def read_groups(path: Path) -> tuple[TrainingGroup, ...]:
    """The groups of a file, in its order.

    Raises:
        ValueError: a line is no group; names line and field.
    """
    groups = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                groups.append(_to_group(_GroupLine.model_validate_json(line)))
            except ValidationError as error:
                problem = error.errors()[0]
                field = ".".join(str(part) for part in problem["loc"])
                raise ValueError(
                    f"{path.name}, line {number}{', ' * bool(field)}{field}: {problem['msg']}. Correct the line, or "
                    "materialise mined_negatives again."
                ) from error
    return tuple(groups)


def _to_group(line: _GroupLine) -> TrainingGroup:
    return TrainingGroup(
        query_id=line.id,
        query=line.query,
        positive_ids=tuple(line.pos_ids),
        positives=tuple(line.pos),
        positive_scores=tuple(line.pos_scores),
        negative_ids=tuple(line.neg_ids),
        negatives=tuple(line.neg),
        negative_scores=tuple(line.neg_scores),
        negative_sources=tuple(line.neg_sources),
    )
