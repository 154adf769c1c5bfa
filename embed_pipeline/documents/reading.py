"""Which files are documents, and any of them as text.

Belongs here: finding them, which reader a file gets, what a reader is not given. Does not belong here: any file format.
"""

import io
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.dataset.raw_files import is_temporary
from embed_pipeline.documents.document import Document, DocumentBuilder, DocumentProblem, describe_error
from embed_pipeline.documents.docx_file import read_docx
from embed_pipeline.documents.html_file import read_html
from embed_pipeline.documents.markdown_file import read_markdown
from embed_pipeline.documents.pdf_file import read_pdf
from embed_pipeline.documents.settings import DocumentSettings, ReadingLimits
from embed_pipeline.documents.text_file import read_text
from embed_pipeline.paths import check_relative, describe_mode, open_plain, plain_file, printable

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
_KINDS_BY_START = {
    b"%PDF-": ("a PDF", (".pdf",)),
    b"PK\x03\x04": ("a zip archive, perhaps of another Office program", (".docx",)),
    b"\xd0\xcf\x11\xe0": ("an old Office file, or one with a password", (".docx",)),
    b"{\\rtf": ("RTF", ()),
    b"MIME-Version:": ("a page saved as MHTML", ()),
    b"From: <Saved by": ("a page saved as MHTML", ()),
    b"<!doctype html": ("HTML", (".html", ".htm", ".md", ".markdown")),
    b"<html": ("HTML", (".html", ".htm", ".md", ".markdown")),
}
"""What files begin with whatever they are called, and the endings under which they are read."""


@dataclass(frozen=True, slots=True)
class DocumentPaths:
    """The documents of a folder, sorted by their path below it, and why each other match is none, by its path."""

    paths: tuple[Path, ...]
    left_out: Mapping[str, str]


def document_paths(directory: Path, settings: DocumentSettings, roots: Iterable[Path] = ()) -> DocumentPaths:
    """What the settings name below the folder, each once.

    Hidden files, Office's lock files and downloads under way are none. Links may lead into the folder itself and into
    the folders `roots`; other links, pipes and devices are left out with their reason and never opened.

    Raises:
        ValueError: the folder is missing, a name or pattern matches nothing or leads out of the folder, or not one
            plain file is among what they match.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such folder. Create it and put the documents there.")
    found: set[Path] = set()
    for pattern in settings.files:
        # A downloaded "terms[1].pdf" is a name, though it reads like a pattern.
        try:
            named = directory / check_relative(pattern)
            matches = [named] if named.is_file() else _matching(directory, pattern)
        except ValueError as error:
            raise ValueError(f"{directory / 'dataset.yaml'}, documents.files: {error}. Correct the pattern.") from error
        if not matches:
            there = sorted(path.name for path in directory.iterdir())[:10]
            raise ValueError(
                f"{directory / 'dataset.yaml'}, documents.files: nothing in the folder matches {pattern!r}, found "
                f"{there}. Put the documents there or correct the pattern."
            )
        found.update(matches)
    return plain_documents(directory, found, roots)


def plain_documents(directory: Path, found: Iterable[Path], roots: Iterable[Path] = ()) -> DocumentPaths:
    """Those of the paths below a folder that are plain files inside it or inside `roots`, and what the others are.

    Raises:
        ValueError: there are paths and not one of them is such a file.
    """
    allowed, paths, left_out = (directory, *roots), list[Path](), dict[str, str]()
    for path in sorted(found, key=lambda path: path.relative_to(directory).as_posix()):
        try:
            paths.append(plain_file(path, allowed))
        except ValueError:
            left_out[printable(path.relative_to(directory).as_posix())] = _why_left_out(path)
    if left_out and not paths:
        name, why = next(iter(left_out.items()))
        raise ValueError(f"{directory}: expected a document, found none that is a plain file. {name}: {why}")
    return DocumentPaths(tuple(paths), left_out)


def document_left_out(file: str, why: str) -> Document:
    """A document without text for a path that is no plain file: the ledger and the summary then name it."""
    return Document(file, "", (), (DocumentProblem(file, "", "no_plain_file", why),))


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
        elif other := _other_kind(path.suffix.lower(), opened.peek(64)[:64]):
            builder.problem("broken_file", f"It is called {path.suffix} and is {other}. Save it as what it is called.")
        else:
            try:
                reader(builder, opened.read())
            # The libraries raise whatever their parsers come across: one file is lost, not the run.
            except Exception as error:
                kind = path.suffix.removeprefix(".").lower()
                builder.problem("broken_file", f"It cannot be read as {kind} ({describe_error(error)}). Save it again.")
    return builder.build()


def _other_kind(suffix: str, start: bytes) -> str:
    """What a file is by its first bytes, where that is not what its ending says; empty otherwise."""
    head = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for mark, (kind, endings) in _KINDS_BY_START.items():
        if head.lower().startswith(mark.lower()):
            return "" if suffix in endings else kind
    return ""


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


def _why_left_out(path: Path) -> str:
    """What a path is that is no plain file of the data set, without a word of where the data set lies."""
    if any("\udc80" <= letter <= "\udcff" for letter in path.name):
        return "Its name is not UTF-8. Rename it."
    if path.is_symlink() and path.is_dir():
        return (
            "A link to a folder, at which ** ends. Name the link in documents.files before the **, or copy the files."
        )
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode) or stat.S_ISREG(mode):  # a plain file that lies below a link
        return (
            "A link that leads out of the data set's folder, or to nothing. Copy the file there, or name the folder "
            "it lies in in EMBED_PIPELINE_LINKED_FOLDERS."
        )
    return f"It is no plain file but {describe_mode(mode)}. Remove it."


def _with_endings_in_capitals(pattern: str) -> str:
    """`*.pdf` means TERMS.PDF too: scanners and old programs write endings so."""
    stem, dot, ending = pattern.rpartition(".")
    if not (dot and ending.isalpha() and ending.isascii()):
        return pattern
    return f"{stem}{dot}" + "".join(f"[{letter.lower()}{letter.upper()}]" for letter in ending)


def _matching(directory: Path, pattern: str) -> list[Path]:
    """What a pattern matches but for folders, and the links to folders at which its ** ends."""
    matched = directory.glob(_with_endings_in_capitals(pattern))
    found = [path for path in matched if not path.is_dir() and not is_temporary(path.name)]
    above, recursive, _ = pattern.partition("**")
    if recursive:
        links = (path for path in directory.glob(f"{above}**/*") if path.is_symlink() and path.is_dir())
        found += [path for path in links if not is_temporary(path.name)]
    return found
