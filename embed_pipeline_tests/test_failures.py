"""Whatever a command raises ends in one message with place, cause and remedy; --debug shows the traceback."""

import errno
import json
import os
import sqlite3
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from embed_pipeline.commands.terminal import CommandGroup
from embed_pipeline.dataset.raw_text import NotOneJsonValue
from embed_pipeline.project.recipes import read_recipe
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import write_project, write_yaml


def call(error: Exception, *arguments: str) -> Result:
    @click.group(cls=CommandGroup)
    def program() -> None: ...

    @program.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(program, list(arguments) or ["fail"])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError("m.duckdb: still locked. Close it."), "m.duckdb: still locked. Close it."),
        (OSError(errno.ENOSPC, "No space left on device", "/state/x"), "/state/x: no space left on device. Free some"),
        (
            FileExistsError(errno.EEXIST, "File exists", "/state"),
            "/state: file exists. A file lies where a folder must",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/state"), "EMBED_PIPELINE_HOME"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/gone"), "/gone: no such file or directory."),
        (sqlite3.DatabaseError("file is not a database"), "file is not a database"),
        (json.JSONDecodeError("Expecting value", "", 0), "JSONDecodeError: Expecting value: line 1 column 1"),
        (NotOneJsonValue("in.json, line 1: expected a JSON object."), "Error: in.json, line 1: expected a JSON"),
        (KeyError("name"), "KeyError: 'name'"),
    ],
)
def test_an_error_of_any_library_is_one_message_without_a_traceback(error: Exception, told: str) -> None:
    result = call(error)
    assert result.exit_code == 1 and told in result.output and "Traceback" not in result.output
    assert ("please report it" in result.output) is isinstance(error, KeyError)


def test_our_own_sentence_comes_first_and_its_cause_after_it() -> None:
    error = ValueError("faq.csv, line 3: expected two cells. Quote the cell.")
    error.__cause__ = RuntimeError("',' expected")
    assert call(error).output == "Error: faq.csv, line 3: expected two cells. Quote the cell.\nCause: ',' expected\n"


@pytest.mark.parametrize("arguments", [("--debug", "fail"), ("fail", "--debug")])
def test_debug_shows_the_traceback_too(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setenv("EMBED_PIPELINE_DEBUG", "")
    result = call(ValueError("wrong"), *arguments)
    monkeypatch.setenv("EMBED_PIPELINE_DEBUG", "")
    assert "Traceback" in result.output and result.output.endswith("Error: wrong\n")
    assert os.environ["EMBED_PIPELINE_DEBUG"] == ""


def test_a_recipe_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "bm25.yaml").write_bytes("description: 你好\nretriever: bm25\n".encode("gbk"))
    with pytest.raises(ValueError, match=r"bm25\.yaml: expected YAML in UTF-8, found .*Save it as UTF-8\."):
        read_recipe(tmp_path / "bm25.yaml")


def test_a_file_that_cannot_be_read_is_named_where_its_owner_has_it_and_not_by_its_copy(tmp_path: Path) -> None:
    project = PipelineProject(tmp_path)
    (tmp_path / "dagster").mkdir()
    write_project(tmp_path)
    folder = tmp_path / "data" / "faq"
    folder.mkdir()
    (folder / "faq.jsonl").write_text('{"question": "What is it?", "answer": "It is this."}\n{"question" 5}\n')
    columns = {"query": "question", "passage": "answer"}
    pairs = [{"file": "faq.jsonl", "format": "table", "columns": columns}]
    settings = {"description": "x", "language": "en", "pairs": pairs, "variants": ["bm25"]}
    write_yaml(folder / "dataset.yaml", settings | {"split": {"train": 0.6, "validation": 0.2, "test": 0.2}})
    project.execute("read_pairs", "faq")
    with pytest.raises(ValueError) as error:
        project.execute("prepare_dataset", "faq")
    assert str(error.value).startswith(f"{folder / 'faq.jsonl'}, line 2: ")
    assert "objects" not in str(error.value)
