"""What real files contain: nothing of it is silently wrong, and nothing that is not needed stops a file."""

import gzip
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest

from embed_pipeline.dataset.cleaning import CleanedData, write_cleaned
from embed_pipeline.dataset.exchange.column_guess import guess_separators
from embed_pipeline.dataset.exchange.conversion import convert
from embed_pipeline.dataset.exchange.inspection import Inspection, inspect
from embed_pipeline.dataset.exchange.registry import read_content
from embed_pipeline.dataset.exchange.starting import describe_inspection, write_dataset_yaml
from embed_pipeline.dataset.ledger import summarise_ledger
from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.pairs_file import PairsContent
from embed_pipeline.dataset.settings import TableColumns, read_dataset_settings
from embed_pipeline_tests.stopwatch import fastest

ROWS = [("Where is the harbour office?", "At pier four."), ("Who repairs sails?", "The loft in Mole Street.")]
TABLE = [("question", "answer"), *ROWS]
Rows = Sequence[Sequence[object]]


def _csv(rows: Sequence[Sequence[str]], delimiter: str = ",") -> str:
    return "".join(delimiter.join(row) + "\n" for row in rows)


def _inspect(path: Path, content: str | bytes) -> Inspection:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return inspect(path)


def _pairs(content: PairsContent) -> list[tuple[str, str]]:
    return [(content.queries[q], content.corpus[p]) for q, judged in content.relevant.items() for p in judged]


def _found(inspection: Inspection) -> list[tuple[str, str]]:
    return _pairs(inspection.files[0].content)


def _clean(inspection: Inspection, folder: Path) -> CleanedData:
    made = write_dataset_yaml(inspection, "mine", folder / "data")
    return clean_pairs(made.parent, read_dataset_settings(made.parent))


@pytest.fixture
def book(write_workbook, edit_sheet) -> Callable[..., Path]:
    """A workbook of questions, with its XML changed."""

    def write(rows: Rows = TABLE, change: Callable[[str], str] | None = None, **how: object) -> Path:
        path = write_workbook(rows, **how)
        return path if change is None else edit_sheet(path, change)

    return write


# Workbooks


def test_a_size_that_a_sheet_claims_does_not_cut_the_table(book) -> None:
    path = book(change=lambda xml: re.sub(r'<dimension ref="[^"]+"', '<dimension ref="A1"', xml))
    assert _found(inspect(path)) == ROWS


def test_a_hidden_sheet_is_skipped_and_named(book) -> None:
    from openpyxl import load_workbook

    path = book(sheets_before=["old_draft"])
    workbook = load_workbook(path)
    workbook["old_draft"].append(["question", "answer"])
    workbook["old_draft"].append(["A draft?", "Do not use."])
    workbook["old_draft"].sheet_state = "hidden"
    workbook.active = 1
    workbook.save(path)
    found = inspect(path)
    assert _found(found) == ROWS
    assert "other sheets are not read: ['old_draft (hidden)']" in describe_inspection(found)
    assert _pairs(read_content(path, "table", TableColumns(passage="answer", sheet="old_draft"))) == [
        ("A draft?", "Do not use.")
    ]


def test_a_cover_sheet_before_the_table_is_passed_over(book) -> None:
    from openpyxl import load_workbook

    path = book(sheets_before=["Cover", "Empty"])
    workbook = load_workbook(path)
    workbook["Cover"]["A1"] = "Our questions"
    workbook.save(path)
    assert _found(inspect(path)) == ROWS


@pytest.mark.parametrize(
    "rows_before", [[("Version", "Date"), ("1.0", "May"), ("1.1", "June")], [("版本", "说明"), ("1", "新")]]
)
def test_of_several_tables_the_sheet_that_names_a_question_and_a_passage_is_read_and_named(
    book, tmp_path: Path, rows_before: Rows
) -> None:
    from openpyxl import load_workbook

    path = book(sheets_before=["History"])
    workbook = load_workbook(path)
    for row in rows_before:
        workbook["History"].append(list(row))
    workbook.save(path)
    found = inspect(path)
    assert _found(found) == ROWS
    assert "read as sheet 'Sheet1'" in describe_inspection(found)
    assert "other sheets are not read: ['History']" in describe_inspection(found)
    made = write_dataset_yaml(found, "mine", tmp_path / "data")
    (entry,) = read_dataset_settings(made.parent).pairs
    assert entry.columns is not None and entry.columns.sheet == "Sheet1"
    named = TableColumns(query=str(rows_before[0][0]), passage=str(rows_before[0][1]))
    assert len(_pairs(read_content(path, "table", named))) == len(rows_before) - 1


