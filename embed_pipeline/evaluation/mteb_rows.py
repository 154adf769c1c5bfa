"""The rows of a local task's data files, each field checked and named in its error.

Belongs here: JSON lines, parquet, one field of one row. Does not belong here: which fields a task needs (mteb_folder).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

Label = str | int


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands; each method returns a field of the wanted kind or raises ValueError naming both."""

    place: str
    values: Mapping[str, Any]

    def text(self, field: str) -> str:
        """Text that is not blank."""
        value = self.values.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, "text that is not empty", value)
        return value

    def text_or_empty(self, field: str) -> str:
        """Text, "" where the field is missing or null."""
        value = self.values.get(field)
        if value is not None and not isinstance(value, str):
            raise self.wrong(field, "text", value)
        return value or ""

    def identifier(self, field: str) -> str:
        """Text or a whole number, as text."""
        value = self.values.get(field)
        return str(value) if _is_whole(value) else self.text(field)

    def whole_number(self, field: str) -> int:
        """A whole number, 0 or more."""
        value = self.values.get(field)
        if not _is_number(value) or value != int(value) or value < 0:
            raise self.wrong(field, "a whole number from 0", value)
        return int(value)

    def number(self, field: str) -> float:
        """A finite number."""
        value = self.values.get(field)
        if not _is_number(value):
            raise self.wrong(field, "a number", value)
        return float(value)

    def label(self, field: str) -> Label:
        """Text that is not blank, or a whole number."""
        value = self.values.get(field)
        if _is_whole(value):
            return value
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, "a text or a whole number", value)
        return value

    def identifiers(self, field: str) -> tuple[str, ...]:
        """One or more ids in their order, none twice."""
        value = self.values.get(field)
        ids = value if isinstance(value, list) else []
        if not ids or not all(isinstance(item, str) or _is_whole(item) for item in ids):
            raise self.wrong(field, "a list of ids that is not empty", value)
        if len({str(item) for item in ids}) < len(ids):
            raise self.wrong(field, "every id once", value)
        return tuple(str(item) for item in ids)

    def wrong(self, field: str, expected: str, found: object) -> ValueError:
        """The error of a field, for the caller to raise."""
        shown = repr(found)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
        return ValueError(f"{self.place}: {field} must be {expected}, found {shown}. Correct the row.")


def read_rows(folder: Path, name: str) -> tuple[Row, ...]:
    """The rows of `name`.jsonl or `name`.parquet in their order; blank lines do not count.

    Raises:
        ValueError: none or both of the files are there, a line is no JSON object, or there are no rows.
    """
    found = [path for path in (folder / f"{name}.jsonl", folder / f"{name}.parquet") if path.is_file()]
    if len(found) != 1:
        there = "both" if found else "neither"
        raise ValueError(f"{folder}: expected {name}.jsonl or {name}.parquet, found {there}. Keep one of them there.")
    rows = tuple(_read_lines(found[0]) if found[0].suffix == ".jsonl" else _read_parquet(found[0]))
    if not rows:
        raise ValueError(f"{found[0]}: expected at least one row, found none. Add rows.")
    return rows


def _read_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                values = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{place}: {error}. Correct the line.") from error
            if not isinstance(values, dict):
                raise ValueError(f"{place}: expected an object, found {type(values).__name__}. Correct the line.")
            yield Row(place, values)


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: {error}. Write the file again as parquet.") from error
    for number, values in enumerate(table.to_pylist(), start=1):
        yield Row(f"{path}, row {number}", values)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[int | float]:
    return _is_whole(value) or (isinstance(value, float) and abs(value) < float("inf"))
