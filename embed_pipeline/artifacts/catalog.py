"""The records of a store: manifests, refs and memos, as text in a backend.

Does not belong here: objects, locks, or when which record is written (store).
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from embed_pipeline.artifacts.backends import Backend, is_digest
from embed_pipeline.artifacts.digests import DamagedObjectError, canonical_json
from embed_pipeline.artifacts.manifest import Manifest, format_manifest, parse_manifest


@dataclass(frozen=True)
class Memo:
    """What the work of a fingerprint gave. `path` is the record's own."""

    path: str
    digest: str
    manifest: str


@dataclass(frozen=True)
class Catalog:
    """Reads and writes records; a damaged one is an error that names it, except a memo, which is then forgotten."""

    backend: Backend

    def read_manifest(self, identifier: str) -> Manifest:
        """The manifest of an id.

        Raises:
            DamagedObjectError: there is none, or its text is another one.
        """
        path = manifest_path(identifier)
        text = self.backend.read_record(path)
        try:
            manifest = parse_manifest(text or b"")
        except ValueError as error:
            raise _damaged(path, "a manifest", text) from error
        if manifest.id != identifier:
            raise _damaged(path, f"the manifest with id {identifier}", text)
        return manifest

    def write_manifest(self, manifest: Manifest) -> None:
        """Keep a manifest under its id."""
        self.backend.write_record(manifest_path(manifest.id), format_manifest(manifest))

    def read_ref(self, asset: str, partition: str) -> Manifest | None:
        """Where an asset's partition stands; None if it was never built.

        Raises:
            DamagedObjectError: the ref or its manifest cannot be read.
        """
        return self._follow(ref_path(asset, partition))

    def write_ref(self, manifest: Manifest) -> None:
        """Make a manifest the one that its asset's partition stands at."""
        path = ref_path(manifest.asset, manifest.partition)
        self.backend.write_record(path, canonical_json({"manifest": manifest.id}).encode())

    def refs(self) -> Iterator[Manifest]:
        """Where every asset's partition stands, sorted by asset and partition.

        Raises:
            DamagedObjectError: a ref or its manifest cannot be read.
        """
        found = [self._follow(path) for path in self.backend.record_paths("refs")]
        return iter(sorted(filter(None, found), key=lambda manifest: (manifest.asset, manifest.partition)))

    def remove_damaged_refs(self) -> list[str]:
        """Forgets every ref that leads to nothing that can be read; a sentence on each."""
        told = []
        for path in self.backend.record_paths("refs"):
            try:
                self._follow(path)
            except DamagedObjectError as error:
                self.backend.remove_record(path)
                told.append(str(error))
        return told

    def history(self, newest: Manifest | None) -> Iterator[Manifest]:
        """A manifest and those before it, newest first; None gives nothing.

        Raises:
            DamagedObjectError: an earlier manifest cannot be read.
        """
        while newest is not None:
            yield newest
            newest = self.read_manifest(newest.parent) if newest.parent else None

    def read_memo(self, fingerprint: str) -> Memo | None:
        """What the work of a fingerprint gave; None if it is not known or the record is damaged."""
        return self._parse_memo(memo_path(fingerprint))

    def write_memo(self, manifest: Manifest) -> None:
        """Remember what the work of the manifest's fingerprint gave."""
        text = canonical_json({"digest": manifest.digest, "manifest": manifest.id})
        self.backend.write_record(memo_path(manifest.fingerprint), text.encode())

    def forget(self, manifest: Manifest) -> None:
        """Remove what leads to a manifest: its memo, and the ref where it stands at it."""
        self.backend.remove_record(memo_path(manifest.fingerprint))
        current = self.read_ref(manifest.asset, manifest.partition)
        if current is not None and current.id == manifest.id:
            self.backend.remove_record(ref_path(manifest.asset, manifest.partition))

    def memos(self) -> Iterator[Memo]:
        """Every memo that can be read, sorted by fingerprint."""
        return filter(None, map(self._parse_memo, filter(is_record_path, self.backend.record_paths("memo"))))

    def _parse_memo(self, path: str) -> Memo | None:
        try:
            fields = json.loads(self.backend.read_record(path) or b"")
            return Memo(path, str(fields["digest"]), str(fields["manifest"]))
        except (ValueError, KeyError, TypeError):
            return None

    def _follow(self, path: str) -> Manifest | None:
        text = self.backend.read_record(path)
        if text is None:
            return None
        try:
            identifier = str(json.loads(text)["manifest"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, "a ref", text) from error
        return self.read_manifest(identifier)


def manifest_path(identifier: str) -> str:
    """Where a manifest lies."""
    return f"manifests/{identifier}.json"


def memo_path(fingerprint: str) -> str:
    """Where a memo lies."""
    return f"memo/{fingerprint}.json"


def is_record_path(path: str) -> bool:
    """Whether a manifest or memo lies under the path; a file that is called otherwise is somebody else's."""
    folder, _, name = path.partition("/")
    return folder in ("manifests", "memo") and name.endswith(".json") and is_digest(name.removesuffix(".json"))


def ref_path(asset: str, partition: str) -> str:
    """Where a ref lies. The partition stays readable; the hash keeps keys apart that differ in "/", case or length."""
    readable = re.sub(r"[^\w.-]", "_", partition, flags=re.ASCII)[:80]
    return f"refs/{asset}/{readable}-{hashlib.sha256(partition.encode()).hexdigest()[:16]}.json"


def _damaged(path: str, expected: str, text: bytes | None) -> DamagedObjectError:
    found = "nothing there" if text is None else f"{text[:60]!r}"
    return DamagedObjectError(
        f"{path}: must be {expected}, found {found}. Run the asset again, or `embed-pipeline run`: it is rewritten."
    )
