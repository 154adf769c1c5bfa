import datetime
import io
import re
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from embed_pipeline.dataset.settings import ColumnSettings
from embed_pipeline.dataset.workbook import RawCell, RawRow, read_rows
from embed_pipeline.dataset.workbook_file import MergedRange, scan_merged
from embed_pipeline_tests.stopwatch import fastest

COLUMNS = ColumnSettings(question="Question", labels=("Label", "Label2"))
HEADER = ("Question", "Thinking", "Label", "Label2")


def rows_of(path: Path, sheet: str | None = None) -> list[RawRow]:
    return list(read_rows(path, COLUMNS, sheet))


def texts_of(path: Path) -> list[tuple[int, str, str, str]]:
    return [(row.row_number, row.question.text, *(cell.text for cell in row.labels)) for row in rows_of(path)]


def test_rows_carry_their_place_and_gaps_are_empty(write_workbook) -> None:
    path = write_workbook([HEADER, ("q1", "t", "甲", None), (None,) * 4, ("q2", None, None, "乙"), (None, "t", None)])
    assert rows_of(path)[0] == RawRow(
        "book.xlsx", "Sheet1", 2, RawCell("Question", "q1"), (RawCell("Label", "甲"), RawCell("Label2", ""))
    )
    # Row 3 holds nothing and is no row; row 5 holds something and is one.
    assert texts_of(path) == [(2, "q1", "甲", ""), (4, "q2", "", "乙"), (5, "", "", "")]


def test_columns_may_stand_anywhere_and_headers_be_untidy(write_workbook) -> None:
    path = write_workbook([("No", " Label２ ", None, "Ｌabel", "Question\n"), (1, "乙", "x", "甲", "q")])
    assert texts_of(path) == [(2, "q", "甲", "乙")]


def test_header_alone_is_no_row(write_workbook) -> None:
    assert rows_of(write_workbook([HEADER])) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.5, "3.5"), (12, "12"), (True, "True"), (datetime.datetime(2024, 5, 1), "2024-05-01 00:00:00")],
)
def test_value_that_is_no_text_is_a_problem_of_its_cell(write_workbook, value: object, text: str) -> None:
    row = rows_of(write_workbook([HEADER, (value, None, "甲", value)]))[0]
    assert row.question == RawCell("Question", text, "not_text")
    assert row.labels == (RawCell("Label", "甲"), RawCell("Label2", text, "not_text"))


def test_error_value_is_a_problem_and_the_same_letters_as_text_are_not(write_workbook, edit_sheet) -> None:
    path = write_workbook([HEADER, ("q", None, "#N/A", "甲")])
    row = rows_of(path)[0]
    assert row.labels[0] == RawCell("Label", "#N/A", "error_value")
    edit_sheet(path, lambda xml: re.sub(r'<c r="C2" t="e"><v>#N/A</v>', '<c r="C2" t="str"><v>#N/A</v>', xml))
    assert rows_of(path)[0].labels[0] == RawCell("Label", "#N/A")


def test_formula_without_stored_value_is_a_problem_and_with_one_is_its_value(write_workbook, edit_sheet) -> None:
    path = write_workbook([HEADER, ("q1", None, '="甲"&"乙"', None), ('=A2&"x"', None, "甲", None), ("=A2",)])
    first, second, third = rows_of(path)
    assert first.labels[0] == RawCell("Label", '="甲"&"乙"', "formula_without_value")
    assert first.labels[1] == RawCell("Label2", "")
    assert second.question == RawCell("Question", '=A2&"x"', "formula_without_value")
    assert third.question.problem == "formula_without_value"

    def calculate(xml: str) -> str:
        xml = re.sub(r'<c r="C2">(<f>.*?</f>)<v ?/>', r'<c r="C2" t="str">\1<v>甲乙</v>', xml)
        return re.sub(r'<c r="A3">(<f>.*?</f>)<v ?/>', r'<c r="A3" t="str">\1<v></v>', xml)

    edit_sheet(path, lambda xml: calculate(xml.replace("<v></v>", "<v/>")))
    first, second, third = rows_of(path)
    assert first.labels[0] == RawCell("Label", "甲乙")
    assert second.question == RawCell("Question", "")  # calculated, and the result is the empty text
    assert third.question.problem == "formula_without_value"


