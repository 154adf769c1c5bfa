"""Where the columns of the settings stand in a sheet, or what its first row holds instead."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from embed_pipeline.dataset.nearest import nearest_text
from embed_pipeline.dataset.normalisation import normalise_text
from embed_pipeline.dataset.settings import ColumnSettings

_ROWS_SEARCHED = 20


def locate_columns(
    rows: Iterator[Sequence[Any]], columns: ColumnSettings, *, place: str, other_sheets: Sequence[str]
) -> Mapping[str, int]:
    """The position, from 0, of every column of the settings in the first of `rows`, which alone is consumed.

    Headers are compared normalised (white space, full-width letters). Other columns may be anything.

    Raises:
        ValueError: the sheet is empty, a header is missing, stands in a later row or is there twice.
    """
    wanted = (columns.question, *columns.labels, *columns.slices)
    found = [normalise_text(str(value)) if value is not None else "" for value in next(rows, ())]
    missing = [name for name in wanted if normalise_text(name) not in found]
    if missing:
        raise ValueError(_describe_missing(missing, found, rows, place, other_sheets))
    for name in wanted:
        if found.count(normalise_text(name)) > 1:
            twice = [position + 1 for position, header in enumerate(found) if header == normalise_text(name)]
            raise ValueError(
                f'{place}, row 1: expected one column "{name}", found it as columns {twice}. Rename or delete one.'
            )
    return {name: found.index(normalise_text(name)) for name in wanted}


def _describe_missing(
    missing: list[str], found: list[str], rows: Iterator[Sequence[Any]], place: str, other_sheets: Sequence[str]
) -> str:
    headers = [header for header in found if header]
    later = list(islice(rows, _ROWS_SEARCHED))
    elsewhere = f" Other sheets: {list(other_sheets)}; name one as `sheet` in dataset.yaml." if other_sheets else ""
    if not headers and not any(value is not None for row in later for value in row):
        return f"{place}: the sheet is empty. Fill it or delete the file.{elsewhere}"
    for row_number, row in enumerate(later, start=2):
        texts = {normalise_text(value) for value in row if isinstance(value, str)}
        if all(normalise_text(name) in texts for name in missing):
            return (
                f"{place}: the header must be row 1, found it in row {row_number}. Delete the rows above it.{elsewhere}"
            )
    lines = []
    for name in missing:
        nearest = nearest_text(name, headers)
        hint = f' Nearest: "{nearest.text}".' if nearest else ""
        lines.append(f'{place}, row 1: expected a column "{name}", found {headers}.{hint}')
    return "\n".join(lines) + f"\nRename the header or correct `columns` in dataset.yaml.{elsewhere}"
