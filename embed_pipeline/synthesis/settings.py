"""The field `synthesis` of dataset.yaml: who writes questions for the passages, and which of them are kept.

Belongs here: SynthesisSettings. Does not belong here: the address and limits of a chat model (chat).
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from embed_pipeline.dataset.settings import Language, Name, SplitSettings
from embed_pipeline.synthesis.chat import ChatSettings
from embed_pipeline.synthesis.questions import Generator

JUDGE = "judge"
"""The name of the judge's template, which is no style."""

SplitBy = Literal["auto", "document", "section"]
FolderName = Annotated[str, StringConstraints(pattern=r"^[^/\\.][^/\\]*(/[^/\\.][^/\\]*)*$")]


class RoundTripSettings(BaseModel):
    """The search that must find a question's own passages again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Name = Field("bm25", description="Recipe that searches; one without training.")
    top_k: int = Field(10, ge=1, description="Every passage of the question must be among so many hits.")


class SynthesisSettings(BaseModel):
    """How questions are written for passages, filtered and split; the defaults need no chat model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: Generator = Field(
        "inverse_cloze", description="inverse_cloze: sentences and headings of the passages. chat: a model writes them."
    )
    chat: ChatSettings | None = Field(None, description="The model that writes; asked only by the generator chat.")
    judge: ChatSettings | None = Field(
        None, description="The model that says whether a passage answers a question; left out: the one that writes."
    )
    questions_per_passage: int = Field(1, ge=1, le=20, description="Questions of each style for one passage.")
    styles: tuple[Name, ...] = Field(
        ("question", "keyword", "colloquial"),
        min_length=1,
        description="chat: templates to write with; shipped: question, keyword, colloquial, multi_hop.",
    )
    templates: FolderName | None = Field(
        None, description="Folder below the data set's: its <language>/<style>.txt go before the shipped templates."
    )
    language: Language | None = Field(
        None, description="ISO 639 code that questions are written in; left out: the data set's."
    )
    max_passages: int | None = Field(
        None, ge=3, description="Ask about so many passages at most, drawn with the seed; all stay in the corpus."
    )
    answerable_threshold: float | None = Field(
        0.7, ge=0, le=1, description="Lowest grade of the judge that a question may have; null: nobody judges."
    )
    copied_share: float = Field(
        0.8, gt=0, le=1, description="chat: share of a question that may not stand in its passage word for word."
    )
    near_duplicate_threshold: float = Field(
        0.85, gt=0, le=1, description="Of questions whose character 3-grams overlap this much (Jaccard), one is kept."
    )
    round_trip: RoundTripSettings | None = Field(
        RoundTripSettings.model_validate({}), description="Search that must find the passages; null: no such filter."
    )
    split: SplitSettings = Field(
        SplitSettings(train=0.6, validation=0.2, test=0.2, seed=0),
        description="Shares of train, validation and test among documents or sections, and the seed.",
    )
    split_by: SplitBy = Field(
        "auto", description="What stays in one split; auto: the document, below 10 documents the section."
    )
    seed: int = Field(0, ge=0, description="Seed of the calls and of every draw.")

    @model_validator(mode="after")
    def _styles_are_styles(self) -> Self:
        repeated = sorted({style for style in self.styles if self.styles.count(style) > 1})
        if repeated:
            raise ValueError(f"styles must differ from each other, {', '.join(repeated)} is there twice")
        if JUDGE in self.styles:
            raise ValueError(f"{JUDGE} is the template of the judge and no style; remove it from styles")
        return self

    @model_validator(mode="after")
    def _somebody_writes(self) -> Self:
        if self.generator == "chat" and self.chat is None:
            raise ValueError("the generator chat needs the settings of a model in chat; found none")
        if self.split.test == 0:
            raise ValueError("split, test: expected a share above 0, found 0; nothing would be measured")
        return self
