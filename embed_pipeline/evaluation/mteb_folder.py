"""Task folders: mteb tasks from local files.

Belongs here: task.yaml, the fields of a data file's row, each checked and named in its error, and which rows each type
of task needs. Does not belong here: handing the data to mteb (mteb_tasks).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embed_pipeline.evaluation.mteb_tasks import (
    RankingContent,
    RowContent,
    TaskType,
    build_task,
    check_mteb_is_installed,
)
from embed_pipeline.settings_file import describe_problems, join_problems, read_mapping

if TYPE_CHECKING:
    from mteb import AbsTask

TASK_FILE = "task.yaml"


class LocalTaskSettings(BaseModel):
    """The content of task.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The task's name in the results, where a file is called after it.")
    type: TaskType = Field(description="Which of mteb's tasks the data is for.")
    language: str | tuple[str, ...] = Field(description="ISO 639 codes of the texts: en, eng, zho-Hans; [] if unknown.")
    main_score: str | None = Field(default=None, description="The score that stands for the task, else mteb's choice.")


def read_local_task(folder: Path) -> "AbsTask":
    """The mteb task in a folder: task.yaml (see LocalTaskSettings) and these files, each as .jsonl or .parquet.

    retrieval: queries (id, text), corpus (id, text, title if there is one), qrels (query-id, corpus-id, score: a whole
    number, 0 is judged irrelevant). Queries without a relevant document are left out.
    reranking: the same, and top_ranked (query-id, corpus-ids: the candidates), a row for each of these queries.
    classification: train and test (text, label: text or whole number). A classifier over the vectors learns train.
    clustering: test (sentences: one text; labels: text or whole number).
    pair_classification: test (sentence1, sentence2, labels: 1 they belong together, 0 not).
    sts: test (sentence1, sentence2, score: higher is more similar).

    Other columns are ignored; the score is of the split test. Nothing is fetched.

    Raises:
        ValueError: mteb is not installed, a file is missing or malformed (names file, line and field), an id is unknown
            or there twice, or the labels or scores are all the same.
    """
    check_mteb_is_installed()
    settings = _read_settings(folder / TASK_FILE)
    languages = (settings.language,) if isinstance(settings.language, str) else settings.language
    content = read_content(folder, settings.type)
    try:
        return build_task(settings.type, settings.name, content, languages=languages, main_score=settings.main_score)
    except ValueError as error:
        raise ValueError(f"{folder / TASK_FILE}: {error}") from error


def read_local_tasks(folder: Path) -> tuple["AbsTask", ...]:
    """The task of a folder that holds task.yaml, else the tasks of all folders in it that do, sorted by path.

    Raises:
        ValueError: there is none, or one is malformed.
    """
    found = (
        [folder] if (folder / TASK_FILE).is_file() else sorted(path.parent for path in folder.glob(f"*/{TASK_FILE}"))
    )
    if not found:
        raise ValueError(f"{folder}: expected {TASK_FILE} in it or in its folders, found none. Add task folders.")
    return tuple(read_local_task(path) for path in found)


def _read_settings(path: Path) -> LocalTaskSettings:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a task folder needs one. Write name, type and language into it.")
    try:
        return LocalTaskSettings.model_validate(read_mapping(path))
    except ValidationError as error:
        lines = [f"{path}: {line}" for line in describe_problems(error, LocalTaskSettings)]
        raise ValueError(join_problems(lines)) from error


