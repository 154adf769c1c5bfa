"""Throws away what nothing leads to.

Safe beside running builds: marking and removing happen under the lock that publishing takes, so nothing is published in
between; what living workspaces declared as inputs is kept; a workspace whose lock is held is left alone. On a root that
several machines share, the locks of the others are not seen: collect while no other machine builds.
Does not belong here: deciding that a ref is no longer wanted.
"""

from collections import defaultdict
from dataclasses import dataclass

from embed_pipeline.artifacts.catalog import Catalog, is_record_path, manifest_path
from embed_pipeline.artifacts.digests import DamagedObjectError
from embed_pipeline.artifacts.manifest import Manifest
from embed_pipeline.artifacts.workspace import exclusive, inputs_in_use, remove_free_locks, remove_leftovers

PUBLISH_LOCK = "publish"


@dataclass(frozen=True, kw_only=True)
class GarbageReport:
    """What was removed, or would be. `freed_bytes` counts objects and leftovers; records are next to nothing."""

    dry_run: bool
    kept_objects: int
    removed_objects: int
    removed_memos: int
    removed_manifests: int
    removed_leftovers: int
    freed_bytes: int


def collect_garbage(catalog: Catalog, *, dry_run: bool) -> GarbageReport:
    """Remove, or with `dry_run` count, what neither a ref nor a running build leads to.

    Raises:
        DamagedObjectError: a ref cannot be read; nothing was removed.
    """
    backend = catalog.backend
    with exclusive(backend.state, PUBLISH_LOCK):
        versions = _versions(catalog)
        live = _reachable({ref.digest for ref in catalog.refs()} | inputs_in_use(backend.state), versions)
        objects = backend.object_digests()
        dead = [digest for digest in objects if digest not in live]
        known = [path for path in backend.record_paths("memo") if is_record_path(path)]
        memos = dict.fromkeys(known) | {memo.path: memo for memo in catalog.memos()}
        kept_memos = [memo for memo in memos.values() if memo and memo.digest in live]
        dead_memos = sorted(memos.keys() - {memo.path for memo in kept_memos})
        kept_manifests = {manifest_path(version.id) for version in versions} | {
            manifest_path(memo.manifest) for memo in kept_memos
        }
        dead_manifests = [
            path for path in backend.record_paths("manifests") if is_record_path(path) and path not in kept_manifests
        ]
        leftovers = remove_leftovers(backend.state, dry_run=dry_run)
        report = GarbageReport(
            dry_run=dry_run,
            kept_objects=len(objects) - len(dead),
            removed_objects=len(dead),
            removed_memos=len(dead_memos),
            removed_manifests=len(dead_manifests),
            removed_leftovers=len(leftovers),
            freed_bytes=sum(map(backend.object_bytes, dead)) + sum(leftovers),
        )
        if not dry_run:
            # Killed half-way, this leaves an object without memo or a manifest without either: garbage again.
            for path in [*dead_memos, *dead_manifests]:
                backend.remove_record(path)
            for digest in dead:
                backend.remove_object(digest)
            remove_free_locks(backend.state)
    return report


def _versions(catalog: Catalog) -> list[Manifest]:
    found: list[Manifest] = []
    for ref in catalog.refs():
        try:
            for version in catalog.history(ref):
                found.append(version)
        except DamagedObjectError:
            # History ends where an old manifest is lost; no object hangs on it.
            continue
    return found


def _reachable(roots: set[str], versions: list[Manifest]) -> set[str]:
    made_from: dict[str, set[str]] = defaultdict(set)
    for version in versions:
        made_from[version.digest].update(version.inputs.values())
    reached: set[str] = set()
    pending = set(roots)
    while pending:
        digest = pending.pop()
        reached.add(digest)
        pending |= made_from[digest] - reached
    return reached
