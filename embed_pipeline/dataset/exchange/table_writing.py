"""Rows of texts written as csv, tsv, xlsx, parquet or jsonl, for table_files to read the same.

Belongs here: writing cells, and those of delimited text that a spreadsheet would execute. Does not belong here: which
columns a format has (table, tuples).

A question that begins with = is a formula to Excel, which may call a program or send other cells away: it is written
with an apostrophe before it and read without it. Every text comes back as it was: one that has an apostrophe there of
its own gets one more.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed_pipeline.dataset.exchange.collecting import kind_of, write_lines, write_text

if TYPE_CHECKING:
    from embed_pipeline.dataset.exchange.table_files import Table

# The wide forms are formulas where the keyboard is Chinese or Japanese.
_BEGINNING = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_FORMULA = re.compile(_BEGINNING)
_WITH_APOSTROPHES = re.compile(rf"'+{_BEGINNING}")


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
        guarded, formulas = _guard_rows([headers, *rows], guard=guard)
        writer.writerows(guarded)
        write_text(path, buffer.getvalue())
        return formulas
    else:
        raise ValueError(f"{path}: expected .csv, .tsv, .xlsx, .parquet or .jsonl, found {kind!r}. Rename the target.")
    return 0


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


def _guard_rows(rows: Iterable[Sequence[str | None]], *, guard: bool) -> tuple[list[list[str | None]], int]:
    """The rows as delimited text holds them, and how many cells would be formulas.

    guard: whether these get an apostrophe. Without it only what has apostrophes of its own gets one more, which reading
    takes away again.
    """
    formulas = 0
    guarded: list[list[str | None]] = []
    for row in rows:
        cells: list[str | None] = []
        for cell in row:
            is_formula = cell is not None and _FORMULA.match(cell) is not None
            formulas += is_formula
            cells.append(f"'{cell}" if cell and ((is_formula and guard) or _WITH_APOSTROPHES.match(cell)) else cell)
        guarded.append(cells)
    return guarded, formulas


def without_guards(table: "Table") -> "Table":
    """The table with each such apostrophe taken away; a note says from how many cells."""
    guards = 0

    def bare(cell: Any) -> Any:
        nonlocal guards
        if not (isinstance(cell, str) and _WITH_APOSTROPHES.match(cell)):
            return cell
        guards += 1
        return cell[1:]

    headers = tuple(map(bare, table.headers))
    renamed = dict(zip(table.headers, headers, strict=True))
    rows = tuple(
        replace(row, cells={renamed[name]: bare(cell) for name, cell in row.cells.items()}) for row in table.rows
    )
    if not guards:
        return table
    told = f"{guards} cells are read without the apostrophe that keeps spreadsheets from taking them for formulas"
    return replace(table, headers=headers, rows=rows, notes=(*table.notes, told))
