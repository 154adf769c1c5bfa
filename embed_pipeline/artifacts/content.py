"""The digest of a directory's content, and the sealing that makes it an object.

Does not belong here: where objects lie (the backends).
"""

import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from embed_pipeline.artifacts.canonical import sha256_of_json
from embed_pipeline.paths import digest_of

# A file written this shortly before it was hashed could be written again within one tick of the file system's clock and
# keep its time stamps; its digest is not remembered.
_CLOCK_TICK_NANOSECONDS = 50_000_000


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
