"""Rows of cells in csv, xlsx, parquet and jsonl files: every cell a text, nothing, or what it is instead.

Belongs here: the header, and the one reading of each kind. Does not belong here: what a column means
(table, tuples), writing (table_writing), what lies below the cells (delimited_text, workbook_file).
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.exchange.collecting import kind_of, read_lines
from embed_pipeline.dataset.exchange.column_names import names_both, names_labelled_texts
from embed_pipeline.dataset.exchange.delimited_text import read_delimited
from embed_pipeline.dataset.exchange.table_writing import without_guards
from embed_pipeline.dataset.settings import TableColumns
from embed_pipeline.dataset.workbook import HEADER_SEARCHED_ROWS, MergedCells
from embed_pipeline.dataset.workbook_file import SAVE_AS_XLSX, Cell, Sheet, open_sheet

WRITTEN_SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet")
TABLE_SUFFIXES = (*WRITTEN_SUFFIXES, ".xlsm")
OTHER_SPREADSHEETS = (".xls", ".xlsb", ".xlt", ".xltx", ".ods", ".fods", ".numbers", ".et")
"""Spreadsheets that are not read: whoever has one is told how to save it."""

_MOST_ROWS = 10_000_000
_TAG = re.compile(
    r"</?(?:p|div|span|br|b|i|u|em|strong|font|a|ul|ol|li|table|tr|td|img|h[1-6])(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_TOLD = 5
_FEW = 0.05


@dataclass(frozen=True, slots=True)
class NoText:
    """A cell that holds no text: what it holds, and whether it stands for one that Excel could not write down.

    A `lost` cell (formula without a stored value, Excel error) is as good as empty; any other is an error where a text
    is wanted.
    """

    found: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row's filled cells by header; `place` is file and row for messages. An empty cell is not there."""

    place: str
    cells: Mapping[str, str | NoText]

    def text(self, header: str) -> str | None:
        """The cell's text, None where it is empty or lost. Raises ValueError where it is no text."""
        value = self.cells.get(header)
        if not isinstance(value, NoText):
            return value
        if value.lost:
            return None
        raise ValueError(f"{self.place}, {header}: expected text, found {value.found}. Write one text a cell.")

    def value(self, header: str) -> str | None:
        """As `text`, truth values included: what results are sliced by."""
        value = self.cells.get(header)
        return value.found.lower() if value in (NoText("True"), NoText("False")) else self.text(header)  # pyright: ignore


@dataclass(frozen=True, slots=True)
class Table:
    """A file's headers and rows in its order, how it was read, and what in it is not read.

    `repeated` has the positions, from 1, of every header that is there more than once; it is none of `headers`.
    `sheet` is the workbook's sheet where it is not the first visible one.
    """

    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    found: str
    notes: tuple[str, ...] = ()
    repeated: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sheet: str | None = None

    def check_header(self, path: Path, name: str, hint: str = "") -> None:
        """Raise ValueError where no column, or more than one, is called so."""
        if name in self.repeated:
            raise ValueError(
                f"{path}: expected headers that differ, found {name!r} as columns {list(self.repeated[name])}. "
                "Name every column once."
            )
        if name not in self.headers:
            raise ValueError(f"{path}: expected a column {name!r}, found {some(self.headers)}.{hint} Rename it.")

    def without(self, null_values: Iterable[str]) -> "Table":
        """The table with cells of exactly these texts taken for empty, which a note counts."""
        nulls, counts = frozenset(null_values), Counter[str]()
        rows = []
        for row in self.rows:
            found = [value for value in row.cells.values() if isinstance(value, str) and value in nulls]
            counts.update(found)
            rows.append(
                row if not found else replace(row, cells={h: v for h, v in row.cells.items() if v not in nulls})
            )
        if not counts:
            return self
        told = ", ".join(f"{text!r}: {count}" for text, count in counts.items())
        return replace(self, rows=tuple(rows), notes=(*self.notes, f"cells that say nothing are read as empty: {told}"))


