"""HTML pages as text, without what every page of a site repeats.

What a browser shows counts, once; what it hides does not. Belongs here: which elements are content. Does not belong
here: fetching pages.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from embed_pipeline.documents.document import DocumentBuilder, joined_cells, raised
from embed_pipeline.documents.text_file import decode_into, join_lines

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_NO_TEXT = {"script", "style", "template", "svg", "canvas", "head", "iframe", "rt", "rp"}
_FOR_INPUT = {"noscript", "select", "textarea", "object", "nav", "button"}
_REPEATED = ("header", "footer", "aside")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_HOLDS_BUTTONS = (*_HEADINGS, "summary", "dt", "label")
_MODAL = ("dialog", "alertdialog", "menu", "listbox")
_LIST_ITEMS = ("li", "dd", "dt")
_BLOCKS = {
    *(*_HEADINGS, *_LIST_ITEMS, "p", "tr", "pre", "blockquote", "figcaption", "caption", "summary", "address", "hr"),
    *("div", "section", "article", "main", "ul", "ol", "dl", "table", "tbody", "thead", "tfoot", "details", "figure"),
    *("body", "html", "fieldset", "legend", "center", "form", "header", "footer", "aside", "nav", "dialog", "td", "th"),
    *("menu", "hgroup", "search", "option"),
}
_BROWSERS_READ = {
    **dict.fromkeys(("gb2312", "gbk", "x-gbk"), "gb18030"),
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin1", "ascii", "us-ascii"), "cp1252"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987"), "cp949"),
    "big5": "big5hkscs",
    "iso-8859-9": "cp1254",
    "tis-620": "cp874",
}
"""The encoding that browsers take where a page names a smaller one. Source: WHATWG, Encoding Standard."""
_MAIN_SHARE, _ARTICLE_SHARE = 0.5, 0.9
"""A part of the page is the content where so much of the text stands in it; else the whole page is."""


def read_html(builder: DocumentBuilder, content: bytes) -> None:
    """The blocks of a page's main part, its articles, or all of it; the title is a heading where no h1 is."""
    from bs4 import BeautifulSoup

    # What stands behind a null character the parser drops.
    soup = BeautifulSoup(_decode_page(builder, content).replace("\0", ""), "lxml")
    page = _Page(builder, soup)
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    roots = page.content()
    if title and not any(root.name == "h1" or root.find("h1") for root in roots) and any(map(page.length, roots)):
        builder.heading(title, 1)
    for root in roots:
        page.walk(root)
    page.tell(beside=page.beside(roots))


def _decode_page(builder: DocumentBuilder, content: bytes) -> str:
    """The text of a page that is not UTF-8 in the encoding that it names, as browsers read it; else as of any text."""
    from bs4.dammit import EncodingDetector

    try:
        content.decode()
    except UnicodeDecodeError:
        named = (EncodingDetector.find_declared_encoding(content, is_html=True) or "").lower()
        encoding = _BROWSERS_READ.get(named, named)
        try:
            text = content.decode(encoding, "replace") if encoding else ""
        except (LookupError, UnicodeError):  # no encoding, or one of Python's that is none of a page: idna, undefined
            text = ""
        if text:
            broken = text.count("\ufffd")
            if broken:
                told = f"The page says that it is {named}, and {broken} of its letters are not. Save it as UTF-8."
                builder.problem("wrong_encoding", told)
            return text
    return decode_into(builder, content)


def add_html(builder: DocumentBuilder, fragment: str) -> None:
    """The blocks of a piece of HTML inside another document."""
    from bs4 import BeautifulSoup

    page = _Page(builder, BeautifulSoup(fragment, "lxml"))
    page.walk(page.soup)
    page.tell(beside=page.menus)


