"""Where passages come from: their reading order, the place that the ledger and prompts give, and each source's split.

A source is a document or a section, and what is asked in test was never read in train. Belongs here: the order of
passages, their places, which stay together, and the hash that gives them a split. Does not belong here: the splits of
questions that people asked (dataset.splitting).
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from embed_pipeline.dataset.ledger import LedgerEntry, Reason, shorten_value
from embed_pipeline.dataset.settings import SplitSettings
from embed_pipeline.records import SPLITS, Passage, Split
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.settings import SplitBy

HEADING_SEPARATOR = " › "

ENOUGH_GROUPS = 10
RUN_LENGTH = 5


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


@dataclass(frozen=True, slots=True, order=True)
class SourceGroup:
    """Passages that stay in one split: a file, or a section of it; `section` is empty for a whole file."""

    file: str
    section: str


@dataclass(frozen=True, slots=True)
class SourceGroups:
    """The group of every passage id, and in words how the groups were made."""

    groups: Mapping[str, SourceGroup]
    description: str


@dataclass(frozen=True, slots=True)
class SourceSplits:
    """The split and the group of every passage id; `moved` are groups that a split got to be not empty."""

    splits: Mapping[str, Split]
    groups: Mapping[str, SourceGroup]
    moved: tuple[SourceGroup, ...]
    description: str


def split_sources(passages: Sequence[Passage], settings: SplitSettings, split_by: SplitBy) -> SourceSplits:
    """A split for every passage; no group is in two splits, and no split is empty.

    A group's split depends on its file, its section and the seed alone, so appending documents moves no old group. Two
    exceptions: a group that was moved into an empty split may go back, and with `auto` or `section` more documents may
    change what a group is; `description` says what it is now.

    Raises:
        ValueError: there are fewer groups than splits.
    """
    found = group_sources(passages, split_by)
    names = sorted(set(found.groups.values()))
    if len(names) < len(SPLITS):
        raise ValueError(
            f"synthesis.split: expected at least {len(SPLITS)} documents or sections, one for each of "
            f"{', '.join(SPLITS)}; found {len(names)} in {len(passages)} passages ({found.description}). Add "
            "documents, cut shorter passages (documents.passage_tokens) or set split_by: section."
        )
    shares = {group: hash_share(group, settings.seed) for group in names}
    splits: dict[SourceGroup, Split] = {group: _split_at(share, settings) for group, share in shares.items()}
    moved = _fill_empty(splits, shares, settings)
    passage_splits: dict[str, Split] = {passage_id: splits[group] for passage_id, group in found.groups.items()}
    sizes, counts = Counter(splits.values()), Counter(passage_splits.values())
    parts = ", ".join(f"{split} {sizes[split]} with {counts[split]} passages" for split in SPLITS)
    return SourceSplits(
        splits=MappingProxyType(passage_splits),
        groups=found.groups,
        moved=moved,
        description=f"{found.description}: {parts}" + f"; moved into an empty split: {len(moved)}" * bool(moved),
    )


def group_sources(passages: Sequence[Passage], split_by: SplitBy) -> SourceGroups:
    """The group of every passage.

    A document; or, asked for or with fewer than 10 documents, a section: headings down to the shallowest depth that
    gives 10 groups, else runs of 5 passages of a file. Where neither gives 10, the one that gives more.
    """
    ordered = in_reading_order(passages)
    files = {file_of(passage) for passage in ordered}
    if split_by == "document" or (split_by == "auto" and len(files) >= ENOUGH_GROUPS):
        groups = {passage.id: SourceGroup(file_of(passage), "") for passage in ordered}
        return SourceGroups(MappingProxyType(groups), f"{len(files)} documents")
    deepest = max((len(heading_path(passage)) for passage in ordered), default=0)
    by_heading: dict[str, SourceGroup] = {}
    for depth in range(1, deepest + 1):
        by_heading = {passage.id: _section_at(passage, depth) for passage in ordered}
        if (count := len(set(by_heading.values()))) >= ENOUGH_GROUPS:
            return SourceGroups(MappingProxyType(by_heading), f"{count} sections (headings to depth {depth})")
    runs = _runs(ordered)
    by_runs, by_headings = len(set(runs.values())), len(set(by_heading.values()))
    if by_runs > by_headings:
        return SourceGroups(MappingProxyType(runs), f"{by_runs} runs of {RUN_LENGTH} passages")
    return SourceGroups(MappingProxyType(by_heading), f"{by_headings} sections (headings to depth {deepest})")


def hash_share(group: SourceGroup, seed: int) -> float:
    """Where a group stands between 0 and 1: a hash of file, section and seed."""
    digest = hashlib.sha256(f"{seed}\n{group.file}\n{group.section}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _section_at(passage: Passage, depth: int) -> SourceGroup:
    return SourceGroup(file_of(passage), HEADING_SEPARATOR.join(heading_path(passage)[:depth]))


def _runs(ordered: Sequence[Passage]) -> dict[str, SourceGroup]:
    seen: Counter[str] = Counter()
    runs = {}
    for passage in ordered:
        file = file_of(passage)
        runs[passage.id] = SourceGroup(file, f"run {seen[file] // RUN_LENGTH + 1}")
        seen[file] += 1
    return runs


def _ranges(settings: SplitSettings) -> dict[Split, tuple[float, float]]:
    middle = settings.train + settings.validation
    return {"train": (0.0, settings.train), "validation": (settings.train, middle), "test": (middle, 1.0)}


def _split_at(share: float, settings: SplitSettings) -> Split:
    if share < settings.train:
        return "train"
    return "validation" if share < settings.train + settings.validation else "test"


def _fill_empty(
    splits: dict[SourceGroup, Split], shares: Mapping[SourceGroup, float], settings: SplitSettings
) -> tuple[SourceGroup, ...]:
    """Move the group nearest to an empty split's range into it; a split of one group gives none away."""
    moved = []
    for split, (start, end) in _ranges(settings).items():
        sizes = Counter(splits.values())
        if sizes[split]:
            continue
        movable = [group for group in splits if sizes[splits[group]] > 1]
        nearest = min(movable, key=lambda group: (max(start - shares[group], shares[group] - end), group))
        splits[nearest] = split
        moved.append(nearest)
    return tuple(moved)
