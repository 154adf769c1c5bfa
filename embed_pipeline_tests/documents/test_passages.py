"""The files of passages, which files are documents, and a data set made from a folder of them."""

import os
from pathlib import Path

import pytest
import yaml

from embed_pipeline.dataset.exchange.inspection import inspect
from embed_pipeline.dataset.formats import read_passages
from embed_pipeline.dataset.ledger import read_ledger
from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.documents.document import Document, DocumentBuilder
from embed_pipeline.documents.passages import read_documents_summary, write_passages
from embed_pipeline.documents.reading import DocumentPaths, document_left_out, document_paths
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.documents.starting import (
    describe_documents,
    describe_documents_beside,
    find_documents,
    inspect_documents,
    write_documents_yaml,
)
from embed_pipeline.project.starting import start_dataset
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


def test_a_pattern_finds_endings_in_capitals(tmp_path: Path) -> None:
    for name in ("TERMS.PDF", "a.pdf", "Old.Pdf", "a.md", "pdf"):
        (tmp_path / name).touch()
    found = document_paths(tmp_path, DocumentSettings(files=("*.pdf",)))
    assert [path.name for path in found.paths] == ["Old.Pdf", "TERMS.PDF", "a.pdf"]


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


def test_a_table_below_the_top_hides_no_documents_and_one_at_the_top_names_them(tmp_path: Path) -> None:
    source = tmp_path / "site"
    _files(source, "a.md", "sub/b.md")
    (source / "assets").mkdir()
    (source / "assets" / "search.json").write_text("{}", encoding="utf-8")
    assert [path.name for path in find_documents(source).paths] == ["a.md", "b.md"]
    (source / "package.json").write_text('{"name": "site"}', encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"package\.json: expected .* The folder holds 2 documents too: \['a\.md', 'b\.md'\]"
    ):
        start_dataset(source, "site", tmp_path / "data")
    assert describe_documents_beside(tmp_path / "data") == "" == describe_documents_beside(source / "a.md")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_txt_of_cells_and_tabs_is_a_table(tmp_path: Path, encoding: str) -> None:
    rows = ["question\tanswer", "When do you open?\tAt nine, or ten.", "", "Where are you?\tIn Berlin."]
    source = tmp_path / "faq.txt"
    source.write_text("\r\n".join(rows), encoding=encoding)
    started = start_dataset(source, "faq", tmp_path / "data")
    assert "A run keeps 2 of 2 questions" in started.found
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "test.txt").write_bytes(source.read_bytes())
    assert "A run keeps 2 of 2 questions" in start_dataset(tmp_path / "in", "again", tmp_path / "data").found
    _files(tmp_path / "in", "notes.md")
    assert len(find_documents(tmp_path / "in").paths) == 2  # a glossary among documents


@pytest.mark.parametrize(
    "rows",
    [
        ["lfd. Nr.\tFrage, kurz\tAntwort", "1\tWie, wo?\tHier", "2\tWann, wie?\tMorgen"],
        ["category, product\tquestion\tanswer", "card\tHow, where?\tHere", "card\tWhen, who?\tNow"],
        ["question, asked\tanswer", "How, where?\tHere", "question, asked\tanswer", "When, who?\tNow"],
        ["问题, 原文\t答案", "如何, 何处\t这里", "何时, 何人\t现在"],
        ["Kundenanliegen, kurz\tLoesung", "Karte, weg\tSperren", "Karte, kaputt\tTauschen"],
    ],
)
@pytest.mark.parametrize("name", ["faq.txt", "faq.tsv"])
def test_cells_between_tabs_stay_whole_though_every_line_has_a_comma(
    tmp_path: Path, rows: list[str], name: str
) -> None:
    (tmp_path / name).write_text("\n".join(rows), encoding="utf-8")
    (file,) = inspect(tmp_path / name).files
    cells = {cell for row in rows for cell in row.split("\t")}
    assert {*file.content.queries.values(), *file.content.corpus.values()} <= cells
    assert len(file.content.queries) == 2


