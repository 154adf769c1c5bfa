"""One file of question-passage pairs, as other tools write it: queries, corpus, relevant_docs in a JSON object.

Belongs here: the file's layout. Does not belong here: what becomes of its content (pairs).
"""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class PairsContent:
    """A file's texts by id, passage id → grade per query id, and attributes per query id; in the file's order."""

    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, int]]
    attributes: Mapping[str, Mapping[str, str]]


def read_pairs_file(path: Path) -> PairsContent:
    """The content of `{"queries": {id: text}, "corpus": {id: text}, "relevant_docs": {query id: [passage id]}}`.

    A query's relevant_docs may also be {passage id: grade}. The key `query_attributes` is optional: {query id: {name:
    value}}. Other keys are ignored. A name that ends in .gz is unpacked.

    Raises:
        ValueError: the file is no JSON object, a key is missing or of another shape; names file, key and id.
    """
    try:
        data = path.read_bytes()
        found = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError, ValueError) as error:  # ValueError: JSON and UTF-8
        raise ValueError(f"{path}: expected a JSON object in UTF-8: {error}. Write the file again.") from error
    missing = [key for key in ("queries", "corpus", "relevant_docs") if not isinstance(found, dict) or key not in found]
    if missing:
        keys = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path}: expected queries, corpus and relevant_docs, found {keys}. Add {missing[0]}.")
    return PairsContent(
        queries=_texts(path, "queries", found["queries"]),
        corpus=_texts(path, "corpus", found["corpus"]),
        relevant={
            query: _grades(path, query, judged)
            for query, judged in _mapping(path, "relevant_docs", found["relevant_docs"]).items()
        },
        attributes={
            query: _texts(path, f"query_attributes, {query}", values)
            for query, values in _mapping(path, "query_attributes", found.get("query_attributes", {})).items()
        },
    )


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}, {key}: expected an object by id, found {type(value).__name__}. Correct the file.")
    return value


def _texts(path: Path, key: str, value: Any) -> dict[str, str]:
    for name, text in _mapping(path, key, value).items():
        if not isinstance(text, str):
            raise ValueError(f"{path}, {key}, {name}: expected text, found {text!r}. Correct the file.")
    return value


def _grades(path: Path, query: str, judged: Any) -> dict[str, int]:
    grades = (
        dict.fromkeys(judged, 1) if isinstance(judged, list) and all(isinstance(p, str) for p in judged) else judged
    )
    if not isinstance(grades, dict) or not all(type(grade) is int and grade >= 0 for grade in grades.values()):
        raise ValueError(
            f"{path}, relevant_docs, {query}: expected a list of passage ids or grades from 0 by passage id, found "
            f"{judged!r}. Correct the file."
        )
    return grades