class _Page:
    """A parsed page, with the elements that are no content; the tree itself stays as it is.

    Taking elements out of a tree costs their place among their siblings each time: the square of a long flat page.
    """

    def __init__(self, builder: DocumentBuilder, soup: "BeautifulSoup") -> None:
        self.builder, self.soup = builder, soup
        self._gone: set[int] = set()
        opened = {name for found in soup.select("[aria-controls]") for name in str(found["aria-controls"]).split()}
        hidden: list[Tag] = []
        menus: list[Tag] = []
        for element in soup.find_all(True):
            if _is_hidden(element, opened):
                hidden.append(element)
            elif element.name in _FOR_INPUT and not (element.name == "button" and element.find_parent(_HOLDS_BUTTONS)):
                menus.append(element)
        inner = (element.find_parent("table") for element in soup.find_all(["table", *_HEADINGS]))
        self._layouts = {id(table) for table in inner if table is not None}
        self.hidden = self._leave_out(hidden)
        self.menus = self._leave_out(menus)

    def content(self) -> "list[Tag]":
        """The parts of a page that are its content, in their order."""
        body = self.soup.body or self.soup
        repeated = _outermost([element for element in body.find_all(_REPEATED) if _repeats(element)])
        if sum(map(self.length, repeated)) < self.length(body):  # a page may be nothing else
            self.menus += self._leave_out(repeated)
        whole = self.length(body)
        mains, articles = _outermost(body.select("main, [role=main]")), _outermost(body.find_all("article"))
        for found, share in ((mains, _MAIN_SHARE), (articles, _ARTICLE_SHARE)):
            if whole and sum(map(self.length, found)) >= share * whole:
                return [part for part in found if self.length(part)]
        return [body]

    def beside(self, roots: "list[Tag]") -> int:
        """How many characters are shown and stand in none of the parts, menus included."""
        return self.menus + self.length(self.soup.body or self.soup) - sum(map(self.length, roots))

    def tell(self, *, beside: int) -> None:
        """What was left out, as problems of the document."""
        if self.hidden:
            self.builder.problem("hidden_text", f"{self.hidden} characters that a browser does not show were left out.")
        if beside:
            told = f"{beside} characters of menus, forms, headers, footers and beside the main part were left out."
            self.builder.problem("outside_content", told)

    def length(self, element: "Tag") -> int:
        """The characters of an element without white space at the ends of its strings."""
        return sum(len(text.strip()) for text in self.strings(element))

    def strings(self, element: "Tag") -> "Iterator[str]":
        """The text of an element piece by piece, a line break and the edges of a block as breaks of text."""
        from bs4.element import PreformattedString, Tag

        before = ""
        pending: list[object] = [element]
        while pending:
            found, text = pending.pop(), ""
            if isinstance(found, Tag):
                if found.name == "br":
                    text = "\n"
                elif self.is_content(found):
                    text = raised(before, found.find(string=True)) if found.name == "sup" else ""
                    edge = ["\n"] if found.name in _BLOCKS else []
                    pending.extend([*edge, *reversed(found.contents), *edge])
            elif isinstance(found, str) and not isinstance(found, PreformattedString):
                text = str(found)
            if text:
                yield text
                before = text

    def is_content(self, element: "Tag") -> bool:
        """Whether an element is text and was not left out."""
        return id(element) not in self._gone and element.name not in _NO_TEXT

    def _is_layout(self, table: "Tag") -> bool:
        """Whether a table places parts of a page: it says so, or its cells hold headings or tables."""
        return table.get("role") in ("presentation", "none") or id(table) in self._layouts

    def _leave_out(self, elements: "list[Tag]") -> int:
        characters = sum(map(self.length, _outermost(elements)))
        self._gone.update(map(id, elements))
        return characters

    def walk(self, root: "Tag") -> None:
        """The blocks below an element, however deep they lie."""
        from bs4.element import NavigableString, PreformattedString, Tag

        loose: list[str] = []
        kinds = ["text"]

        def flush() -> None:
            self.builder.block(join_lines("".join(loose).split("\n")), "list" if kinds[-1] == "list" else "text")
            loose.clear()

        pending: list[tuple[object, bool]] = [(root, False)]
        while pending:
            element, is_end = pending.pop()
            if isinstance(element, NavigableString):
                loose += [] if isinstance(element, PreformattedString) else [str(element)]
            elif is_end:
                flush()
                kinds.pop()
            elif isinstance(element, Tag) and self.is_content(element):
                if element.name == "br":
                    loose.append("\n")
                elif element.name not in _BLOCKS:
                    if element.name == "sup":
                        loose.append(raised("".join(loose[-1:]), element.find(string=True)))
                    pending.extend((child, False) for child in reversed(element.contents))
                else:
                    flush()
                    self._add_block(element, pending, kinds)
        flush()

    def _add_block(self, element: "Tag", pending: list[tuple[object, bool]], kinds: list[str]) -> None:
        if element.name in _HEADINGS:
            self.builder.heading("".join(self.strings(element)), _HEADINGS.index(element.name) + 1)
        elif element.name == "pre":
            self.builder.block("".join(self.strings(element)))
        elif element.name == "table" and not self._is_layout(element):
            self._add_rows(element)
        else:
            kinds.append("list" if element.name in _LIST_ITEMS else "text")
            pending.append((element, True))
            pending.extend((child, False) for child in reversed(element.contents))

    def _add_rows(self, table: "Tag") -> None:
        """The rows of a table; a cell over several rows stands in each of them, in its column."""
        from_above: dict[int, _Cell] = {}  # by its column
        for element in table.find_all(["tr", "caption"]):
            if not self.is_content(element):
                continue
            if element.name == "caption":
                self.walk(element)
                continue
            cells: list[str] = []
            below: dict[int, _Cell] = {}
            column = 0
            found = [cell for cell in element.find_all(["td", "th"]) if self.is_content(cell)]
            last = max(from_above, default=-1)
            while found or column <= last:
                if not found:
                    column = min(at for at in from_above if at >= column)
                cell = from_above.get(column) or self._cell(found.pop(0))
                cells.append(cell.text)
                if cell.rows > 1:
                    below[column] = replace(cell, rows=cell.rows - 1)
                column += cell.columns
            from_above = below
            self.builder.block(joined_cells(cells), "table")

    def _cell(self, element: "Tag") -> "_Cell":
        rows, columns = (str(element.get(name) or "") for name in ("rowspan", "colspan"))
        return _Cell(
            " ".join("".join(self.strings(element)).split()),
            int(rows) if rows.isdecimal() and len(rows) < 6 else 1,
            int(columns) or 1 if columns.isdecimal() and len(columns) < 6 else 1,
        )


@dataclass(frozen=True, slots=True)
class _Cell:
    """The text of a cell, and for how many rows and columns it stands."""

    text: str
    rows: int
    columns: int


def _is_hidden(element: "Tag", opened: set[str]) -> bool:
    """Whether a browser does not show an element, and no tab or button of the page opens it."""
    if element.name == "dialog":
        return not element.has_attr("open")
    if element.get("role") == "tabpanel" or (element.get("id") in opened and element.get("role") not in _MODAL):
        return False
    style = str(element.get("style") or "").replace(" ", "").lower()
    return (
        (element.has_attr("hidden") and element.get("hidden") != "until-found")
        or "display:none" in style
        or "visibility:hidden" in style
    )


def _repeats(element: "Tag") -> bool:
    """Whether an element is what every page of a site has: a header that holds a heading of its part is not."""
    if element.name == "header":
        inside = element.find_parent(["article", "main", "section"]) is not None
        return not inside and element.find(_HEADINGS) is None
    if element.name == "footer":
        return element.find_parent(["article", "section", "blockquote"]) is None
    return True


def _outermost(elements: "list[Tag]") -> "list[Tag]":
    known = {id(element) for element in elements}
    return [one for one in elements if not any(id(parent) in known for parent in one.parents)]