def test_value_of_merged_cells_counts_for_every_row(write_workbook) -> None:
    path = write_workbook(
        [HEADER, ("q1", "t", "甲"), (None, "t", "乙"), (None, "t", "丙"), ("q2", None, "丁"), ("q3",)],
        merged=["A2:A4", "C5:D6"],
    )
    assert texts_of(path) == [
        (2, "q1", "甲", ""),
        (3, "q1", "乙", ""),
        (4, "q1", "丙", ""),
        (5, "q2", "丁", ""),  # a label merged over both label columns is one label
        (6, "q3", "丁", ""),
    ]


def test_question_merged_with_the_column_before_it_is_read(write_workbook) -> None:
    path = write_workbook([("Thinking", "Question", "Label", "Label2"), ("q1", None, "甲")], merged=["A2:B2"])
    assert texts_of(path) == [(2, "q1", "甲", "")]


def test_header_merged_downwards_is_refused(write_workbook) -> None:
    path = write_workbook([HEADER, (None, None, "a", "b"), ("q1", None, "甲")], merged=["A1:A2"])
    with pytest.raises(ValueError, match=r'the header "Question" must be one row, found it merged down to row 2'):
        rows_of(path)


def test_sheet_that_lies_about_its_size_is_read_whole(write_workbook, edit_sheet) -> None:
    path = write_workbook([HEADER, ("q1", None, "甲", "乙"), ("q2", None, "甲", "乙")])
    edit_sheet(path, lambda xml: re.sub(r'<dimension ref="[^"]+"', '<dimension ref="A1:B2"', xml))
    assert texts_of(path) == [(2, "q1", "甲", "乙"), (3, "q2", "甲", "乙")]
    edit_sheet(path, lambda xml: re.sub(r"<dimension [^>]+>", "", xml))
    assert len(rows_of(path)) == 2


def test_control_characters_as_excel_writes_them_are_white_space(write_workbook) -> None:
    assert texts_of(write_workbook([HEADER, ("a_x000D_b_x0041_", None, "甲")]))[0][1] == "a b_x0041_"


def test_sheet_is_the_first_visible_one_or_the_named_one(write_workbook) -> None:
    from openpyxl import load_workbook

    path = write_workbook([HEADER, ("q1", None, "甲")], sheets_before=["Readme"])
    with pytest.raises(ValueError, match=r"\"Readme\": the sheet is empty.*Other sheets: \['Sheet1'\]"):
        rows_of(path)
    with pytest.raises(
        ValueError, match=r"expected a sheet 'Sheet 1', found \['Readme', 'Sheet1'\]. Nearest: 'Sheet1'"
    ):
        rows_of(path, "Sheet 1")
    assert rows_of(path, "Sheet1")[0].question.text == "q1"
    workbook = load_workbook(path)
    workbook["Readme"].sheet_state = "hidden"
    workbook.active = workbook["Sheet1"]
    workbook.save(path)
    assert rows_of(path)[0].sheet == "Sheet1"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], r'book\.xlsx, sheet "Sheet1": the sheet is empty'),
        ([(None,), (None,)], "the sheet is empty"),
        ([("Questions", "Label", "Label2"), ("q", "甲")], r'row 1: expected a column "Question".*Nearest: "Questions"'),
        ([("Question", "Label"), ("q", "甲")], r"expected a column \"Label2\", found \['Question', 'Label'\]"),
        ([("Report 2024",), (None,), HEADER[:3], ("q", None, "甲")], r'row 3: expected a column "Label2", found'),
        ([(*HEADER, "Label"), ("q", None, "甲")], r'expected one column "Label", found it as columns \[3, 5\]'),
        ([("q1", "t", "甲", "乙")], r'expected a column "Question"'),
    ],
)
def test_header_that_does_not_fit_is_told(write_workbook, rows: list, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        rows_of(write_workbook(rows))


def test_repeated_header_of_an_ignored_column_is_no_error(write_workbook) -> None:
    assert len(rows_of(write_workbook([(*HEADER, "Thinking"), ("q", None, "甲")]))) == 1


def test_workbook_with_a_password_is_told(write_workbook) -> None:
    from msoffcrypto.format.ooxml import OOXMLFile

    path = write_workbook([HEADER, ("q", None, "甲")])
    protected = path.with_name("protected.xlsx")
    with path.open("rb") as plain, protected.open("wb") as out:
        OOXMLFile(plain).encrypt("secret", out)
    with pytest.raises(ValueError, match=r"protected\.xlsx: protected by a password"):
        rows_of(protected)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty \\(0 bytes\\)"),
        ("Question,Label,Label2\n糖尿病能买吗,糖尿病,\n".encode(), "perhaps a CSV, beginning 'Question,Label,Label2"),
        ("问题,标签\n".encode("gb18030") * 900, "perhaps a CSV, beginning '问题,标签"),
        (b"<html><table><tr><td>Question</td></tr></table></html>", "HTML or XML text"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504) + "Workbook".encode("utf-16-le"), r"old \.xls format"),
        (bytes(range(256)), r"bytes beginning 00 01 02"),
        (
            bytes.fromhex("20fc4f6a52e5504b0304140000000800"),
            "bytes beginning 20 fc 4f 6a",
        ),  # no text in any of the encodings tried
    ],
)
def test_file_that_is_no_workbook_is_named_for_what_it_is(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "book.xlsx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"book\.xlsx: .*" + told):
        rows_of(path)


@pytest.mark.parametrize(("part", "told"), [("word/document.xml", "without a workbook"), ("xl/workbook.bin", "xlsb")])
def test_other_office_files_are_named(tmp_path: Path, part: str, told: str) -> None:
    path = tmp_path / "book.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(part, "x")
    with pytest.raises(ValueError, match=told):
        rows_of(path)


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.xlsx: no such file"):
        rows_of(tmp_path / "gone.xlsx")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9, 0.999])
