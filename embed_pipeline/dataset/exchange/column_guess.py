"""Which column of an unknown table is the question, which the passage, and what the others are.

Belongs here: a guess with its reasons, for a person to correct. Does not belong here: reading the table.
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from embed_pipeline.dataset.exchange.column_names import (
    GROUP_NAMES,
    LABEL_NAMES,
    OTHER_LABEL_NAMES,
    PASSAGE_NAMES,
    QUESTION_NAMES,
    REMARK_NAMES,
    SUBJECT_NAMES,
    TEXT_NAMES,
    TITLE_NAMES,
)
from embed_pipeline.dataset.exchange.table_files import NoText, Row, Table, some
from embed_pipeline.dataset.facts import LABEL_LENGTH
from embed_pipeline.dataset.normalisation import split_cell
from embed_pipeline.dataset.pairs_file import SPLIT_NAMES, parse_grade, parse_grade_cell
from embed_pipeline.dataset.settings import NULL_VALUES, TableColumns

_IDS = ["id", "_id", "qid", "query_id", "question_id", "uuid"]
_SPLITS = ["split", "subset", "partition", "set"]
_GRADES = ["grade", "score", "relevance"]
_FLAGS = ["is_duplicate", "is_relevant", "is_correct", "relevant", "relevance", "label"]
_MOST_VALUES = 20
_MOST_ATTRIBUTES = 20
# Between labels in one cell. A comma stands in sentences too: the parts decide.
_SEPARATORS = ("\n", "、", ";", "|", ",", "/")
_INSIDE_LABELS_TOO = (",", "/")
_KNOWN_PARTS = 0.9
_LONGEST_LISTS = 10 * LABEL_LENGTH
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "؟")
_TOLD = 5
_LONGEST_HEADER = 60
# Three words, or five signs of a script without spaces.
_SENTENCE = re.compile(r"(?:[^\W\d_]+\W+){2}[^\W\d_]|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{5}")


@dataclass(frozen=True, slots=True)
class ColumnGuess:
    """The columns and why each was taken, one sentence each."""

    columns: TableColumns
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sides:
    """The columns of questions and of passages, and why."""

    query: str
    passage: str
    reasons: tuple[str, ...]
    named: bool
    """Whether one of them was found by its name."""


def guess_columns(table: Table) -> ColumnGuess:
    """The columns of a table, by name first, then by length and question marks.

    Raises:
        ValueError: no two columns hold texts, or what is called a question or an answer holds none.
    """
    table = table.without(NULL_VALUES)
    values: dict[str, list[str]] = {header: [] for header in table.headers}
    unusable: dict[str, tuple[Row, NoText]] = {}
    for row in table.rows:
        for header, value in row.cells.items():
            if isinstance(value, str):
                values[header].append(value)
            elif header not in unusable or unusable[header][1].lost > value.lost:
                unusable[header] = row, value
    values = {h: cells for h, cells in values.items() if cells and (h not in unusable or unusable[h][1].lost)}
    reasons: list[str] = []
    identifier = _by_name(values, _IDS, lambda cells: len(set(cells)) == len(cells) == len(table.rows))
    split = _by_name(values, _SPLITS, lambda cells: len(cells) == len(table.rows) and _are_splits(cells))
    grade = _by_name(values, _GRADES, lambda cells: len(cells) == len(table.rows) and all(map(_is_grade, cells)))
    flag = _flag(table, values) if grade is None else None
    for header, what in (
        (identifier, "differs in every row"),
        (split, "names splits"),
        (grade, "whole numbers"),
        (flag, "holds 0 and 1: whether the passage answers"),
    ):
        if header is not None:
            reasons.append(f"{header}: its name, and it {what}.")
    grade = grade or flag
    left = {header: cells for header, cells in values.items() if header not in (identifier, split, grade)}
    sides = _sides(table, left, unusable)
    query, passage = sides.query, sides.passage
    reasons += sides.reasons
    if _header_is_a_row(query, passage, left, named=sides.named):
        reasons.append("The header reads like a row of the data and is not read as one: write a header above it.")
    attributes = [header for header, cells in left.items() if header not in (query, passage) and _is_slice(cells)]
    reasons.extend(f"{header}: few values that repeat, so results are sliced by it." for header in attributes[:_TOLD])
    if len(attributes) > _MOST_ATTRIBUTES:
        reasons.append(f"{len(attributes):,} such columns: the first {_MOST_ATTRIBUTES} are taken.")
        attributes = attributes[:_MOST_ATTRIBUTES]
    read = {query, passage, identifier, split, grade, *attributes}
    ignored = [header for header in table.headers if header not in read]
    if ignored:
        told = [f"{h} ({unusable[h][1].found:.40})" if h in unusable else h for h in ignored[:_TOLD]]
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


def _sides(table: Table, left: Mapping[str, list[str]], unusable: Mapping[str, tuple[Row, NoText]]) -> _Sides:
    """Question and passage among the columns that are left."""
    query = _by_name(left, QUESTION_NAMES)
    rest = {header: cells for header, cells in left.items() if header != query}
    passage = _by_name(rest, PASSAGE_NAMES)
    label = _label(rest, (*LABEL_NAMES, *OTHER_LABEL_NAMES))
    if query is None:
        _refuse_unusable(table, unusable, QUESTION_NAMES, "questions", never_texts=True)
    if passage is None:
        _refuse_unusable(table, unusable, PASSAGE_NAMES, "passages", never_texts=label is None)
    if query is None and passage is not None and _stands_alone(passage, left):
        if label is not None and _sorts(label, passage, left):
            told = f"{passage} is the question and {label} the passage: their names, a text and its label."
            return _Sides(passage, label, (told,), named=True)
        if not any(map(_holds_sentences, (left[header] for header in left if header != passage))):
            _refuse_unusable(table, unusable, (*LABEL_NAMES, *OTHER_LABEL_NAMES), "labels", never_texts=True)
    passage = passage or _label(rest, LABEL_NAMES)
    if len(left) < 2:
        raise ValueError(_nothing_found(table, unusable))
    reasons, named = [], query is not None
    lengths = {header: statistics.median(map(len, cells)) for header, cells in left.items()}
    if query is not None:
        reasons.append(f"{query} is the question: its name.")
    else:
        asked = {header: _asked(cells) for header, cells in left.items()}
        others = [header for header in left if header != passage]
        beside = _are_beside_texts([h for h in others if _is_remark(h)], others, left)
        titled = passage is not None and passage.casefold() in TEXT_NAMES and any(map(_is_title, others))
        groups = {h for h in others if titled and h.casefold() in (*LABEL_NAMES, *OTHER_LABEL_NAMES)}
        query = min(others, key=lambda h: (h in beside, -asked[h] / len(left[h]), h in groups, -lengths[h]))
        reasons.append(f"{query} is the question: {asked[query]} of {len(left[query])} cells end in a question mark.")
    if passage is None:
        longest = max((h for h in left if h != query), key=lambda header: (not _is_remark(header), lengths[header]))
        if label not in (None, query) and not (_holds_sentences(left[longest]) and not _is_remark(longest)):
            passage = label
    named = named or passage is not None
    if passage is not None:
        reasons.append(f"{passage} is the passage: its name.")
    else:
        passage = longest
        reasons.append(f"{passage} is the passage: the longest texts (median {lengths[passage]:.0f} characters).")
    return _Sides(query, passage, tuple(reasons), named)


def guess_separators(cells: Sequence[str]) -> tuple[str, ...]:
    """What stands between several labels in one cell, where the cells are labels and not sentences.

    A separator counts where more than one cell holds it and its parts are labels elsewhere: one of each cell's, or
    nearly all where it is one that stands inside labels too (comma, slash). Or where its parts are few that recur in
    other cells, now before and now behind others: neither parts of a sentence nor levels of a label do.
    """
    length = statistics.median(map(len, cells))
    if length > _LONGEST_LISTS:
        return ()
    whole = {cell.strip() for cell in cells if len(split_cell(cell, _SEPARATORS)) == 1}
    found = []
    for separator in _SEPARATORS:
        parted = [parts for cell in cells if len(parts := split_cell(cell, (separator,))) > 1]
        if len(parted) > 1 and (
            (length <= LABEL_LENGTH and _are_known(parted, whole, separator))
            or _recur(parted, whole, separator, len(cells))
        ):
            found.append(separator)
    return tuple(found)


def _are_known(parted: Sequence[Sequence[str]], whole: Set[str], separator: str) -> bool:
    """Whether parts are whole cells elsewhere. A part may hold another of the separators."""
    known = [[not whole.isdisjoint(split_cell(part, _SEPARATORS)) for part in parts] for parts in parted]
    if separator in _INSIDE_LABELS_TOO:
        fitting, count = sum(map(sum, known)), sum(map(len, known))
    else:
        fitting, count = sum(map(any, known)), len(known)
    return fitting >= _KNOWN_PARTS * count


def _recur(parted: Sequence[Sequence[str]], whole: Set[str], separator: str, cells: int) -> bool:
    """Whether the parts of so many cells are few short labels that recur in different cells, at different places."""
    lists = {tuple(parts) for parts in parted}
    counts = Counter(part for parts in lists for part in parts)
    places = {(part, at) for parts in lists for at, part in enumerate(parts)}
    moving = [part for part, places in Counter(part for part, _ in places).items() if places > 1 or part in whole]
    parts = [part for parts in parted for part in parts]
    known = sum(counts[part] > 1 or part in whole for part in parts)
    return (
        statistics.median(map(len, parts)) <= LABEL_LENGTH
        and 2 * len(counts) <= cells
        and 2 * len(moving) >= len(counts)
        and known >= _KNOWN_PARTS * len(parts)
        and not any(part.endswith(_SENTENCE_ENDS) for part in counts)
        # dates, fractions and decimals are numbers
        and (separator not in _INSIDE_LABELS_TOO or all(any(map(str.isalpha, part)) for part in counts))
    )


def _refuse_unusable(
    table: Table,
    unusable: Mapping[str, tuple[Row, NoText]],
    names: Sequence[str],
    what: str,
    *,
    never_texts: bool,
) -> None:
    """Raise ValueError where a column has such a name and cannot be read: another one must not stand in for it.

    never_texts: also where none of its cells is a text, as lists that go with the data are.
    """
    twice = next((header for header in table.repeated if header.casefold() in names), None)
    if twice is not None:
        raise ValueError(
            f"expected headers that differ, found {twice!r} as columns {list(table.repeated[twice])}. "
            "Name every column once."
        )
    for header, (row, value) in unusable.items():
        if header.casefold() in names and (
            never_texts or any(isinstance(other.cells.get(header), str) for other in table.rows)
        ):
            raise ValueError(
                f"expected texts as {what}, found that {header} holds {value.found} "
                f"({row.place.rpartition(', ')[2]}). Write one text a cell, or name that column otherwise."
            )


def _nothing_found(table: Table, unusable: Mapping[str, tuple[Row, NoText]]) -> str:
    if table.repeated:
        return (
            f"expected headers that differ, found {some(list(table.repeated))} more than once. Name every column once."
        )
    if not table.rows:
        return f"expected rows below the header, found the header {some(table.headers)} alone. Add rows."
    told = next((f" {header} holds {value.found}, which is no text." for header, (_, value) in unusable.items()), "")
    return f"expected a column of questions and one of passages, found {some(table.headers)}.{told or ' Add one.'}"


def _by_name(
    values: Mapping[str, list[str]], names: Sequence[str], fits: Callable[[list[str]], bool] | None = None
) -> str | None:
    for name in names:
        for header, cells in values.items():
            if header.casefold() == name and (fits is None or fits(cells)):
                return header
    return None


def _label(values: Mapping[str, list[str]], names: Sequence[str]) -> str | None:
    """The column of labels; one of numbers only where there is no other."""
    words = {header: cells for header, cells in values.items() if not all(map(_is_grade, cells))}
    return _by_name(words, names) or _by_name(values, names)


def _flag(table: Table, values: Mapping[str, list[str]]) -> str | None:
    """A column of 0 and 1, or of truth values, beside a question and a passage: whether the passage is relevant.

    A `label` is one only where both are found by name, else it may be what is searched for.
    """
    names = {header.casefold() for header in values}
    both_named = bool(names & set(QUESTION_NAMES) and names & set(PASSAGE_NAMES))
    for name in _FLAGS:
        for header in table.headers:
            beside = len(values) - (header in values)
            if header.casefold() == name and beside >= 2 and (both_named or name != "label"):
                found = {_truth(row.cells.get(header)) for row in table.rows}
                if None not in found and 1 in found:
                    return header
    return None


def _truth(value: str | NoText | None) -> int | None:
    grade = parse_grade_cell(value.found if isinstance(value, NoText) else value or "")
    return grade if grade in (0, 1) else None


def _stands_alone(text: str, left: Mapping[str, list[str]]) -> bool:
    """Whether a column of texts answers no other: no title, no sentences before it, and none that asks more than it."""
    before = list(left)[: list(left).index(text)]
    asking = {header: _asked(cells) / len(cells) for header, cells in left.items()}
    return (
        text.casefold() in TEXT_NAMES
        and not any(header.casefold() in TITLE_NAMES for header in left)
        and not any(share > max(0.5, asking[text]) for share in asking.values())
        and not any(_holds_sentences(left[header]) and not _is_slice(left[header]) for header in before)
    )


def _sorts(label: str, text: str, left: Mapping[str, list[str]]) -> bool:
    """Whether a label is one: not a title that differs in every row, nor beside the name of what the text is about."""
    headers, cells = list(left), left[label]
    if any(h.casefold() in SUBJECT_NAMES and 2 * len(set(left[h])) > len(left[h]) for h in headers):
        return label.casefold() not in GROUP_NAMES
    behind = len(cells) <= _MOST_VALUES and headers.index(text) < headers.index(label)
    return behind or len(set(cells)) < len(cells)


def _holds_sentences(cells: Sequence[str]) -> bool:
    return 2 * sum(_SENTENCE.search(cell) is not None for cell in cells) > len(cells)


def _is_title(header: str) -> bool:
    return header.casefold() in (*TITLE_NAMES, *SUBJECT_NAMES)


def _is_remark(header: str) -> bool:
    return header.casefold() in REMARK_NAMES


def _are_beside_texts(remarks: Sequence[str], others: Sequence[str], left: Mapping[str, list[str]]) -> Set[str]:
    """The remarks that are about a row: all where another column could be asked, else those of less than half the rows.

    Beside names, dates and labels alone a column of comments is what was written in.
    """
    rest = [header for header in others if header not in remarks]
    if any(header.casefold() in TITLE_NAMES or _holds_sentences(left[header]) for header in rest):
        return frozenset(remarks)
    rows = max(map(len, left.values()))
    return {header for header in remarks if rest and 2 * len(left[header]) < rows}


def _asked(cells: Sequence[str]) -> int:
    return sum(cell.rstrip().endswith(("?", "？", "؟")) for cell in cells)


def _header_is_a_row(query: str, passage: str, values: Mapping[str, list[str]], *, named: bool) -> bool:
    """Whether the header looks like a question and its passage; only a long or asking one where a name is known."""
    if query.endswith(("?", "？")) or len(query) > _LONGEST_HEADER:
        return True
    return not named and any(_is_like(header, values[header]) for header in (query, passage))


def _is_like(header: str, cells: Sequence[str]) -> bool:
    """Whether a header is one of its cells, or longer than a quarter of them where they are sentences."""
    short = sorted(map(len, cells))[len(cells) // 4]
    return header in cells or (len(header) >= short and _holds_sentences(cells))


def _are_splits(cells: list[str]) -> bool:
    return all(cell.strip().lower() in SPLIT_NAMES for cell in cells)


def _is_grade(cell: str) -> bool:
    return parse_grade(cell) is not None


def _is_slice(cells: list[str]) -> bool:
    different = len(set(cells))
    return 2 <= different <= min(_MOST_VALUES, len(cells) // 2) and max(map(len, cells)) <= 60