def read_table(path: Path, columns: TableColumns | None = None) -> Table:
    """The table in a csv, tsv, xlsx, parquet or jsonl file; `columns` may name sheet, header row and encoding.

    The header of a csv or xlsx is the first row that has the columns of `columns`, else that names a question and a
    passage, else a text and a label, else the first that fills more than half of the columns; what stands above it is
    not read. A merged cell's value counts for every row of its range.

    Raises:
        ValueError: the file is missing, of another kind or malformed, there is no row below a header, or a row of a csv
            is longer than the header; names file and row.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Put it there.")
    kind = kind_of(path)
    if kind in (".jsonl", ".json"):
        return _read_jsonl(path)
    if kind == ".parquet":
        return _read_parquet(path)
    if kind in (".xlsx", ".xlsm"):
        return _read_xlsx(path, columns or TableColumns())
    if kind in (".csv", ".tsv", ".txt"):
        return without_guards(_read_csv(path, columns or TableColumns()))
    if kind in OTHER_SPREADSHEETS:
        raise ValueError(f"{path}: expected .xlsx or .csv, found another kind of spreadsheet ({kind}). {SAVE_AS_XLSX}")
    raise ValueError(f"{path}: expected .csv, .tsv, .xlsx, .parquet or .jsonl, found {kind!r}. Rename or convert it.")


def _read_csv(path: Path, columns: TableColumns) -> Table:
    text = read_delimited(path, columns.encoding, tabs=kind_of(path) != ".csv")
    header_line, header, below = _split_header(path, text.records, columns, "line")
    width = max(header) + 1
    over_lines: list[int] = []

    def checked() -> Iterator[tuple[str, Mapping[int, Any]]]:
        for line, row in below:
            if max(row) >= width:
                beyond = next(cell for at, cell in row.items() if at >= width)
                raise ValueError(
                    f"{path}, line {line}: expected {width} cells, found {max(row) + 1} (beyond the header: "
                    f"{beyond!r:.40}). Quote cells that hold the delimiter."
                )
            if any(text.holds_rows(cell, width) for cell in row.values()):
                over_lines.append(line)
            yield f"{path}, line {line}", row

    table = _table(path, header, checked(), f"{text.found}, header in line {header_line}")
    if text.lost:
        table = replace(table, notes=(*table.notes, text.lost))
    if not 0 < len(over_lines) <= max(1, _FEW * len(table.rows)):
        return table  # where many are, cells of several lines are how the file is
    note = (
        f"{len(over_lines)} cells go over several lines that look like rows; the first begins in line {over_lines[0]}. "
        "If the quotation mark there is a mere mark, write it twice"
    )
    return replace(table, notes=(*table.notes, note))


def _read_xlsx(path: Path, columns: TableColumns) -> Table:
    """The table of the named sheet, else of the first visible one with the wanted columns, that names a question and a
    passage, or that is a table at all: a cover sheet, a history or a list of codes may lie before it. The first table
    is not passed over for one of less than half its rows that merely has such names: examples, a legend.
    """
    with open_sheet(path, columns.sheet) as first:
        found = [(first, _sheet_table(path, first, columns))]
    if columns.sheet is None:
        for name in first.others:
            if _named_table(found, columns) or (columns.header_row and _is_table(found[-1][1])):
                break
            if name not in first.hidden:
                with open_sheet(path, name) as other:
                    found.append((other, _sheet_table(path, other, columns)))
    sheet, table = _named_table(found, columns) or next((pair for pair in found if _is_table(pair[1])), found[0])
    if table is None:
        raise ValueError(f"{path}, sheet {sheet.title!r}: expected a header and rows, found none. Fill it.")
    others = [
        f"{name}{' (hidden)' if name in sheet.hidden else ''}"
        for name in (first.title, *first.others)
        if name != sheet.title
    ]
    notes = [f"other sheets are not read: {some(others)}"] if others else []
    passed_over = columns.sheet is None and sheet is not first
    return replace(table, notes=(*notes, *table.notes), sheet=sheet.title if passed_over else None)


def _named_table(
    found: Sequence[tuple[Sheet, Table | None]], columns: TableColumns
) -> tuple[Sheet, Table | None] | None:
    """The first table with the wanted columns, or whose header names a question and a passage of enough rows."""
    first = next((len(table.rows) for _, table in found if table is not None and _is_table(table)), 0)
    for sheet, table in found:
        if table is not None and table.rows:
            headers = {*table.headers, *table.repeated}
            if {columns.query, columns.passage} <= headers or (names_both(headers) and 2 * len(table.rows) >= first):
                return sheet, table
    return None


def _is_table(table: Table | None) -> bool:
    return table is not None and len(table.headers) > 1 and bool(table.rows)


def _sheet_table(path: Path, sheet: Sheet, columns: TableColumns) -> Table | None:
    """The sheet's table, None where the sheet is empty."""
    place = f'{path.name}, sheet "{sheet.title}"'
    filled = ((number, row) for number, row in sheet.rows if row)
    first = next(filled, None)
    if first is None:
        return None
    header_row, found, below = _split_header(path, chain([first], filled), columns, "row")
    positions = {str(at): at for at in found}
    merged = MergedCells(sheet.merged, positions, header_row=header_row, place=place)
    rows = (
        (f"{path}, row {number}", {at: _value(cell) for at, cell in _filled(merged, number, row).items()})
        for number, row in below
    )
    header = {at: cell.value for at, cell in found.items()}
    if not any(map(_header_text, found.values())):
        return None
    return _table(path, header, rows, f"sheet {sheet.title!r}, header in row {header_row}")