Label = str | int


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands; each method returns a field of the wanted kind or raises ValueError naming both."""

    place: str
    values: Mapping[str, Any]

    def text(self, field: str) -> str:
        """Text that is not blank."""
        value = self.values.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, "text that is not empty", value)
        return value

    def text_or_empty(self, field: str) -> str:
        """Text, "" where the field is missing or null."""
        value = self.values.get(field)
        if value is not None and not isinstance(value, str):
            raise self.wrong(field, "text", value)
        return value or ""

    def identifier(self, field: str) -> str:
        """Text or a whole number, as text."""
        value = self.values.get(field)
        return str(value) if _is_whole(value) else self.text(field)

    def whole_number(self, field: str) -> int:
        """A whole number, 0 or more."""
        value = self.values.get(field)
        if not _is_number(value) or value != int(value) or value < 0:
            raise self.wrong(field, "a whole number from 0", value)
        return int(value)

    def number(self, field: str) -> float:
        """A finite number."""
        value = self.values.get(field)
        if not _is_number(value):
            raise self.wrong(field, "a number", value)
        return float(value)

    def label(self, field: str) -> Label:
        """Text that is not blank, or a whole number."""
        value = self.values.get(field)
        if _is_whole(value):
            return value
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, "a text or a whole number", value)
        return value

    def identifiers(self, field: str) -> tuple[str, ...]:
        """One or more ids in their order, none twice."""
        value = self.values.get(field)
        ids = value if isinstance(value, list) else []
        if not ids or not all(isinstance(item, str) or _is_whole(item) for item in ids):
            raise self.wrong(field, "a list of ids that is not empty", value)
        if len({str(item) for item in ids}) < len(ids):
            raise self.wrong(field, "every id once", value)
        return tuple(str(item) for item in ids)

    def wrong(self, field: str, expected: str, found: object) -> ValueError:
        """The error of a field, for the caller to raise."""
        shown = repr(found)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
        return ValueError(f"{self.place}: {field} must be {expected}, found {shown}. Correct the row.")


def read_rows(folder: Path, name: str) -> tuple[Row, ...]:
    """The rows of `name`.jsonl or `name`.parquet in their order; blank lines do not count.

    Raises:
        ValueError: none or both of the files are there, a line is no JSON object, or there are no rows.
    """
    found = [path for path in (folder / f"{name}.jsonl", folder / f"{name}.parquet") if path.is_file()]
    if len(found) != 1:
        there = "both" if found else "neither"
        raise ValueError(f"{folder}: expected {name}.jsonl or {name}.parquet, found {there}. Keep one of them there.")
    rows = tuple(_read_lines(found[0]) if found[0].suffix == ".jsonl" else _read_parquet(found[0]))
    if not rows:
        raise ValueError(f"{found[0]}: expected at least one row, found none. Add rows.")
    return rows


def _read_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                values = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{place}: {error}. Correct the line.") from error
            if not isinstance(values, dict):
                raise ValueError(f"{place}: expected an object, found {type(values).__name__}. Correct the line.")
            yield Row(place, values)


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: {error}. Write the file again as parquet.") from error
    for number, values in enumerate(table.to_pylist(), start=1):
        yield Row(f"{path}, row {number}", values)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[int | float]:
    return _is_whole(value) or (isinstance(value, float) and abs(value) < float("inf"))


def read_content(folder: Path, task_type: TaskType) -> RankingContent | RowContent:
    """The data of a task folder; mteb_folder.read_local_task says which files hold which fields.

    Raises:
        ValueError: a file is missing or malformed, an id is unknown or there twice, or all labels or scores are equal.
    """
    if task_type in ("retrieval", "reranking"):
        return _read_ranking(folder, with_candidates=task_type == "reranking")
    test = read_rows(folder, "test")
    if task_type == "classification":
        return _classification(read_rows(folder, "train"), test)
    if task_type == "clustering":
        numbers = _numbered("labels", test)
        return RowContent(
            {"test": [{"sentences": r.text("sentences"), "labels": numbers[r.label("labels")]} for r in test]}
        )
    if task_type == "pair_classification":
        pairs = [_pair(row) | {"labels": _zero_or_one(row)} for row in test]
        _differ([pair["labels"] for pair in pairs], "labels", test)
        return RowContent({"test": pairs})
    scored = [_pair(row) | {"score": row.number("score")} for row in test]
    _differ([pair["score"] for pair in scored], "score", test)
    return RowContent({"test": scored})


def _classification(train: Sequence[Row], test: Sequence[Row]) -> RowContent:
    numbers = _numbered("label", train)
    for row in test:
        if row.label("label") not in numbers:
            raise row.wrong("label", "one of the labels of train", row.label("label"))
    splits = {"train": train, "test": test}
    return RowContent(
        {
            name: [{"text": row.text("text"), "label": numbers[row.label("label")]} for row in rows]
            for name, rows in splits.items()
        }
    )


def _numbered(field: str, rows: Sequence[Row]) -> dict[Label, int]:
    """0, 1, ... for the labels in their order: mteb's own figures want numbers, and for two labels 0 and 1."""
    labels = [row.label(field) for row in rows]
    _differ(labels, field, rows)
    for row in rows:
        if type(row.label(field)) is not type(labels[0]):
            raise row.wrong(field, f"of one kind with the first, {labels[0]!r}", row.label(field))
    return {label: number for number, label in enumerate(sorted(set(labels), key=lambda label: (label,)))}


