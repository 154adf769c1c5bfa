"""What happens to clean rows in a real sheet: typing habits, empty cells, copies, labels that nobody knows.

Belongs here: every deliberate flaw of the shipped workbooks, each with its share. Does not belong here: drawing rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from rows import Row

LABEL_COLUMNS = 6
SHARE_EMPTY_QUESTION = 0.01
SHARE_WITHOUT_LABEL = 0.01
SHARE_COPIED = 0.02
SHARE_STRANGE_LABEL = 0.015
SHARE_GAP = 0.02
SHARE_PADDED_LABEL = 0.02

_FULL_WIDTH = {ord(c): ord(c) + 0xFEE0 for c in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz%()+-/"}
_HALF_WIDTH_PUNCTUATION = str.maketrans("，。？；：（）", ",.?;:()")
_FULL_WIDTH_PUNCTUATION = str.maketrans(",?;:()!", "，？；：（）！")


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row as it stands in the sheet; None is an empty cell."""

    question: str | None
    thinking: str | None
    labels: tuple[str | None, ...]


def mess_up(
    rows: Sequence[Row], strange_names: Mapping[str, Sequence[str]], random: Random, *, copies_of: Sequence[Row] = ()
) -> list[SheetRow]:
    """The rows as a sheet holds them, longer by the copied questions.

    `strange_names` gives the names to each label that stand in a label cell although the label list lacks them;
    `copies_of` are further rows, of an earlier batch, whose questions may come again.
    """
    sheet = [_type_in(row, random) for row in rows]
    sheet = _spoil(sheet, SHARE_EMPTY_QUESTION, _empty_question, random)
    sheet = _spoil(sheet, SHARE_WITHOUT_LABEL, lambda row, _: replace(row, labels=(None,) * LABEL_COLUMNS), random)
    sheet = _spoil(sheet, SHARE_GAP, _open_gap, random)
    sheet = _spoil(sheet, SHARE_PADDED_LABEL, _pad_label, random)
    sheet = _spoil(sheet, SHARE_STRANGE_LABEL, lambda row, random: _rename_label(row, strange_names, random), random)
    originals = random.sample(list(rows) + list(copies_of), round(SHARE_COPIED * len(rows)))
    for number, original in enumerate(originals):
        copy = _copy(original, number % 3, rows, random)
        sheet.insert(random.randint(0, len(sheet)), copy)
    return sheet


def count_clean_rows(sheet_rows: int) -> int:
    """How many clean rows give a sheet of so many rows."""
    clean = sheet_rows
    while clean + round(SHARE_COPIED * clean) > sheet_rows:
        clean -= 1
    return clean


def _spoil(
    sheet: Sequence[SheetRow], share: float, flaw: Callable[[SheetRow, Random], SheetRow], random: Random
) -> list[SheetRow]:
    chosen = set(random.sample(range(len(sheet)), round(share * len(sheet))))
    return [flaw(row, random) if position in chosen else row for position, row in enumerate(sheet)]


def _type_in(row: Row, random: Random) -> SheetRow:
    labels = list(row.labels)
    random.shuffle(labels)
    cells = (*labels, *[None] * (LABEL_COLUMNS - len(labels)))
    return SheetRow(_type_question(row.question, random), row.thinking, cells)


def _type_question(text: str, random: Random) -> str:
    """The text as customers type it: some without punctuation, some full-width, some with stray white space."""
    if len(text) < 70 and random.random() < 0.14:
        text = text.replace("，", random.choice((" ", " ", "")))
    elif random.random() < 0.07:
        text = text.translate(_HALF_WIDTH_PUNCTUATION)
    if random.random() < 0.03:
        text = text.translate(_FULL_WIDTH)
    if random.random() < 0.04:
        text = random.choice((" ", "  ", "\u3000", "\n", "\t")) + text
    if random.random() < 0.04:
        text += random.choice((" ", "  ", "\n", "\u3000\u3000", " \n"))
    if random.random() < 0.03:
        place = random.randint(1, len(text) - 1)
        text = text[:place] + random.choice((" ", "\u3000", "\n", "\u200b", "  ")) + text[place:]
    return text


def _empty_question(row: SheetRow, random: Random) -> SheetRow:
    return replace(row, question=random.choice((None, None, " ", "\u3000", "\n")))


def _open_gap(row: SheetRow, random: Random) -> SheetRow:
    """The labels moved right so that an empty cell stands before at least one of them."""
    labels: list[str | None] = [label for label in row.labels if label is not None]
    if not labels or len(labels) == LABEL_COLUMNS:
        return row
    labels.insert(random.randint(0, len(labels) - 1), None)
    return replace(row, labels=(*labels, *[None] * (LABEL_COLUMNS - len(labels))))


def _change_one_label(row: SheetRow, change: Callable[[str], str], random: Random) -> SheetRow:
    filled = [(position, label) for position, label in enumerate(row.labels) if label]
    if not filled:
        return row
    position, label = random.choice(filled)
    cells = list(row.labels)
    cells[position] = change(label)
    return replace(row, labels=tuple(cells))


def _pad_label(row: SheetRow, random: Random) -> SheetRow:
    before, after = random.choice((("", " "), (" ", ""), ("", "\n"), ("", "\u3000"), (" ", " ")))
    return _change_one_label(row, lambda label: before + label.translate(_FULL_WIDTH) + after, random)


def _rename_label(row: SheetRow, strange_names: Mapping[str, Sequence[str]], random: Random) -> SheetRow:
    return _change_one_label(row, lambda label: random.choice(strange_names.get(label.strip(), (label,))), random)


def _copy(original: Row, variant: int, rows: Sequence[Row], random: Random) -> SheetRow:
    """The question again: with its labels, with other labels, or differing in white space and punctuation only."""
    labels = original.labels
    question = original.question
    if variant == 1:
        labels = labels[:-1] if len(labels) > 1 else (*labels, random.choice(rows).labels[0])
    if variant == 2:
        question = question.translate(_FULL_WIDTH_PUNCTUATION).translate(_FULL_WIDTH) + random.choice(
            (" ", "\n", "\u3000")
        )
        question = question.replace("，", "， ", 1)
    labels = tuple(dict.fromkeys(labels))
    return SheetRow(question, original.thinking, (*labels, *[None] * (LABEL_COLUMNS - len(labels))))
