"""Raw files that are still on their way: downloads, lock files, copies that somebody writes at this moment.

Belongs here: how they are told from files that have arrived, and the copy that proves what it copied. Does not belong
here: which files a data set names (raw_files, documents.files).
"""

from collections.abc import Iterable
from pathlib import Path

from embed_pipeline.paths import copy_new

SETTLE_SECONDS = 5.0
"""A raw file must have been left alone for so long before automation reads it."""

_TEMPORARY_PREFIXES = (".", "~$")
_TEMPORARY_SUFFIXES = (".part", ".crdownload", ".tmp")


def is_temporary(name: str) -> bool:
    """Whether a file's name says that it is hidden, a lock file or a download under way; no pattern matches it."""
    return name.startswith(_TEMPORARY_PREFIXES) or name.lower().endswith(_TEMPORARY_SUFFIXES)


def temporary_files(directory: Path) -> tuple[str, ...]:
    """Paths of the lock files and downloads below a folder, sorted; hidden files and folders are nobody's concern."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if is_temporary(path.name) and path.is_file())
    return tuple(sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)))


def still_written(paths: Iterable[Path], now: float) -> tuple[Path, ...]:
    """Those files that were changed within SETTLE_SECONDS of `now` (seconds since 1970), or are gone again.

    What copies a file sets its time stamp back, if at all, when it is done. Where the file system's clock is not ours
    this tells nothing; `copy_verified` is the second guard.
    """
    return tuple(path for path in paths if _age(path, now) < SETTLE_SECONDS)


def copy_verified(source: Path, target: Path, digest: str) -> None:
    """Copy a file whose SHA-256 is known to where nothing lies; `target`'s folder is made if need be.

    Raises:
        ValueError: the bytes that were copied have another digest, or the file is gone: it changed since it was looked
            at, and no copy is left. Or something lies at `target`, which stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = copy_new(source, target)
    except FileNotFoundError:
        found = "no file"
    else:
        if found != digest:
            target.unlink()  # ours: the copy began where nothing lay
    if found != digest:
        raise ValueError(
            f"{source}: changed while it was read: expected sha256 {digest[:12]}, found {found[:12]}. Wait until "
            "whatever writes the file is done and run again."
        )


def _age(path: Path, now: float) -> float:
    try:
        return abs(now - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0
