"""PDF files as text, page by page, without the lines that every page repeats.

Belongs here: pages to paragraphs and headings. Does not belong here: recognising scanned pages (they have no text).
"""

import io
import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embed_pipeline.documents.building import DocumentBuilder, clean
from embed_pipeline.documents.headings import heading_level
from embed_pipeline.documents.text_file import add_lines

if TYPE_CHECKING:
    from pypdf import PdfReader

_EDGE_LINES = 3
_REPEATED_SHARE = 0.5
_FEWEST_PAGES = 3
_ENDS_PARAGRAPH = re.compile(r"[.。!?！？:：;；]['\"”’)）]*$")
_BEGINS_BLOCK = re.compile(
    r"^(?:[•●▪■◆–-]\s|\(?[a-zA-Z0-9]{1,3}[.)]\s|[（(][一二三四五六七八九十\d]{1,3}[)）]|第\s?[一二三四五六七八九十百零〇\d]{1,8}\s?条)"
)
_FULL_LINE = 0.75
_LEADS_TO_A_PAGE = re.compile(r"[^\W\d_][^\d]*(?:[.…·]{3,}|\s)\s*\d{1,4}$")
_FEWEST_ENTRIES = 8


def read_pdf(builder: DocumentBuilder, content: bytes) -> None:
    """The blocks of a PDF with their pages; pages without text, and a file that cannot be read, become problems."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            builder.problem("encrypted_file", "It is protected by a password. Save it without one.")
            return
        pages = _read_pages(builder, reader)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError) as error:
        builder.problem("broken_file", f"It cannot be read as PDF ({type(error).__name__}). Print it to PDF again.")
        return
    if not any(pages):
        builder.problem("no_text", f"None of its {len(pages)} pages has text: a scan. Run OCR over it.")
        return
    for number, lines in enumerate(_without_running_lines(pages), start=1):
        if not lines:
            builder.problem("page_without_text", "The page has no text: a scan or a picture.", f"page {number}")
            continue
        if sum(_LEADS_TO_A_PAGE.search(line) is not None for line in lines) >= _FEWEST_ENTRIES:
            builder.block("\n".join(lines), page=number)  # a table of contents: its lines are headings of elsewhere
            continue
        for paragraph in _paragraphs(lines):
            add_lines(builder, paragraph, number)


def _read_pages(builder: DocumentBuilder, reader: "PdfReader") -> list[list[str]]:
    pages = []
    for page in reader.pages:
        text = clean(page.extract_text() or "")
        pages.append([line.strip() for line in text.split("\n") if line.strip()])
    return pages


def _without_running_lines(pages: Sequence[Sequence[str]]) -> list[list[str]]:
    """The lines of every page without those that stand at the edge of most pages, whatever the numbers in them."""
    if len(pages) < _FEWEST_PAGES:
        return [list(lines) for lines in pages]
    counts = Counter(key for lines in pages for key in {_shape(line) for line in _edges(lines)})
    filled = sum(bool(lines) for lines in pages)
    running = {key for key, count in counts.items() if count > max(2, _REPEATED_SHARE * filled)}
    found = []
    for lines in pages:
        kept = list(lines)
        for at in (0, -1):
            taken = 0
            while kept and taken < _EDGE_LINES and _shape(kept[at]) in running:
                kept.pop(at)
                taken += 1
        found.append(kept)
    return found


def _edges(lines: Sequence[str]) -> list[str]:
    return [*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:]]


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", " ".join(line.split()))


def _paragraphs(lines: Sequence[str]) -> list[list[str]]:
    """Lines in groups: a sentence that ends before the right margin ends its paragraph, a heading stands alone."""
    longest = max(map(len, lines))
    found: list[list[str]] = [[]]
    for line in lines:
        is_heading = heading_level(line) is not None
        if found[-1] and (is_heading or _BEGINS_BLOCK.match(line)):
            found.append([])
        found[-1].append(line)
        if is_heading or (_ENDS_PARAGRAPH.search(line) and len(line) < _FULL_LINE * longest):
            found.append([])
    return [group for group in found if group]
