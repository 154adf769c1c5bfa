"""The RAG data set in memory and on disk: queries.jsonl, corpus.jsonl, judgments.jsonl.

Belongs here: the three files and their consistency. Does not belong here: how their content came about.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO, TypeVar, overload

import numpy as np
from pydantic import BaseModel, ValidationError

from embed_pipeline.records import SPLITS, Judgment, Passage, Query, Split

QUERIES_FILE = "queries.jsonl"
CORPUS_FILE = "corpus.jsonl"
JUDGMENTS_FILE = "judgments.jsonl"

_READ_AT_ONCE = 1 << 24

Line = TypeVar("Line", bound=BaseModel)
Record = TypeVar("Record", Query, Passage, Judgment)


@dataclass(frozen=True, slots=True)
class RetrievalDataset:
    """Queries and passages sorted by id, judgments by query id, then passage id."""

    queries: tuple[Query, ...]
    passages: tuple[Passage, ...]
    judgments: tuple[Judgment, ...]

    def queries_of(self, split: Split) -> tuple[Query, ...]:
        """The queries of one split, sorted by id."""
        return tuple(query for query in self.queries if query.split == split)

    def relevant(self) -> dict[str, dict[str, int]]:
        """Passage id → grade of every query id, judged irrelevant (grade 0) included; {} for a query without any."""
        grades: dict[str, dict[str, int]] = {query.id: {} for query in self.queries}
        for judgment in self.judgments:
            grades[judgment.query_id][judgment.passage_id] = judgment.grade
        return grades


def build_dataset(
    queries: Iterable[Query], passages: Iterable[Passage], judgments: Iterable[Judgment]
) -> RetrievalDataset:
    """The data set in its one order, whatever order the parts came in.

    Raises:
        ValueError: an id or a (query, passage) pair is there twice, or a judgment names an unknown id.
    """
    dataset = RetrievalDataset(
        queries=tuple(sorted(queries, key=lambda query: query.id)),
        passages=tuple(sorted(passages, key=lambda passage: passage.id)),
        judgments=tuple(sorted(judgments, key=lambda judgment: (judgment.query_id, judgment.passage_id))),
    )
    query_ids = _unique("query id", (query.id for query in dataset.queries))
    passage_ids = _unique("passage id", (passage.id for passage in dataset.passages))
    for one, other in pairwise(dataset.judgments):
        if (one.query_id, one.passage_id) == (other.query_id, other.passage_id):
            pair = f"{one.query_id} {one.passage_id}"
            raise ValueError(f"judgment of {pair} is there twice; expected once. Remove one of them.")
    for judgment in dataset.judgments:
        if judgment.query_id not in query_ids or judgment.passage_id not in passage_ids:
            raise ValueError(f"{judgment}: expected ids of queries and passages of the data set. Add what is missing.")
    return dataset


def write_dataset(dataset: RetrievalDataset, directory: Path) -> None:
    """Write the three files into an existing directory; the same content gives the same bytes, whatever its order.

    Raises:
        ValueError: as `build_dataset`.
    """
    dataset = build_dataset(dataset.queries, dataset.passages, dataset.judgments)
    for name, records in (
        (QUERIES_FILE, dataset.queries),
        (CORPUS_FILE, dataset.passages),
        (JUDGMENTS_FILE, dataset.judgments),
    ):
        with (directory / name).open("w", encoding="utf-8", newline="\n") as file:
            for record in records:
                _write_line(record, file)


def read_dataset(directory: Path) -> RetrievalDataset:
    """The data set in a directory, in its one order.

    Raises:
        ValueError: a file is missing, a line is malformed, an id is there twice or unknown; the message names the line.
    """
    queries = tuple(read_queries(directory / QUERIES_FILE))
    passages = tuple(read_passages(directory / CORPUS_FILE))
    judgments = tuple(read_judgments(directory / JUDGMENTS_FILE))
    try:
        return build_dataset(queries, passages, judgments)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error


def read_queries(path: Path) -> Iterator[Query]:
    """The queries of a file, in its order. Raises ValueError as `read_dataset` does."""
    return _read_records(path, _parse_query)


def read_passages(path: Path) -> Iterator[Passage]:
    """The passages of a file, in its order. Raises ValueError as `read_dataset` does."""
    return _read_records(path, _parse_passage)


class PassageFile(Sequence[Passage]):
    """The passages of a file, each read when it is asked for: memory holds where its line begins, 8 bytes.

    Raises ValueError as `read_dataset` does, when a line is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Passage]:
        return read_passages(self._path)

    @overload
    def __getitem__(self, at: int) -> Passage: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Passage, ...]: ...
    def __getitem__(self, at: int | slice) -> Passage | tuple[Passage, ...]:
        rows = range(len(self))[at]
        if isinstance(rows, range):
            return tuple(self[row] for row in rows)
        with self._path.open("rb") as file:
            file.seek(self._starts[rows])
            return _parse_line(self._path, rows + 1, file.readline(), _parse_passage)

    @cached_property
    def _starts(self) -> np.ndarray:
        """int64 (passages + 1,): where each line begins, and where the last one ends."""
        ends: list[np.ndarray] = [np.zeros(1, dtype=np.int64)]
        at = 0
        with self._path.open("rb") as file:
            while block := file.read(_READ_AT_ONCE):
                ends.append(np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + at + 1)
                at += len(block)
        starts = np.concatenate(ends)
        return starts if starts[-1] == at else np.append(starts, at)  # a last line without its end