@pytest.mark.parametrize("header", [("Kundenanfrage", "Antworttext", "Thema"), ("text", "note", "label")])
@pytest.mark.parametrize(("title", "rows"), [("Legende", 1), ("Examples", 3)])
def test_a_table_is_not_passed_over_for_a_few_rows_of_questions_and_answers(
    book, header: tuple[str, ...], title: str, rows: int
) -> None:
    from openpyxl import load_workbook

    path = book([header, *[(f"The card of customer {at} is lost", f"Go to desk {at}", "card") for at in range(60)]])
    workbook = load_workbook(path)
    sheet = workbook.create_sheet(title)
    for row in [("question", "answer"), *[(f"What is {at}?", f"It is {at}") for at in range(rows)]]:
        sheet.append(list(row))
    workbook.save(path)
    (file,) = inspect(path).files
    assert file.columns is not None and file.columns.sheet is None
    assert len(file.content.queries) == 60
    wanted = TableColumns(query="question", passage="answer")
    assert len(_pairs(read_content(path, "table", wanted))) == rows


def test_of_sheets_that_name_nothing_the_first_is_read_and_none_is_named(book) -> None:
    from openpyxl import load_workbook

    path = book([("Kundenanliegen", "Hinweis"), *ROWS])
    workbook = load_workbook(path)
    workbook.create_sheet("Codes").append(["Code", "Bedeutung"])
    workbook.save(path)
    (file,) = inspect(path).files
    assert file.columns is not None and file.columns.sheet is None and len(file.content.queries) == 2


def test_a_merged_answer_counts_for_every_question_beside_it(book) -> None:
    rows = [*TABLE, ("And oars?", None), ("And masts?", None)]
    assert _found(inspect(book(rows, merged=["B3:B5"]))) == [
        *ROWS,
        ("And oars?", ROWS[1][1]),
        ("And masts?", ROWS[1][1]),
    ]


def test_a_title_merged_above_the_header_is_no_header_and_the_row_is_told(book) -> None:
    found = inspect(book([("Harbour FAQ 2024", None), (None,), *TABLE], merged=["A1:B1"]))
    assert _found(found) == ROWS
    assert "header in row 3" in describe_inspection(found)


def test_formulas_without_a_value_are_counted_and_the_reason_is_told(book) -> None:
    found = inspect(book([*TABLE, ("How deep is it?", '=CONCATENATE("4"," m")')]))
    assert _found(found) == ROWS
    assert "1 cells of answer are lost: a formula without a stored value" in describe_inspection(found)
    with pytest.raises(ValueError, match=r"book\.xlsx: .*answer holds a formula without a stored value"):
        inspect(book([TABLE[0], ("How deep is it?", "=A1")]))


def test_columns_that_are_not_needed_may_hold_anything(book) -> None:
    rows = [(None, "question", "answer", "shown"), *((at, *row, True) for at, row in enumerate(ROWS))]
    found = inspect(book([*rows, (3, "A last one?", "Yes.", False, None, "a note at the side")]))
    assert len(_found(found)) == 3
    assert "not read: shown" in describe_inspection(found)
    assert "columns without a header are not read: ['1', '6']" in describe_inspection(found)


def test_a_strict_workbook_holds_the_same_table(book) -> None:
    path = book()
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    usual = b"http://schemas.openxmlformats.org/"
    for name, content in parts.items():
        content = content.replace(usual + b"spreadsheetml/2006/main", b"http://purl.oclc.org/ooxml/spreadsheetml/main")
        parts[name] = content.replace(usual + b"officeDocument/2006/", b"http://purl.oclc.org/ooxml/officeDocument/")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert _found(inspect(path)) == ROWS


def test_a_workbook_with_macros_holds_the_same_table_and_is_not_written(book, tmp_path: Path) -> None:
    path = tmp_path / "faq.xlsm"
    with zipfile.ZipFile(book()) as archive, zipfile.ZipFile(path, "w") as written:
        for name in archive.namelist():
            macros = b"application/vnd.ms-excel.sheet.macroEnabled.main+xml"
            usual = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
            written.writestr(name, archive.read(name).replace(usual, macros))
        written.writestr("xl/vbaProject.bin", b"not run")
    assert _found(inspect(path)) == ROWS
    with pytest.raises(ValueError, match="ends in"):
        convert(path, tmp_path / "out.xlsm", "table")