def _filled(merged: MergedCells, number: int, row: Mapping[int, Cell]) -> Mapping[int, Cell]:
    return {**row, **{int(at): cell for at, cell in merged.fill(number, row).items()}}


def _value(cell: Cell) -> Any:
    if cell.problem == "formula_without_value":
        return NoText("a formula without a stored value: open the workbook in Excel and save it", lost=True)
    return NoText(f"the Excel error {cell.value}", lost=True) if cell.problem == "error_value" else cell.value


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        count = pq.read_metadata(path).num_rows
        if count > _MOST_ROWS:
            raise ValueError(f"{path}: expected at most {_MOST_ROWS:,} rows, found {count:,}. Split the file.")
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a parquet file: {str(error).rstrip('.')}. Write it again.") from error
    columns = [_arrow_values(column) for column in table.columns]
    rows = ((f"{path}, row {number}", dict(enumerate(row))) for number, row in enumerate(zip(*columns, strict=True), 1))
    return _table(path, dict(enumerate(table.column_names)), rows, "parquet")


def _arrow_values(column: Any) -> Sequence[Any]:
    """The column's values, or NoText for all of them where its type or bytes make no texts."""
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        return [NoText(f"values of type {column.type}")] * len(column)
    try:
        values = column.to_pylist()
        # Older writers leave out that bytes are texts.
        return [v.decode() if isinstance(v, bytes) else v for v in values]
    except (pa.ArrowException, ValueError, OverflowError) as error:  # ValueError: not UTF-8, a date beyond Python's
        return [NoText(f"values that cannot be read ({error})")] * len(column)


def _read_jsonl(path: Path) -> Table:
    lines = list(read_lines(path))
    header = dict(enumerate(dict.fromkeys(name for line in lines for name in line.found)))
    position = {name: at for at, name in header.items()}
    rows = ((line.place, {position[name]: value for name, value in line.found.items()}) for line in lines)
    return _table(path, header, rows, "JSON lines")


def _split_header(
    path: Path, rows: Iterator[tuple[int, Mapping[int, Any]]], columns: TableColumns, what: str
) -> tuple[int, Mapping[int, Any], Iterator[tuple[int, Mapping[int, Any]]]]:
    """Number and cells of the header, and the rows below it."""
    filled = ((number, row) for number, row in rows if row)
    header_row = columns.header_row
    if header_row is not None:
        found = next(((number, row) for number, row in filled if number >= header_row), None)
        if found is None or found[0] != header_row:
            raise ValueError(f"{path}, {what} {header_row}: expected the header, found nothing. Correct `header_row`.")
        return *found, filled
    first = list(islice(filled, HEADER_SEARCHED_ROWS))
    if not first:
        raise ValueError(f"{path}: expected a header and rows, found none. Write the file again.")
    at = _header_index([row for _, row in first], columns)

    def below() -> Iterator[tuple[int, Mapping[int, Any]]]:
        yield from first[at + 1 :]
        yield from filled

    return *first[at], below()


