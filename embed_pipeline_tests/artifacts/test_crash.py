"""Promise 4: a process killed anywhere leaves either the old ref or the new one, never half of one."""

import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from embed_pipeline.artifacts import ArtifactStore, DamagedObjectError, Manifest
from embed_pipeline_tests.artifacts.processes import finishes_before_step
from embed_pipeline_tests.artifacts.works import Writer, overwrite, plan_of, text_of


def current(store: ArtifactStore) -> Manifest:
    version = store.read("mined_negatives", "disease/bm25")
    assert version is not None
    return version


def objects_below(root: Path) -> int:
    return len(list((root / "objects").glob("*/*")))


def assert_recovers(store: ArtifactStore, text: str) -> Manifest:
    """The next build succeeds, and then one collection leaves one object and nothing to collect."""
    rebuilt = store.build(plan_of(0.2), Writer(text))
    assert text_of(store, rebuilt) == text
    assert current(store).id == rebuilt.id
    store.collect_garbage(dry_run=False)
    second = store.collect_garbage(dry_run=True)
    assert (second.kept_objects, second.removed_objects, second.removed_leftovers) == (1, 0, 0)
    assert (second.removed_memos, second.removed_manifests) == (0, 0)
    assert text_of(store, current(store)) == text
    return rebuilt


def test_a_build_killed_at_any_step_leaves_the_old_ref_or_the_new_one(tmp_path: Path) -> None:
    seen = set()
    for step in count(1):
        root = tmp_path / str(step)
        store = ArtifactStore(root)
        old = store.build(plan_of(0.1), Writer("old"))
        finished = finishes_before_step(lambda store=store: store.build(plan_of(0.2), Writer("new")), step, root)
        memos = len(list((root / "memo").glob("*.json")))
        version = current(store)
        assert text_of(store, version) == ("old" if version == old else "new")
        assert [entry.id for entry in store.history("mined_negatives", "disease/bm25")][-1] == old.id
        made = list((root / "staging").glob("*/content/deep/er/copy.txt"))
        seen.add((bool(made), objects_below(root), memos, version != old))
        rebuilt = assert_recovers(store, "new")
        assert rebuilt.cached == (memos == 2)
        if finished:
            break
    before_object, making, with_object, with_memo, with_ref = (
        (False, 1, 1, False),
        (True, 1, 1, False),
        (False, 2, 1, False),
        (False, 2, 2, False),
        (False, 2, 2, True),
    )
    assert seen == {before_object, making, with_object, with_memo, with_ref}


def test_publishing_a_known_object_killed_at_any_step_leaves_the_old_ref_or_the_new_one(tmp_path: Path) -> None:
    for step in count(1):
        root = tmp_path / str(step)
        store = ArtifactStore(root)
        store.build(plan_of(0.2), Writer("new"))
        old = store.build(plan_of(0.1), Writer("old"))
        finished = finishes_before_step(lambda store=store: store.build(plan_of(0.2), Writer("never")), step, root)
        version = current(store)
        assert text_of(store, version) == ("old" if version == old else "new")
        assert assert_recovers(store, "new").cached
        if finished:
            break


@pytest.mark.slow
def test_a_rebuild_of_a_damaged_object_killed_at_any_step_serves_right_bytes_or_none(tmp_path: Path) -> None:
    seen = set()
    for step in count(1):
        root = tmp_path / str(step)
        store = ArtifactStore(root)
        broken = store.build(plan_of(0.2), Writer("new"))
        overwrite(store.open(broken) / "rows.txt", "new?")
        finished = finishes_before_step(lambda store=store: store.build(plan_of(0.2), Writer("new")), step, root)
        try:
            seen.add(text_of(store, current(store)))
        except DamagedObjectError:
            seen.add("damaged")
        assert_recovers(store, "new")
        if finished:
            break
    assert seen == {"new", "damaged"}


def test_a_collection_killed_at_any_step_loses_nothing_that_is_needed(tmp_path: Path) -> None:
    for step in count(1):
        root = tmp_path / str(step)
        store = ArtifactStore(root)
        store.build(plan_of(0.1), Writer("old"))
        version = store.build(plan_of(0.2), Writer("new"))
        finished = finishes_before_step(lambda store=store: store.collect_garbage(dry_run=False), step, root)
        assert current(store) == version
        assert text_of(store, version) == "new"
        # The old setting may be a hit or a miss now; either way it is right.
        assert text_of(store, store.build(plan_of(0.1), Writer("old"))) == "old"
        assert_recovers(store, "new")
        if finished:
            break


SLEEPER = """
import sys, time
from embed_pipeline.artifacts import ArtifactStore
from embed_pipeline_tests.artifacts.works import Writer, plan_of

def make(directory):
    Writer("new")(directory)
    print("making", flush=True)
    time.sleep(60)

ArtifactStore(sys.argv[1]).build(plan_of(0.2), make)
"""


def test_a_build_killed_from_outside_releases_its_work_to_the_next(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    old = store.build(plan_of(0.1), Writer("old"))
    with subprocess.Popen([sys.executable, "-c", SLEEPER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "making\n"
        assert store.collect_garbage(dry_run=True).removed_leftovers == 0
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert current(store) == old
    assert store.collect_garbage(dry_run=True).removed_leftovers == 1
    assert_recovers(store, "new")
