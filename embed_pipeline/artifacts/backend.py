"""What the store needs from a place that keeps objects and records.

Does not belong here: what the records say (catalog), or how one kind of place does it (local_backend, remote_backend).
"""

from pathlib import Path
from typing import Protocol


class Backend(Protocol):
    """A place. Record paths are relative and posix; every list is sorted.

    `state` is a directory of this machine for locks and workspaces, on the file system that objects move into.
    """

    @property
    def state(self) -> Path: ...

    def read_record(self, path: str) -> bytes | None:
        """The record's text, None if there is none."""
        ...

    def write_record(self, path: str, text: bytes) -> None:
        """Replace the record at once: a reader or a crash sees the old text or the new one, never part of one."""
        ...

    def record_paths(self, folder: str) -> list[str]:
        """Every record below a folder."""
        ...

    def remove_record(self, path: str) -> None:
        """Delete a record; it may be gone already."""
        ...

    def open_object(self, digest: str) -> Path:
        """A local directory whose content has the digest.

        Raises:
            DamagedObjectError: there is none, or its content is another one.
        """
        ...

    def has_object(self, digest: str) -> bool:
        """Whether something lies under the digest, without reading it."""
        ...

    def install_object(self, content: Path, digest: str) -> None:
        """Make a sealed directory (in `state`, given away) the object; a sound one that is there stays instead."""
        ...

    def object_digests(self) -> list[str]:
        """Every object that lies there."""
        ...

    def object_bytes(self, digest: str) -> int:
        """What removing the object frees."""
        ...

    def remove_object(self, digest: str) -> None:
        """Delete an object; it may be gone already."""
        ...


def object_path(digest: str) -> str:
    """Where an object lies below the root.

    Raises:
        ValueError: the text is no digest.
    """
    if not is_digest(digest):
        raise ValueError(f"object digest must be 64 hexadecimal digits, found {digest!r}. Pass manifest.digest.")
    return f"objects/{digest[:2]}/{digest[2:]}"


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 in hex."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")
