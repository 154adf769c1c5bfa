"""The artifact store: build once, publish at once, find damage.

Order of writing, so that a process killed anywhere leaves the old ref or the new one: object, manifest, memo, ref. Each
appears by one rename. Does not belong here: how a place keeps bytes (the backends).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from embed_pipeline.artifacts.backends import open_backend
from embed_pipeline.artifacts.catalog import Catalog
from embed_pipeline.artifacts.digests import DIGESTS, DamagedObjectError, checked_object, seal
from embed_pipeline.artifacts.garbage import PUBLISH_LOCK, GarbageReport, collect_garbage
from embed_pipeline.artifacts.manifest import Manifest, git_commit, installed_packages
from embed_pipeline.artifacts.plan import Plan
from embed_pipeline.artifacts.workspace import (
    declare_inputs,
    exclusive,
    is_held,
    marked,
    marked_since,
    remove_leftovers,
    workspace,
)


class ArtifactStore:
    """Objects, memos and refs under one root, shared by any number of processes.

    `root` is a path or an fsspec URL. `local` is this machine's directory of copies and locks for a root elsewhere; a
    root on this machine does not use it.
    """

    def __init__(self, root: str | Path, local: Path | None = None) -> None:
        self._backend = open_backend(root, local)
        self._catalog = Catalog(self._backend)

    def build(self, plan: Plan, make: Callable[[Path], Mapping[str, object]], *, run_id: str | None = None) -> Manifest:
        """The manifest of the plan, now published: found (`cached`) or made.

        `make` writes at least one file into the empty directory that it is given and returns details about it. If it
        raises, nothing changes. Of several processes with one plan, one makes and the others wait for it.

        Raises:
            ValueError: `make` wrote no file or a link, or its details are not JSON.
        """
        known = self._publish_known(plan)
        if known is not None:
            return known
        state, name = self._backend.state, plan.fingerprint
        with workspace(state, name) as directory, marked(state, name):
            return self._publish_known(plan) or self._publish_made(plan, make, run_id, directory)

    def turn(self, name: str, say: Callable[[str], object] | None = None) -> AbstractContextManager[bool]:
        """Hold a name among the processes of this machine; gives whether another had it, so that it had to wait."""
        return exclusive(self._backend.state, name, say)

    def is_building(self, fingerprint: str) -> bool:
        """Whether a process on this machine is in `build` with a plan of this fingerprint."""
        return is_held(self._backend.state, fingerprint)

    def begun_at(self, fingerprint: str) -> datetime | None:
        """When a `build` of this fingerprint began that is under way (`is_building`) or was interrupted, else None."""
        return marked_since(self._backend.state, fingerprint)

    def read(self, asset: str, partition: str) -> Manifest | None:
        """What an asset's partition stands at, None if it was never built.

        Raises:
            DamagedObjectError: the ref or its manifest cannot be read.
        """
        return self._catalog.read_ref(asset, partition)

    def refs(self) -> Iterator[Manifest]:
        """What every asset's partition stands at, sorted by asset and partition.

        Raises:
            DamagedObjectError: a ref or its manifest cannot be read.
        """
        return self._catalog.refs()

    def forget_damaged(self) -> list[str]:
        """Removes the refs that cannot be read, with a sentence on each; a build finds or makes what they stood at."""
        with exclusive(self._backend.state, PUBLISH_LOCK):
            return self._catalog.remove_damaged_refs()

    def history(self, asset: str, partition: str) -> Iterator[Manifest]:
        """Every version of an asset's partition, newest first; nothing if it was never built.

        Raises:
            DamagedObjectError: the ref or one of the manifests cannot be read.
        """
        return self._catalog.history(self.read(asset, partition))

    def open(self, version: Manifest | str) -> Path:
        """A local directory with the content of a manifest's object or of a digest, to read only.

        Its files are read in full the first time in a process, and again when one of them changed.

        Raises:
            DamagedObjectError: the content is another one, or there is none.
        """
        return self._backend.open_object(version.digest if isinstance(version, Manifest) else version)

    def forget(self, version: Manifest) -> None:
        """Its partition stands at nothing, and its work is not known: the next build makes it anew.

        What was made before it is no longer found from it; garbage collection takes what nothing else leads to.
        """
        with exclusive(self._backend.state, PUBLISH_LOCK):
            self._catalog.forget(version)

    def collect_garbage(self, *, dry_run: bool) -> GarbageReport:
        """What was removed, or with `dry_run` would be: objects that no ref leads to, with their memos, and leftovers.

        What a current version was made from is kept, and so is what a build that runs now reads. Histories stay.

        Raises:
            DamagedObjectError: a ref cannot be read, so that what it leads to is unknown; nothing was removed.
        """
        return collect_garbage(self._catalog, dry_run=dry_run)

    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """An empty directory of this process alone, removed at the end, or by garbage collection if it is killed."""
        return workspace(self._backend.state, name)

    def remove_leftovers(self) -> None:
        """Delete the working directories of builds whose process was killed; those of living ones stay."""
        with exclusive(self._backend.state, PUBLISH_LOCK):  # under it records are written, which have no lock by name
            remove_leftovers(self._backend.state)

    def _publish_known(self, plan: Plan) -> Manifest | None:
        memo = self._catalog.read_memo(plan.fingerprint)
        if memo is None:
            return None
        try:
            made = self._catalog.read_manifest(memo.manifest)
            # A memo says which work it is of by its name alone; what it leads to must say the same.
            if (made.asset, made.fingerprint, made.digest) != (plan.asset, plan.fingerprint, memo.digest):
                return None
            self.open(memo.digest)
        except DamagedObjectError:
            return None
        with exclusive(self._backend.state, PUBLISH_LOCK):
            # Whoever collects garbage holds this lock: what is there now cannot go before the ref leads to it.
            if not self._backend.has_object(memo.digest):
                return None
            current = self._read_current(plan)
            if current and (current.fingerprint, current.digest) == (plan.fingerprint, memo.digest):
                return replace(current, cached=True)
            return self._publish(replace(made, partition=plan.partition, cached=True), current)

    def _publish_made(
        self, plan: Plan, make: Callable[[Path], Mapping[str, object]], run_id: str | None, directory: Path
    ) -> Manifest:
        declare_inputs(directory, sorted(plan.inputs.values()))
        commit, packages = git_commit(Path(__file__).parent), installed_packages()
        content = directory / "content"
        content.mkdir()
        built_at, started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        details = checked_object(make(content), f"{plan.asset}[{plan.partition}] details")
        seconds = round(time.perf_counter() - started, 3)
        seal(content)
        made = Manifest(
            asset=plan.asset,
            partition=plan.partition,
            digest=DIGESTS.digest_of(content),
            fingerprint=plan.fingerprint,
            code_version=plan.code_version,
            settings=plan.settings,
            inputs=plan.inputs,
            parent=None,
            cached=False,
            seconds=seconds,
            built_at=built_at,
            run_id=run_id,
            git_commit=commit,
            packages=packages,
            details=details,
        )
        with exclusive(self._backend.state, PUBLISH_LOCK):
            self._backend.install_object(content, made.digest)
            return self._publish(made, self._read_current(plan))

    def _publish(self, version: Manifest, replaced: Manifest | None) -> Manifest:
        version = replace(version, parent=replaced.id if replaced else None)
        self._catalog.write_manifest(version)
        if not version.cached:
            self._catalog.write_memo(version)
        self._catalog.write_ref(version)
        return version

    def _read_current(self, plan: Plan) -> Manifest | None:
        try:
            return self.read(plan.asset, plan.partition)
        except DamagedObjectError:
            # A ref that cannot be read is what this build replaces.
            return None