def test_truncated_workbook_is_told(write_workbook, share: float) -> None:
    path = write_workbook([HEADER, *(("q", None, "甲") for _ in range(50))])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"book\.xlsx: the Excel file is incomplete"):
        rows_of(path)


def test_damage_in_the_middle_is_told_and_no_row_is_dropped_silently(write_workbook, edit_sheet) -> None:
    path = write_workbook([HEADER, *((f"q{number}", None, "甲") for number in range(5000))])
    edit_sheet(path, lambda xml: xml[: len(xml) // 2])
    rows = read_rows(path, COLUMNS)
    assert next(rows).question.text == "q0"  # rows stream: the first is there before the damage is met
    with pytest.raises(ValueError, match=r"book\.xlsx: damaged or incomplete Excel file"):
        list(rows)


@pytest.mark.parametrize(
    "part", ["xl/workbook.xml", "xl/styles.xml", "[Content_Types].xml", "xl/worksheets/sheet1.xml"]
)
def test_a_part_that_is_no_xml_is_damage_of_the_file(write_workbook, part: str) -> None:
    path = write_workbook([("a", "b", None)])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b"xmlns=", b"broken xmlns=", 1) if name == part else content)
    with pytest.raises(ValueError, match=r"\.xlsx: damaged or incomplete Excel file .* save it again"):
        list(read_rows(path, COLUMNS))


def test_every_flipped_byte_is_an_error_or_changes_nothing(write_workbook) -> None:
    path = write_workbook([HEADER, *((f"q{number}", None, "甲") for number in range(20))])
    whole, content = texts_of(path), path.read_bytes()
    for position in range(0, len(content), 97):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            assert texts_of(path) == whole
        except ValueError as error:
            assert str(error).startswith("book.xlsx")


CHUNK = 1 << 20
TAIL = (
    b'</sheetData><mergeCells count="2"><mergeCell ref="A2:A4"/>'
    b"<x:mergeCell  ref='C5:AB60' /></mergeCells></worksheet>"
)


@pytest.mark.parametrize("cut", range(0, len(TAIL), 5))
def test_merged_ranges_are_found_wherever_a_read_is_cut(cut: int) -> None:
    """The filling puts the end of the first read `cut` bytes into the tail."""
    filling = b"<c><v>" + b"1" * (CHUNK - cut - 6)
    assert scan_merged(io.BytesIO(filling + TAIL)) == (MergedRange(2, 4, 1, 1), MergedRange(5, 60, 3, 28))


