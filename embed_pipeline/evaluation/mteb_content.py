"""The data files of a task folder, read into what mteb's type of task wants.

Belongs here: which rows each type needs and how they fit together. Does not belong here: one field of a row
(mteb_rows), task.yaml (mteb_folder).
"""

from collections.abc import Sequence
from pathlib import Path

from embed_pipeline.evaluation.mteb_rows import Label, Row, read_rows
from embed_pipeline.evaluation.mteb_tasks import RankingContent, RowContent
from embed_pipeline.evaluation.mteb_types import TaskType


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
