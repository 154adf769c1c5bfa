"""Word documents as text: paragraphs, list items and table rows in their order, headings by their style.

Text counts wherever a reader of the document sees it: in content controls, insertions that were tracked, fields, text
boxes, nested tables, footnotes. What was deleted or is hidden is none. Belongs here: styles to levels, elements to
text. Does not belong here: headers and footers, which every page repeats.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from embed_pipeline.dataset.raw_text import without_strict_names
from embed_pipeline.documents.document import DocumentBuilder, joined_cells, raised

if TYPE_CHECKING:
    from docx.document import Document as WordDocument
    from docx.text.paragraph import Paragraph

_HEADING_STYLE = re.compile(r"^(?:heading|标题|überschrift|titre|título|titolo)\s*(\d)$", re.IGNORECASE)
_TITLE_STYLES = ("title", "标题", "titel", "titre")
_OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_GONE = {"del", "moveFrom", "delText", "delInstrText", "instrText", "rPr", "pPr", "sdtPr", "rt", "Fallback"}
_LETTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Boxes and marks of Wingdings, by which a form says what holds; other symbols are decoration.
_SYMBOLS = {"FE": "☑", "FD": "☒", "78": "☒", "A8": "☐", "6F": "☐", "71": "☐", "FC": "✓", "FB": "✗", "E0": "→"}
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_DEEPEST = 60
_CONTENTS_STYLE = re.compile(r"^(?:toc|目录)\s*\d$", re.IGNORECASE)
_EMBEDDED = {"chart": "charts", "chartex": "charts", "diagram": "diagrams"}


def read_docx(builder: DocumentBuilder, content: bytes) -> None:
    """The blocks of a docx file; one with a password becomes a problem."""
    from docx import Document as open_docx

    if content.startswith(_OLE_MARK):
        builder.problem("encrypted_file", "It is protected by a password, or an old .doc. Save it as docx without one.")
        return
    document = open_docx(without_strict_names(io.BytesIO(content), "word/document.xml", io.BytesIO()))
    reader = _Reader(builder, document)
    reader.take_blocks(document.element.body)
    reader.tell()


class _Reader:
    """Walks through the elements of a document; what lies in a run but is no text of it comes after the paragraph."""

    def __init__(self, builder: DocumentBuilder, document: "WordDocument") -> None:
        self.builder, self.document = builder, document
        self.hidden, self.contents = 0, 0
        self.embedded: Counter[str] = Counter()
        self._notes = {name: _notes_of(document, name) for name in ("footnotes", "endnotes")}
        self._styles = {_value(style, "styleId"): style for style in document.styles.element.iterfind("./{*}style")}

    def tell(self) -> None:
        """What was left out, as problems of the document."""
        parts = {id(rel.target_part): rel.target_part for rel in self.document.part.rels.values() if _is_running(rel)}
        running = sum(_length(part.element) for part in parts.values())  # pyright: ignore[reportAttributeAccessIssue]
        if self.hidden:
            self.builder.problem("hidden_text", f"{self.hidden} characters that Word does not show were left out.")
        if self.contents or running:
            told = f"{self.contents} characters of a table of contents, {running} of headers and footers were left out."
            self.builder.problem("outside_content", told)
        if self.embedded:
            told = ", ".join(f"{count} {name}" for name, count in self.embedded.items())
            self.builder.problem("embedded_content", f"Not read: {told}. Put their text into the document.")

    def take_blocks(self, container: Any, depth: int = 0) -> None:
        """Every block in an element, through whatever wraps it."""
        if depth > _DEEPEST:
            self.embedded[f"characters nested more than {_DEEPEST} deep"] += _length(container)
            return
        for child in container:
            name = _name(child)
            if _is_contents(child):
                self.contents += _length(child)
                continue
            if name == "altChunk":
                self.embedded["embedded documents (open it in Word and save it)"] += 1
            if name == "p":
                self._take_paragraph(child, depth)
            elif name == "tbl":
                self._take_table(child, depth)
            elif name and name not in _GONE:
                self.take_blocks(child, depth + 1)

    def _take_paragraph(self, element: Any, depth: int) -> None:
        from docx.text.paragraph import Paragraph

        text, after = self._text(element)
        paragraph = Paragraph(element, self.document)  # pyright: ignore[reportArgumentType]
        if paragraph.style is not None and _CONTENTS_STYLE.match(paragraph.style.name or ""):
            self.contents += len(text)
            return
        level = _level(paragraph)
        if level is not None:
            self.builder.heading(text, level)
        else:
            self.builder.block(text, "list" if _is_list_item(paragraph) else "text")
        for found in after:
            self.take_blocks(found, depth + 1)

    def _take_table(self, table: Any, depth: int) -> None:
        rows = [list(_children(row, "tc")) for row in _children(table, "tr") if not _is_deleted_row(row)]
        if len(rows) == 1 and len(rows[0]) == 1:  # a frame around text
            self.take_blocks(rows[0][0], depth + 1)
            return
        above: dict[int, str] = {}
        for cells in rows:
            texts, column, row = [], 0, dict[int, str]()
            for cell in cells:
                merged = cell.find("./{*}tcPr/{*}vMerge")
                goes_on = merged is not None and _value(merged) in ("", "continue")
                text = above.get(column, "") if goes_on else " ".join(self._cell_text(cell, depth).split())
                texts.append(text)
                span = cell.find("./{*}tcPr/{*}gridSpan")
                row[column] = text
                column += int(_value(span)) if span is not None and _value(span).isdecimal() else 1
            above = row
            self.builder.block(joined_cells(texts), "table")

    def _cell_text(self, cell: Any, depth: int) -> str:
        """The text of a cell with that of tables and boxes inside it."""
        inner = DocumentBuilder(self.builder.file)
        outer, self.builder = self.builder, inner
        try:
            self.take_blocks(cell, depth + 1)
        finally:
            self.builder = outer
        return inner.text

    def _text(self, element: Any) -> tuple[str, list[Any]]:
        """The text of a paragraph, and the containers of blocks that are anchored in it."""
        parts: list[str] = []
        after: list[Any] = []
        is_raised = False
        pending = [element]
        while pending:
            found = pending.pop()
            name = _name(found)
            if name in _GONE:
                continue
            if name == "r" and self._is_hidden(found):
                self.hidden += _length(found)
            elif name == "graphicData" and (kind := _EMBEDDED.get(found.get("uri", "").rpartition("/")[2])):
                self.embedded[kind] += 1
            elif name == "OLEObject":
                self.embedded["embedded objects"] += 1
            elif name == "txbxContent":
                after.append(found)
            elif name in _NOTES:
                note = self._notes[_NOTES[name]].get(_value(found, "id"))
                after += [note] if note is not None else []
            elif name == "t":
                was_raised, is_raised = is_raised, _is_superscript(found.getparent())
                if is_raised and not was_raised:  # Word parts what it writes into runs anywhere
                    parts.append(raised("".join(parts[-1:]), found.text))
                parts.append(found.text or "")
            elif name == "sym":
                parts.append(_SYMBOLS.get(_value(found, "char")[-2:].upper(), " "))
            elif name in _LETTERS:
                parts.append(_LETTERS[name])
            else:
                pending.extend(reversed(list(found)))
        return "".join(parts), after

    def _is_hidden(self, run: Any) -> bool:
        if run.find("./{*}rPr/{*}vanish") is not None:
            return _vanishes(run)
        of_run, of_paragraph = run.find("./{*}rPr/{*}rStyle"), run.find("./../{*}pPr/{*}pStyle")
        styles = [self._styles.get(_value(found)) for found in (of_run, of_paragraph) if found is not None]
        return any(style is not None and _vanishes(style) for style in styles)


def _name(element: Any) -> str:
    """The local name of an element, empty for comments and the like."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _value(element: Any, name: str = "val") -> str:
    """An attribute of Word's, empty where it is not there."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _children(element: Any, wanted: str) -> Iterator[Any]:
    """The rows of a table or the cells of a row, through whatever wraps them."""
    for child in element:
        name = _name(child)
        if name == wanted:
            yield child
        elif name in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"):
            yield from _children(child, wanted)


def _is_deleted_row(row: Any) -> bool:
    return row.find("./{*}trPr/{*}del") is not None


def _vanishes(properties: Any) -> bool:
    vanish = properties.find("./{*}rPr/{*}vanish")
    return vanish is not None and _value(vanish) not in ("0", "false", "off")


def _is_superscript(run: Any) -> bool:
    """Whether a run is set above the line, or is the exponent in an equation."""
    aligned = run.find("./{*}rPr/{*}vertAlign")
    return _name(run.getparent()) == "sup" or (aligned is not None and _value(aligned) == "superscript")


def _is_contents(element: Any) -> bool:
    """Whether a content control is the table of contents that Word writes: its lines are headings of elsewhere."""
    gallery = element.find("./{*}sdtPr/{*}docPartObj/{*}docPartGallery") if _name(element) == "sdt" else None
    return gallery is not None and _value(gallery) == "Table of Contents"


def _is_running(rel: Any) -> bool:
    return not rel.is_external and rel.reltype.rpartition("/")[2] in ("header", "footer")


def _length(element: Any) -> int:
    return sum(len(found.text or "") for found in element.iter("{*}t"))


def _is_list_item(paragraph: "Paragraph") -> bool:
    own = paragraph._p.find("./{*}pPr/{*}numPr")
    styled = paragraph.style.element.find("./{*}pPr/{*}numPr") if paragraph.style is not None else None
    return own is not None or styled is not None


def _notes_of(document: "WordDocument", kind: str) -> dict[str, Any]:
    """The notes of a document by their id; separators, which Word keeps among them, are none."""
    from docx.oxml import parse_xml

    parts = [rel.target_part for rel in document.part.rels.values() if rel.reltype.endswith(f"/{kind}")]
    return {
        _value(note, "id"): note
        for part in parts
        for note in parse_xml(part.blob)
        if _name(note) in ("footnote", "endnote") and _value(note, "type") in ("", "normal")
    }


def _level(paragraph: "Paragraph") -> int | None:
    style, seen = paragraph.style, set()
    while style is not None and style.style_id not in seen:
        seen.add(style.style_id)  # styles that are based on each other
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


def _outline_level(outline: Any) -> int | None:
    value = _value(outline)
    level = int(value) if value.isdecimal() else 9
    return level + 1 if level < 9 else None  # 9 is body text
