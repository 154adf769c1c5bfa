"""A file of one format written as another: whole or not at all, and read back before it appears.

Belongs here: the steps of a conversion and its report. Does not belong here: what a format holds (holding).
"""

from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.dataset.exchange.collecting import kind_of
from embed_pipeline.dataset.exchange.holding import NotHeld, canonical_digest, reduce_dataset, to_dataset
from embed_pipeline.dataset.exchange.registry import Format, detect_format, format_of
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.settings import TableColumns
from embed_pipeline.replacing import check_replaceable, kept_beside, replacing


@dataclass(frozen=True, slots=True)
class Size:
    """How many records a data set has."""

    queries: int
    passages: int
    judgments: int


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What was read and written, what the target's format has no place for, and what the reader noted."""

    source_format: str
    target_format: str
    read: Size
    written: Size
    not_held: tuple[NotHeld, ...]
    notes: tuple[str, ...]


def convert(
    source: Path,
    target: Path,
    to: str,
    *,
    source_format: str | None = None,
    columns: TableColumns | None = None,
    force: bool = False,
    guard: bool = True,
) -> ConversionReport:
    """The report of writing a file or folder as another format.

    The target is written beside its place, read back, compared, and only then put there. With `force` a folder that was
    written here, and not touched since, is replaced; a file that stands there is kept beside, as name.1. `columns`
    names the source's. With `guard` cells of csv and tsv that a spreadsheet would take for formulas get an apostrophe,
    which every reader here takes away again.

    Raises:
        ValueError: the target exists (and not `force`), has another ending than the format, holds the source or a file
            that was not written here; the source is malformed; what was written reads as something else.
    """
    reader = detect_format(source).format if source_format is None else format_of(source_format)
    writer = format_of(to)
    _check_target(source, target, writer, force)
    content = reader.read(source, columns)
    try:
        dataset = to_dataset(content)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    reduced = reduce_dataset(dataset, writer.holding)
    if not reduced.dataset.queries:
        lost = ", ".join(f"{item.what}: {item.count}" for item in reduced.not_held) or "the source has no query"
        raise ValueError(f"{target}: expected a query that {to} can hold, found none ({lost}). Take another format.")
    kept, formulas = _write_whole(reduced.dataset, target, writer, guard)
    notes = [*content.notes, *(f"what stood at {target.name} is kept as {path.name}" for path in kept)]
    if formulas:
        how = "got an apostrophe; reading the file here takes it away again" if guard else "stand as they are"
        notes.append(f"{formulas} cells that a spreadsheet would take for formulas {how}")
    if writer.holding.splits and len(content.splits) < len(content.queries):
        missing = len(content.queries) - len(content.splits)
        notes.append(f"{missing} queries have no split in {source.name}; they are written as train")
    return ConversionReport(
        source_format=reader.name,
        target_format=writer.name,
        read=size_of(dataset),
        written=size_of(reduced.dataset),
        not_held=reduced.not_held,
        notes=tuple(notes),
    )


def size_of(dataset: RetrievalDataset) -> Size:
    """How many records the data set has."""
    return Size(len(dataset.queries), len(dataset.passages), len(dataset.judgments))


def _check_target(source: Path, target: Path, writer: Format, force: bool) -> None:
    if source.resolve().is_relative_to(target.resolve()):
        raise ValueError(f"{target}: expected a place of its own, found that it is or holds {source}. Name another.")
    if (target.exists() or target.is_symlink()) and not force:
        raise ValueError(f"{target}: it exists already, and nothing is overwritten. Remove it or force it.")
    if not writer.folder and kind_of(target) not in writer.suffixes:
        raise ValueError(
            f"{target}: expected a name that ends in {' or '.join(writer.suffixes)} for {writer.name}, found "
            f"{kind_of(target)!r}. Rename the target."
        )
    if target.exists() and target.is_dir() != writer.folder:
        kinds = ("a folder", "a file") if writer.folder else ("a file", "a folder")
        raise ValueError(f"{target}: expected {kinds[0]}, found {kinds[1]}. Remove it first.")
    check_replaceable(target)


def _write_whole(
    dataset: RetrievalDataset, target: Path, writer: Format, guard: bool
) -> tuple[tuple[Path, ...], int | None]:
    """The files that were kept because they stood at the target, and the number of cells that look like formulas."""
    before = kept_beside(target)
    with replacing(target) as made:
        formulas = writer.write(dataset, made, guard)
        if canonical_digest(to_dataset(writer.read(made, None))) != canonical_digest(dataset):
            raise ValueError(
                f"{target}: expected to read back what was written, found something else; {writer.name} as "
                f"{kind_of(target) or 'a folder'} cannot hold these texts. Take another format or ending."
            )
    return tuple(path for path in kept_beside(target) if path not in before), formulas
