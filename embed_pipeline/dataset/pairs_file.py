"""One file of question-passage pairs, as other tools write it: queries, corpus, relevant_docs in a JSON object.

Belongs here: what every such file holds, and the layout of the JSON object. Does not belong here: what becomes of its
content (pairs), other layouts (exchange).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from embed_pipeline.dataset.raw_text import parse_json, read_bytes
from embed_pipeline.records import SPLITS, Split

REFERENCE_ANSWER = "reference_answer"
"""The attribute that holds a query's reference answer: kept when files are converted, never sliced by."""

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "训练": "train",
    "训练集": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "验证": "validation",
    "验证集": "validation",
    "test": "test",
    "testing": "test",
    "测试": "test",
    "测试集": "test",
}
"""How other tools and people name the splits."""


@dataclass(frozen=True, slots=True)
class PairsContent:
    """A file's texts by id, passage id → grade per query id, attributes and splits by id; in the file's order.

    A query that `splits` leaves out has no split in the file. `notes` says what was read but has no place here.
    """

    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, int]]
    attributes: Mapping[str, Mapping[str, str]]
    passage_attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    splits: Mapping[str, Split] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_pairs_file(path: Path) -> PairsContent:
    """The content of `{"queries": {id: text}, "corpus": {id: text}, "relevant_docs": {query id: [passage id]}}`.

    A query's relevant_docs may also be {passage id: grade}. Optional keys: `negative_docs` {query id: [passage id]}
    (grade 0), `reference_answers` {query id: text}, `query_splits` {query id: split}, `query_attributes` and
    `passage_attributes` {id: {name: value}}. Other keys are ignored. A name that ends in .gz is unpacked.

    Raises:
        ValueError: the file is no JSON object, a key is missing or of another shape; names file, key and id.
    """
    found = load_json_object(path)
    missing = [key for key in ("queries", "corpus", "relevant_docs") if key not in found]
    if missing:
        raise ValueError(
            f"{path}: expected queries, corpus and relevant_docs, found {sorted(found)}. Add {missing[0]}."
        )
    relevant = {
        query: _grades(path, "relevant_docs", query, judged, 1)
        for query, judged in _mapping(path, "relevant_docs", found["relevant_docs"]).items()
    }
    for query, judged in _mapping(path, "negative_docs", found.get("negative_docs", {})).items():
        negative = _grades(path, "negative_docs", query, judged, 0)
        contradicted = sorted(set(negative) & set(relevant.get(query, {})))
        if contradicted or any(negative.values()):
            what = contradicted[0] if contradicted else f"grades {negative}"
            raise ValueError(
                f"{path}, negative_docs, {query}: expected passages that relevant_docs does not name, of grade 0, "
                f"found {what}. Correct one of them."
            )
        relevant[query] = {**relevant.get(query, {}), **negative}
    attributes = _attributes(path, "query_attributes", found)
    for query, answer in texts_by_id(path, "reference_answers", found.get("reference_answers", {})).items():
        attributes[query] = {**attributes.get(query, {}), REFERENCE_ANSWER: answer}
    splits = texts_by_id(path, "query_splits", found.get("query_splits", {}))
    for query, split in splits.items():
        if split not in SPLITS:
            raise ValueError(
                f"{path}, query_splits, {query}: expected {', '.join(SPLITS)}, found {split!r}. Correct the file."
            )
    queries = texts_by_id(path, "queries", found["queries"])
    unknown = sum(query not in queries for query in {*relevant, *splits, *attributes})
    return PairsContent(
        queries=queries,
        corpus=texts_by_id(path, "corpus", found["corpus"]),
        relevant={query: judged for query, judged in relevant.items() if query in queries},
        attributes={query: values for query, values in attributes.items() if query in queries},
        passage_attributes=_attributes(path, "passage_attributes", found),
        splits=cast("dict[str, Split]", {query: split for query, split in splits.items() if query in queries}),
        notes=(f"{unknown} ids of queries are named that `queries` does not have",) if unknown else (),
    )


def load_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; a name that ends in .gz is unpacked.

    Raises:
        NotOneJsonValue: what is in the file is no JSON value, perhaps several, one a line.
        ValueError: the file cannot be read, is no JSON object, or has a key twice with different values.
    """
    found = parse_json(read_bytes(path), str(path))
    if not isinstance(found, dict):
        raise ValueError(
            f"{path}: expected queries, corpus and relevant_docs, found {type(found).__name__}. Correct it."
        )
    return found


def _attributes(path: Path, key: str, found: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    values = _mapping(path, key, found.get(key, {}))
    return {name: texts_by_id(path, f"{key}, {name}", value) for name, value in values.items()}


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}, {key}: expected an object by id, found {type(value).__name__}. Correct the file.")
    return value


def texts_by_id(path: Path, key: str, value: Any) -> dict[str, str]:
    """The value itself. Raises ValueError, naming file, key and id, where it is no object of texts."""
    for name, text in _mapping(path, key, value).items():
        if not isinstance(text, str):
            raise ValueError(f"{path}, {key}, {name}: expected text, found {text!r}. Correct the file.")
    return value


def parse_grade(value: object) -> int | None:
    """The whole number that a grade is, as number or text (`1.0` is 1), None where it is none; below 0 is -1.

    TREC's judges write -1 and -2 for junk: judged, and not relevant. Whoever reads it takes it for 0 and says so.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        return None
    return max(int(value), -1)


def parse_grade_cell(text: str) -> int | None:
    """As `parse_grade`, of a table's cell: true is 1 and false 0."""
    return {"true": 1, "false": 0}.get(text.strip().lower(), parse_grade(text))


def _grades(path: Path, key: str, query: str, judged: Any, grade: Literal[0, 1]) -> dict[str, int]:
    is_list = isinstance(judged, list) and all(isinstance(p, str) for p in judged)
    grades = dict.fromkeys(judged, grade) if is_list else judged
    if isinstance(grades, dict):
        grades = {passage: None if isinstance(value, str) else parse_grade(value) for passage, value in grades.items()}
    if not isinstance(grades, dict) or not all(value is not None and value >= 0 for value in grades.values()):
        raise ValueError(
            f"{path}, {key}, {query}: expected a list of passage ids or grades from 0 by passage id, found "
            f"{judged!r}. Correct the file."
        )
    return {passage: value for passage, value in grades.items() if value is not None}