def test_titles_and_empty_rows_above_the_header_are_passed_over(write_workbook) -> None:
    title = [("Report 2024", None, "by the office"), (None,), HEADER, ("q1", None, "甲", "乙"), ("q2", None, "丙")]
    path = write_workbook(title, merged=["A1:B2", "A4:A5"])
    assert texts_of(path) == [(4, "q1", "甲", "乙"), (5, "q1", "丙", "")]


def test_the_header_row_of_the_settings_is_taken_whatever_looks_like_one_before_it(write_workbook) -> None:
    path = write_workbook([HEADER, ("an example", None, "label of it", None), (None,), HEADER, ("q1", None, "甲")])
    named = COLUMNS.model_copy(update={"header_row": 4})
    assert [(row.row_number, row.question.text) for row in read_rows(path, named)] == [(5, "q1")]
    with pytest.raises(ValueError, match=r'row 2: expected a column "Question", found'):
        list(read_rows(path, COLUMNS.model_copy(update={"header_row": 2})))


def make_strict(path: Path) -> Path:
    """The workbook as Excel saves it under "Strict Open XML Spreadsheet": the same parts under other names."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name, content in parts.items():
        content = content.replace(
            b"http://schemas.openxmlformats.org/spreadsheetml/2006/main",
            b"http://purl.oclc.org/ooxml/spreadsheetml/main",
        ).replace(
            b"http://schemas.openxmlformats.org/officeDocument/2006/relationships",
            b"http://purl.oclc.org/ooxml/officeDocument/relationships",
        )
        parts[name] = content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_a_strict_workbook_is_read_as_any_other(write_workbook) -> None:
    path = make_strict(write_workbook([HEADER, ("q1", None, "甲", "乙"), (None, None, "丙")], merged=["A2:A3"]))
    assert texts_of(path) == [(2, "q1", "甲", "乙"), (3, "q1", "丙", "")]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (
            '<row r="2000000000"><c r="A2000000000" t="str"><v>q</v></c></row>',
            "a row is numbered 2,000,000,000 after 1",
        ),
        ('<row r="2"><c r="ZZZ2" t="str"><v>q</v></c></row>', "row 2: a cell is in column 18,278"),
        ('<row r="1"><c r="A1" t="str"><v>q</v></c></row>', "a row is numbered 1 after 1"),
    ],
)
def test_a_place_that_no_sheet_has_is_told_at_once(write_workbook, edit_sheet, cell: str, told: str) -> None:
    path = edit_sheet(write_workbook([HEADER]), lambda xml: xml.replace("</sheetData>", cell + "</sheetData>"))
    with pytest.raises(ValueError, match=rf"book\.xlsx: damaged.*{told}"):
        rows_of(path)
    assert fastest(lambda: _refused(path)) < 2


def _refused(path: Path) -> None:
    with suppress(ValueError):
        rows_of(path)


def test_cells_far_out_cost_what_stands_in_the_file(write_workbook, edit_sheet) -> None:
    rows = "".join(
        f'<row r="{row}"><c r="A{row}" t="str"><v>q{row}</v></c><c r="XFD{row}"/></row>'
        for row in range(1000, 1_000_001, 1000)
    )
    path = edit_sheet(write_workbook([HEADER]), lambda xml: xml.replace("</sheetData>", rows + "</sheetData>"))
    assert [row.row_number for row in rows_of(path)] == [number * 1000 for number in range(1, 1001)]
    assert fastest(lambda: rows_of(path)) < 2


def test_a_workbook_that_unpacks_without_end_is_refused_before_it_is_unpacked(write_workbook) -> None:
    path = write_workbook([HEADER, ("q1", None, "甲")])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.bin", bytes(100_000_000))
    with pytest.raises(ValueError, match=r"book\.xlsx: expected a file that unpacks to at most 100 times its"):
        rows_of(path)


def test_a_workbook_of_ten_thousand_parts_is_refused(write_workbook) -> None:
    path = write_workbook([HEADER, ("q1", None, "甲")])
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(10_001):
            archive.writestr(f"xl/{number}", b"")
    with pytest.raises(ValueError, match=r"book\.xlsx: expected at most 10,000 files in it"):
        rows_of(path)
