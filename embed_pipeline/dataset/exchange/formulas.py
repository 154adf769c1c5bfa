"""Cells of delimited text that a spreadsheet would execute: written with an apostrophe before them, read without it.

A question that begins with = is a formula to Excel, which may call a program or send other cells away. Every text
comes back as it was: one that has an apostrophe there of its own gets one more.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embed_pipeline.dataset.exchange.table_files import Table

# The wide forms are formulas where the keyboard is Chinese or Japanese.
_BEGINNING = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_FORMULA = re.compile(_BEGINNING)
_WITH_APOSTROPHES = re.compile(rf"'+{_BEGINNING}")


def guard_rows(rows: Iterable[Sequence[str | None]], *, guard: bool) -> tuple[list[list[str | None]], int]:
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
