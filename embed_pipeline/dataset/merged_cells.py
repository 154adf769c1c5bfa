"""Merged cells while rows stream by: the value at a range's top left counts for all rows of the range."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from embed_pipeline.dataset.sheet_scan import MergedRange

Cell = TypeVar("Cell")


@dataclass(frozen=True, slots=True)
class _OpenRange(Generic[Cell]):
    last_row: int
    column: str
    cell: Cell


class MergedCells(Generic[Cell]):
    """Fills the cells that a merge left empty, row by row, holding only the ranges that reach the current row.

    A range over several columns counts for the first of them that is wanted, so a merged label is one label.
    """

    def __init__(self, ranges: Iterable[MergedRange], positions: Mapping[str, int], *, place: str) -> None:
        """Raises ValueError if a wanted header is merged with rows below it, which would make it a value."""
        self._starting: dict[int, list[tuple[MergedRange, str]]] = defaultdict(list)
        self._open: list[_OpenRange[Cell]] = []
        by_position = sorted(positions.items(), key=lambda item: item[1])
        for merged in ranges:
            column = next((n for n, p in by_position if merged.first_column - 1 <= p < merged.last_column), None)
            if column is None:
                continue
            if merged.first_row == 1 and merged.last_row > 1:
                raise ValueError(
                    f'{place}: the header "{column}" must be one row, found it merged down to row {merged.last_row}. '
                    "Unmerge it and leave the header in row 1."
                )
            self._starting[merged.first_row].append((merged, column))

    def fill(self, row_number: int, row: Sequence[Cell]) -> Mapping[str, Cell]:
        """The merged values that count for this row, by column; rows must come in order."""
        self._open = [merged for merged in self._open if merged.last_row >= row_number]
        for merged, column in self._starting.pop(row_number, ()):
            if merged.first_column <= len(row):
                self._open.append(_OpenRange(merged.last_row, column, row[merged.first_column - 1]))
        return {merged.column: merged.cell for merged in self._open}
