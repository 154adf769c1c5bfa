"""dataset.yaml: which workbooks make a data set, which columns count, how it is split.

Belongs here: the settings, the file they come from and the files they name. Does not belong here: reading a workbook.
"""

import fnmatch
import re
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from embed_pipeline.dataset.nearest import nearest_text

SETTINGS_FILE = "dataset.yaml"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\]+$")]
Header = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class ColumnSettings(BaseModel):
    """The headers of the columns that are read; every other column is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Header = Field(description="Header of the column with the question.")
    labels: tuple[Header, ...] = Field(min_length=1, description="Headers of the label columns; cells may be empty.")

    @model_validator(mode="after")
    def _headers_differ(self) -> Self:
        _refuse_repeated("columns", (self.question, *self.labels))
        return self


class SplitSettings(BaseModel):
    """Shares of the splits and the seed of the hash that decides them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(gt=0, lt=1, description="Share of the queries that train the encoder.")
    validation: float = Field(gt=0, lt=1, description="Share of the queries to choose settings by.")
    test: float = Field(gt=0, lt=1, description="Share of the queries that the metrics table is measured on.")
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
    language: str = Field("zh", pattern=r"^[a-z]{2,3}$", description="ISO 639 code; decides how BM25 finds words.")
    workbooks: tuple[FileName, ...] = Field(
        min_length=1, description="File names or patterns (*.xlsx), read in this order, inside a pattern by name."
    )
    sheet: str | None = Field(None, min_length=1, description="Sheet to read; left out: the first visible one.")
    columns: ColumnSettings = Field(description="Headers of the question and label columns.")
    label_list: FileName = Field(description="Text file with every label, one a line; # starts a comment line.")
    split: SplitSettings = Field(description="Shares of train, validation and test, and the seed.")
    near_duplicate_threshold: float = Field(
        0.85, gt=0, le=1, description="Questions whose character 3-grams overlap this much (Jaccard) share a split."
    )
    variants: tuple[Name, ...] = Field(min_length=1, description="Recipes compared on this data set.")

    @model_validator(mode="after")
    def _lists_are_unique(self) -> Self:
        _refuse_repeated("variants", self.variants)
        _refuse_repeated("workbooks", self.workbooks)
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
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected YAML in UTF-8: {error}. Correct the file.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping of settings, found {type(content).__name__}. Correct the file.")
    try:
        return DatasetSettings.model_validate(content)
    except ValidationError as error:
        raise ValueError("\n".join(_describe_errors(path, error))) from error


def workbook_paths(directory: Path, settings: DatasetSettings) -> tuple[Path, ...]:
    """The workbooks of a data set in reading order, each once, at its first match.

    Subfolders, hidden files and Excel's lock files (~$...) are never matched. A pattern may match nothing as long as
    another one does; a plain file name must exist.

    Raises:
        ValueError: a named workbook is missing, or there is none at all.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such folder. Create it and put {SETTINGS_FILE} and the workbooks there.")
    names = sorted(p.name for p in directory.iterdir() if p.is_file() and not p.name.startswith((".", "~$")))
    found: dict[str, None] = {}
    for entry in settings.workbooks:
        # A downloaded "export[1].xlsx" is a name, though it reads like a pattern.
        matches = [entry] if entry in names else [name for name in names if fnmatch.fnmatchcase(name, entry)]
        if not matches and not any(character in entry for character in "*?["):
            nearest = nearest_text(entry, names)
            hint = f" Nearest name there: {nearest.text!r}." if nearest else ""
            raise ValueError(
                f"{directory / SETTINGS_FILE}, workbooks: no file {entry!r} in the folder.{hint} "
                "Put the file there or correct the name."
            )
        found.update(dict.fromkeys(matches))
    if not found:
        raise ValueError(
            f"{directory / SETTINGS_FILE}, workbooks: nothing in the folder matches {list(settings.workbooks)}, found "
            f"{names}. Put a workbook there or correct the pattern."
        )
    return tuple(directory / name for name in found)


def _refuse_repeated(field: str, values: tuple[str, ...]) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{field} must differ from each other, {', '.join(map(repr, repeated))} is there twice")


def _describe_errors(path: Path, error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "settings"
        if item["type"] == "missing":
            lines.append(f"{path}, {field}: expected a value, found none. Add the field.")
        elif item["type"] == "extra_forbidden":
            lines.append(f"{path}, {field}: no such field.{_nearest_field(item['loc'])} Remove or rename it.")
        elif item["type"] == "value_error":
            lines.append(f"{path}, {field}: {item['msg'].removeprefix('Value error, ')}. Correct it.")
        else:
            expected = item["msg"].removeprefix("Input should be ").removeprefix("String should ")
            lines.append(f"{path}, {field}: expected {expected}, found {item['input']!r}. Correct it.")
    return lines


def _nearest_field(location: tuple[int | str, ...]) -> str:
    models: dict[tuple[int | str, ...], type[BaseModel]] = {
        (): DatasetSettings,
        ("columns",): ColumnSettings,
        ("split",): SplitSettings,
    }
    known = list(models[location[:-1]].model_fields)
    nearest = nearest_text(str(location[-1]), known)
    return f" Nearest: {nearest.text!r}." if nearest else f" Known: {', '.join(known)}."
