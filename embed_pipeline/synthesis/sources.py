"""Passages in reading order, and where a question's passages stand: for prompts, draws and the ledger.

Belongs here: the order of passages and their places. Does not belong here: which split they are in (source_splits).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from embed_pipeline.dataset.ledger import LedgerEntry, Reason, shorten_value
from embed_pipeline.records import Passage
from embed_pipeline.synthesis.questions import SyntheticQuestion

HEADING_SEPARATOR = " › "


def in_reading_order(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """The passages by file, then by where they start in it, then by id.

    Raises:
        ValueError: a passage does not say its file, or its start is no number.
    """
    return tuple(sorted(passages, key=lambda passage: (file_of(passage), _start(passage), passage.id)))


def file_of(passage: Passage) -> str:
    """The file that a passage was cut from. Raises ValueError where it does not say."""
    file = passage.attributes.get("file", "")
    if not file:
        raise ValueError(f"passage {passage.id}: expected the attribute file, found none. Materialise passages again.")
    return file


def heading_path(passage: Passage) -> tuple[str, ...]:
    """The headings above a passage, outermost first; empty where there are none."""
    return tuple(part for part in passage.attributes.get("heading", "").split(HEADING_SEPARATOR) if part)


@dataclass(frozen=True, slots=True)
class Place:
    """A file, the heading or page there, and the passage's position in the file's reading order, from 1."""

    file: str
    section: str
    position: int


@dataclass(frozen=True, slots=True)
class Sources:
    """The passages in reading order, each by its id, and its place."""

    ordered: tuple[Passage, ...]
    by_id: Mapping[str, Passage]
    places: Mapping[str, Place]

    def reject(self, question: SyntheticQuestion, reason: Reason, detail: str) -> LedgerEntry:
        """The ledger's entry for a question that is left out; it stands where its first passage stands."""
        return self.entry(question.passage_ids, question.style, reason, question.text, detail)

    def entry(self, passage_ids: Sequence[str], style: str, reason: Reason, value: str, detail: str) -> LedgerEntry:
        """An entry for something of a style that was written, or should have been, for passages."""
        place = self.places[passage_ids[0]]
        return LedgerEntry(
            workbook=place.file,
            sheet=place.section,
            row=place.position,
            column=style,
            reason=reason,
            value=shorten_value(value),
            nearest=None,
            nearest_score=None,
            detail=detail,
        )


def collect_sources(passages: Iterable[Passage]) -> Sources:
    """The passages with their order and places.

    Raises:
        ValueError: as `in_reading_order`, or an id is there twice.
    """
    ordered = in_reading_order(passages)
    by_id = {passage.id: passage for passage in ordered}
    if len(by_id) < len(ordered):
        repeated = next(name for name, times in Counter(passage.id for passage in ordered).items() if times > 1)
        raise ValueError(f"passage id {repeated} is there twice; expected once. Materialise passages again.")
    positions: Counter[str] = Counter()
    places = {}
    for passage in ordered:
        file = file_of(passage)
        positions[file] += 1
        places[passage.id] = Place(file, _section(passage), positions[file])
    return Sources(ordered, MappingProxyType(by_id), MappingProxyType(places))


def _section(passage: Passage) -> str:
    page = passage.attributes.get("page", "")
    return passage.attributes.get("heading", "") or (f"page {page}" if page else "")


def _start(passage: Passage) -> int:
    start = passage.attributes.get("start", "0")
    if not start.isdecimal():
        raise ValueError(
            f"passage {passage.id}: expected a whole number as the attribute start, found {start!r}. Materialise "
            "passages again."
        )
    return int(start)
