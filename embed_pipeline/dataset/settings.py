"""dataset.yaml: which files make a data set, which columns count, how it is split, what is compared on it.

Belongs here: the settings and the file they come from. Does not belong here: the raw files that they name (raw_files).
"""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from embed_pipeline.records import SPLITS, Split, StoreKind
from embed_pipeline.settings_file import describe_problems, join_problems, read_mapping

SETTINGS_FILE = "dataset.yaml"
NULL_VALUES = ("nan", "NaN", "None", "NULL", "null", "<NA>", "NaT", "#N/A")
"""What other tools write for nothing: pandas, Python, databases, Excel."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\]+$")]
Header = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Separator = Annotated[str, StringConstraints(min_length=1)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


class ColumnSettings(BaseModel):
    """The headers of the columns that are read; every other column is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Header = Field(description="Header of the column with the question.")
    labels: tuple[Header, ...] = Field(min_length=1, description="Headers of the label columns; cells may be empty.")
    slices: tuple[Header, ...] = Field((), description="Headers of columns by whose values the results are sliced.")
    header_row: int | None = Field(None, ge=1, description="Row of the header; left out: the first that has them all.")
    label_separators: tuple[Separator, ...] = Field(
        (),
        description='What stands between several labels in one cell, as ["、", ";", "\\n"]; a label that holds one '
        "and is in the list stays whole.",
    )

    @model_validator(mode="after")
    def _headers_differ(self) -> Self:
        _refuse_repeated("columns", (self.question, *self.labels, *self.slices))
        return self


