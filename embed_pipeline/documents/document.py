"""What a reader makes of a file: its text, and the blocks of the text with their headings and pages.

Belongs here: the records between reading and cutting. Does not belong here: any file format, any rule of cutting.
"""

from dataclasses import dataclass
from typing import Literal

from embed_pipeline.dataset.ledger import Reason

BlockKind = Literal["heading", "text", "list", "table"]


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