def _header_index(rows: Sequence[Mapping[int, Any]], columns: TableColumns) -> int:
    headers = [{_header_text(value) for value in row.values()} for row in rows]
    for fits in ({columns.query, columns.passage}.issubset, names_both, names_labelled_texts):
        at = next((at for at, names in enumerate(headers) if fits(names)), None)
        if at is not None:
            return at
    most = max(map(len, rows))
    return next((at for at, row in enumerate(rows) if len(row) > 1 and 2 * len(row) > most), 0)


def _header_text(value: Any) -> str:
    """Composed letters, as settings have them: macOS writes é as two."""
    text = str(value.value if isinstance(value, Cell) else value).strip().strip("\u200b\ufeff").strip()
    return unicodedata.normalize("NFC", text)


def _table(path: Path, header: Mapping[int, Any], found: Iterable[tuple[str, Mapping[int, Any]]], how: str) -> Table:
    positions: dict[str, list[int]] = {}
    for at, value in header.items():
        if value is not None and _header_text(value):
            positions.setdefault(_header_text(value), []).append(at)
    names = {at[0]: name for name, at in positions.items() if len(at) == 1}
    repeated = {name: tuple(p + 1 for p in at) for name, at in positions.items() if len(at) > 1}
    passed_over = {position for at in positions.values() if len(at) > 1 for position in at}
    rows, nameless, lost = [], set[int](), Counter[tuple[str, str]]()
    headers_again, marked_up = list[str](), list[str]()
    for place, row in found:
        cells: dict[str, str | NoText] = {}
        for at, value in row.items():
            cell = _cell(value)
            if cell is None:
                continue
            name = names.get(at)
            if name is not None:
                cells[name] = cell
                if isinstance(cell, NoText) and cell.lost:
                    lost[name, cell.found] += 1
            elif at not in passed_over:
                nameless.add(at)
        if len(cells) > 1 and all(_is_header(cell, name) for name, cell in cells.items()):
            headers_again.append(place.rpartition(", ")[2])
        elif cells:
            rows.append(Row(place, cells))
            if any(isinstance(cell, str) and _TAG.search(cell) for cell in cells.values()):
                marked_up.append(place.rpartition(", ")[2])
    if not positions:
        raise ValueError(f"{path}: expected a header and rows, found none. Write the file again.")
    notes = [f"{count} cells of {name} are lost: {why}" for (name, why), count in lost.most_common(_TOLD)]
    if headers_again:
        notes.append(f"{len(headers_again)} rows repeat the header and are left out; the first: {headers_again[0]}")
    if marked_up:
        notes.append(f"{len(marked_up)} rows hold HTML tags, which are read as text; the first: {marked_up[0]}")
    if nameless:
        notes.append(f"columns without a header are not read: {some([str(at + 1) for at in sorted(nameless)])}")
    if repeated:
        notes.append(f"columns of the same header are not read: {some(list(repeated))}")
    return Table(tuple(names.values()), tuple(rows), how, tuple(notes), repeated)


def _is_header(cell: str | NoText, name: str) -> bool:
    return isinstance(cell, str) and (cell == name or _header_text(cell) == name)


def _cell(value: Any) -> str | NoText | None:
    if value is None or isinstance(value, NoText):
        return value
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool | list | dict | bytes):
        return NoText(f"{value!r:.60}")
    if isinstance(value, float):
        return (str(int(value)) if value.is_integer() else str(value)) if math.isfinite(value) else None
    return str(value)


def some(names: Sequence[str]) -> str:
    """The first few names; there may be twenty thousand."""
    more = f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD + 1 else ""
    return f"{list(names[: _TOLD if more else None])}{more}"