def read_judgments(path: Path) -> Iterator[Judgment]:
    """The judgments of a file, in its order. Raises ValueError as `read_dataset` does."""
    return _read_records(path, _parse_judgment)


def write_passage_line(passage: Passage, file: TextIO) -> None:
    """Write one passage as `read_passages` reads it: for a corpus that is too large to be held."""
    _write_line(passage, file)


def read_lines(path: Path, model: type[Line], asset: str) -> Iterator[Line]:
    """The lines of a file that an asset wrote, each as the model says.

    Raises:
        ValueError: a line is something else; names line and field.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield model.model_validate_json(line)
            except ValidationError as error:
                problem = error.errors()[0]
                field = ".".join(map(str, problem["loc"]))
                raise ValueError(
                    f"{path.name}, line {number}{', ' * bool(field)}{field}: {problem['msg']}. Correct the line, or "
                    f"materialise {asset} again."
                ) from error


def _write_line(record: Query | Passage | Judgment, file: TextIO) -> None:
    file.write(json.dumps(_fields(record), ensure_ascii=False) + "\n")


def _read_records(path: Path, parse: Callable[[Mapping[str, Any]], Record]) -> Iterator[Record]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Materialise cleaned_qa again.")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield _parse_line(path, number, line, parse)


def _parse_line(path: Path, number: int, line: bytes, parse: Callable[[Mapping[str, Any]], Record]) -> Record:
    try:
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError(f"expected an object, found {type(found).__name__}")
        return parse(found)
    except ValueError as error:  # JSON and UTF-8 errors are ValueErrors
        raise ValueError(f"{path}, line {number}: {error}. Correct the line.") from error


def _parse_passage(found: Mapping[str, Any]) -> Passage:
    return Passage(_text(found, "id"), _text(found, "text"), _attributes(found))


def _parse_query(found: Mapping[str, Any]) -> Query:
    split = _text(found, "split")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, found {split!r}")
    return Query(_text(found, "id"), _text(found, "text"), split, _attributes(found))


def _parse_judgment(found: Mapping[str, Any]) -> Judgment:
    grade = found.get("grade")
    if type(grade) is not int or grade < 0:
        raise ValueError(f"grade must be a whole number from 0, found {grade!r}")
    return Judgment(_text(found, "query_id"), _text(found, "passage_id"), grade)


def _fields(record: Query | Passage | Judgment) -> dict[str, Any]:
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    if "attributes" in found:  # sorted: the same attributes are the same bytes; left out where there are none
        attributes = dict(sorted(found.pop("attributes").items()))
        found |= {"attributes": attributes} if attributes else {}
    return found


def _attributes(found: Mapping[str, Any]) -> Mapping[str, str]:
    value = found.get("attributes", {})
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(f"attributes must be an object of texts, found {value!r}")
    return value


def _text(found: Mapping[str, Any], field: str) -> str:
    value = found.get(field)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field} must be text that is not empty, found {value!r}")
    return value


def _unique(what: str, ids: Iterable[str]) -> frozenset[str]:
    seen: set[str] = set()
    for identifier in ids:
        if identifier in seen:
            raise ValueError(f"{what} {identifier} is there twice; expected once. Remove one of them.")
        seen.add(identifier)
    return frozenset(seen)
