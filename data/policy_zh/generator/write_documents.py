"""Writes the documents of policy_zh from the Markdown beside it: the docx, and the page that the pdf is printed from.

    python data/policy_zh/generator/write_documents.py --output data/policy_zh/documents
    python data/policy_zh/generator/write_documents.py --pages FOLDER --font NotoSansCJK-Regular.ttc

Belongs here: numbering of chapters and articles, styles, fixed times. Does not belong here: any text of the terms;
printing the page (README.md).
"""

import argparse
import html
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
DOCX_SOURCE = HERE / "critical_illness_terms.md"
PDF_SOURCE = HERE / "hospital_cash_terms.md"
WRITTEN_AT = datetime(2026, 3, 1)
ZIP_TIME = (2026, 3, 1, 0, 0, 0)
FONT_NUMBER = 2  # Simplified Chinese in NotoSansCJK-Regular.ttc; of no concern in a file with one font
DIGITS = "零一二三四五六七八九"

PartKind = Literal["title", "chapter", "article", "text", "table"]


@dataclass(frozen=True, slots=True)
class Part:
    """A heading with its number, a paragraph, or a table by rows."""

    kind: PartKind
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


def chinese_number(number: int) -> str:
    """The number, 1 to 99, as articles are counted: 十二, 二十."""
    tens, ones = divmod(number, 10)
    start = "" if tens == 0 else "十" if tens == 1 else DIGITS[tens] + "十"
    return start + (DIGITS[ones] if ones or not tens else "")


def read_parts(path: Path) -> tuple[Part, ...]:
    """The parts of a Markdown file: `#` title, `##` chapter, `###` article, table rows, paragraphs."""
    parts: list[Part] = []
    chapters = articles = 0
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        marker, _, text = block.partition(" ")
        if marker == "#":
            parts.append(Part("title", text))
        elif marker == "##":
            chapters += 1
            parts.append(Part("chapter", f"第{chinese_number(chapters)}章 {text}"))
        elif marker == "###":
            articles += 1
            parts.append(Part("article", f"第{chinese_number(articles)}条 {text}"))
        elif marker == "|":
            lines = [line for line in block.splitlines() if not line.startswith("| ---")]
            parts.append(Part("table", rows=tuple(tuple(c.strip() for c in line[1:-1].split("|")) for line in lines)))
        else:
            parts.append(Part("text", block))
    return tuple(parts)


def docx_bytes(parts: Sequence[Part]) -> bytes:
    """A Word file with real heading styles; equal parts and an equal python-docx give equal bytes."""
    from docx import Document

    document = Document()
    properties = document.core_properties
    properties.author = properties.last_modified_by = "embed-pipeline"
    properties.created = properties.modified = WRITTEN_AT
    properties.comments = ""
    properties.title = parts[0].text
    for part in parts:
        if part.kind == "table":
            _add_table(document, part.rows)
        elif part.kind == "text":
            document.add_paragraph(part.text)
        else:
            document.add_heading(part.text, {"title": 0, "chapter": 1, "article": 2}[part.kind])
    packed = BytesIO()
    document.save(packed)
    return _with_fixed_times(packed)


def page_html(parts: Sequence[Part]) -> str:
    """The page that the pdf is printed from: a running header, page numbers, the article's name in its paragraph."""
    body: list[str] = []
    article = ""
    for part in parts:
        text = html.escape(part.text)
        if part.kind == "article":
            article = f"{text}　"
        elif part.kind == "text":
            body.append(f"<p>{article}{text}</p>")
            article = ""
        else:
            tag = "h1" if part.kind == "title" else "h2"
            body.append(f"<{tag}>{text}</{tag}>")
    page = (HERE / "page.html").read_text(encoding="utf-8")
    return page.replace("{title}", html.escape(parts[0].text)).replace("{body}", "\n".join(body))


def write_page(folder: Path, font: Path) -> None:
    """Writes hospital_cash_terms.html and the font that it is printed with, cut down to its characters.

    Browsers write the code of a radical (U+2F00, U+2E80) into a pdf where a font has one glyph for radical and
    character; a font without radicals leaves them no choice.
    """
    page = page_html(read_parts(PDF_SOURCE))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hospital_cash_terms.html").write_text(page, encoding="utf-8", newline="\n")
    _write_font(font, page + "0123456789", folder / "page.ttf")


def _add_table(document, rows: Sequence[Sequence[str]]) -> None:
    table = document.add_table(rows=len(rows), cols=len(rows[0]), style="Table Grid")
    for row, cells in zip(table.rows, rows, strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text


def _write_font(font: Path, text: str, path: Path) -> None:
    """The glyphs of the text with TrueType outlines, which a browser embeds in half the space."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.cu2quPen import Cu2QuPen
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from fontTools.ttLib import TTFont

    source = TTFont(font, fontNumber=FONT_NUMBER)
    known, glyphs, widths = source.getBestCmap() or {}, source.getGlyphSet(), source["hmtx"].metrics
    names = {ord(character): known[ord(character)] for character in sorted(set(text)) if ord(character) in known}
    outlines = {}
    for name in (".notdef", *names.values()):
        pen = TTGlyphPen(None)
        glyphs[name].draw(Cu2QuPen(pen, max_err=1.5, reverse_direction=True))
        outlines[name] = pen.glyph()
    builder = FontBuilder(source["head"].unitsPerEm, isTTF=True)  # pyright: ignore[reportAttributeAccessIssue]
    builder.setupGlyphOrder(list(outlines))
    builder.setupCharacterMap(names)
    builder.setupGlyf(outlines)
    builder.setupHorizontalMetrics({name: widths[name] for name in outlines})
    builder.setupHorizontalHeader(ascent=source["hhea"].ascent, descent=source["hhea"].descent)
    builder.setupNameTable({"familyName": "page", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=source["hhea"].ascent, sTypoDescender=source["hhea"].descent)
    builder.setupPost()
    builder.save(path)


def _with_fixed_times(packed: BytesIO) -> bytes:
    """The same members in the same order; each with one time and no trace of the system that packed it."""
    fixed = BytesIO()
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(fixed, "w") as target:
        for name in source.namelist():
            member = zipfile.ZipInfo(name, ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 0
            target.writestr(member, source.read(name))
    return fixed.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Folder for critical_illness_terms.docx.")
    parser.add_argument("--pages", type=Path, help="Folder for the page to print as pdf.")
    parser.add_argument("--font", type=Path, help="A font with Chinese characters to print the page with.")
    arguments = parser.parse_args()
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "critical_illness_terms.docx").write_bytes(docx_bytes(read_parts(DOCX_SOURCE)))
    if arguments.pages is not None:
        if arguments.font is None:
            parser.error("--pages: expected --font with a font to print with, found none. Name one (fc-list :lang=zh).")
        write_page(arguments.pages, arguments.font)


if __name__ == "__main__":
    main()