class TableColumns(BaseModel):
    """How a question/context table or a file of tuples is read, and which headers hold what; None is not there."""

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
    sheet: str | None = Field(
        default=None,
        min_length=1,
        description="xlsx: sheet to read; left out: the first visible one that has the columns.",
    )
    header_row: int | None = Field(
        default=None, ge=1, description="Row of the header, from 1; left out: what looks like one."
    )
    encoding: str | None = Field(
        default=None, description="csv: its encoding; left out: by its mark, UTF-8, or a guess."
    )
    passage_separators: tuple[Separator, ...] = Field(
        default=(), description='What stands between several passages (labels) in one cell, as ["、", "\\n"].'
    )
    null_values: tuple[str, ...] = Field(
        default=NULL_VALUES, description="Cells with exactly this text are empty; [] where they are words."
    )

    @field_validator("query", "passage", "negative", "id", "passage_id", "split", "grade", "attributes")
    @classmethod
    def _headers_are_composed(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        """As headers are read: macOS writes é as two letters."""
        if isinstance(value, tuple):
            return tuple(unicodedata.normalize("NFC", name) for name in value)
        return value and unicodedata.normalize("NFC", value)


class PairsFile(BaseModel):
    """One file of questions, passages and which belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: FileName = Field(description="Its name; any of the formats in docs/datasets.md.")
    split: Split | None = Field(None, description="Where its queries go; left out: by the hash, as `split` says.")
    language: Language | None = Field(None, description="ISO 639 code of its queries and passages, if files differ.")
    format: str | None = Field(None, description="What the file is written in; left out: what it looks like.")
    columns: TableColumns | None = Field(None, description="Which columns of a table hold what.")


class SplitSettings(BaseModel):
    """Shares of the splits and the seed of the hash that decides them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(gt=0, lt=1, description="Share of the queries that train the encoder.")
    validation: float = Field(gt=0, lt=1, description="Share of the queries to choose settings by.")
    test: float = Field(
        ge=0, lt=1, description="Share of the queries that the metrics table is measured on; 0 where files name theirs."
    )
    seed: int = Field(0, ge=0, description="Another seed gives another split of every query.")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, they are {total:.6g}")
        return self


class DatasetSettings(BaseModel):
    """One data set: what it is, its files, its columns, its split and the variants compared on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = Field(min_length=1, description="One line for the reader of the metrics table.")
    language: Language = Field("zh", description="ISO 639 code; decides how BM25 finds words.")
    workbooks: tuple[FileName, ...] = Field(
        (), description="File names or patterns (*.xlsx), read in this order, inside a pattern by name."
    )
    sheet: str | None = Field(None, min_length=1, description="Sheet to read; left out: the first visible one.")
    columns: ColumnSettings | None = Field(None, description="Headers of the question and label columns.")
    label_list: FileName | None = Field(
        None,
        description="Text file with every label, one a line, behind a tab what it means; # is a comment. "
        "pairs: left out, the labels are those of the files.",
    )
    pairs: tuple[PairsFile, ...] = Field((), description="Files of question-passage pairs, instead of workbooks.")
    documents: Mapping[str, Any] | None = Field(
        None, description="Documents to cut into passages, instead of workbooks; fields: docs/documents.md."
    )
    synthesis: Mapping[str, Any] | None = Field(
        None, description="documents: how questions are written for the passages; fields: docs/documents.md."
    )
    parallel_languages: bool = Field(
        False, description="pairs: an id means the same text in every language; a passage answers in all of them."
    )
    evaluation_only: bool = Field(False, description="Every query is a test query; nothing is trained on this set.")
    split: SplitSettings | None = Field(None, description="Shares of train, validation and test, and the seed.")
    automation: Literal["off", "cheap", "all"] = Field(
        "cheap", description="What the sensor runs by itself; cheap: all but what trains or asks a hosted model."
    )
    near_duplicate_threshold: float = Field(
        0.85, gt=0, le=1, description="Questions whose character 3-grams overlap this much (Jaccard) share a split."
    )
    variants: tuple[Name, ...] = Field((), description="Recipes compared on this data set.")
    variants_on_request: tuple[Name, ...] = Field(
        (),
        description="Recipes that take long: compared as well where they are asked for (run --on-request).",
    )
    store: StoreKind | None = Field(
        None,
        description="Where production asks the vectors of its dense variants, unless a recipe's index.store says so.",
    )
    baseline: Name | None = Field(None, description="What all variants are compared with; default: the first.")
    headline: str = Field(
        "precise@5", pattern=r"^[a-z_]+@[1-9][0-9]*$", description="The measure that verdicts are read on."
    )
    answer_precision: float = Field(
        0.9, gt=0, lt=1, description="How often the first hit should be right where the calibrated score says: answer."
    )
    general_suite: tuple[Name, ...] = Field((), description="Data sets that every variant is measured on as well.")
    general_loss_limit: float = Field(
        0.02,
        ge=0,
        le=1,
        description="nDCG@10 that training may lose on a general suite; past it a check fails.",
    )

    promotion_loss_limit: float = Field(
        0.005,
        ge=0,
        le=1,
        description="nDCG@10 that the checkpoint users are told to take may lose on any general suite.",
    )

    @property
    def expected_splits(self) -> tuple[Split, ...]:
        """The splits that must not be empty: all, or those that the files of pairs name."""
        if self.evaluation_only:
            return ("test",)
        named = {entry.split for entry in self.pairs}
        return SPLITS if not self.pairs or None in named else tuple(split for split in SPLITS if split in named)

    @property
    def source(self) -> Literal["workbooks", "pairs", "documents"]:
        """Which kind of raw files the data set is made of."""
        if self.documents is not None:
            return "documents"
        return "workbooks" if self.workbooks else "pairs"

    def all_variants(self, *, on_request: bool) -> tuple[str, ...]:
        """The recipes in order, with those on request behind the others if they are asked for."""
        return (*self.variants, *self.variants_on_request) if on_request else self.variants

    @property
    def baseline_variant(self) -> str | None:
        """The named baseline, else the first variant; None where nothing is compared."""
        return self.baseline or next(iter(self.variants), None)

    @model_validator(mode="after")
    def _lists_are_unique(self) -> Self:
        _refuse_repeated("variants and variants_on_request", (*self.variants, *self.variants_on_request))
        _refuse_repeated("workbooks", self.workbooks)
        _refuse_repeated("pairs", tuple(entry.file for entry in self.pairs))
        _refuse_repeated("general_suite", self.general_suite)
        return self

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        if [bool(self.workbooks), bool(self.pairs), self.documents is not None].count(True) != 1:
            raise ValueError("name the files as workbooks, as pairs or as documents, one of them")
        if self.synthesis is not None and self.documents is None:
            raise ValueError("synthesis belongs to documents; remove it")
        if self.workbooks and (self.columns is None or self.label_list is None):
            raise ValueError("workbooks need columns and label_list")
        if not self.workbooks and (self.columns or self.sheet):
            raise ValueError("columns and sheet belong to workbooks; remove them")
        if self.documents is not None and self.label_list:
            raise ValueError("label_list belongs to workbooks and pairs; remove it")
        if self.parallel_languages and not all(entry.language for entry in self.pairs):
            raise ValueError("parallel_languages needs a language for every file of pairs")
        if self.evaluation_only and any(entry.split not in (None, "test") for entry in self.pairs):
            raise ValueError("an evaluation_only data set has test queries only; correct or remove the splits of pairs")
        # Questions for documents are split by their documents, as synthesis says.
        hashed = self.documents is None and not (self.pairs and all(entry.split for entry in self.pairs))
        if self.split is None and hashed and not self.evaluation_only:
            raise ValueError("expected split (train, validation, test), found none")
        if self.split and self.split.test == 0 and all(entry.split != "test" for entry in self.pairs):
            raise ValueError("split, test: expected a share above 0 or a file of pairs with split: test, found neither")
        if self.baseline is not None and self.baseline not in self.variants:
            raise ValueError(f"baseline must be one of the variants {', '.join(self.variants)}, found {self.baseline}")
        if not self.variants and not self.evaluation_only:
            raise ValueError("variants must name at least one recipe")
        return self


def read_dataset_settings(directory: Path) -> DatasetSettings:
    """The settings in a data set's dataset.yaml.

    Raises:
        ValueError: the folder's name is no data set name, the file is missing or no YAML mapping, or a field is
            unknown, missing or out of range; the message names file, field, what was expected and found.
    """
    path = directory / SETTINGS_FILE
    if not re.fullmatch(r"[a-z0-9_]+", directory.name):
        raise ValueError(
            f"{directory}: the folder's name is the data set's name and must consist of a-z, 0-9 and _, found "
            f"{directory.name!r}. Rename the folder."
        )
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Every data set needs one; copy another data set's and edit it.")
    content = read_mapping(path)
    try:
        return DatasetSettings.model_validate(content)
    except ValidationError as error:
        lines = [f"{path}, {line}" for line in describe_problems(error, DatasetSettings)]
        raise ValueError(join_problems(lines)) from error


Setting = TypeVar("Setting")


def required(setting: Setting | None, field: str) -> Setting:
    """A setting that the caller cannot do without.

    Raises:
        ValueError: dataset.yaml leaves it out.
    """
    if setting is None:
        raise ValueError(f"{SETTINGS_FILE}: expected {field}, found none. Add it.")
    return setting


def _refuse_repeated(field: str, values: tuple[str, ...]) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{field} must differ from each other, {', '.join(map(repr, repeated))} is there twice")
