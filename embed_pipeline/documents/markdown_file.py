"""Markdown by the CommonMark rules, as text: headings, paragraphs, list items, table rows, code.

Belongs here: tokens to blocks. Does not belong here: deciding encodings (text_file).
"""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from embed_pipeline.documents.document import DocumentBuilder, raised
from embed_pipeline.documents.html_file import add_html
from embed_pipeline.documents.text_file import decode_into, join_lines

if TYPE_CHECKING:
    from markdown_it.token import Token

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_SUPERSCRIPT = re.compile(r"<(/?)sup\b[^>]*>", re.IGNORECASE)
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
# YAML between ---, TOML between +++; a line between two others with text of its own is none.
_FRONT_MATTER = re.compile(
    r"\A(?:---\n(?=(?:#.*\n)*[\w\"' -]+:)(?P<yaml>.*?\n)(?:---|\.\.\.)|\+\+\+\n(?P<toml>.*?\n)\+\+\+)(?:\n|\Z)",
    re.DOTALL,
)
_TITLE = re.compile(r"^title[ \t]*[:=][ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)
# Deeper quotes and lists are dropped by the parser, which calls itself once for each.
_DEEPEST = 100


def read_markdown(builder: DocumentBuilder, content: bytes) -> None:
    """The blocks of a Markdown file, with those of HTML inside it; pictures and front matter are left out.

    The title in front matter is a heading where none of the first level is.
    """
    from markdown_it import MarkdownIt

    text = decode_into(builder, content).replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    front = _FRONT_MATTER.match(text)
    tokens = (
        MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable("table").parse(text[front.end() if front else 0 :])
    )
    title = _TITLE.search(front["yaml"] or front["toml"]) if front else None
    if title and not any(token.type == "heading_open" and token.tag == "h1" for token in tokens):
        builder.heading(title.group(2), 1)
    reader = _Reader(builder)
    for is_html, group in groupby(tokens, key=lambda token: token.type == "html_block"):
        if is_html:  # blank lines part an element into blocks
            add_html(builder, "\n".join(token.content for token in group))
        else:
            for token in group:
                reader.take(token)
    if any(token.level >= _DEEPEST - 2 for token in tokens):
        builder.problem(
            "embedded_content",
            f"What is nested about {_DEEPEST} levels deep was left out (a list counts two). Flatten it.",
        )


class _Reader:
    """Follows where in the document a token stands."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._open: list[str] = []
        self._cells: list[str] = []

    def take(self, token: "Token") -> None:
        """One token: opening and closing ones are remembered, the text between them becomes blocks."""
        if token.nesting == 1:
            self._open.append(token.tag)
            self._cells = [] if token.tag == "tr" else self._cells
        elif token.nesting == -1:
            self._open.pop()
            if token.tag == "tr":
                self._builder.block(" | ".join(self._cells), "table")
        elif token.type in ("fence", "code_block"):
            self._builder.block(token.content)
        elif token.type == "inline":
            self._add(_inline_text(token.children or []))

    def _add(self, text: str) -> None:
        tag = self._open[-1]
        if tag in _HEADINGS:
            self._builder.heading(text, _HEADINGS.index(tag) + 1)
        elif tag in ("td", "th"):
            self._cells.append(" ".join(text.split()))
        else:
            self._builder.block(join_lines(text.split("\n")), "list" if "li" in self._open else "text")


def _inline_text(children: Sequence["Token"]) -> str:
    parts: list[str] = []
    is_raised = False
    for child in children:
        if child.type in ("text", "code_inline"):
            if is_raised:
                parts.append(raised("".join(parts[-1:]), child.content))
                is_raised = False
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak") or _LINE_BREAK.match(child.content):
            parts.append("\n")
        elif mark := _SUPERSCRIPT.match(child.content):
            is_raised = not mark.group(1)
    return "".join(parts)
