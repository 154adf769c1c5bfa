"""What a reader makes of a file: its text, and the blocks of the text with their headings and pages.

Belongs here: the records between reading and cutting, and the builder that every reader hands its blocks to. Does not
belong here: any file format, any rule of cutting.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from embed_pipeline.dataset.ledger import Reason
from embed_pipeline.documents.headings import is_mark

BlockKind = Literal["heading", "text", "list", "table"]

# Browsers write these into a PDF where a font shares the glyph of a radical; NFKC leaves them as they are.
_RADICALS = str.maketrans(
    "⺠⻁⻄⻅⻆⻉⻋⻓⻔⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻨⻩⻬⻮⻰⻳", "民虎西见角贝车长门青韦页风飞食马骨鬼鱼鸟麦黄齐齿龙龟"
)
_LOST_PARTS = {"hidden_text", "running_lines", "outside_content", "embedded_content"}
_KEPT_CONTROLS = {"\n", "\t"}


@dataclass(frozen=True, slots=True)
class Block:
    """One heading, paragraph, list item or table row: `text[start:end]` of its document.

    `headings` is the path of headings above it, outermost first; a heading's own text is the last of its path. `page`
    counts from 1; None where the format has no pages.
    """

    kind: BlockKind
    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True, slots=True)
class DocumentProblem:
    """Something in a file that could not be read: the whole of it, or the page that `place` names (`page 3`)."""

    file: str
    place: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Document:
    """The readable text of one file, in reading order; blocks ascend and do not overlap.

    `file` is the path below the data set's folder, with `/`. A file that cannot be read at all has no blocks and a
    problem.
    """

    file: str
    text: str
    blocks: tuple[Block, ...]
    problems: tuple[DocumentProblem, ...] = ()


class DocumentBuilder:
    """Collects the blocks of one file; used once, by one thread."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._headings: list[tuple[int, int]] = []  # those that are open: level, and place among the blocks
        self._paths: list[tuple[int, ...]] = []  # of every block: the places of its headings
        self._problems: list[DocumentProblem] = []

    def heading(self, text: str, level: int, page: int | None = None) -> None:
        """A heading of a level from 1; it ends every heading of its level and below, but the mark that it is the title
        of: `Article 5`, and under it, as a heading of the same level, `Prohibited practices`.
        """
        text = " ".join(clean(text).split())
        if text:
            above = self._headings[-1:]
            if not (above == [(level, len(self._blocks) - 1)] and is_mark(self._parts[-1]) and not is_mark(text)):
                above = []
            self._headings = [known for known in self._headings if known[0] < level] + above
            self._headings.append((level, len(self._blocks)))
            self._add("heading", text, page)

    def block(self, text: str, kind: BlockKind = "text", page: int | None = None) -> None:
        """A paragraph, list item or table row under the headings so far; white space alone is none."""
        text = clean(text).strip()
        if text:
            self._add(kind, text, page)

    def problem(self, reason: str, detail: str, place: str = "") -> None:
        """Something that could not be read."""
        self._problems.append(DocumentProblem(self.file, place, reason, detail))  # pyright: ignore[reportArgumentType]

    @property
    def text(self) -> str:
        """The text so far."""
        return "\n\n".join(self._parts)

    def build(self) -> Document:
        """The document; one without text, and without a reason for all of it, gets the reason no_text.

        A heading that no text stands under is itself a text, for headings alone are in no passage: `Parking: free` may
        say all that there is to say.
        """
        if not self._blocks and all(problem.reason in _LOST_PARTS for problem in self._problems):
            self.problem("no_text", "The file holds no text.")
        held = zip(self._blocks, self._paths, strict=True)
        filled = {place for block, path in held if block.kind != "heading" for place in path}
        blocks = tuple(self._under(filled, place) for place in range(len(self._blocks)))
        return Document(self.file, self.text, blocks, tuple(self._problems))

    def _under(self, filled: set[int], place: int) -> Block:
        """A block under those of its headings that text stands under."""
        block = self._blocks[place]
        kind = "text" if block.kind == "heading" and place not in filled else block.kind
        headings = tuple(self._parts[above] for above in self._paths[place] if above in filled)
        return replace(block, kind=kind, headings=headings)

    def _add(self, kind: BlockKind, text: str, page: int | None) -> None:
        start = self._length + 2 * bool(self._parts)
        self._parts.append(text)
        self._length = start + len(text)
        self._paths.append(tuple(place for _, place in self._headings))
        self._blocks.append(Block(kind, start, self._length, page=page))


def joined_cells(cells: Sequence[str]) -> str:
    """A table's row as text, in which an empty cell keeps its place: `Mon | | 22:10`; empty where all cells are."""
    return " ".join(" | ".join(cells).split()).rstrip("| ")


def raised(before: str, text: str | None) -> str:
    """`^` where a superscript would become digits of the number before it: 10 and ⁹ are 10^9, 1 and ˢᵗ are 1st."""
    return "^" if before[-1:].isdecimal() and re.match(r"[-+−]?\d|n$", text or "") else ""


def clean(text: str) -> str:
    """The text with one kind of line break, without controls, and with characters in place of radicals."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").translate(_RADICALS)
    text = re.sub(r"[\u2f00-\u2fdf]", lambda match: unicodedata.normalize("NFKC", match.group()), text)
    return "".join(c for c in text if c in _KEPT_CONTROLS or unicodedata.category(c) not in ("Cc", "Cs"))


def describe_error(error: Exception) -> str:
    """What a library came across, short: `zlib.error: Error -3 while decompressing data`."""
    place = type(error).__module__.partition(".")[0]
    name = type(error).__qualname__ if place == "builtins" else f"{place}.{type(error).__qualname__}"
    # Where an object lay in memory differs each time, and the ledger must not.
    told = re.sub(r"'?<[\w.]+ object at 0x[0-9a-f]+>'?", "of it", " ".join(str(error).split()))[:120]
    return f"{name}: {told}" if told else name