@pytest.mark.parametrize("name", ["faq.ods", "faq.xls", "faq.xlsb", "faq.et", "faq.xlsx"])
def test_another_spreadsheet_says_how_to_save_it(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", "<x/>")
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(ValueError, match=r"File, Save As, and there Excel Workbook \(\.xlsx\)"):
            inspect(source)


def test_files_of_other_kinds_beside_the_tables_are_named(tmp_path: Path) -> None:
    for name in ("faq.csv", "notes.docx", "old.ods", ".hidden", "~$lock.xlsx"):
        (tmp_path / name).write_text(_csv(TABLE), encoding="utf-8")
    assert "Files of other kinds, not read: ['notes.docx', 'old.ods']." in describe_inspection(inspect(tmp_path))


def test_overlapping_merges_cost_no_more_than_the_rows(book) -> None:
    merges = "".join(f'<mergeCell ref="A{row}:B1048576"/>' for row in range(2, 20_000))
    path = book(change=lambda xml: xml.replace("</sheetData>", f"</sheetData><mergeCells>{merges}</mergeCells>"))
    assert fastest(lambda: inspect(path)) < 5


# Delimited text


@pytest.mark.parametrize(
    ("encoding", "rows"),
    [
        ("big5", [("港務局在哪裡？", "在四號碼頭，靠近燈塔。"), ("誰修理船帆？", "防波堤街的工坊負責。")]),
        (
            "cp932",
            [
                ("港の事務所はどこですか？", "四番埠頭の灯台のそばです。"),
                ("帆は誰が直しますか？", "防波堤通りの工房です。"),
            ],
        ),
        (
            "cp949",
            [
                ("항만 사무소는 어디에 있습니까?", "사번 부두 등대 옆에 있습니다."),
                ("돛은 누가 고칩니까?", "방파제 거리의 작업장입니다."),
            ],
        ),
        ("cp1251", [("Где находится контора порта?", "У четвёртого причала."), ("Кто чинит паруса?", "Мастерская.")]),
        (
            "cp1250",
            [
                ("Gdzie jest biuro portu?", "Przy czwartym nabrzeżu, tuż koło latarni."),
                ("Kto łata żagle łodzi?", "Ślusarz i żaglomistrz, codziennie oprócz świąt."),
            ],
        ),
        ("cp1253", [("Πού είναι το γραφείο;", "Στην τέταρτη προβλήτα."), ("Ποιος φτιάχνει πανιά;", "Το εργαστήριο.")]),
        ("utf-16-le", [("港务局在哪里？", "在四号码头。"), ("谁修理船帆？", "防波堤街的工坊。")]),
        (
            "mac_roman",
            [("Où est le bureau ?", "Près du phare, à côté."), ("Qui répare les voiles ?", "L’atelier du môle.")],
        ),
    ],
)
def test_an_encoding_is_found_among_many_and_told(tmp_path: Path, encoding: str, rows: list[tuple[str, str]]) -> None:
    found = _inspect(tmp_path / "faq.csv", _csv([TABLE[0], *((q, f'"{a}"') for q, a in rows)]).encode(encoding))
    assert _found(found) == rows
    assert f"{encoding} (a guess)" in describe_inspection(found)


def test_a_broken_byte_in_utf_8_is_named_with_its_line_and_not_read_as_something_else(tmp_path: Path) -> None:
    data = _csv([TABLE[0], ("港务局在哪里？", "在四号码头，靠近灯塔。"), ("谁修理船帆？", "防波堤街的工坊。")]).encode()
    broken = data.replace("工坊".encode(), b"\xe5\xb7" + "坊".encode())
    with pytest.raises(ValueError, match=r"faq\.csv, line 3: expected UTF-8 as in the rest"):
        _inspect(tmp_path / "faq.csv", broken)


def test_bytes_of_no_plain_encoding_are_refused_and_a_named_encoding_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    with pytest.raises(ValueError, match="no other encoding is plain to see"):
        _inspect(path, bytes(range(128, 256)) * 20)
    path.write_bytes(_csv([TABLE[0], ("Où est-il ?", "Là.")]).encode("cp850"))
    named = TableColumns(passage="answer", encoding="cp850")
    assert _pairs(read_content(path, "table", named)) == [("Où est-il ?", "Là.")]
    with pytest.raises(ValueError, match=r"faq\.csv, line 2: expected ascii, found the bytes"):
        read_content(path, "table", named.model_copy(update={"encoding": "ascii"}))


@pytest.mark.parametrize("above", ["sep=;\n", "Harbour FAQ\n\n", "# exported on Monday\n# by Ann\n", "\ufeff\ufeff"])
def test_lines_above_the_header_are_passed_over(tmp_path: Path, above: str) -> None:
    assert _found(_inspect(tmp_path / "faq.csv", above + _csv(TABLE, ";"))) == ROWS


def test_the_header_row_of_the_settings_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_text(_csv([("question", "answer"), ("like", "this"), ("What", "Reply"), *ROWS]))
    named = TableColumns(query="What", passage="Reply", header_row=3)
    assert _pairs(read_content(path, "table", named)) == ROWS


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_the_columns_of_the_settings_tell_the_header(tmp_path: Path, write_workbook, kind: str) -> None:
    rows = [("Kundenfragen 2024", "Stand 1.5."), ("Frage des Kunden", "Unsere Lösung"), *ROWS]
    path = tmp_path / "faq.csv"
    path.write_text(_csv(rows), encoding="utf-8")
    if kind == "xlsx":
        path = write_workbook(rows)
    named = TableColumns(query="Frage des Kunden", passage="Unsere Lösung")
    assert _pairs(read_content(path, "table", named)) == ROWS


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_header_is_the_same_whether_its_letters_are_composed_or_not(
    tmp_path: Path, form: Literal["NFC", "NFD"]
) -> None:
    def written(text: str) -> str:
        return unicodedata.normalize(form, text)

    path = tmp_path / "faq.csv"
    rows = [(*row, "vu par Anne le premier mai et encore une fois") for row in ROWS]
    found = _inspect(path, _csv([("question", written("réponse"), "notes internes"), *rows]))
    assert _found(found) == ROWS
    settings = TableColumns.model_validate({"passage": written("réponse")})
    assert _pairs(read_content(path, "table", settings)) == ROWS


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_mark_that_nothing_closes_makes_no_row_of_several(tmp_path: Path, kind: str) -> None:
    rows = [(f"Question {at}?", f"Answer {at}.") for at in range(8)]
    rows[2], rows[5] = ('"Quoted from the start?', rows[2][1]), (rows[5][0], 'as they say "aye"')
    found = _inspect(tmp_path / f"faq.{kind}", _csv([TABLE[0], *rows], "\t" if kind == "tsv" else ","))
    assert _found(found) == rows
    assert "without quoting" in describe_inspection(found)


def test_a_quoted_cell_that_looks_like_rows_is_told_with_its_line(tmp_path: Path) -> None:
    rows = [(f"Question {at}?", f"Answer {at}.") for at in range(8)]
    text = _csv([TABLE[0], *rows, ("Commas, too?", "yes, always")])
    text = (
        text.replace("Question 2?", '"Question 2?').replace("Answer 5.", 'Answer 5."').replace("Commas, too?", "And?")
    )
    found = _inspect(tmp_path / "faq.csv", text.replace("yes, always", '"yes, always"'))
    assert "1 cells go over several lines that look like rows; the first begins in line 4" in describe_inspection(found)


@pytest.mark.parametrize(
    "text",
    [
        _csv(TABLE).replace("\n", "\r\n\r\n"),
        _csv(TABLE).replace("\n", "\r"),
        _csv([(*row, "") for row in TABLE]),
        _csv([(f'"{q}"', f' "{a}"') for q, a in TABLE]),
        _csv([("\u200bquestion\u00a0", "answer"), *ROWS]),
        _csv(TABLE, "|"),
    ],
    ids=["blank lines", "old Mac", "trailing delimiter", "space before a quote", "zero-width header", "pipes"],
)
def test_habits_of_other_writers_change_nothing(tmp_path: Path, text: str) -> None:
    assert _found(_inspect(tmp_path / "faq.csv", text)) == ROWS


def test_quotes_that_a_backslash_escapes_are_read(tmp_path: Path) -> None:
    found = _inspect(tmp_path / "faq.csv", _csv(TABLE) + '"What does \\"aye\\", mean?","Yes."\n')
    assert _found(found)[-1] == ('What does "aye", mean?', "Yes.")


def test_words_of_other_tools_for_nothing_are_no_passages_unless_the_settings_say_so(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    found = _inspect(path, _csv([*TABLE, ("Why so?", "nan"), ("Who?", "NULL"), ("None?", "None")]))
    assert _found(found) == ROWS
    assert "read as empty: 'nan': 1, 'NULL': 1, 'None': 1" in describe_inspection(found)
    words = TableColumns(passage="answer", null_values=())
    assert ("None?", "None") in _pairs(read_content(path, "table", words))


def test_a_header_that_is_there_again_is_no_row(tmp_path: Path) -> None:
    again = ("\ufeffquestion", "answer")  # as of a file with a mark that was joined
    found = _inspect(tmp_path / "faq.csv", "\ufeff" + _csv([*TABLE, TABLE[0], ("Is it wet?", "At the pump."), again]))
    assert len(_found(found)) == 3
    assert "2 rows repeat the header and are left out; the first: line 4" in describe_inspection(found)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("Wo ist das Büro für Zürich?", "Über der Brücke.")], "encoded twice, as in 'BÃ¼ro'"),
        ([("Wo ist das B\ufffdro?", "Am Kai.")], "1 letters are \ufffd"),
        ([("????????", "?????"), ("??? ??", "????")], "question marks: letters may be lost"),
        ([("<p>Where?</p>", "<b>There</b>")], "1 rows hold HTML tags, which are read as text; the first: line 2"),
        ([("Is 3 < 4 > 2?", "Yes und Ärger in Çelik.")], None),
    ],
)
def test_letters_and_tags_that_another_tool_left_are_told(
    tmp_path: Path, rows: list[tuple[str, str]], told: str | None
) -> None:
    text = _csv([TABLE[0], *rows])
    if "für" in text:
        text = text.encode().decode("cp1252")
    notes = _inspect(tmp_path / "faq.csv", text).files[0].content.notes
    assert len(notes) == (told is not None) and all(told in note for note in notes if told)


