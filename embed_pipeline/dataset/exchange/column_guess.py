"""Which column of an unknown table is the question, which the passage, and what the others are.

Belongs here: a guess with its reasons, for a person to correct. Does not belong here: reading the table.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embed_pipeline.dataset.exchange.column_names import LABEL_NAMES, PASSAGE_NAMES, QUESTION_NAMES
from embed_pipeline.dataset.exchange.table_files import NoText, Table, some
from embed_pipeline.dataset.facts import LABEL_LENGTH
from embed_pipeline.dataset.normalisation import split_cell
from embed_pipeline.dataset.pairs_file import SPLIT_NAMES, parse_grade
from embed_pipeline.dataset.settings import NULL_VALUES, TableColumns

_IDS = ["id", "_id", "qid", "query_id", "question_id", "uuid"]
_SPLITS = ["split", "subset", "partition", "set"]
_GRADES = ["grade", "score", "relevance"]
_MOST_VALUES = 20
_MOST_ATTRIBUTES = 20
# Between labels in one cell. A comma stands in sentences too: the parts decide.
_SEPARATORS = ("\n", "、", ";", "|", ",", "/")
_INSIDE_LABELS_TOO = (",", "/")
_KNOWN_PARTS = 0.9
_TOLD = 5
_LONGEST_HEADER = 60


@dataclass(frozen=True, slots=True)
class ColumnGuess:
    """The columns and why each was taken, one sentence each."""

    columns: TableColumns
    reasons: tuple[str, ...]


def guess_columns(table: Table) -> ColumnGuess:
    """The columns of a table, by name first, then by length and question marks.

    Raises:
        ValueError: no two columns hold texts.
    """
    table = table.without(NULL_VALUES)
    values: dict[str, list[str]] = {header: [] for header in table.headers}
    unusable: dict[str, NoText] = {}
    for row in table.rows:
        for header, value in row.cells.items():
            if isinstance(value, str):
                values[header].append(value)
            elif not value.lost or header not in unusable:
                unusable[header] = value
    values = {h: cells for h, cells in values.items() if cells and (h not in unusable or unusable[h].lost)}
    reasons: list[str] = []
    identifier = _by_name(values, _IDS, lambda cells: len(set(cells)) == len(cells) == len(table.rows))
    split = _by_name(values, _SPLITS, lambda cells: len(cells) == len(table.rows) and _are_splits(cells))
    grade = _by_name(values, _GRADES, lambda cells: len(cells) == len(table.rows) and all(map(_is_grade, cells)))
    for header, what in ((identifier, "differs in every row"), (split, "names splits"), (grade, "whole numbers")):
        if header is not None:
            reasons.append(f"{header}: its name, and it {what}.")
    left = {header: cells for header, cells in values.items() if header not in (identifier, split, grade)}
    query = _by_name(left, QUESTION_NAMES)
    passage = _by_name({header: cells for header, cells in left.items() if header != query}, (*PASSAGE_NAMES, *LABEL_NAMES))
    lengths = {header: statistics.median(map(len, cells)) for header, cells in left.items()}
    if query is not None:
        reasons.append(f"{query} is the question: its name.")
    elif len(left) > 1:
        asked = {header: sum(c.rstrip().endswith(("?", "？", "؟")) for c in left[header]) for header in left}
        others = [header for header in left if header != passage]
        query = min(others, key=lambda header: (-asked[header] / len(left[header]), -lengths[header]))
        reasons.append(f"{query} is the question: {asked[query]} of {len(left[query])} cells end in a question mark.")
    if passage is not None:
        reasons.append(f"{passage} is the passage: its name.")
    elif len(left) > 1:
        passage = max((header for header in left if header != query), key=lambda header: lengths[header])
        reasons.append(f"{passage} is the passage: the longest texts (median {lengths[passage]:.0f} characters).")
    if query is None or passage is None:
        raise ValueError(_nothing_found(table, unusable))
    if query.endswith(("?", "？")) or len(query) > _LONGEST_HEADER:
        reasons.append("The header reads like a row of the data and is not read as one: write a header above it.")
    attributes = [header for header, cells in left.items() if header not in (query, passage) and _is_slice(cells)]
    reasons.extend(f"{header}: few values that repeat, so results are sliced by it." for header in attributes[:_TOLD])
    if len(attributes) > _MOST_ATTRIBUTES:
        reasons.append(f"{len(attributes):,} such columns: the first {_MOST_ATTRIBUTES} are taken.")
        attributes = attributes[:_MOST_ATTRIBUTES]
    read = {query, passage, identifier, split, grade, *attributes}
    ignored = [header for header in table.headers if header not in read]
    if ignored:
        told = [f"{h} ({unusable[h].found:.40})" if h in unusable else h for h in ignored[:_TOLD]]
        more = f" and {len(ignored) - _TOLD:,} more" if len(ignored) > _TOLD else ""
        reasons.append(f"not read: {', '.join(told)}{more}.")
    separators = guess_separators(left[passage])
    if separators:
        reasons.append(
            f"{passage}: cells hold several passages between {', '.join(map(repr, separators))}; each counts alone."
        )
    columns = TableColumns(
        query=query,
        passage=passage,
        id=identifier,
        split=split,
        grade=grade,
        attributes=tuple(attributes),
        passage_separators=separators,
        sheet=table.sheet,
    )
    return ColumnGuess(columns, tuple(reasons))


def guess_separators(cells: Sequence[str]) -> tuple[str, ...]:
    """What stands between several labels in one cell, where the cells are labels and not sentences.

    A separator counts where more than one cell holds it and its parts are labels elsewhere: one of each cell's, or
    nearly all where it is one that stands inside labels too (comma, slash).
    """
    if statistics.median(map(len, cells)) > LABEL_LENGTH:
        return ()
    whole = {cell.strip() for cell in cells if len(split_cell(cell, _SEPARATORS)) == 1}
    found = []
    for separator in _SEPARATORS:
        parted = [parts for cell in cells if len(parts := split_cell(cell, (separator,))) > 1]
        # A part may hold another of the separators.
        known = [[bool(whole.intersection(split_cell(part, _SEPARATORS))) for part in parts] for parts in parted]
        if separator in _INSIDE_LABELS_TOO:
            fitting, count = sum(map(sum, known)), sum(map(len, known))
        else:
            fitting, count = sum(map(any, known)), len(known)
        if len(parted) > 1 and fitting >= _KNOWN_PARTS * count:
            found.append(separator)
    return tuple(found)


def _nothing_found(table: Table, unusable: Mapping[str, NoText]) -> str:
    if table.repeated:
        return (
            f"expected headers that differ, found {some(list(table.repeated))} more than once. Name every column once."
        )
    if not table.rows:
        return f"expected rows below the header, found the header {some(table.headers)} alone. Add rows."
    told = next((f" {header} holds {value.found}, which is no text." for header, value in unusable.items()), "")
    return f"expected a column of questions and one of passages, found {some(table.headers)}.{told or ' Add one.'}"


def _by_name(
    values: Mapping[str, list[str]], names: Sequence[str], fits: Callable[[list[str]], bool] | None = None
) -> str | None:
    for name in names:
        for header, cells in values.items():
            if header.casefold() == name and (fits is None or fits(cells)):
                return header
    return None


def _are_splits(cells: list[str]) -> bool:
    return all(cell.strip().lower() in SPLIT_NAMES for cell in cells)


def _is_grade(cell: str) -> bool:
    return parse_grade(cell) is not None


def _is_slice(cells: list[str]) -> bool:
    different = len(set(cells))
    return 2 <= different <= min(_MOST_VALUES, len(cells) // 2) and max(map(len, cells)) <= 60
