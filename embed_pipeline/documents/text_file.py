"""Plain text: its encoding, its paragraphs, its numbered headings.

Belongs here: .txt, and what the formats that are text share. Does not belong here: markup.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from embed_pipeline.dataset.raw_text import decode_text, describe_lost_letters
from embed_pipeline.documents.document import DocumentBuilder
from embed_pipeline.documents.headings import heading_levels


def decode_into(builder: DocumentBuilder, content: bytes) -> str:
    """The text of a file; what is wrong with its encoding becomes a problem of the document. Empty if it is no text."""
    try:
        decoded = decode_text(Path(builder.file), content, remedy="Save it as UTF-8.")
    except ValueError as error:
        builder.problem("wrong_encoding", str(error).removeprefix(f"{builder.file}: "))
        return ""
    if decoded.guessed:
        builder.problem("wrong_encoding", f"It is not UTF-8; it was read as {decoded.encoding}. Save it as UTF-8.")
    lost = describe_lost_letters(decoded.text)
    if lost:
        builder.problem("wrong_encoding", f"{lost}.")
    return decoded.text


def read_text(builder: DocumentBuilder, content: bytes) -> None:
    """Paragraphs between blank lines; a line that looks like a heading where it stands is one."""
    lines = decode_into(builder, content).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    add_lines(builder, zip(lines, heading_levels(lines), strict=True))


def add_lines(builder: DocumentBuilder, lines: Iterable[tuple[str, int | None]], page: int | None = None) -> None:
    """Lines with their levels as blocks: headings apart, the others joined up to an empty line."""
    held: list[str] = []
    for line, level in lines:
        if level is None and line.strip():
            held.append(line)
            continue
        builder.block(join_lines(held), page=page)
        held = []
        if level is not None:
            builder.heading(line, level, page)
    builder.block(join_lines(held), page=page)


def join_lines(lines: list[str]) -> str:
    """Lines of a paragraph as one: nothing between Chinese characters, a hyphen at the end of a line undone."""
    parts: list[str] = []
    for line in (line.strip() for line in lines):
        if not line:
            continue
        before = parts[-1] if parts else ""
        if re.search(r"[^\W\d_]-$", before[-2:]) and line[:1].islower():
            parts[-1] = before[:-1]
        elif before and not (_is_wide(before[-1]) and _is_wide(line[0])):
            parts.append(" ")
        parts.append(line)
    return "".join(parts)


def _is_wide(character: str) -> bool:
    return "\u2e80" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef" or character in "“”‘’…—"
