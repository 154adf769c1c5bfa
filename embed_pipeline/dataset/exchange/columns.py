"""Which columns of a table hold what.

Belongs here: the names, as dataset.yaml gives them. Does not belong here: reading the table (table).
"""

from pydantic import BaseModel, ConfigDict, Field


class TableColumns(BaseModel):
    """Headers of a question/context table or of a file of tuples; what is None is not there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str = Field(default="question", min_length=1, description="Header of the column with the question.")
    passage: str = Field(
        default="context", min_length=1, description="Header of the column with the passage or answer."
    )
    negative: str | None = Field(
        default=None, description="autotrain: header of the column with a passage that is wrong."
    )
    id: str | None = Field(default=None, description="Header of the column with the question's id.")
    passage_id: str | None = Field(default=None, description="Header of the column with the passage's id.")
    split: str | None = Field(default=None, description="Header of the column with train, validation or test.")
    grade: str | None = Field(
        default=None, description="Header of the column with a whole number; 0 is judged irrelevant."
    )
    attributes: tuple[str, ...] = Field(default=(), description="Headers by whose values the results are sliced.")
