"""PDF files as text, page by page, without the lines that every page repeats.

Belongs here: pages to paragraphs and headings. Does not belong here: recognising scanned pages (they have no text).
"""

import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from embed_pipeline.documents.document import DocumentBuilder, clean, describe_error
from embed_pipeline.documents.headings import heading_level, heading_levels
from embed_pipeline.documents.text_file import add_lines

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

_EDGE_LINES = 3
_REPEATED_SHARE = 0.5
_FEWEST_PAGES = 3
_ENDS_PARAGRAPH = re.compile(r"[.。!?！？:：;；]['\"”’)）]*$")
_BEGINS_BLOCK = re.compile(
    r"^(?:[•●▪■◆–-]\s|\(?[a-zA-Z0-9]{1,3}[.)]\s|[（(][一二三四五六七八九十\d]{1,3}[)）]|第\s?[一二三四五六七八九十百零〇\d]{1,8}\s?条)"
)
_FULL_LINE = 0.75
_PAGE_NUMBER = re.compile(
    r"[\W_]*(?:(?:page|seite|página|pagina|pág|stránka|strana|sida|side|sivu|strona|стр|第|p|pg|s)\b[\W_]*|第\s*)?\d+\s*页?"
    r"(?:[\W_]*(?:of|von|de|di|sur|av|af|z|из|共|/)?[\W_]*\d+\s*页?)?[\W_]*",
    re.IGNORECASE,
)
_MANY_LINES = 8
_LONGEST_ENTRY = 200
_UNKNOWN_SHARE, _MANY_GLYPH_NAMES, _MANY_SCRIPTS, _MAIN_SCRIPT = 0.1, 0.3, 10, 0.6
_EAST_ASIAN = {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH", "FULLWIDTH", "BOPOMOFO", "IDEOGRAPHIC"}
_NAMED_GLYPHS = re.compile(r"\(cid:\d+\)|/(?:g|gid|G|cid|uni)\d{1,5}")
_LEADS_TO_A_PAGE = re.compile(r"[^\W\d_][^\d]*(?:[.…·]{3,}|\s)\s*\d{1,4}$")
_FEWEST_ENTRIES = 8
_MANY_LETTERS, _LETTER_SHARE = 20, 0.5
_PRINTED_TWICE = 15


def read_pdf(builder: DocumentBuilder, content: bytes) -> None:
    """The blocks of a PDF with their pages; a page that gives no text, and a locked file, become problems."""
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        builder.problem("encrypted_file", "It is protected by a password. Save it without one.")
        return
    pages = _read_pages(reader)
    if not any(page.lines or page.problem for page in pages):
        builder.problem("no_text", f"None of its {len(pages)} pages has text: a scan. Run OCR over it.")
        return
    pages = _without_running_lines(builder, pages)
    levels = iter(heading_levels([line for page in pages for line in page.lines]))
    for number, page in enumerate(pages, start=1):
        lines = [(line, next(levels)) for line in page.lines]
        if page.problem or not page.lines:
            reason, detail = page.problem or ("page_without_text", "The page has no text: a scan or a picture.")
            builder.problem(reason, detail, f"page {number}")
            continue
        if sum(_leads_to_a_page(line) for line in page.lines) >= _FEWEST_ENTRIES:
            builder.block("\n".join(page.lines), page=number)  # a table of contents: its lines are headings elsewhere
            continue
        add_lines(builder, _in_paragraphs(lines), number)


@dataclass(frozen=True, slots=True)
class _Page:
    """The lines of a page, or why there are none: a reason of the ledger and its words."""

    lines: tuple[str, ...]
    problem: tuple[str, str] | None = None


class _Complaints(logging.Handler):
    """Keeps what pypdf says of a page that it cannot decode, and lets nothing be printed."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


def _read_pages(reader: "PdfReader") -> list[_Page]:
    logger, complaints = logging.getLogger("pypdf"), _Complaints()
    before = logger.handlers
    logger.handlers = [complaints]
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        return [_read_page(page, complaints) for page in reader.pages]
    finally:
        logger.handlers, logger.propagate = before, propagates
        logger.setLevel(level)


def _read_page(page: "PageObject", complaints: _Complaints) -> _Page:
    complaints.heard.clear()
    try:
        text = clean(page.extract_text() or "")
        if _is_letter_by_letter(text):
            text = re.sub(r" +", " ", clean(page.extract_text(extraction_mode="layout")))
    except Exception as error:
        return _Page((), ("page_without_text", f"The page cannot be read ({describe_error(error)}). Print it again."))
    apart = "letters stand apart, where words end is not known" if _is_letter_by_letter(text) else ""
    garbled = _garbled(text) or apart or next((told for told in complaints.heard if "not implemented" in told), "")
    if garbled:
        told = f"Its characters cannot be read ({' '.join(garbled.split())[:80]}). Run OCR over it."
        return _Page((), ("unreadable_characters", told))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    # What is bold by being printed twice stands there twice; a short line may be a cell that repeats.
    kept = (line for at, line in enumerate(lines) if at == 0 or line != lines[at - 1] or len(line) < _PRINTED_TWICE)
    return _Page(tuple(kept))


def _is_letter_by_letter(text: str) -> bool:
    """Whether a page places every letter for itself: each then comes as a line, and where words end is not known."""
    words = text.split()
    letters = sum(len(word) == 1 and word.isascii() and word.isalpha() for word in words)
    return letters >= _MANY_LETTERS and letters > _LETTER_SHARE * len(words)


def _garbled(text: str) -> str:
    """Why nobody wrote this text, empty where somebody may have: fonts need not say which characters they have."""
    letters = [character for character in text if not character.isspace()]
    if not letters:
        return ""
    unknown = sum(
        unicodedata.category(character) in ("Co", "Cn", "Cs") or character == "\ufffd" for character in letters
    )
    if unknown > _UNKNOWN_SHARE * len(letters):
        return f"{unknown} of {len(letters)} have no meaning"
    named = 5 * len(_NAMED_GLYPHS.findall(text))
    if named > _MANY_GLYPH_NAMES * len(letters):
        return "the font names glyphs and no characters"
    names = (unicodedata.name(character, "").partition(" ")[0] for character in letters if character.isalpha())
    scripts = Counter("CJK" if name in _EAST_ASIAN else name for name in names)
    mixed = len(scripts) >= _MANY_SCRIPTS and max(scripts.values()) < _MAIN_SCRIPT * sum(scripts.values())
    return f"letters of {len(scripts)} scripts" if mixed else ""


def _without_running_lines(builder: DocumentBuilder, pages: Sequence[_Page]) -> list[_Page]:
    """The pages without the lines that stand at the edge of most of them, which are said; page numbers among them.

    Lines that differ in their numbers alone are body text, as the headings of chapters or the rows of a tariff, but for
    a page's number, and for a line that counts pages on pages that hold much more.
    """
    filled = [page for page in pages if page.lines]
    if len(filled) < _FEWEST_PAGES:
        return list(pages)
    most = max(2, _REPEATED_SHARE * len(filled))
    words = Counter(line for page in filled for line in {_spaced(line) for line in _edges(page.lines)})
    shapes = Counter(shape for page in filled for shape in {_shape(line) for line in _edges(page.lines)})

    def runs(line: str, number: int, of_lines: int) -> bool:
        if words[_spaced(line)] > most:
            return True
        if shapes[_shape(line)] <= most or heading_level(line) is not None:
            return False
        counts = str(number) in re.findall(r"\d+", line)
        return _PAGE_NUMBER.fullmatch(line) is not None or (counts and of_lines >= _MANY_LINES)

    stripped = [_strip(page, number, runs) for number, page in enumerate(pages, start=1)]
    emptied = sum(bool(page.lines) and not kept.lines for page, kept in zip(pages, stripped, strict=True))
    if emptied > _REPEATED_SHARE * len(filled):  # then they are what the pages hold
        return list(pages)
    taken = Counter(
        _shape(line)
        for page, kept in zip(pages, stripped, strict=True)
        for line in (Counter(page.lines) - Counter(kept.lines)).elements()
    )
    if taken:
        shown = ", ".join(repr(line[:40]) for line, _ in taken.most_common(3))
        builder.problem("running_lines", f"{sum(taken.values())} lines that most pages repeat were left out: {shown}.")
    return stripped


def _strip(page: _Page, number: int, runs: Callable[[str, int, int], bool]) -> _Page:
    kept = list(page.lines)
    for at in (0, -1):
        taken = 0
        while kept and taken < _EDGE_LINES and runs(kept[at], number, len(page.lines)):
            kept.pop(at)
            taken += 1
    return replace(page, lines=tuple(kept))


def _edges(lines: Sequence[str]) -> list[str]:
    return [*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:]]


def _spaced(line: str) -> str:
    return " ".join(line.split())


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", _spaced(line))


def _leads_to_a_page(line: str) -> bool:
    return _LEADS_TO_A_PAGE.search(line[-_LONGEST_ENTRY:]) is not None


def _in_paragraphs(lines: Sequence[tuple[str, int | None]]) -> Iterator[tuple[str, int | None]]:
    """The lines with an empty one between paragraphs: a sentence that ends before the right margin ends its own."""
    longest = max(len(line) for line, _ in lines)
    for line, level in lines:
        if _BEGINS_BLOCK.match(line):
            yield "", None
        yield line, level
        if _ENDS_PARAGRAPH.search(line) and len(line) < _FULL_LINE * longest:
            yield "", None