@pytest.mark.parametrize(
    "text",
    [
        "\tOnce there was a ferry.\n\tIt sank.\n",
        "1.\tOpen the app.\n2.\tTap Settings.\n",
        "Fees\n\nadult\t5\nchild\t3\n",
        "one\ttwo\n",
        "Q:\tHow do I pay?\nA:\tBy card.\nQ:\tWhere?\nA:\tAt the desk.\n",
        "Interviewer\tTell me about it\nGuest\tWell\nInterviewer\tGo on\nGuest\tThat is all\n",
        "00:01 Ann:\tHello\n00:05 Bob:\tHi\n",
        "问：\t怎么付款\n答：\t刷卡\n",
        "How do I pay?\tBy card\nWhere do I pay?\tAt the desk\n",
        "Ann\tWelcome to our show.\nBob\tThanks\n",
        "No tabs at all.\nNone.\n",
        "",
    ],
)
def test_a_txt_of_paragraphs_is_a_document(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert find_documents(tmp_path / "a.txt").paths == find_documents(tmp_path).paths == (tmp_path / "a.txt",)


def test_a_folder_of_data_sets_is_no_folder_of_documents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _files(tmp_path, f"{name}/labels.txt")
        (tmp_path / name / "train.csv").write_text("question,label\na,b\n", encoding="utf-8")
    assert not find_documents(tmp_path).paths


def test_links_and_pipes_among_documents_are_left_out_by_name_and_the_others_go_on(tmp_path: Path) -> None:
    folder, outside = tmp_path / "set", tmp_path / "outside"
    _files(outside, "secret.md", "more/other.md")
    _files(folder, "docs/a.md", "docs/b.md")
    (folder / "docs" / "inside.md").symlink_to(folder / "docs" / "a.md")
    (folder / "docs" / "link.md").symlink_to(outside / "secret.md")
    (folder / "docs" / "nowhere.md").symlink_to(folder / "gone.md")
    (folder / "docs" / "more").symlink_to(outside / "more")
    os.mkfifo(folder / "docs" / "pipe.md")
    found = document_paths(folder, DocumentSettings(files=("docs/**/*.md",)))
    assert [path.name for path in found.paths] == ["a.md", "b.md", "inside.md"]
    assert list(found.left_out) == ["docs/link.md", "docs/more", "docs/nowhere.md", "docs/pipe.md"]
    assert "a named pipe" in found.left_out["docs/pipe.md"] and "A link to a folder" in found.left_out["docs/more"]
    assert not any(str(tmp_path) in why for why in found.left_out.values())
    documents = [document_left_out(file, why) for file, why in found.left_out.items()]
    write_passages([_document("docs/a.md", "Some words."), *documents], SETTINGS, count_words, tmp_path)
    entries = read_ledger(tmp_path / "ledger.jsonl")
    assert [(entry.workbook, entry.reason) for entry in entries] == [(file, "no_plain_file") for file in found.left_out]
    allowed = document_paths(folder, DocumentSettings(files=("docs/**/*.md", "docs/more/**/*.md")), [outside])
    assert {path.name for path in allowed.paths} == {"a.md", "b.md", "inside.md", "link.md", "other.md"}
    with pytest.raises(ValueError, match=r"found none that is a plain file\. docs/pipe\.md: It is no plain file"):
        document_paths(folder, DocumentSettings(files=("docs/pipe.md", "docs/p*.md")))


def test_init_counts_by_reason_what_is_left_out_and_names_what_is_no_document(tmp_path: Path) -> None:
    source = tmp_path / "mixed"
    _files(source, "a.md", "README.md", "b.md")
    for number in range(12):
        (source / f"scan{number}.pdf").write_bytes(b"%PDF-1.7 cut off")
    (source / "slides.pptx").write_bytes(b"PK")
    (source / "prices.ods").write_bytes(b"PK")
    (source / "away.md").symlink_to(tmp_path / "elsewhere.md")
    (tmp_path / "elsewhere.md").write_text("not ours", encoding="utf-8")
    found = inspect_documents(source, find_documents(source))
    told = describe_documents(found).splitlines()
    assert len(told) == 4
    assert told[1].startswith("Left out: 1 × no_plain_file. The first: away.md: A link that leads out")
    assert told[2].startswith("Left out: 12 × broken_file. The first: scan0.pdf: It cannot be read as pdf")
    assert told[3].startswith("Not documents, not taken: 1 .ods, 1 .pptx, 1 README. Read are .pdf")
    written = write_documents_yaml(found, "mixed", tmp_path / "data")
    assert not (written.parent / "documents" / "away.md").exists()
    assert f"# {told[2]}" in written.read_text(encoding="utf-8")


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