@pytest.mark.parametrize(
    ("name", "text"), [("a.tab", _csv(TABLE, "\t")), ("a.ndjson", '{"query": "q?", "pos": ["p"]}')]
)
def test_other_names_of_a_kind_are_known(tmp_path: Path, name: str, text: str) -> None:
    assert _found(_inspect(tmp_path / name, text))


def test_files_that_name_a_split_for_training_are_not_proposed_for_evaluation_only(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for split in ("train", "test"):
        (tmp_path / "in" / f"{split}.csv").write_text(_csv([TABLE[0], (f"{split}?", "a")]), encoding="utf-8")
    found = inspect(tmp_path / "in")
    assert not found.evaluation_only and len(_clean(found, tmp_path).dataset.queries) == 2


def test_empty_texts_of_a_line_stop_no_file(tmp_path: Path) -> None:
    lines = [{"query": "a?", "pos": ["x", "", " "], "neg": [""]}, {"query": "b?", "pos": [], "neg": ["y"]}]
    found = _inspect(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert found.files[0].content.notes == (
        "3 texts of pos or neg are empty and left out; the first: a.jsonl, line 1",
        "1 queries have no text in pos and no judgment; the first: a.jsonl, line 2",
    )
    assert summarise_ledger(_clean(found, tmp_path).ledger)["no_judgment"] == 1


def test_twenty_thousand_columns_are_read_in_seconds_and_told_in_a_line(tmp_path: Path) -> None:
    names = [f"c{at}" for at in range(20_000)]
    table = _csv([(*TABLE[0], *names), *((*row, *names) for row in ROWS)])
    assert fastest(lambda: describe_inspection(_inspect(tmp_path / "wide.csv", table))) < 5
    found = inspect(tmp_path / "wide.csv")
    told = describe_inspection(found)
    assert _found(found) == ROWS
    assert "not read: c0, c1, c2, c3, c4 and 19,995 more" in told and len(told) < 2000


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"PK\x03\x04\x00", "a zip archive"),
        (b"<html><body>", "HTML"),
        (b"PAR1\x00", "a parquet file"),
        (b"%PDF-1.7", "a PDF"),
    ],
)
def test_what_is_no_delimited_text_is_named(tmp_path: Path, head: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=rf"faq\.csv: expected text with a row a line, found {told}"):
        _inspect(tmp_path / "faq.csv", head + b"question,answer\n")


