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

from embed_pipeline.dataset.raw_text import decode_text, read_bytes

_DELIMITERS = (",", "\t", ";", "|")
_EXCELS_OWN_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\n|\r")
_WHOLE_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_PROBED_CHARACTERS = 1_000_000
_PROBED_ROWS = 200


@dataclass(frozen=True, slots=True)
class DelimitedText:
    """The records of a file, each with its first line, from 1, and its filled cells by position, from 0.

    `records` can be gone through once, and raises ValueError where quotes do not close. `found` says how it was read.
    """

    delimiter: str
    quoted: bool
    found: str
    records: Iterator[tuple[int, Mapping[int, str]]]

    def holds_rows(self, cell: str, width: int) -> bool:
        """Whether a quoted cell goes over lines of which each would be a record: its quote may be a mere mark."""
        inner = _LINE_END.split(cell)[1:-1] if self.quoted and "\n" in cell else []
        return bool(inner) and all(line.count(self.delimiter) == width - 1 for line in inner)


def read_delimited(path: Path, encoding: str | None = None) -> DelimitedText:
    """The records of a csv or tsv; a name that ends in .gz is unpacked, Excel's line `sep=;` is no record.

    Where every line is a record as it stands and a cell begins with a quotation mark that nothing closes, the file
    quotes nothing, as TSV of other tools does.

    Raises:
        ValueError: the file cannot be unpacked, or its encoding is not plain to see.
    """
    decoded = decode_text(path, read_bytes(path), encoding)
    text, first_line = decoded.text, 1
    own_line = _EXCELS_OWN_LINE.match(text)
    if own_line:
        text, first_line, delimiter = text[own_line.end() :], 2, own_line[1]
    else:
        delimiter = _delimiter(text)
    quoted = not _quotes_nothing(text, delimiter)
    records = _quoted(path, text, delimiter, first_line) if quoted else _unquoted(text, delimiter, first_line)
    return DelimitedText(
        delimiter=delimiter,
        quoted=quoted,
        found=f"{decoded.encoding}{' (a guess)' if decoded.guessed else ''}, delimiter {delimiter!r}"
        + ("" if quoted else ", without quoting: a cell begins with a quotation mark that nothing closes"),
        records=((line, {at: cell for at, cell in enumerate(row) if cell}) for line, row in records),
    )


def _quoted(path: Path, text: str, delimiter: str, first_line: int) -> Iterator[tuple[int, Sequence[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
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
        yield line, [c[1:-1].replace('""', '"') if _WHOLE_QUOTED.fullmatch(c) else c for c in cells]


def _quotes_nothing(text: str, delimiter: str) -> bool:
    """Whether every line is a row, and one has a cell that begins with a quotation mark and does not end with one."""
    if '"' not in text:
        return False
    lines = [line for line in _LINE_END.split(text) if line]
    if len({line.count(delimiter) for line in lines}) != 1:
        return False
    cells = (cell for line in lines if '"' in line for cell in line.split(delimiter))
    return any(cell.startswith('"') and not _WHOLE_QUOTED.fullmatch(cell) for cell in cells)


def _delimiter(text: str) -> str:
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
        return max(_DELIMITERS, key=fitting)
    finally:
        csv.field_size_limit(limit)
