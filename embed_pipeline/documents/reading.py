"""Which files are documents, and any of them as text.

Belongs here: finding them, which reader a file gets, what a reader is not given. Does not belong here: any file format.
"""

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from embed_pipeline.dataset.raw_files import is_temporary
from embed_pipeline.documents.document import Document, DocumentBuilder, describe_error
from embed_pipeline.documents.docx_file import read_docx
from embed_pipeline.documents.html_file import read_html
from embed_pipeline.documents.markdown_file import read_markdown
from embed_pipeline.documents.pdf_file import read_pdf
from embed_pipeline.documents.settings import DocumentSettings, ReadingLimits
from embed_pipeline.documents.text_file import read_text
from embed_pipeline.paths import check_relative, open_plain, plain_file

_READERS: Mapping[str, Callable[[DocumentBuilder, bytes], None]] = {
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".html": read_html,
    ".htm": read_html,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
}
SUFFIXES = tuple(_READERS)


def document_paths(directory: Path, settings: DocumentSettings, roots: Iterable[Path] = ()) -> tuple[Path, ...]:
    """The documents, each once, sorted by their path below the folder.

    Hidden files, Office's lock files and downloads under way are none. Links may lead into the folder itself and into
    the folders `roots`.

    Raises:
        ValueError: the folder is missing, a name or pattern matches nothing or leads out of the folder, or what it
            matches is no plain file or a link that leads elsewhere.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such folder. Create it and put the documents there.")
    found: set[Path] = set()
    allowed = (directory, *roots)
    for pattern in settings.files:
        # A downloaded "terms[1].pdf" is a name, though it reads like a pattern.
        try:
            named = directory / check_relative(pattern)
            matches = [named] if named.is_file() else [path for path in directory.glob(pattern) if _is_document(path)]
        except ValueError as error:
            raise ValueError(f"{directory / 'dataset.yaml'}, documents.files: {error}. Correct the pattern.") from error
        if not matches:
            there = sorted(path.name for path in directory.iterdir())[:10]
            raise ValueError(
                f"{directory / 'dataset.yaml'}, documents.files: nothing in the folder matches {pattern!r}, found "
                f"{there}. Put the documents there or correct the pattern."
            )
        found.update(plain_file(path, allowed) for path in matches)
    return tuple(sorted(found, key=lambda path: path.relative_to(directory).as_posix()))


def read_document(path: Path, file: str, limits: ReadingLimits | None = None) -> Document:
    """The document in a file, `file` being its name in every message; what cannot be read is among its problems.

    Raises:
        ValueError: there is no such file, or it is no plain one.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file. Put it there or correct documents.files.")
    builder = DocumentBuilder(file)
    reader = _READERS.get(path.suffix.lower())
    with open_plain(path) as opened:
        size = path.stat().st_size
        too_large = _too_large(size, opened, limits or ReadingLimits())
        if reader is None:
            kinds = ", ".join(SUFFIXES)
            found = path.suffix or "No suffix"
            builder.problem("unsupported_file", f"{found} is not read. Convert it to one of {kinds}.")
        elif too_large:
            builder.problem("file_too_large", too_large)
        else:
            try:
                reader(builder, opened.read())
            # The libraries raise whatever their parsers come across: one file is lost, not the run.
            except Exception as error:
                kind = path.suffix.removeprefix(".").lower()
                builder.problem("broken_file", f"It cannot be read as {kind} ({describe_error(error)}). Save it again.")
    return builder.build()


def _too_large(size: int, opened: io.BufferedReader, limits: ReadingLimits) -> str:
    """What about a file, or about the archive that it is, passes the limits; empty where nothing does."""
    if size > 1e6 * limits.file_megabytes:
        return f"It has {size / 1e6:,.1f} MB, expected at most {limits.file_megabytes} (documents.limits). Split it."
    if opened.peek(2)[:2] != b"PK":
        return ""
    try:
        entries = zipfile.ZipFile(opened).infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return ""  # the reader says what is wrong with it
    finally:
        opened.seek(0)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked <= 1e6 * limits.unpacked_megabytes and len(entries) <= limits.archive_entries:
        return ""
    return (
        f"Unpacked it has {len(entries):,} parts and {unpacked / 1e6:,.0f} MB, expected at most "
        f"{limits.archive_entries:,} and {limits.unpacked_megabytes} (documents.limits). Take out its pictures, or "
        "split it."
    )


def _is_document(path: Path) -> bool:
    # What is no plain file and no folder is not passed over: the caller names it.
    return not path.is_dir() and not is_temporary(path.name)