def test_a_header_that_reads_like_a_row_is_told(tmp_path: Path) -> None:
    found = _inspect(tmp_path / "faq.csv", _csv([*ROWS, ("A third?", "Yes, a third.".replace(",", ""))]))
    assert "The header reads like a row of the data" in describe_inspection(found)


# JSON


def test_an_id_with_two_texts_is_refused_in_objects_as_everywhere(tmp_path: Path) -> None:
    whole = '{"queries": {"1": "Where?", "1": "Who?"}, "corpus": {"a": "x"}, "relevant_docs": {"1": ["a"]}}'
    with pytest.raises(ValueError, match=r"pairs\.json: '1' is there twice, with 'Where\?' and 'Who\?'"):
        _inspect(tmp_path / "pairs.json", whole)
    with pytest.raises(ValueError, match=r"lines\.jsonl, line 1: 'question' is there twice"):
        _inspect(tmp_path / "lines.jsonl", '{"question": "a", "question": "b", "answer": "c"}\n')
    same = whole.replace("Who?", "Where?")
    assert _found(_inspect(tmp_path / "same.json", same)) == [("Where?", "x")]


def test_numbers_that_are_none_are_empty(tmp_path: Path) -> None:
    lines = '{"question": "a?", "answer": NaN}\n{"question": "b?", "answer": Infinity}\n'
    found = _inspect(
        tmp_path / "faq.jsonl",
        "".join(json.dumps(dict(zip(TABLE[0], row, strict=True))) + "\n" for row in ROWS) + lines,
    )
    assert _found(found) == ROWS
    cleaned = _clean(found, tmp_path)
    assert summarise_ledger(cleaned.ledger) == {"no_judgment": 2, "noted": 1}


