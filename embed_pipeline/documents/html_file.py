"""HTML pages as text, without what every page of a site repeats.

Belongs here: which elements are content. Does not belong here: fetching pages.
"""

from typing import TYPE_CHECKING

from embed_pipeline.documents.building import DocumentBuilder
from embed_pipeline.documents.text_file import decode, join_lines

if TYPE_CHECKING:
    from bs4 import Tag

_LEFT_OUT = (
    *("script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "button", "svg", "iframe"),
    *("head", "select", "textarea", "dialog"),
)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = (*_HEADINGS, "p", "li", "tr", "pre", "blockquote", "dt", "dd", "figcaption", "caption", "summary", "address")
_GROUPS = (
    *("div", "section", "article", "main", "ul", "ol", "dl", "table", "tbody", "thead", "tfoot", "details", "figure"),
    *("body", "html", "fieldset", "center"),
)


def read_html(builder: DocumentBuilder, content: bytes) -> None:
    """The blocks of a page's main or article element, else of its body; the title is a heading where no h1 is."""
    from bs4 import BeautifulSoup, Comment

    decoded = decode(content)
    # A page may say its encoding itself, so bytes that are not UTF-8 are left to the parser.
    soup = BeautifulSoup(decoded.text if decoded.text is not None and not decoded.guessed else content, "lxml")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for element in soup(_LEFT_OUT):
        # The header of an article holds its heading.
        if element.name == "header" and element.find_parent(["article", "main"]) is not None:
            continue
        element.decompose()
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for line_break in soup.find_all("br"):
        line_break.replace_with("\n")
    root = soup.find("main") or soup.select_one("[role=main]") or soup.find("article") or soup.body or soup
    if title and root.find("h1") is None and root.get_text(strip=True):
        builder.heading(title, 1)
    _walk(builder, root)  # pyright: ignore[reportArgumentType]


def _walk(builder: DocumentBuilder, element: "Tag") -> None:
    from bs4.element import NavigableString, Tag

    loose: list[str] = []
    for child in element.children:
        if isinstance(child, Tag) and (child.name in _BLOCKS or _holds_blocks(child)):
            builder.block(_joined(loose))
            loose = []
            _add(builder, child)
        elif isinstance(child, Tag):
            loose.append(child.get_text())
        elif isinstance(child, NavigableString):
            loose.append(str(child))
    builder.block(_joined(loose))


def _add(builder: DocumentBuilder, element: "Tag") -> None:
    name = element.name
    if name in _HEADINGS:
        builder.heading(element.get_text(), _HEADINGS.index(name) + 1)
    elif name == "tr":
        cells = [" ".join(cell.get_text(" ").split()) for cell in element.find_all(["td", "th"])]
        builder.block(" | ".join(cell for cell in cells if cell), "table")
    elif name == "pre":
        builder.block(element.get_text())
    elif name in _GROUPS or _holds_blocks(element):
        _walk(builder, element)
    else:
        builder.block(_joined([element.get_text()]), "list" if name in ("li", "dd", "dt") else "text")


def _holds_blocks(element: "Tag") -> bool:
    return element.name in _GROUPS or element.find([*_BLOCKS, *_GROUPS]) is not None


def _joined(parts: list[str]) -> str:
    return join_lines("".join(parts).split("\n"))
