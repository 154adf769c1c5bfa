"""Word documents as text: paragraphs, list items and table rows in their order, headings by their style.

Belongs here: styles to levels. Does not belong here: headers and footers, which every page repeats.
"""

import io
import re
import zipfile
from typing import TYPE_CHECKING

from embed_pipeline.documents.building import DocumentBuilder

if TYPE_CHECKING:
    from docx.table import Table
    from docx.text.paragraph import Paragraph

_HEADING_STYLE = re.compile(r"^(?:heading|标题|überschrift|titre|título|titolo)\s*(\d)$", re.IGNORECASE)
_TITLE_STYLES = ("title", "标题", "titel", "titre")
_OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def read_docx(builder: DocumentBuilder, content: bytes) -> None:
    """The blocks of a docx file; a file with a password, or none at all, becomes a problem of the document."""
    from docx import Document as open_docx
    from docx.opc.exceptions import PackageNotFoundError
    from docx.table import Table
    from lxml.etree import XMLSyntaxError

    if content.startswith(_OLE_MARK):
        builder.problem("encrypted_file", "It is protected by a password, or an old .doc. Save it as docx without one.")
        return
    try:
        document = open_docx(io.BytesIO(content))
        blocks = list(document.iter_inner_content())
    except (PackageNotFoundError, zipfile.BadZipFile, KeyError, ValueError, XMLSyntaxError) as error:
        builder.problem("broken_file", f"It cannot be read as docx ({type(error).__name__}). Save it again with Word.")
        return
    for block in blocks:
        if isinstance(block, Table):
            _add_table(builder, block)
        else:
            _add_paragraph(builder, block)


def _add_paragraph(builder: DocumentBuilder, paragraph: "Paragraph") -> None:
    level = _level(paragraph)
    if level is not None:
        builder.heading(paragraph.text, level)
    else:
        own = paragraph._p.find("./{*}pPr/{*}numPr")
        styled = paragraph.style.element.find("./{*}pPr/{*}numPr") if paragraph.style is not None else None
        builder.block(paragraph.text, "text" if own is None and styled is None else "list")


def _level(paragraph: "Paragraph") -> int | None:
    style = paragraph.style
    while style is not None:
        name = (style.name or "").strip()
        if match := _HEADING_STYLE.match(name):
            return int(match.group(1))
        if name.casefold() in _TITLE_STYLES:
            return 1
        outline = style.element.find(".//{*}outlineLvl")
        if outline is not None:
            return _outline_level(outline)
        style = getattr(style, "base_style", None)
    outline = paragraph._p.find("./{*}pPr/{*}outlineLvl")
    return _outline_level(outline) if outline is not None else None


def _outline_level(outline: object) -> int | None:
    values = [value for key, value in outline.attrib.items() if key.endswith("}val")]  # type: ignore[attr-defined]
    level = int(values[0]) if values and values[0].isdecimal() else 9
    return level + 1 if level < 9 else None  # 9 is body text


def _add_table(builder: DocumentBuilder, table: "Table") -> None:
    for row in table.rows:
        cells: list[str] = []
        seen: set[int] = set()
        for cell in row.cells:
            # A merged cell is there once for each column it covers.
            if id(cell._tc) not in seen:
                seen.add(id(cell._tc))
                cells.append(" ".join(cell.text.split()))
        builder.block(" | ".join(cell for cell in cells if cell), "table")