def test_half_a_cut_emoji_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    from embed_pipeline.dataset.exchange.conversion import convert

    source = tmp_path / "cut.jsonl"
    source.write_text('{"query": "why \\ud83d so", "pos": ["a \\ud83d\\ude00 b"], "neg": []}\n')
    convert(source, tmp_path / "out.json", "rag_json")
    assert _pairs(read_content(tmp_path / "out.json")) == [("why  so", "a \U0001f600 b")]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([dict(zip(TABLE[0], row, strict=True)) for row in ROWS], indent=1),
        "\ufeff" + "\r\n\r\n".join(json.dumps(dict(zip(TABLE[0], row, strict=True))) for row in ROWS),
        json.dumps({"question": "no answer?"})
        + "\n"
        + "\n".join(json.dumps({**dict(zip(TABLE[0], row, strict=True)), "tags": ["x"]}) for row in ROWS),
    ],
    ids=["an array", "a mark and blank lines", "a first line without a field"],
)
def test_lines_as_tools_write_them_are_read(tmp_path: Path, text: str) -> None:
    assert _found(_inspect(tmp_path / "faq.json", text)) == ROWS


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "deep.jsonl",
            '{"question": ' + "[" * 20_000 + "]" * 20_000 + "}",
            "line 1: expected JSON, found brackets nested",
        ),
        ("deep.json", '{"a":' * 20_000 + "1" + "}" * 20_000, r"deep\.json: expected JSON, found brackets nested"),
        ("long.jsonl", '{"question": "' + "x" * (65 << 20) + '"}', "line 1: expected at most 64 MiB"),
        (
            "digits.jsonl",
            '{"question": ' + "1" * 5000 + "}",
            "line 1: expected a JSON object in UTF-8: Exceeds the limit",
        ),
        ("cut.jsonl", '{"question": "a', "line 1: expected a JSON object: Unterminated"),
    ],
    ids=lambda value: value if len(value) < 20 else "",
)
def test_json_that_cannot_be_read_is_named_at_once(tmp_path: Path, name: str, text: str, told: str) -> None:
    def refused() -> None:
        with pytest.raises(ValueError, match=told):
            _inspect(tmp_path / name, text)

    assert fastest(refused) < 5


def test_json_in_utf_16_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"faq\.jsonl: expected JSON in UTF-8, found UTF-16"):
        _inspect(tmp_path / "faq.jsonl", '{"question": "a", "answer": "b"}\n'.encode("utf-16"))


@pytest.mark.parametrize("name", ["FAQ.CSV.GZ", "faq.Tsv.Gz", "faq.JSONL.GZ"])
def test_endings_in_capitals_are_those_in_small_letters(tmp_path: Path, name: str) -> None:
    delimiter = "\t" if "tsv" in name.lower() else ","
    lines = [f"question{delimiter}answer", *(delimiter.join(row) for row in ROWS)]
    if "jsonl" in name.lower():
        lines = [json.dumps({"question": question, "answer": answer}) for question, answer in ROWS]
    assert _found(_inspect(tmp_path / name, gzip.compress("\n".join(lines).encode()))) == ROWS


@pytest.mark.parametrize("name", ["bomb.csv.gz", "bomb.jsonl.gz", "bomb.json.gz", "BOMB.CSV.GZ"])
def test_what_unpacks_without_end_is_refused_within_the_limit(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b'{"question": "a", "answer": "b"}\n' * 5_000_000))

    def refused() -> None:
        with pytest.raises(ValueError, match=rf"{re.escape(name)}: expected a file that unpacks to at most 100 times"):
            read_content(tmp_path / name, "table")

    assert fastest(refused) < 5


@pytest.mark.parametrize("order", [("train", "validation", "test"), ("test", "train", "dev"), ("val", "test", "train")])
def test_a_question_in_several_splits_of_a_file_stays_in_the_one_held_out_first(
    tmp_path: Path, order: Sequence[str]
) -> None:
    rows = [("question", "answer", "split"), *(("Where?", f"In {name}.", name) for name in order)]
    (tmp_path / "faq.csv").write_text(_csv(rows), encoding="utf-8")
    content = read_content(tmp_path / "faq.csv", "table", TableColumns(passage="answer", split="split"))
    assert list(content.splits.values()) == ["test"] and _pairs(content) == [("Where?", "In test.")]
    assert len(content.corpus) == 3
    assert [note for note in content.notes if "1 questions are in several splits" in note]


