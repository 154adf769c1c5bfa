"""Synthetic questions: the record and its JSON lines.

Belongs here: what is known of a question that was written for passages. Does not belong here: writing or judging it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.dataset.formats import read_lines
from embed_pipeline.records import Split

Generator = Literal["chat", "inverse_cloze"]
QUESTIONS_FILE = "questions.jsonl"


class SyntheticQuestion(BaseModel):
    """One question, the passages that answer it, and everything that it was made with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, description="`query_id` of the text.")
    text: str = Field(min_length=1, description="The question, normalised.")
    passage_ids: tuple[str, ...] = Field(min_length=1, description="The passages that it was written for, all needed.")
    split: Split = Field(description="The split of the passages' document or section.")
    style: str = Field(min_length=1, description="Name of the template, as keyword; offline: sentence or heading.")
    generator: Generator = Field(description="chat: a model wrote it. inverse_cloze: taken from the passage itself.")
    model: str = Field("", description="The chat model's name; empty offline.")
    template: str = Field("", description="First 12 digits of the template's sha256; empty offline.")
    seed: int = Field(0, description="Seed of the call or of the draw.")
    answerable: float | None = Field(None, description="The judge's grade, 0 to 1; None where nobody judged.")
    rank: int | None = Field(None, description="Worst rank of its passages in the round trip; None where not asked.")


def write_questions(questions: Iterable[SyntheticQuestion], path: Path) -> None:
    """Write one JSON object a line, sorted by id; equal questions give equal bytes."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for question in sorted(questions, key=lambda one: one.id):
            file.write(json.dumps(question.model_dump(mode="json"), ensure_ascii=False) + "\n")


def read_questions(path: Path) -> tuple[SyntheticQuestion, ...]:
    """The questions of a file, in its order.

    Raises:
        ValueError: a line is no question; names line and field.
    """
    return tuple(read_lines(path, SyntheticQuestion, "synthetic_qa"))
