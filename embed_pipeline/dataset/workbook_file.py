"""One sheet of a workbook as rows of cells, or what the file is instead of a workbook: the only reader of xlsx.

Belongs here: the container, the sheet, cells and merged ranges as they lie there. Does not belong here: headers and
what a row means (workbook, exchange.table_files).

Rows are taken from openpyxl's parser and not from its sheets: these trust the size that a sheet claims, fill gaps with
empty rows (two thousand million of them, if a row says that it is the last), and do not tell a formula without a stored
value from an empty cell.
"""

import codecs
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from embed_pipeline.dataset.raw_text import check_archive, without_strict_names
from embed_pipeline.nearest import nearest_text

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

# What openpyxl lets through from zip, XML and broken references inside a damaged file.
_DAMAGE = (
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,  # what both xml.etree's and lxml's parsers raise; openpyxl takes the one that is there
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    NotImplementedError,
)

SAVE_AS_XLSX = "Open it in Excel, LibreOffice or WPS, choose File, Save As, and there Excel Workbook (.xlsx)."

_OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
_ZIP_MAGIC = b"PK\x03\x04"
_MOST_ROWS, _MOST_COLUMNS = 1_048_576, 16_384
_SCANNED_BYTES = 1 << 20
# Neither kind of tag can occur in a cell's text, where `<` is always escaped.
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^<>]*?\bref\s*=\s*[\"']([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})[\"']")
# Excel writes control characters of a text as _x000D_.
_ESCAPED_CONTROL = re.compile(r"_x00[01][0-9A-Fa-f]_")


@dataclass(frozen=True, slots=True)
class Cell:
    """A filled cell's value as Python has it, or a formula's or error's text with what is wrong with it."""

    value: Any
    problem: Literal["formula_without_value", "error_value"] | None = None


@dataclass(frozen=True, slots=True)
class MergedRange:
    """A merged range, counted from 1, ends included; its value stands in the first row and column."""

    first_row: int
    last_row: int
    first_column: int
    last_column: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet: its name, the names of the others and of those that are hidden, its merged ranges, and its rows.

    `rows` can be gone through once: Excel's row number and the filled cells by position from 0. A row that holds none
    comes as one without cells, or not at all. Going through raises ValueError where the file is damaged.
    """

    title: str
    others: tuple[str, ...]
    hidden: tuple[str, ...]
    merged: tuple[MergedRange, ...]
    rows: Iterator[tuple[int, Mapping[int, Cell]]]


@contextmanager
def open_sheet(path: Path, name: str | None = None) -> Iterator[Sheet]:
    """The sheet of that name, or the first visible one; formulas count as the values that Excel stored with them.

    Raises:
        ValueError: the file is missing, empty, protected by a password, damaged or no .xlsx, or there is no such sheet;
            the message says which.
    """
    from openpyxl import load_workbook

    _refuse_other_files(path)
    with path.open("rb") as file, tempfile.TemporaryFile() as translated:
        try:
            source = without_strict_names(file, "xl/workbook.xml", translated)
            workbook = load_workbook(source, read_only=True, data_only=True, keep_links=False)
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        try:
            sheet = _choose_sheet(workbook, path, name)
            yield Sheet(
                title=sheet.title,
                others=tuple(other.title for other in workbook.worksheets if other.title != sheet.title),
                hidden=tuple(other.title for other in workbook.worksheets if other.sheet_state != "visible"),
                merged=_merged_ranges(path, sheet),
                rows=_rows(path, sheet),
            )
        finally:
            workbook.close()


def scan_merged(source: IO[bytes]) -> tuple[MergedRange, ...]:
    """The merged ranges in a sheet's XML, in its order; they stand behind the rows and are needed before them."""
    from openpyxl.utils.cell import range_boundaries

    merged: list[MergedRange] = []
    rest = b""
    while chunk := source.read(_SCANNED_BYTES):
        window = rest + chunk
        # A tag cut by the end of the window waits for the next one.
        end = window.rfind(b"<")
        window, rest = (window[:end], window[end:]) if end >= 0 else (window, b"")
        for found in _MERGED.finditer(window):
            first_column, first_row, last_column, last_row = range_boundaries(found[1].decode())
            merged.append(MergedRange(first_row, last_row, first_column, last_column))  # pyright: ignore
    return tuple(merged)


