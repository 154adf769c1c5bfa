"""The files of passages, which files are documents, and a data set made from a folder of them."""

from pathlib import Path

import pytest
import yaml

from embed_pipeline.dataset.formats import read_passages
from embed_pipeline.dataset.ledger import read_ledger
from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.documents.document import Document, DocumentBuilder
from embed_pipeline.documents.passages import read_documents_summary, write_passages
from embed_pipeline.documents.reading import DocumentPaths, document_paths
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.documents.starting import find_documents, inspect_documents, write_documents_yaml
from embed_pipeline_tests.documents.test_cutting import count_words

SETTINGS = DocumentSettings(files=("x",), passage_tokens=16)


def _document(file: str, *paragraphs: str, pages: bool = False) -> Document:
    builder = DocumentBuilder(file)
    for number, paragraph in enumerate(paragraphs, start=1):
        builder.block(paragraph, page=number if pages else None)
    return builder.build()


def _documents() -> list[Document]:
    notice = "This notice stands in every file and is long enough to be a passage of its own here."
    first = _document("a.pdf", "One sentence about apples and pears.", notice, pages=True)
    return [first, _document("b.md", notice), _document("c.md")]


def test_passages_ledger_and_summary_account_for_every_file(tmp_path: Path) -> None:
    told: list[int] = []
    counts = write_passages(iter(_documents()), SETTINGS, count_words, tmp_path, progress=told.append)
    passages = list(read_passages(tmp_path / "corpus.jsonl"))
    ledger = read_ledger(tmp_path / "ledger.jsonl")
    assert (counts.documents, counts.unreadable, counts.passages, counts.duplicates) == (3, 1, len(passages), 2)
    assert told == list(range(1, len(passages) + 1))
    assert [(e.workbook, e.reason) for e in ledger] == [
        ("b.md", "duplicate_passage"),
        ("b.md", "duplicate_passage"),
        ("c.md", "no_text"),
    ]
    assert "a.pdf, passage" in ledger[0].detail
    summary = read_documents_summary(tmp_path)
    assert [(one.file, one.pages, one.passages) for one in summary] == [
        ("a.pdf", 2, len(passages)),
        ("b.md", None, 0),
        ("c.md", None, 0),
    ]
    assert counts.tokens == sum(count_words([passage.text for passage in passages]))


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_passages(_documents(), SETTINGS, count_words, tmp_path / name)
    for file in ("corpus.jsonl", "ledger.jsonl", "documents.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_documents_without_any_passage_are_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no passage found.*c\.md: no_text"):
        write_passages([_document("c.md")], SETTINGS, count_words, tmp_path)


def _files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n\nSome text in English of the file {name}.\n", encoding="utf-8")


def test_patterns_find_files_once_sorted_and_never_hidden_ones(tmp_path: Path) -> None:
    _files(tmp_path, "b/2.md", "a/1.md", "a/.hidden.md", "a/~$lock.md", "terms[1].md")
    found = document_paths(tmp_path, DocumentSettings(files=("**/*.md", "a/*.md", "terms[1].md")))
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == ["a/1.md", "b/2.md", "terms[1].md"]


def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path) -> None:
    _files(tmp_path, "a.md")
    with pytest.raises(ValueError, match=r"matches '\*\.pdf'.*a\.md"):
        document_paths(tmp_path, DocumentSettings(files=("*.pdf",)))


def test_a_folder_of_documents_becomes_a_data_set_that_loads(tmp_path: Path) -> None:
    source = tmp_path / "contracts"
    _files(source, "one.md", "sub/two.md", "README.md")
    (source / "law.txt").write_text("\n\n".join(f"第{n}条 规定内容如下。" for n in range(1, 15)), encoding="utf-8")
    paths = find_documents(source)
    assert [path.name for path in paths.paths] == ["law.txt", "one.md", "two.md"]
    written = write_documents_yaml(inspect_documents(source, paths), "contracts", tmp_path / "data")
    settings = read_dataset_settings(written.parent)
    assert settings.source == "documents"
    documents = DocumentSettings.model_validate(dict(settings.documents or {}))
    assert documents.cut == "article"
    assert [p.name for p in document_paths(written.parent, documents).paths] == ["law.txt", "one.md", "two.md"]
    with pytest.raises(ValueError, match="exists already"):
        write_documents_yaml(inspect_documents(source, paths), "contracts", tmp_path / "data")


def test_a_folder_with_tables_of_questions_is_no_folder_of_documents(tmp_path: Path) -> None:
    _files(tmp_path, "notes.md")
    (tmp_path / "questions.csv").write_text("question,context\na,b\n", encoding="utf-8")
    assert not find_documents(tmp_path).paths and not find_documents(tmp_path / "questions.csv").paths
    assert find_documents(tmp_path / "notes.md") == DocumentPaths((tmp_path / "notes.md",), {})


def test_documents_without_text_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="not one of 1 documents has text"):
        inspect_documents(tmp_path, find_documents(tmp_path))


def test_the_written_file_is_yaml_whatever_the_names_hold(tmp_path: Path) -> None:
    source = tmp_path / "a: b # c"
    _files(source, "x.md")
    written = write_documents_yaml(inspect_documents(source, find_documents(source)), "odd", tmp_path / "data")
    assert (
        yaml.safe_load(written.read_text(encoding="utf-8"))["description"] == "Passages of the documents in a: b # c."
    )
