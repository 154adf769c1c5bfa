"""Records of a text file whose cells a delimiter parts: its encoding, its delimiter, and whether it quotes cells.

Belongs here: bytes to records. Does not belong here: which record is the header and what columns mean (table_files).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.raw_text import decode_text, describe_lost_letters, read_bytes

_DELIMITERS = (",", "\t", ";", "|")
_EXCELS_OWN_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\n|\r")
_WHOLE_QUOTED = re.compile(r'"(?:[^"]|"")*"')
# A full stop behind one or two words is an abbreviation (`lfd. Nr.`).
_NO_HEADER = re.compile(r"[:：?？؟!！。]$|\S\s+\S+\s+\S*\.$")
_OTHER_KINDS = {
    b"pk\x03\x04": "a zip archive, perhaps an .xlsx",
    b"\xd0\xcf\x11\xe0": "an old Office file, perhaps an .xls",
    b"par1": "a parquet file",
    b"%pdf": "a PDF",
    b"<html": "HTML",
    b"<!doc": "HTML",
    b"<?xml": "XML",
}
_PROBED_CHARACTERS = 1_000_000
_PROBED_ROWS = 200


@dataclass(frozen=True, slots=True)
class DelimitedText:
    """The records of a file, each with its first line, from 1, and its filled cells by position, from 0.

    `records` can be gone through once, and raises ValueError where quotes do not close. `found` says how it was read,
    `lost` what was lost of its letters before.
    """

    delimiter: str
    quoted: bool
    found: str
    lost: str
    records: Iterator[tuple[int, Mapping[int, str]]]

    def holds_rows(self, cell: str, width: int) -> bool:
        """Whether a quoted cell goes over lines most of which would be records: its quote may be a mere mark."""
        inner = _LINE_END.split(cell)[1:-1] if self.quoted and "\n" in cell else []
        return bool(inner) and 2 * sum(line.count(self.delimiter) == width - 1 for line in inner) >= len(inner)


def read_delimited(path: Path, encoding: str | None = None, *, tabs: bool = False) -> DelimitedText:
    """The records of a csv or tsv; a name that ends in .gz is unpacked, Excel's line `sep=;` is no record.

    tabs: the delimiter is the tab where it cuts all of the first rows into as many cells, whatever else does.

    Where every line is a record as it stands and a cell begins with a quotation mark that nothing closes, the file
    quotes nothing, as TSV of other tools does.

    Raises:
        ValueError: the file cannot be unpacked, or its encoding is not plain to see.
    """
    data = read_bytes(path)
    other = next((what for mark, what in _OTHER_KINDS.items() if data.lstrip()[:5].lower().startswith(mark)), None)
    if other is not None:
        raise ValueError(
            f"{path}: expected text with a row a line, found {other}. Save it as CSV in UTF-8, or rename it."
        )
    decoded = decode_text(path, data, encoding)
    text, first_line = decoded.text.lstrip("\ufeff"), 1
    own_line = _EXCELS_OWN_LINE.match(text)
    if own_line:
        text, first_line, delimiter = text[own_line.end() :], 2, own_line[1]
    else:
        delimiter = _delimiter(text, tabs=tabs)
    reading = _quotes_of(text, delimiter)
    quoted = reading is not None
    if reading is not None:
        records = _quoted(path, text, reading, first_line)
    else:
        records = _unquoted(text, delimiter, first_line)
    return DelimitedText(
        delimiter=delimiter,
        quoted=quoted,
        found=f"{decoded.encoding}{' (a guess)' if decoded.guessed else ''}, delimiter {delimiter!r}"
        + ("" if quoted else ", without quoting: a cell begins with a quotation mark that nothing closes"),
        lost=describe_lost_letters(text),
        records=((line, {at: cell for at, cell in enumerate(row) if cell}) for line, row in records),
    )


def is_tab_delimited(path: Path) -> bool:
    """Whether a .txt is a table, as Excel's "Unicode text" is: as many tabs in every line, headers in the first cells.

    A text whose paragraphs begin with a tab, or with a number and a tab, is none; nor is talk, whose first line holds
    a question, a sentence or a colon, or begins as another line does.
    """
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    try:
        text = decode_text(path, read_bytes(path)).text.lstrip("\ufeff")
    except ValueError:  # whoever reads it says what is wrong with it
        return False
    lines = [line for line in _LINE_END.split(text) if line.strip()]
    header = lines[0].split("\t") if lines else []
    named = len(header) > 1 and all(any(map(str.isalpha, cell)) for cell in header)
    return (
        named
        and len(lines) > 1
        and all(line.count("\t") == len(header) - 1 for line in lines)
        and not any(_NO_HEADER.search(cell.strip()) for cell in header)
        and not any(line.startswith(f"{header[0]}\t") and line != lines[0] for line in lines)
    )


def _quotes_of(text: str, delimiter: str) -> dict[str, Any] | None:
    """How cells are quoted, for csv.reader; None where nothing is."""
    reading: dict[str, Any] = {"delimiter": delimiter, "strict": True}
    if re.search(rf'{re.escape(delimiter)} +"', text):
        reading["skipinitialspace"] = True  # a quoted cell may stand behind a space
    if '\\"' in text and _count_records(text, reading) is None:
        escaping = reading | {"escapechar": "\\"}
        if _count_records(text, escaping) is not None:
            return escaping
    return None if _quotes_nothing(text, reading) else reading


def _count_records(text: str, reading: Mapping[str, Any]) -> int | None:
    """None where it is no CSV so read."""
    limit = csv.field_size_limit(max(len(text), 131072))
    try:
        return sum(bool(record) for record in csv.reader(io.StringIO(text, newline=""), **reading))
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(limit)


def _quoted(path: Path, text: str, reading: Mapping[str, Any], first_line: int) -> Iterator[tuple[int, Sequence[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), **reading)
    # A field may be a whole document: the default limit of 128 KiB is for small cells.
    limit = csv.field_size_limit(max(len(text), 131072))
    line = first_line
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + first_line
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: expected CSV: {error}. Correct the quotes there.") from error
    finally:
        csv.field_size_limit(limit)


def _unquoted(text: str, delimiter: str, first_line: int) -> Iterator[tuple[int, Sequence[str]]]:
    for line, record in enumerate(_LINE_END.split(text), start=first_line):
        cells = record.split(delimiter)
        yield line, [c.strip()[1:-1].replace('""', '"') if _WHOLE_QUOTED.fullmatch(c.strip()) else c for c in cells]


def _quotes_nothing(text: str, reading: Mapping[str, Any]) -> bool:
    """Whether every line is a row as it stands, and quotation marks would make one row of several, or none close."""
    if '"' not in text:
        return False
    lines = [line for line in _LINE_END.split(text) if line]
    delimiter = reading["delimiter"]
    if len({line.count(delimiter) for line in lines}) != 1:
        return False
    cells = (cell for line in lines if '"' in line for cell in line.split(delimiter))
    if not any(cell.startswith('"') and not _WHOLE_QUOTED.fullmatch(cell.strip()) for cell in cells):
        return False
    return _count_records(text, reading) != len(lines)


def _delimiter(text: str, *, tabs: bool) -> str:
    """The one that cuts most of the first rows into as many cells, two or more; else the comma."""
    probe = text[:_PROBED_CHARACTERS]
    limit = csv.field_size_limit(max(len(probe), 131072))

    def fitting(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(probe, newline=""), delimiter=delimiter)
        try:
            widths = Counter(len(row) for row in islice(reader, _PROBED_ROWS) if row)
        except csv.Error:
            return 0.0, 0
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]), default=(0, 0))
        return (count / widths.total(), width) if width > 1 else (0.0, width)

    try:
        return "\t" if tabs and fitting("\t")[0] == 1 else max(_DELIMITERS, key=fitting)
    finally:
        csv.field_size_limit(limit)