def test_an_id_means_the_same_text_whatever_its_white_space_and_width(tmp_path: Path) -> None:
    columns = TableColumns(passage="answer", id="id")
    path = tmp_path / "faq.csv"
    path.write_text(_csv([("id", "question", "answer"), ("1", "Where  is it？", "a"), ("1", "Where is it?", "b")]))
    assert len(read_content(path, "table", columns).queries) == 1
    path.write_text(_csv([("id", "question", "answer"), ("1", "Where is it?", "a"), ("1", "where is it?", "b")]))
    with pytest.raises(ValueError, match="line 3, question: query '1' has another text earlier in the file"):
        read_content(path, "table", columns)


# Parquet


def test_columns_of_parquet_that_are_no_texts_are_passed_over(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "faq.parquet"
    questions, answers = zip(*ROWS, strict=True)
    columns = {
        "question": pa.array([text.encode() for text in questions], pa.binary()),  # texts, and the file does not say so
        "answer": pa.array(answers).dictionary_encode(),
        "vector": pa.array([[0.5] * 8] * 2),
        "meta": pa.array([{"a": 1}] * 2),
        "picture": pa.array([b"\xff\xd8"] * 2, pa.binary()),
        "far": pa.array([2**52] * 2, pa.timestamp("ms")),
    }
    pq.write_table(pa.table(columns), path)
    found = inspect(path)
    assert _found(found) == ROWS
    assert "not read: vector (values of type list" in describe_inspection(found)


def test_nulls_of_parquet_are_empty_and_a_header_twice_is_refused_only_where_it_is_wanted(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "faq.parquet"
    columns = [pa.array(["a?", "b?", "c?"]), pa.array(["x", None, "nan"]), pa.array([1, 2, 3]), pa.array([1, 2, 3])]
    pq.write_table(pa.Table.from_arrays(columns, names=["question", "answer", "n", "n"]), path)
    assert _found(inspect(path)) == [("a?", "x")]
    pq.write_table(pa.Table.from_arrays(columns[:2] + columns[1:2], names=["question", "answer", "answer"]), path)
    with pytest.raises(ValueError, match=r"faq\.parquet: expected headers that differ"):
        inspect(path)


def test_rows_that_cost_nothing_to_write_are_refused_before_they_are_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    nothing = pa.nulls(10_000_001, pa.string())
    pq.write_table(pa.table({"question": nothing, "answer": nothing}), tmp_path / "long.parquet")
    with pytest.raises(ValueError, match=r"long\.parquet: expected at most 10,000,000 rows, found 10,000,001"):
        inspect(tmp_path / "long.parquet")


# Folders of BEIR


def _beir(folder: Path, qrels: str, *, corpus: Sequence[object] = (), queries: Sequence[object] = ()) -> Path:
    (folder / "qrels").mkdir(parents=True)
    passages = corpus or [
        {"_id": "d1", "title": "Pilots", "text": "They guide ships in."},
        {"_id": "d2", "title": "Tugs", "text": ""},
        {"_id": "d3", "title": "Cranes", "text": "Cranes lift cargo."},
        {"_id": "d4", "text": "No title."},
    ]
    asked = queries or [{"_id": "q1", "text": "who guides ships"}, {"_id": "q2", "text": "who pulls ships"}]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in passages))
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    (folder / "qrels" / "test.tsv").write_text(qrels)
    return folder


HEADER = "query-id\tcorpus-id\tscore\n"


def test_a_title_is_searched_with_its_text_once(tmp_path: Path) -> None:
    content = read_content(_beir(tmp_path / "set", HEADER + "q1\td1\t1\n"))
    assert list(content.corpus.values()) == [
        "Pilots They guide ships in.",
        "Tugs",
        "Cranes lift cargo.",
        "No title.",
    ]
    assert content.passage_attributes["d1"] == {"title": "Pilots"}


def test_a_folder_written_as_beir_has_each_title_in_its_field_and_reads_back_the_same(tmp_path: Path) -> None:
    from embed_pipeline.dataset.exchange.conversion import convert

    source = _beir(tmp_path / "set", HEADER + "q1\td1\t1\nq2\td2\t1\n")
    convert(source, tmp_path / "pairs.json", "rag_json")
    convert(tmp_path / "pairs.json", tmp_path / "again", "beir")
    first = json.loads((tmp_path / "again" / "corpus.jsonl").read_text().splitlines()[0])
    assert (first["title"], first["text"]) == ("Pilots", "They guide ships in.")
    assert read_content(tmp_path / "again").corpus == read_content(source).corpus


