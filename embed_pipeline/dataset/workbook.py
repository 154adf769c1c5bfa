"""The rows of a workbook as the data set sees them: a question, label cells, and what is wrong with a cell.

Belongs here: headers, cells, merged cells. Does not belong here: what a row means (cleaning), the file (workbook_file).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embed_pipeline.dataset.header import locate_columns
from embed_pipeline.dataset.merged_cells import MergedCells
from embed_pipeline.dataset.settings import ColumnSettings
from embed_pipeline.dataset.sheet_scan import SheetScan, scan_sheet
from embed_pipeline.dataset.workbook_file import DAMAGE, choose_sheet, damaged_workbook, open_workbook

if TYPE_CHECKING:
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

CellProblem = Literal["not_text", "formula_without_value", "error_value"]

# Excel writes control characters of a text as _x000D_.
_ESCAPED_CONTROL = re.compile(r"_x00[01][0-9A-Fa-f]_")


@dataclass(frozen=True, slots=True)
class RawCell:
    """A cell's text, "" for an empty one, or its value as text with the problem that keeps it from being used."""

    column: str
    text: str
    problem: CellProblem | None = None


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row below the header; label and slice cells in the order of the settings, empty ones included."""

    workbook: str
    sheet: str
    row_number: int
    question: RawCell
    labels: tuple[RawCell, ...]
    slices: tuple[RawCell, ...] = ()


@dataclass(frozen=True, slots=True)
class _SheetCell:
    value: Any
    data_type: str
    lacks_cached_value: bool = False


def read_rows(path: Path, columns: ColumnSettings, sheet: str | None = None) -> Iterator[RawRow]:
    """The rows of a workbook from top to bottom, streamed; a row without any value in it is none.

    Row numbers are Excel's. A merged cell's value counts for every row of its range. A formula counts as the value that
    Excel stored with it; without one the cell has the problem formula_without_value.

    Raises:
        ValueError: the file is no readable .xlsx, or the sheet or a header is missing or there twice.
    """
    with open_workbook(path) as workbook:
        found_sheet = choose_sheet(workbook, path, sheet)
        place = f'{path.name}, sheet "{found_sheet.title}"'
        scan = _scan(path, found_sheet)
        rows = _stream_rows(path, found_sheet, with_formulas=scan.has_formulas)
        positions = locate_columns(
            ([cell.value for cell in row] for row in rows),
            columns,
            place=place,
            other_sheets=[other.title for other in workbook.worksheets if other.title != found_sheet.title],
        )
        merged = MergedCells[_SheetCell](scan.merged, positions, place=place)
        for row_number, row in enumerate(rows, start=2):
            cells = {name: row[position] for name, position in positions.items() if position < len(row)}
            cells |= merged.fill(row_number, row)
            if any(cell.value is not None for cell in (*row, *cells.values())):
                yield _make_row(path.name, found_sheet.title, row_number, columns, cells)


def _scan(path: Path, sheet: "ReadOnlyWorksheet") -> SheetScan:
    try:
        # openpyxl has no public way to the sheet's own XML.
        with sheet._get_source() as source:  # pyright: ignore[reportAttributeAccessIssue]
            return scan_sheet(source)
    except DAMAGE as error:
        raise damaged_workbook(path, error) from error


def _stream_rows(path: Path, sheet: "ReadOnlyWorksheet", *, with_formulas: bool) -> Iterator[list[_SheetCell]]:
    """Every row from the first on, gaps as []; a second pass beside the first tells formulas from empty cells."""
    try:
        if not with_formulas:
            for row in sheet.iter_rows():
                yield [_SheetCell(cell.value, cell.data_type) for cell in row]
            return
        with open_workbook(path, cached_values=False) as formulas:
            twins = choose_sheet(formulas, path, sheet.title).iter_rows()
            for row, twin_row in zip(sheet.iter_rows(), twins, strict=True):
                yield [_compare_cells(cell, twin) for cell, twin in zip(row, twin_row, strict=True)]
    except DAMAGE as error:
        raise damaged_workbook(path, error) from error


def _compare_cells(cell: Any, twin: Any) -> _SheetCell:
    # A formula whose stored value is the empty text has the type "str" and no value: that one is empty, not unknown.
    lacks = twin.data_type == "f" and cell.value is None and cell.data_type != "str"
    return _SheetCell(twin.value if lacks else cell.value, cell.data_type, lacks)


def _make_row(
    workbook: str, sheet: str, row_number: int, columns: ColumnSettings, cells: Mapping[str, _SheetCell]
) -> RawRow:
    def raw_cell(column: str) -> RawCell:
        cell = cells.get(column)
        if cell is None:
            return RawCell(column, "")
        if cell.lacks_cached_value:
            formula = getattr(cell.value, "text", cell.value)  # an array formula is an object with its text
            return RawCell(column, str(formula), "formula_without_value")
        if cell.value is None:
            return RawCell(column, "")
        if cell.data_type == "e":
            return RawCell(column, str(cell.value), "error_value")
        if isinstance(cell.value, str):
            return RawCell(column, _ESCAPED_CONTROL.sub(" ", cell.value))
        return RawCell(column, str(cell.value), "not_text")

    labels, slices = (tuple(map(raw_cell, names)) for names in (columns.labels, columns.slices))
    return RawRow(workbook, sheet, row_number, raw_cell(columns.question), labels, slices)
