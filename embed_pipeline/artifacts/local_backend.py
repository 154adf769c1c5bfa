"""Objects and records in a directory of this machine: the fast, direct path.

Does not belong here: anything that the store does alike for every place.
"""

import errno
from contextlib import suppress
from pathlib import Path

from embed_pipeline.artifacts.backend import is_digest, object_path
from embed_pipeline.artifacts.content import DIGESTS, DamagedObjectError, flush, total_bytes
from embed_pipeline.artifacts.workspace import remove_tree, scratch_path


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