def _differ(values: Sequence[Label | float], field: str, rows: Sequence[Row]) -> None:
    if len(set(values)) < 2:
        raise ValueError(
            f"{rows[0].place} and on: {field} must have two or more values, found {values[0]!r} only. Add other rows."
        )


def _pair(row: Row) -> dict[str, str | int | float]:
    return {"sentence1": row.text("sentence1"), "sentence2": row.text("sentence2")}


def _zero_or_one(row: Row) -> int:
    if row.whole_number("labels") > 1:
        raise row.wrong("labels", "0 or 1", row.values["labels"])
    return row.whole_number("labels")


def _read_ranking(folder: Path, *, with_candidates: bool) -> RankingContent:
    queries = _by_id({}, read_rows(folder, "queries"))
    documents = _by_id({}, read_rows(folder, "corpus"))
    grades: dict[str, dict[str, int]] = {}
    for row in read_rows(folder, "qrels"):
        of_query = grades.setdefault(_known(row, "query-id", queries), {})
        document = _known(row, "corpus-id", documents)
        if document in of_query:
            raise row.wrong("query-id and corpus-id", "a pair that is there once", [row.values["query-id"], document])
        of_query[document] = row.whole_number("score")
    grades = {id: of_query for id, of_query in grades.items() if any(grade > 0 for grade in of_query.values())}
    if not grades:
        raise ValueError(f"{folder}: expected a row in qrels with a score of 1 or more, found none. Add one.")
    return RankingContent(
        queries=tuple((id, text) for id, text in queries.items() if id in grades),
        documents=tuple(documents.items()),
        grades=grades,
        candidates=_read_candidates(folder, grades, documents) if with_candidates else None,
    )


def _read_candidates(
    folder: Path, grades: dict[str, dict[str, int]], documents: dict[str, str]
) -> dict[str, tuple[str, ...]]:
    candidates: dict[str, tuple[str, ...]] = {}
    rows = read_rows(folder, "top_ranked")
    for row in rows:
        ids = row.identifiers("corpus-ids")
        unknown = [id for id in ids if id not in documents]
        if unknown:
            raise row.wrong("corpus-ids", "ids of the corpus", unknown[0])
        if row.identifier("query-id") in candidates:
            raise row.wrong("query-id", "there once", row.values["query-id"])
        candidates[row.identifier("query-id")] = ids
    missing = sorted(set(grades) - set(candidates))
    if missing:
        raise ValueError(
            f"{rows[0].place} and on: expected a row for query {missing[0]}, found none. Add its candidates."
        )
    return candidates


def _by_id(texts: dict[str, str], rows: Sequence[Row]) -> dict[str, str]:
    for row in rows:
        id = row.identifier("id")
        if id in texts:
            raise row.wrong("id", "there once", id)
        texts[id] = " ".join(part for part in (row.text_or_empty("title"), row.text("text")) if part)
    return texts


def _known(row: Row, field: str, known: dict[str, str]) -> str:
    id = row.identifier(field)
    if id not in known:
        raise row.wrong(field, "an id of the queries" if field == "query-id" else "an id of the corpus", id)
    return id
