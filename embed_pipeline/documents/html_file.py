"""HTML pages as text, without what every page of a site repeats.

What a browser shows counts, once; what it hides does not. Belongs here: which elements are content. Does not belong
here: fetching pages.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from embed_pipeline.documents.document import DocumentBuilder, joined_cells
from embed_pipeline.documents.text_file import decode, join_lines

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_NO_TEXT = (
    *("script", "style", "noscript", "template", "svg", "iframe", "head", "select", "textarea", "object", "canvas"),
    "nav",
)
_REPEATED = ("header", "footer", "aside")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_HOLDS_BUTTONS = (*_HEADINGS, "summary", "dt", "label")
_LIST_ITEMS = ("li", "dd", "dt")
_BLOCKS = {
    *(*_HEADINGS, *_LIST_ITEMS, "p", "tr", "pre", "blockquote", "figcaption", "caption", "summary", "address", "hr"),
    *("div", "section", "article", "main", "ul", "ol", "dl", "table", "tbody", "thead", "tfoot", "details", "figure"),
    *("body", "html", "fieldset", "legend", "center", "form", "header", "footer", "aside", "nav", "dialog", "td", "th"),
    *("menu", "hgroup", "search", "option"),
}
_MAIN_SHARE, _ARTICLE_SHARE = 0.5, 0.9
"""A part of the page is the content where so much of the text stands in it; else the whole page is."""


def read_html(builder: DocumentBuilder, content: bytes) -> None:
    """The blocks of a page's main part, its articles, or all of it; the title is a heading where no h1 is."""
    from bs4 import BeautifulSoup

    decoded = decode(content)
    # A page may say its encoding itself, so bytes that are not UTF-8 are left to the parser.
    soup = BeautifulSoup(decoded.text if decoded.text is not None and not decoded.guessed else content, "lxml")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    hidden = _without_what_is_not_shown(soup)
    roots = _content(soup)
    if title and not any(root.name == "h1" or root.find("h1") for root in roots) and any(map(_length, roots)):
        builder.heading(title, 1)
    for root in roots:
        _walk(builder, root)
    if hidden:
        builder.problem("hidden_text", f"{hidden} characters that a browser does not show were left out.")


def add_html(builder: DocumentBuilder, fragment: str) -> None:
    """The blocks of a piece of HTML inside another document."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(fragment, "lxml")
    _without_what_is_not_shown(soup)
    _walk(builder, soup)


def _without_what_is_not_shown(soup: "BeautifulSoup") -> int:
    """Take out what is no text, menus, and what is hidden, whose characters are returned; line breaks become text."""
    from bs4 import Comment

    for element in soup(_NO_TEXT):
        element.decompose()
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    hidden = 0
    for element in [found for found in soup.find_all(True) if _is_hidden(found)]:
        if not element.decomposed:
            hidden += _length(element)
            element.decompose()
    for button in soup.find_all("button"):
        if button.find_parent(_HOLDS_BUTTONS) is None:
            button.decompose()
    for line_break in soup.find_all("br"):
        line_break.replace_with("\n")
    return hidden


def _is_hidden(element: "Tag") -> bool:
    style = str(element.get("style") or "").replace(" ", "").lower()
    return (
        (element.has_attr("hidden") and element.get("hidden") != "until-found")
        or "display:none" in style
        or "visibility:hidden" in style
        or (element.name == "dialog" and not element.has_attr("open"))
    )


def _content(soup: "BeautifulSoup") -> "list[Tag]":
    """The parts of a page that are its content, in their order."""
    from bs4 import Tag

    body = soup.body or soup
    repeated = [element for element in body.find_all(_REPEATED) if _repeats(element)]
    lost = sum(_length(element) for element in repeated if element.find_parent(_REPEATED) is None)
    if lost < _length(body):  # a page may be nothing else
        for element in repeated:
            if not element.decomposed:
                element.decompose()
    whole = _length(body)
    mains = _outermost(body.select("main, [role=main]"))
    for found, share in ((mains, _MAIN_SHARE), (_outermost(body.find_all("article")), _ARTICLE_SHARE)):
        if whole and sum(map(_length, found)) >= share * whole:
            return [part for part in found if isinstance(part, Tag) and _length(part)]
    return [body]


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


def _length(element: "Tag") -> int:
    return sum(len(text) for text in element.stripped_strings)


def _walk(builder: DocumentBuilder, root: "Tag") -> None:
    """The blocks below an element, however deep they lie."""
    from bs4.element import NavigableString, Tag

    loose: list[str] = []
    kinds = ["text"]

    def flush() -> None:
        builder.block(join_lines("".join(loose).split("\n")), "list" if kinds[-1] == "list" else "text")
        loose.clear()

    pending: list[tuple[object, bool]] = [(root, False)]
    while pending:
        element, is_end = pending.pop()
        if isinstance(element, NavigableString):
            loose.append(str(element))
        elif is_end:
            flush()
            kinds.pop()
        elif isinstance(element, Tag):
            if element.name not in _BLOCKS:
                pending.extend((child, False) for child in reversed(element.contents))
                continue
            flush()
            if element.name in _HEADINGS:
                builder.heading(element.get_text(), _HEADINGS.index(element.name) + 1)
            elif element.name == "pre":
                builder.block(element.get_text())
            elif element.name == "table" and not _is_layout(element):
                for child in _rows(builder, element):
                    _walk(builder, child)
            else:
                kinds.append("list" if element.name in _LIST_ITEMS else "text")
                pending.append((element, True))
                pending.extend((child, False) for child in reversed(element.contents))
    flush()


def _is_layout(table: "Tag") -> bool:
    """Whether a table places parts of a page: it says so, or its cells hold headings or tables."""
    return table.get("role") in ("presentation", "none") or table.find(["table", *_HEADINGS]) is not None


def _rows(builder: DocumentBuilder, table: "Tag") -> "Iterator[Tag]":
    """Adds the rows of a table as blocks; gives what stands in it beside its rows, as a caption."""
    for element in table.find_all(["tr", "caption"]):
        if element.name == "caption":
            yield element
            continue
        cells = [" ".join(cell.get_text(" ").split()) for cell in element.find_all(["td", "th"])]
        builder.block(joined_cells(cells), "table")
