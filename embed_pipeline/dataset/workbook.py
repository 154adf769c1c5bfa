"""The rows of a workbook as the data set sees them: a question, label cells, and what is wrong with a cell.

Belongs here: headers, cells, merged cells. Does not belong here: what a row means (cleaning), the file (workbook_file).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from embed_pipeline.dataset.normalisation import normalise_text
from embed_pipeline.dataset.settings import ColumnSettings
from embed_pipeline.dataset.workbook_file import Cell, MergedRange, Sheet, open_sheet
from embed_pipeline.nearest import nearest_text

CellProblem = Literal["not_text", "formula_without_value", "error_value"]

HEADER_SEARCHED_ROWS = 20
"""How many rows are looked at for the header: titles and notes above it are a few."""


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


def read_rows(path: Path, columns: ColumnSettings, sheet: str | None = None) -> Iterator[RawRow]:
    """The rows of a workbook from top to bottom, streamed; a row without any value in it is none.

    Row numbers are Excel's. The header is the row that the settings name, else the first of the first
    HEADER_SEARCHED_ROWS that has every column; what stands above it is not read. A merged cell's value counts for every
    row of its range. A formula counts as the value that Excel stored with it; without one the cell has the problem
    formula_without_value.

    Raises:
        ValueError: the file is no readable .xlsx, or the sheet or a header is missing or there twice.
    """
    with open_sheet(path, sheet) as found:
        place = f'{path.name}, sheet "{found.title}"'
        header_row, positions = _locate_columns(found, columns, place=place)
        merged = MergedCells(found.merged, positions, header_row=header_row, place=place)
        for row_number, row in found.rows:
            if row_number <= header_row:
                continue
            cells = {name: row[position] for name, position in positions.items() if position in row}
            cells |= merged.fill(row_number, row)
            if row or cells:
                yield _make_row(path.name, found.title, row_number, columns, cells)


class MergedCells:
    """Fills the cells that a merge left empty, row by row, holding only the ranges that reach the current row.

    A range over several columns counts for the first of them that is wanted, so a merged label is one label.
    """

    def __init__(
        self, ranges: Iterable[MergedRange], positions: Mapping[str, int], *, header_row: int, place: str
    ) -> None:
        """Raises ValueError if a wanted header is merged with rows below it, which would make it a value."""
        self._starting: dict[int, list[tuple[MergedRange, str]]] = defaultdict(list)
        self._open: dict[str, tuple[int, Cell]] = {}
        by_position = sorted(positions.items(), key=lambda item: item[1])
        for merged in ranges:
            column = next((n for n, p in by_position if merged.first_column - 1 <= p < merged.last_column), None)
            if column is None or merged.last_row <= header_row:
                continue
            if merged.first_row <= header_row:
                raise ValueError(
                    f'{place}: the header "{column}" must be one row, found it merged down to row {merged.last_row}. '
                    f"Unmerge it and leave the header in row {header_row}."
                )
            self._starting[merged.first_row].append((merged, column))

    def fill(self, row_number: int, row: Mapping[int, Cell]) -> Mapping[str, Cell]:
        """The merged values that count for this row, by column; rows must come in order."""
        ended = [column for column, (last_row, _) in self._open.items() if last_row < row_number]
        for column in ended:
            del self._open[column]
        for merged, column in self._starting.pop(row_number, ()):
            if merged.first_column - 1 in row:
                self._open[column] = (merged.last_row, row[merged.first_column - 1])
        return {column: cell for column, (_, cell) in self._open.items()}


def _locate_columns(sheet: Sheet, columns: ColumnSettings, *, place: str) -> tuple[int, Mapping[str, int]]:
    """The header's row and the position, from 0, of every column of the settings in it; rows up to it are consumed.

    Headers are compared normalised (white space, full-width letters). Other columns may be anything.
    """
    wanted = (columns.question, *columns.labels, *columns.slices)
    names = [normalise_text(name) for name in wanted]
    looked_at: list[tuple[int, dict[int, str]]] = []
    for number, row in islice(sheet.rows, columns.header_row or HEADER_SEARCHED_ROWS):
        if columns.header_row is not None and number < columns.header_row:
            continue
        texts = {position: normalise_text(str(cell.value)) for position, cell in row.items()}
        looked_at.append((number, texts))
        if columns.header_row is not None or set(names) <= set(texts.values()):
            break
    if not any(texts for _, texts in looked_at):
        elsewhere = f" {_other_sheets(sheet)}" if sheet.others else ""
        raise ValueError(f"{place}: the sheet is empty. Fill it or delete the file.{elsewhere}")
    number, texts = looked_at[-1]
    if not set(names) <= set(texts.values()):
        # The row that has most of them is what the owner thinks of as the header.
        number, texts = max(looked_at, key=lambda item: len(set(names) & set(item[1].values())))
        raise ValueError(_describe_missing(wanted, number, texts, place, sheet))
    for name, normalised in zip(wanted, names, strict=True):
        twice = [position + 1 for position, text in texts.items() if text == normalised]
        if len(twice) > 1:
            raise ValueError(
                f'{place}, row {number}: expected one column "{name}", found it as columns {twice}. '
                "Rename or delete one."
            )
    by_text = {text: position for position, text in texts.items()}
    return number, {name: by_text[normalised] for name, normalised in zip(wanted, names, strict=True)}


def _describe_missing(wanted: Sequence[str], number: int, texts: Mapping[int, str], place: str, sheet: Sheet) -> str:
    headers = [text for text in texts.values() if text]
    lines = []
    for name in wanted:
        if normalise_text(name) not in headers:
            nearest = nearest_text(name, headers)
            hint = f' Nearest: "{nearest.text}".' if nearest else ""
            lines.append(f'{place}, row {number}: expected a column "{name}", found {headers}.{hint}')
    elsewhere = f" {_other_sheets(sheet)}" if sheet.others else ""
    return "\n".join(lines) + f"\nRename the header or correct `columns` in dataset.yaml.{elsewhere}"


def _other_sheets(sheet: Sheet) -> str:
    return f"Other sheets: {list(sheet.others)}; name one as `sheet` in dataset.yaml."


def _make_row(workbook: str, sheet: str, row_number: int, columns: ColumnSettings, cells: Mapping[str, Cell]) -> RawRow:
    def raw_cell(column: str) -> RawCell:
        cell = cells.get(column)
        if cell is None:
            return RawCell(column, "")
        if cell.problem is not None:
            return RawCell(column, cell.value, cell.problem)
        return RawCell(column, str(cell.value), None if isinstance(cell.value, str) else "not_text")

    labels, slices = (tuple(map(raw_cell, names)) for names in (columns.labels, columns.slices))
    return RawRow(workbook, sheet, row_number, raw_cell(columns.question), labels, slices)
