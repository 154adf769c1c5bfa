"""The places that keep objects and records: a directory of this machine, or any fsspec file system.

Objects elsewhere are read and written by way of a local copy. Locks hold on this machine only: two machines may do the
same work twice and one may lose its entry in a history, but neither sees a broken ref, since a ref is written last.
Does not belong here: what the records say (catalog), anything about one service.
"""

import errno
from contextlib import suppress
from pathlib import Path
from typing import Protocol, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from embed_pipeline.artifacts.digests import DIGESTS, DamagedObjectError, file_states, flush, seal, total_bytes
from embed_pipeline.artifacts.workspace import remove_tree, scratch_path, workspace


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


class LocalBackend:
    """A `Backend` in a local directory, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def state(self) -> Path:
        return self._root

    def read_record(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def write_record(self, path: str, text: bytes) -> None:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = scratch_path(self._root, "record")
        unfinished.write_bytes(text)
        flush(unfinished)
        unfinished.replace(target)
        flush(target.parent)

    def record_paths(self, folder: str) -> list[str]:
        return sorted(path.relative_to(self._root).as_posix() for path in (self._root / folder).rglob("*.json"))

    def remove_record(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)

    def open_object(self, digest: str) -> Path:
        directory = self._root / object_path(digest)
        found = self.digest_of(directory)
        if found != digest:
            raise DamagedObjectError(
                f"{directory}: content must have digest {digest}, found {found or 'nothing there'}. Run the asset"
                " again, it is rebuilt in this place."
            )
        return directory

    def has_object(self, digest: str) -> bool:
        return (self._root / object_path(digest)).is_dir()

    def install_object(self, content: Path, digest: str) -> None:
        target = self._root / object_path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                content.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            else:
                flush(target.parent)
                return
            if self.digest_of(target) == digest:
                return
            self._discard(target)

    def object_digests(self) -> list[str]:
        found = (path.parent.name + path.name for path in (self._root / "objects").glob("*/*"))
        return sorted(filter(is_digest, found))

    def object_bytes(self, digest: str) -> int:
        return total_bytes(self._root / object_path(digest))

    def remove_object(self, digest: str) -> None:
        self._discard(self._root / object_path(digest))

    def digest_of(self, directory: Path) -> str | None:
        """The digest of a directory's content, None if it does not exist; read once per process while unchanged."""
        try:
            return DIGESTS.digest_of(directory)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _discard(self, target: Path) -> None:
        # Moved away first: what lies under an object's name is never half deleted.
        discarded = scratch_path(self._root, "discarded")
        with suppress(FileNotFoundError):
            target.rename(discarded)
            remove_tree(discarded)


def open_backend(root: str | Path, local: Path | None) -> Backend:
    """The backend of a root: a path or `file://` URL is used where it lies, anything else through `local`.

    Raises:
        ValueError: there is no such kind of place, or the root is not local and no local directory is given.
    """
    filesystem, path = open_address(str(root))
    if isinstance(filesystem, LocalFileSystem):
        return LocalBackend(Path(path))
    if local is None:
        raise ValueError(f"{root}: needs a local directory for its copies and locks, found none. Pass `local`.")
    return RemoteBackend(filesystem, path, local)


def open_address(address: str) -> tuple[AbstractFileSystem, str]:
    """The fsspec file system of a path or URL, and the path in it.

    Raises:
        ValueError: fsspec does not know such an address, or the package for it is missing.
    """
    try:
        return url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"{address}: expected a folder or an fsspec URL, found {error}. Correct it (for the artifact store "
            "EMBED_PIPELINE_ARTIFACTS), or install what it needs, for s3:// pip install 'embed-pipeline[s3]'."
        ) from error


class RemoteBackend:
    """A `Backend` on an fsspec file system whose single writes are atomic, as those of object stores are.

    A sound local copy is served without asking the remote. `local` belongs to this one root.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str, local: Path) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._copies = LocalBackend(local)

    @property
    def state(self) -> Path:
        return self._copies.state

    def read_record(self, path: str) -> bytes | None:
        try:
            return cast("bytes", self._filesystem.cat_file(f"{self._root}/{path}"))
        except FileNotFoundError:
            return None

    def write_record(self, path: str, text: bytes) -> None:
        target = f"{self._root}/{path}"
        self._filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._filesystem.pipe_file(target, text)

    def record_paths(self, folder: str) -> list[str]:
        return sorted(f"{folder}/{name}" for name in self._sizes(folder) if name.endswith(".json"))

    def remove_record(self, path: str) -> None:
        self._remove(path)

    def open_object(self, digest: str) -> Path:
        try:
            return self._copies.open_object(digest)
        except DamagedObjectError:
            self._download(digest)
        try:
            return self._copies.open_object(digest)
        except DamagedObjectError as error:
            raise DamagedObjectError(
                f"{self._root}/{object_path(digest)}: content must have digest {digest}, found other or no files. Run"
                " the asset again, it is rebuilt in this place."
            ) from error

    def has_object(self, digest: str) -> bool:
        return bool(self._sizes(object_path(digest)))

    def install_object(self, content: Path, digest: str) -> None:
        # Uploaded over what is there: listing it would not tell whether it is sound, reading it costs as much.
        self._copies.install_object(content, digest)
        copy = self._copies.open_object(digest)
        names = [state.path for state in file_states(copy)]
        target = f"{self._root}/{object_path(digest)}"
        for name in sorted(self._sizes(object_path(digest)).keys() - set(names)):
            self._remove(f"{object_path(digest)}/{name}")
        self._filesystem.put([str(copy / name) for name in names], [f"{target}/{name}" for name in names])

    def object_digests(self) -> list[str]:
        remote = {"".join(name.split("/")[:2]) for name in self._sizes("objects")}
        return sorted(set(filter(is_digest, remote)) | set(self._copies.object_digests()))

    def object_bytes(self, digest: str) -> int:
        return sum(self._sizes(object_path(digest)).values()) + self._copies.object_bytes(digest)

    def remove_object(self, digest: str) -> None:
        self._remove(object_path(digest))
        self._copies.remove_object(digest)

    def _download(self, digest: str) -> None:
        source = f"{self._root}/{object_path(digest)}"
        names = sorted(self._sizes(object_path(digest)))
        if not names:
            return
        with workspace(self.state, digest) as directory:
            content = directory / "content"
            for name in names:
                (content / name).parent.mkdir(parents=True, exist_ok=True)
            self._filesystem.get([f"{source}/{name}" for name in names], [str(content / name) for name in names])
            seal(content)
            if self._copies.digest_of(content) == digest:
                self._copies.install_object(content, digest)

    def _sizes(self, folder: str) -> dict[str, int]:
        # Another machine may have written since this one last listed.
        self._filesystem.invalidate_cache()
        prefix = f"{self._root}/{folder}/"
        found = cast("dict[str, dict[str, int]]", self._filesystem.find(prefix.rstrip("/"), detail=True))
        return {path.removeprefix(prefix): entry["size"] for path, entry in found.items() if path.startswith(prefix)}

    def _remove(self, path: str) -> None:
        if self._filesystem.exists(f"{self._root}/{path}"):
            self._filesystem.rm(f"{self._root}/{path}", recursive=True)
