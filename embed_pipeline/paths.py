"""Where a path may lead: names that stay below a folder, files that are files, copies that overwrite nothing.

Belongs here: checking, opening and copying a path that came from a file, an argument or a folder's listing; how a name
or text from outside is shown. Does not belong here: which files anybody wants; putting something in the place of
something else (replacing).
"""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path, PurePosixPath

_BLOCK_BYTES = 1 << 20
_MOST_BYTES_OF_A_NAME = 255
# What terminals obey, lone halves of characters, and marks that turn the direction of writing, so that a name reads as
# another one.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """The text with what a terminal obeys and does not show (ESC and the like) written as \\x1b; line breaks stay."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shorten(text: str, most: int) -> str:
    """The text, cut to `most` characters with an ellipsis as the last."""
    return text if len(text) <= most else text[: most - 1] + "…"


def check_relative(name: str) -> str:
    """The name itself, if joined to any folder it stays below it.

    Raises:
        ValueError: it is empty, absolute, has a part `..`, or no file system could hold it.
    """
    parts = name.split("/")
    if not PurePosixPath(name).parts or ".." in parts or PurePosixPath(name).is_absolute() or "\0" in name:
        raise ValueError(f"expected a path below the folder, without .., found {name!r}")
    if any(_is_too_long(part) for part in parts):
        raise ValueError(f"expected names of at most {_MOST_BYTES_OF_A_NAME} bytes in UTF-8, found {name[:60]!r}...")
    return name


def path_inside(folder: Path, name: str) -> Path:
    """folder/name; it need not exist.

    Raises:
        ValueError: it would not lie below the folder, by its name or because a link on the way leads elsewhere.
    """
    try:
        path = folder / check_relative(name)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}. Correct the name.") from error
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path}: expected a path below {folder}, found a link to {path.resolve()}. Remove the link.")
    return path


def plain_file(path: Path, roots: Iterable[Path]) -> Path:
    """The path, if it is a plain file that lies in one of the folders `roots`, wherever links on the way lead.

    Raises:
        ValueError: it is missing, lies elsewhere, is no plain file (a pipe, a device), or its name is not UTF-8.
    """
    _check_place(path, roots)
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path}: expected a plain file, found {describe_mode(path.stat().st_mode)}. Remove it.")
    return path


def open_plain(path: Path) -> BufferedReader:
    """The file, open for reading; a pipe without a writer does not block.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: it is no plain file.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise ValueError(f"{path}: expected a plain file, found {describe_mode(mode)}. Remove it.")
    return file


def digest_of(path: Path) -> str:
    """The SHA-256 of a plain file. Raises as `open_plain`."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_new(source: Path, target: Path) -> str:
    """Copy a plain file to a place where nothing lies; the SHA-256 of what was written.

    A copy that fails half-way is removed; what lay there before never is.

    Raises:
        FileNotFoundError: the source is gone.
        ValueError: the source is no plain file, or something lies at the target.
    """
    digest = hashlib.sha256()
    with open_plain(source) as read:
        try:
            written = target.open("xb")
        except FileExistsError as error:
            raise ValueError(f"{target}: expected nothing there, found a file. Nothing is overwritten.") from error
        try:
            with written:
                while block := read.read(_BLOCK_BYTES):
                    digest.update(block)
                    written.write(block)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    return digest.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it: a reader or a crash sees the old one or the new one.

    A link at the place is replaced; what it leads to stays.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def describe_mode(mode: int) -> str:
    """What a file system entry with that mode is, in words."""
    kinds = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISREG, "a plain file"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for holds, name in kinds if holds(mode)), "a device")


def _is_too_long(part: str) -> bool:
    return len(part.encode("utf-8", "surrogateescape" if _is_from_disk(part) else "replace")) > _MOST_BYTES_OF_A_NAME


def _is_from_disk(part: str) -> bool:
    return all(not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff" for c in part)


def _check_place(path: Path, roots: Iterable[Path]) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{str(path)!r}: expected a name in UTF-8, found other bytes. Rename it.") from error
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: expected a file, found none: {error}. Put it there or correct the name.") from error
    allowed = [root.resolve() for root in roots]
    if not any(real.is_relative_to(root) for root in allowed):
        raise ValueError(
            f"{path}: expected something inside {' or '.join(map(str, allowed))}, found a link to {real}. Copy it "
            "there, or name the linked folder in EMBED_PIPELINE_LINKED_FOLDERS."
        )
