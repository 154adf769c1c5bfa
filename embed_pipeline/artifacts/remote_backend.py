"""Objects and records on any fsspec file system, objects by way of a local copy.

Locks hold on this machine only: two machines may do the same work twice and one may lose its entry in a history, but
neither sees a broken ref, since a ref is written last. Does not belong here: anything about one service.
"""

from pathlib import Path
from typing import cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from embed_pipeline.artifacts.backend import Backend, is_digest, object_path
from embed_pipeline.artifacts.content import DamagedObjectError, file_states, seal
from embed_pipeline.artifacts.local_backend import LocalBackend
from embed_pipeline.artifacts.workspace import workspace


def open_backend(root: str | Path, local: Path | None) -> Backend:
    """The backend of a root: a path or `file://` URL is used where it lies, anything else through `local`.

    Raises:
        ValueError: the root is not local and no local directory is given.
    """
    filesystem, path = url_to_fs(str(root))
    if isinstance(filesystem, LocalFileSystem):
        return LocalBackend(Path(path))
    if local is None:
        raise ValueError(f"{root}: needs a local directory for its copies and locks, found none. Pass `local`.")
    return RemoteBackend(filesystem, path, local)


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