def test_grades_as_public_sets_write_them_are_read(tmp_path: Path) -> None:
    content = read_content(_beir(tmp_path / "set", HEADER + "q1\td1\t2.0\nq1\td2\t-1\nq2\td2\t1\n"))
    assert content.relevant == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}
    assert content.notes == (
        "1 judgments below 0 are read as 0, judged and not relevant; the first: qrels/test.tsv, line 3",
    )


def test_judgments_of_ids_that_the_folder_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    content = read_content(_beir(tmp_path / "set", HEADER + "gone\td1\t1\nq1\td1\t1\nq1\tgone\t1\nq2\td2\t1\n"))
    assert content.relevant == {"q1": {"d1": 1}, "q2": {"d2": 1}}
    assert [note.partition(";")[0] for note in content.notes] == [
        "1 judgments of a query that is not there are left out",
        "1 judgments of a passage that is not there are left out",
    ]


@pytest.mark.parametrize("qrels", [HEADER + "1\t7\t1\n", "1\t7\t1\n", "1 0 7 1\n", "1\t0\t7\t1\n"])
def test_ids_may_be_numbers_and_qrels_those_of_trec(tmp_path: Path, qrels: str) -> None:
    corpus, queries = [{"_id": 7, "text": "They guide ships."}], [{"_id": 1, "text": "who guides ships"}]
    assert read_content(_beir(tmp_path / "set", qrels, corpus=corpus, queries=queries)).relevant == {"1": {"7": 1}}


def test_judgments_of_nothing_but_unknown_ids_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="qrels: expected judgments of ids in this folder"):
        read_content(_beir(tmp_path / "set", HEADER + "a\tb\t1\n"))


# Several labels in a cell, notes


LABELLED = [("Knee hurts?", "knee"), ("Eye itches?", "eye"), ("Eye and knee?", "eye; knee"), ("Both?", "knee；ear")]


def test_several_labels_in_a_cell_are_seen_proposed_and_read(tmp_path: Path) -> None:
    found = _inspect(tmp_path / "faq.csv", _csv([("question", "label"), *LABELLED], "|"))
    assert found.files[0].columns is not None and found.files[0].columns.passage_separators == (";",)
    assert "cells hold several passages between ';'" in describe_inspection(found)
    dataset = _clean(found, tmp_path).dataset
    assert sorted(passage.text for passage in dataset.passages) == ["ear", "eye", "knee"]
    assert len(dataset.judgments) == 6


@pytest.mark.parametrize(
    ("cells", "separators"),
    [
        (["knee", "eye", "knee\neye", "eye\nknee"], ("\n",)),
        (["结节", "结节、癌", "结节、癌"], ("、",)),
        (["a", "b", "c", "a, b", "b, c"], (",",)),
        (["card lost", "fees, charges", "fees, charges", "card"], ()),  # a comma inside one label
        (["Go to the office; they know.", "Call; nobody answers.", "Yes."] * 2, ()),
    ],
)
def test_a_separator_parts_cells_into_labels_and_never_sentences(cells: list[str], separators: tuple[str, ...]) -> None:
    assert guess_separators(cells) == separators


def test_notes_of_a_file_reach_the_ledger_and_name_no_folder(tmp_path: Path) -> None:
    ledgers = []
    for name in ("here", "there"):
        source = tmp_path / f"{name}.jsonl"
        found = _inspect(source, '{"query": "how", "pos": ["p one"], "neg": ["p one", "n"]}\n')
        cleaned = _clean(found, tmp_path / name)
        (entry,) = cleaned.ledger
        assert (entry.reason, entry.row) == ("noted", 0)
        assert entry.detail == "1 passages are relevant and irrelevant to one query; relevant stays."
        (tmp_path / name / "out").mkdir()
        write_cleaned(cleaned, tmp_path / name / "out")
        ledgers.append((tmp_path / name / "out" / "ledger.jsonl").read_text().replace(name, ""))
    assert ledgers[0] == ledgers[1]


def test_init_says_what_a_run_would_leave_out(tmp_path: Path) -> None:
    from embed_pipeline.project.starting import start_dataset

    source = tmp_path / "faq.csv"
    numbered = [
        (f"What is the yearly fee for berth number {at} in the western basin?", f"Fee {at}") for at in range(20)
    ]
    splits = ["test" if at % 2 else "train" for at in range(20)]
    rows = [("question", "answer", "split"), *((*row, split) for row, split in zip(numbered, splits, strict=True))]
    source.write_text(
        _csv([*rows, *((f"Other thing {at * 7919}, perhaps?".replace(",", ""), "Yes", "train") for at in range(40))])
    )
    told = start_dataset(source, "mine", tmp_path / "data").found
    assert "Left out: 10 × near_duplicate_of_held_out" in told and "raise near_duplicate_threshold" in told
    assert len(told.splitlines()) < 24
