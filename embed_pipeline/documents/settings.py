"""The field `documents` of dataset.yaml: which files, what they may cost, and how they are cut into passages.

Belongs here: DocumentSettings, ReadingLimits. Does not belong here: how questions are written (synthesis).
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from embed_pipeline.paths import check_relative

FilePattern = Annotated[str, StringConstraints(pattern=r"^[^/\\]+(/[^/\\]+)*$"), AfterValidator(check_relative)]


class ReadingLimits(BaseModel):
    """How large a file may be; a larger one is left out by name and the others are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_megabytes: int = Field(default=200, ge=1, description="Largest file, in millions of bytes.")
    unpacked_megabytes: int = Field(
        default=300, ge=1, description="The most that the parts of a docx may hold once unpacked, in millions of bytes."
    )
    archive_entries: int = Field(default=10_000, ge=1, description="The most parts of a docx.")


class DocumentSettings(BaseModel):
    """Which documents make the corpus, and what a passage is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[FilePattern, ...] = Field(
        min_length=1,
        description="Files below the data set's folder: names or patterns, as contracts/*.pdf or **/*.md; pdf, docx, "
        "html, md and txt.",
    )
    cut: Literal["section", "article"] = Field(
        "section",
        description="section: a passage never crosses a heading. article: as section, and every article of a statute "
        "(第…条, Article 3, § 7) begins a passage.",
    )
    passage_tokens: int = Field(256, ge=16, description="Longest passage, in tokens of the encoder.")
    overlap_tokens: int = Field(
        0, ge=0, description="Whole sentences up to so many tokens are repeated at the start of the next passage."
    )
    heading_in_text: bool = Field(False, description="Put the path of headings before the text of every passage.")
    limits: ReadingLimits = Field(
        default=ReadingLimits(), description="How large a file may be; larger ones are left out by name."
    )
    encoder: str | None = Field(
        None,
        description="The variant whose tokenizer counts; left out: the first of the data set with a local encoder, "
        "else the bundled one.",
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap_tokens > self.passage_tokens // 2:
            raise ValueError(
                f"overlap_tokens must be at most half of passage_tokens ({self.passage_tokens}), found "
                f"{self.overlap_tokens}"
            )
        return self
