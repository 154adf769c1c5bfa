"""A task folder is read as documented, and an error says where, what was expected and what was found."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from embed_pipeline.evaluation.mteb_folder import read_local_task, read_local_tasks
from embed_pipeline_tests.evaluation.mteb_data import TYPES, write_rows, write_task


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("type", TYPES)
def test_parquet_and_json_lines_are_the_same_task(tmp_path: Path, type: str) -> None:
    folder = write_task(tmp_path, type)
    from_lines = read_local_task(folder).metadata
    for path in sorted(folder.glob("*.jsonl")):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_rows(path)), path.with_suffix(".parquet"))
        path.unlink()
    assert read_local_task(folder).metadata == from_lines


@pytest.mark.parametrize("type", TYPES)
def test_a_changed_text_is_another_revision(tmp_path: Path, type: str) -> None:
    folder = write_task(tmp_path, type)
    before = read_local_task(folder).metadata.revision
    path = folder / ("corpus.jsonl" if (folder / "corpus.jsonl").is_file() else "test.jsonl")
    rows = _rows(path)
    field = next(name for name in ("text", "sentences", "sentence1") if name in rows[0])
    rows[0][field] += "!"
    write_rows(path, rows)
    assert read_local_task(folder).metadata.revision != before


# file, number of the line, its new fields, what the error says of them
WRONG_ROWS = [
    ("retrieval", "queries", 2, {"text": " "}, "text must be text that is not empty, found ' '"),
    ("retrieval", "queries", 2, {"id": "q000"}, "id must be there once, found 'q000'"),
    ("retrieval", "corpus", 3, {"title": 7}, "title must be text, found 7"),
    ("retrieval", "qrels", 1, {"score": 0.5}, "score must be a whole number from 0, found 0.5"),
    ("retrieval", "qrels", 1, {"score": None}, "score must be a whole number from 0, found None"),
    ("retrieval", "qrels", 2, {"query-id": "nobody"}, "query-id must be an id of the queries, found 'nobody'"),
    ("retrieval", "qrels", 2, {"corpus-id": "p999"}, "corpus-id must be an id of the corpus, found 'p999'"),
    ("reranking", "top_ranked", 1, {"corpus-ids": []}, "corpus-ids must be a list of ids that is not empty, found []"),
    ("reranking", "top_ranked", 1, {"corpus-ids": ["p001", "p001"]}, "corpus-ids must be every id once"),
    ("reranking", "top_ranked", 1, {"corpus-ids": ["p999"]}, "corpus-ids must be ids of the corpus, found 'p999'"),
    ("reranking", "top_ranked", 2, {"query-id": "q000"}, "query-id must be there once, found 'q000'"),
    ("classification", "train", 1, {"label": 1.5}, "label must be a text or a whole number, found 1.5"),
    ("classification", "train", 2, {"label": 1}, "label must be of one kind with the first, 'a', found 1"),
    ("classification", "test", 2, {"label": "new"}, "label must be one of the labels of train, found 'new'"),
    ("clustering", "test", 1, {"sentences": ["a", "b"]}, "sentences must be text that is not empty, found ['a', 'b']"),
    ("pair_classification", "test", 4, {"labels": 2}, "labels must be 0 or 1, found 2"),
    ("sts", "test", 1, {"score": "high"}, "score must be a number, found 'high'"),
    ("sts", "test", 1, {"score": float("nan")}, "score must be a number, found nan"),
]


@pytest.mark.parametrize(("type", "file", "line", "fields", "message"), WRONG_ROWS)
def test_a_wrong_row_is_named_with_its_field(
    tmp_path: Path, type: str, file: str, line: int, fields: dict, message: str
) -> None:
    path = write_task(tmp_path, type) / f"{file}.jsonl"
    rows = _rows(path)
    rows[line - 1] |= fields
    write_rows(path, rows)
    with pytest.raises(ValueError, match=re.escape(f"{path}, line {line}: {message}")):
        read_local_task(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "summarization"}, "type: expected '"),
        ({"name": "a/b"}, "name of a task must be of letters, digits"),
        ({"colour": "red"}, "colour: no such field"),
        ({"language": "klingon"}, "language must be an ISO 639 code"),
        ({"main_score": "accuracy"}, "main_score of a sts task must match"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, settings: dict, message: str) -> None:
    write_task(tmp_path, "sts")
    task = {"name": "small", "type": "sts", "language": "en"} | settings
    (tmp_path / "task.yaml").write_text(json.dumps(task), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'task.yaml'}: {message}")):
        read_local_task(tmp_path)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = write_task(tmp_path, "sts") / "test.jsonl"
    content = path.read_text(encoding="utf-8")
    for text, message in (
        (content + "[1]\n", "test.jsonl, line 25: expected an object, found list"),
        (content + "{\n", "test.jsonl, line 25: Expecting property name"),
        ("\n", "test.jsonl: expected at least one row, found none"),
        (content.splitlines()[0], "line 1 and on: score must have two or more values"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_local_task(tmp_path)
    path.rename(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"test.parquet: .* Write the file again as parquet"):
        read_local_task(tmp_path)
    path.touch()
    with pytest.raises(ValueError, match=r"expected test.jsonl or test.parquet, found both"):
        read_local_task(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "task", "reranking")
    rows = _rows(folder / "top_ranked.jsonl")
    write_rows(folder / "top_ranked.jsonl", rows[1:])
    with pytest.raises(ValueError, match="expected a row for query q000, found none"):
        read_local_task(folder)
    (folder / "top_ranked.jsonl").unlink()
    with pytest.raises(ValueError, match=r"expected top_ranked.jsonl or top_ranked.parquet, found neither"):
        read_local_task(folder)
    write_rows(folder / "qrels.jsonl", [row | {"score": 0} for row in _rows(folder / "qrels.jsonl")])
    with pytest.raises(ValueError, match="expected a row in qrels with a score of 1 or more"):
        read_local_task(folder)
    with pytest.raises(ValueError, match=r"task.yaml: no such file"):
        read_local_task(tmp_path)


def test_the_folders_of_a_folder_are_its_tasks_in_order(tmp_path: Path) -> None:
    for type in reversed(TYPES):
        write_task(tmp_path / type, type)
    (tmp_path / "notes").mkdir()
    assert [task.metadata.name for task in read_local_tasks(tmp_path)] == sorted(f"small-{type}" for type in TYPES)
    assert [task.metadata.name for task in read_local_tasks(tmp_path / "sts")] == ["small-sts"]
    with pytest.raises(ValueError, match=r"notes: expected task.yaml"):
        read_local_tasks(tmp_path / "notes")


def test_a_title_stands_before_the_text_and_a_number_may_be_an_id(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "retrieval")
    write_rows(folder / "queries.jsonl", [{"id": 1, "text": "who"}])
    write_rows(folder / "corpus.jsonl", [{"id": 7, "title": "Title", "text": "body"}, {"id": 8, "text": "bare"}])
    write_rows(folder / "qrels.jsonl", [{"query-id": 1, "corpus-id": "7", "score": 3.0}])
    data: Any = read_local_task(folder).dataset
    data = data["default"]["test"]
    assert list(data["corpus"]["text"]) == ["Title body", "bare"]
    assert data["relevant_docs"] == {"1": {"7": 3}}
