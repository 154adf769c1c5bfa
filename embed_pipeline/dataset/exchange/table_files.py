"""Rows of cells in csv, xlsx, parquet and jsonl files: every cell a text or nothing.

Belongs here: encoding, delimiter, and the one reading and writing of each kind. Does not belong here: what a column
means (table, tuples).
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.exchange.collecting import read_lines, write_lines, write_text
from embed_pipeline.dataset.exchange.formulas import guard_rows, without_guards

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet")
_DELIMITERS = (",", "\t", ";", "|")
_PROBED_BYTES = 1_000_000
_PROBED_ROWS = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One row's filled cells by header; `place` is file and row for messages. An empty cell is not there."""

    place: str
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A file's headers and rows in its order, and how it was read."""

    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    found: str
    notes: tuple[str, ...] = ()


def kind_of(path: Path) -> str:
    """The file's kind by its name, .gz taken off: `.csv`, `.jsonl`, …"""
    return Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()


def read_table(path: Path) -> Table:
    """The table in a csv, tsv, xlsx (first sheet), parquet or jsonl file.

    Raises:
        ValueError: the file is missing, of another kind or malformed, a header is missing or twice, or a row is longer
            than the header; names file and row.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Put it there.")
    kind = kind_of(path)
    if kind in (".jsonl", ".json"):
        return _read_jsonl(path)
    if kind == ".parquet":
        return _read_parquet(path)
    if kind == ".xlsx":
        return _read_xlsx(path)
    if kind in (".csv", ".tsv", ".txt"):
        return without_guards(_read_csv(path))
    raise ValueError(f"{path}: expected .csv, .tsv, .xlsx, .parquet or .jsonl, found {kind!r}. Rename or convert it.")


def write_table(path: Path, headers: Sequence[str], rows: Sequence[Sequence[str | None]], *, guard: bool = True) -> int:
    """Write the rows as the file's kind says; None is an empty cell. Same rows, same bytes (xlsx: same cells).

    Returns how many cells a spreadsheet would have taken for formulas. `guard`: csv and tsv get an apostrophe before
    these (formulas); xlsx says of every cell that it is a text.

    Raises:
        ValueError: the kind is unknown, or xlsx cannot hold a text.
    """
    kind = kind_of(path)
    if kind in (".jsonl", ".json"):
        write_lines(path, ({h: v for h, v in zip(headers, row, strict=True) if v is not None} for row in rows))
    elif kind == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {header: pa.array([row[at] for row in rows], pa.string()) for at, header in enumerate(headers)}
        pq.write_table(pa.table(columns), path)
    elif kind == ".xlsx":
        _write_xlsx(path, headers, rows)
    elif kind in (".csv", ".tsv"):
        buffer = io.StringIO(newline="")
        writer = csv.writer(
            buffer, delimiter="\t" if kind == ".tsv" else ",", quoting=csv.QUOTE_ALL, lineterminator="\n"
        )
        guarded, formulas = guard_rows([headers, *rows], guard=guard)
        writer.writerows(guarded)
        write_text(path, buffer.getvalue())
        return formulas
    else:
        raise ValueError(f"{path}: expected .csv, .tsv, .xlsx, .parquet or .jsonl, found {kind!r}. Rename the target.")
    return 0


def _read_csv(path: Path) -> Table:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a gzip file: {error}. Write it again.") from error
    text, encoding = _decode(data)
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[tuple[str, Sequence[Any]]] = []
    # A field may be a whole document: the default limit of 128 KiB is for small cells.
    limit = csv.field_size_limit(max(len(text), 131072))
    try:
        start = 1
        for row in reader:
            found.append((f"{path}, line {start}", row))
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: expected CSV: {error}. Correct the quotes.") from error
    finally:
        csv.field_size_limit(limit)
    return _table(path, found, f"{encoding}, delimiter {delimiter!r}")


def _decode(data: bytes) -> tuple[str, str]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), "utf-16"
    high = re.findall(rb"[\x80-\xff]+", data[:_PROBED_BYTES])
    # Chinese letters are bytes in pairs, a Western accented letter stands alone among ASCII.
    paired = sum(len(run) for run in high if len(run) > 1) > sum(len(run) for run in high) / 2
    for encoding in ("utf-8-sig", *(("gb18030", "cp1252") if paired else ("cp1252", "gb18030"))):
        try:
            return data.decode(encoding), encoding.removesuffix("-sig")
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1"), "latin-1"


def _delimiter(text: str) -> str:
    """The one that cuts most of the first rows into as many cells as the header, two or more; else the comma."""

    def fitting(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            rows = [row for _, row in zip(range(_PROBED_ROWS), reader, strict=False) if row]
        except csv.Error:
            return 0.0, 0
        width = len(rows[0]) if rows else 0
        share = sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0
        return share, width

    return max(_DELIMITERS, key=fitting)


def _read_xlsx(path: Path) -> Table:
    import zipfile

    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError) as error:
        raise ValueError(f"{path}: expected an xlsx workbook: {error}. Save it as xlsx again.") from error
    try:
        sheet = book.worksheets[0]
        found = [
            (f"{path}, row {number}", row) for number, row in enumerate(sheet.iter_rows(values_only=True), start=1)
        ]
        return _table(path, found, f"sheet {sheet.title!r}")
    finally:
        book.close()


def _write_xlsx(path: Path, headers: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    import openpyxl
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    for value in (value for row in [headers, *rows] for value in row if value is not None):
        if len(value) > 32767 or "\r" in value or ILLEGAL_CHARACTERS_RE.search(value):
            raise ValueError(
                f"{path}: expected at most 32767 characters and no control characters a cell, found {value!r:.80}. "
                "Write csv or parquet instead."
            )
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("data")
    for row in [headers, *rows]:
        cells = [WriteOnlyCell(sheet, value) for value in row]
        for cell in cells:
            if cell.value is not None:
                cell.data_type = "s"  # a text that starts with = is no formula,
                cell.quotePrefix = True  # nor becomes one when somebody edits the cell
        sheet.append(cells)
    book.save(path)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a parquet file: {error}. Write it again.") from error
    columns = [column.to_pylist() for column in table.columns]
    rows = zip(*columns, strict=True) if columns else iter([])
    found = [(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]
    return _table(path, [(f"{path}, header", table.column_names), *found], "parquet")


def _read_jsonl(path: Path) -> Table:
    lines = list(read_lines(path))
    headers = list(dict.fromkeys(name for line in lines for name in line.found))
    found = [(line.place, [line.found.get(name) for name in headers]) for line in lines]
    return _table(path, [(f"{path}, header", headers), *found], "JSON lines")


def _table(path: Path, found: Sequence[tuple[str, Sequence[Any]]], how: str) -> Table:
    filled = [(place, row) for place, row in found if any(cell not in (None, "") for cell in row)]
    if not filled:
        raise ValueError(f"{path}: expected a header and rows, found none. Write the file again.")
    headers = tuple("" if cell is None else str(cell).strip() for cell in filled[0][1])
    while headers and not headers[-1]:
        headers = headers[:-1]
    repeated = [header for at, header in enumerate(headers) if not header or header in headers[:at]]
    if repeated:
        raise ValueError(
            f"{filled[0][0]}: expected headers that differ, found {list(headers)}. Name every column once."
        )
    return Table(headers, tuple(_rows(headers, filled[1:])), how)


def _rows(headers: tuple[str, ...], found: Sequence[tuple[str, Sequence[Any]]]) -> Iterator[Row]:
    for place, row in found:
        extra = [cell for cell in row[len(headers) :] if cell not in (None, "")]
        if extra:
            raise ValueError(
                f"{place}: expected {len(headers)} cells, found {len(row)} (beyond the header: {extra[0]!r:.40}). "
                "Quote cells that hold the delimiter."
            )
        cells = {header: _cell(place, header, value) for header, value in zip(headers, row, strict=False)}
        yield Row(place, {header: value for header, value in cells.items() if value})


def _cell(place: str, header: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool | list | dict | bytes):
        raise ValueError(f"{place}, {header}: expected text, found {value!r:.60}. Write one text a cell.")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
