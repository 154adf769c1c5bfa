"""The digests of a JSON value and of a directory's content, and the sealing that makes the directory an object.

Does not belong here: what the values mean, where objects lie (the backends).
"""

import hashlib
import json
import math
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from embed_pipeline.paths import digest_of

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None

# A file written this shortly before it was hashed could be written again within one tick of the file system's clock and
# keep its time stamps; its digest is not remembered.
_CLOCK_TICK_NANOSECONDS = 50_000_000


def checked_json(value: object, where: str) -> JSON:
    """A copy of a value that is JSON and nothing else; tuples become lists.

    Raises:
        ValueError: names the field that is not JSON. `json.dumps` would turn the key 1 into "1" and NaN into a word
            that is not JSON, so that two settings could share a fingerprint.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [checked_json(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if isinstance(value, Mapping):
        return checked_object(value, where)
    raise ValueError(
        f"{where} must be JSON (null, boolean, finite number, text, list or object), found {value!r} of type"
        f" {type(value).__name__}. Convert it first, for a pydantic model with model_dump(mode='json')."
    )


def checked_object(value: Mapping[str, object], where: str) -> dict[str, JSON]:
    """A copy of a mapping whose keys are text and whose values are JSON.

    Raises:
        ValueError: names the key or the field that is not.
    """
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{where}: keys must be text, found {key!r} of type {type(key).__name__}. Use str(key).")
    return {key: checked_json(item, f"{where}.{key}") for key, item in value.items()}


def canonical_json(value: object) -> str:
    """The one text of a JSON value: keys sorted, no spaces, characters as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of_json(value: object) -> str:
    """SHA-256 in hex of the canonical text of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class DamagedObjectError(ValueError):
    """A stored object or record is missing or no longer what its name says. `ArtifactStore.build` makes it again."""


@dataclass(frozen=True, order=True)
class FileState:
    """A file as `stat` sees it; equal states mean unchanged content, without reading it. Ordered by path."""

    path: str
    regular: bool
    size: int
    modified: int
    changed: int
    device: int
    inode: int


def file_states(directory: Path) -> tuple[FileState, ...]:
    """State of everything below a directory that is not a directory, sorted by posix path. Links are not followed.

    Raises:
        FileNotFoundError: the directory, or something in it while it was read, is gone.
    """
    found: list[FileState] = []
    pending = [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                    continue
                status = entry.stat(follow_symlinks=False)
                found.append(
                    FileState(
                        path=Path(entry.path).relative_to(directory).as_posix(),
                        regular=stat.S_ISREG(status.st_mode),
                        size=status.st_size,
                        modified=status.st_mtime_ns,
                        changed=status.st_ctime_ns,
                        device=status.st_dev,
                        inode=status.st_ino,
                    )
                )
    return tuple(sorted(found))


@dataclass
class DigestCache:
    """Digests of directories that are read once, and again only when the state of a file changed."""

    _known: dict[tuple[FileState, ...], str] = field(default_factory=dict)

    def digest_of(self, directory: Path) -> str:
        """SHA-256 over the sorted list of (posix path, SHA-256 of the file); empty directories do not count.

        Raises:
            FileNotFoundError: the directory does not exist.
        """
        now = time.time_ns()
        states = file_states(directory)
        if states not in self._known:
            digest = sha256_of_json([[state.path, _file_digest(directory, state)] for state in states])
            if any(state.changed > now - _CLOCK_TICK_NANOSECONDS for state in states):
                return digest
            self._known[states] = digest
        return self._known[states]


# One for the process: Dagster makes a store per asset, an object is still read only once.
DIGESTS = DigestCache()


def _file_digest(directory: Path, state: FileState) -> str:
    if not state.regular:
        return "not a regular file"
    return digest_of(directory / state.path)


def seal(directory: Path) -> None:
    """Make a directory ready to become an object: its files are on the disk and write-protected.

    The protection is not needed for safety, a changed object is found anyway; it stops the mistake where it is made.

    Raises:
        ValueError: there is no file, or there is a link or a device, whose content can change outside the object.
    """
    states = file_states(directory)
    if not states:
        raise ValueError(f"{directory}: an object must hold at least one file, found none. Write one in `make`.")
    for state in states:
        if not state.regular:
            raise ValueError(
                f"{directory / state.path}: must be a regular file, found a link or device. Copy the content."
            )
        path = directory / state.path
        path.chmod(path.stat().st_mode & ~0o222)
        flush(path)
    for folder in {(directory / state.path).parent for state in states} | {directory}:
        flush(folder)


def flush(path: Path) -> None:
    """Return once a file's content, or a directory's list of entries, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def total_bytes(path: Path) -> int:
    """Size of a file, or of all files below a directory; 0 if there is nothing."""
    if path.is_file():
        return path.stat().st_size
    return sum(state.size for state in file_states(path)) if path.is_dir() else 0