def _merged_ranges(path: Path, sheet: "ReadOnlyWorksheet") -> tuple[MergedRange, ...]:
    try:
        # openpyxl has no public way to the sheet's own XML.
        with sheet._get_source() as source:  # pyright: ignore[reportAttributeAccessIssue]
            return scan_merged(source)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _rows(path: Path, sheet: "ReadOnlyWorksheet") -> Iterator[tuple[int, Mapping[int, Cell]]]:
    from openpyxl.worksheet._reader import FORMULA_TAG, WorkSheetParser

    class Parser(WorkSheetParser):
        def parse_cell(self, element: Any) -> dict[str, Any]:
            cell = super().parse_cell(element)
            # A formula whose stored value is the empty text has the type "str": that one is empty, not unknown.
            if cell["value"] is None and cell["data_type"] != "str":
                formula = element.find(FORMULA_TAG)
                if formula is not None:
                    cell |= {"value": f"={formula.text or ''}", "data_type": "f"}
            return cell

    workbook, last = sheet.parent, 0
    try:
        with sheet._get_source() as source:  # pyright: ignore[reportAttributeAccessIssue]
            parser = Parser(
                source,
                sheet._shared_strings,  # pyright: ignore[reportAttributeAccessIssue]
                data_only=True,
                epoch=workbook.epoch,
                date_formats=workbook._date_formats,  # pyright: ignore[reportAttributeAccessIssue]
                timedelta_formats=workbook._timedelta_formats,  # pyright: ignore[reportAttributeAccessIssue]
            )
            for number, found in parser.parse():
                if not last < number <= _MOST_ROWS:
                    raise ValueError(f"a row is numbered {number:,} after {last:,}; a sheet has {_MOST_ROWS:,} rows")
                last = number
                yield number, {cell["column"] - 1: _cell(number, cell) for cell in found if cell["value"] is not None}
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _cell(row: int, found: Mapping[str, Any]) -> Cell:
    if found["column"] > _MOST_COLUMNS:
        raise ValueError(f"row {row:,}: a cell is in column {found['column']:,}; a sheet has {_MOST_COLUMNS:,} columns")
    value, kind = found["value"], found["data_type"]
    if kind == "f":
        return Cell(value, "formula_without_value")
    if kind == "e":
        return Cell(str(value), "error_value")
    return Cell(_ESCAPED_CONTROL.sub(" ", value) if isinstance(value, str) else value)


def _choose_sheet(workbook: "Workbook", path: Path, name: str | None) -> "ReadOnlyWorksheet":
    sheets: dict[str, ReadOnlyWorksheet] = {
        sheet.title: sheet  # pyright: ignore[reportAssignmentType]
        for sheet in workbook.worksheets
    }
    if name is not None and name not in sheets:
        nearest = nearest_text(name, list(sheets))
        hint = f" Nearest: {nearest.text!r}." if nearest else ""
        raise ValueError(
            f"{path.name}: expected a sheet {name!r}, found {list(sheets)}.{hint} Rename the sheet or correct `sheet` "
            "in dataset.yaml."
        )
    visible = [title for title, sheet in sheets.items() if sheet.sheet_state == "visible"]
    if name is None and not visible:
        raise ValueError(f"{path.name}: expected a visible sheet, found {list(sheets)}. Name one as `sheet`.")
    return sheets[visible[0] if name is None else name]


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path.name}: damaged or incomplete Excel file ({type(error).__name__}: {error}). Open it in Excel, save it "
        "again as .xlsx, or copy it again from where it came from."
    )


def _refuse_other_files(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path.name}: no such file. Put the workbook there or correct `workbooks` in dataset.yaml.")
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise ValueError(f"{path.name}: the file is empty (0 bytes). Copy the workbook again.")
    if head.startswith(_OLE_MAGIC):
        _refuse_ole_file(path)
    if not head.startswith(_ZIP_MAGIC):
        raise ValueError(f"{path.name}: expected an .xlsx workbook, found {_describe_head(head)}. {SAVE_AS_XLSX}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path.name}: the Excel file is incomplete, its end is missing ({path.stat().st_size} bytes). "
            "Copy it again."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    with zipfile.ZipFile(path) as archive:
        check_archive(path, archive)
    if "xl/workbook.bin" in names:
        raise ValueError(f"{path.name}: expected an .xlsx workbook, found a binary one (.xlsb). {SAVE_AS_XLSX}")
    if "mimetype" in names and "content.xml" in names:
        raise ValueError(f"{path.name}: expected an .xlsx workbook, found an OpenDocument file (.ods). {SAVE_AS_XLSX}")
    if not any(name.startswith("xl/") for name in names):
        raise ValueError(f"{path.name}: a zip archive without a workbook in it, found {names[:3]}. {SAVE_AS_XLSX}")


def _refuse_ole_file(path: Path) -> None:
    # The names of the streams stand in UTF-16 in the container's directory.
    if "EncryptedPackage".encode("utf-16-le") in path.read_bytes():
        raise ValueError(f"{path.name}: protected by a password. Remove it (File, Info, Protect Workbook) and save.")
    raise ValueError(f"{path.name}: expected an .xlsx workbook, found the old .xls format. {SAVE_AS_XLSX}")


def _describe_head(head: bytes) -> str:
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "HTML or XML text"
    for encoding in ("utf-8-sig", "gb18030", "utf-16"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)  # the head may end inside a character
        except UnicodeError:  # UTF-16 without its mark is no UnicodeDecodeError
            continue
        if "\x00" not in text:
            return f"text, perhaps a CSV, beginning {text[:40]!r}"
    return f"bytes beginning {head[:8].hex(' ')}"
