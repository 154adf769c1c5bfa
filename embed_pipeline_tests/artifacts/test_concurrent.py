"""Promise 5: two processes building the same fingerprint do the work once; both end with the same ref."""

import logging
import time
from itertools import pairwise
from pathlib import Path

from embed_pipeline.artifacts import ArtifactStore
from embed_pipeline.artifacts.garbage import PUBLISH_LOCK
from embed_pipeline.artifacts.workspace import exclusive, scratch_path
from embed_pipeline_tests.artifacts.processes import start
from embed_pipeline_tests.artifacts.works import Writer, plan_of, text_of


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def test_processes_that_build_the_same_thing_make_it_once(tmp_path: Path) -> None:
    ready, calls = tmp_path / "ready", tmp_path / "calls"
    calls.mkdir()

    def build(partition: str) -> None:
        def make(directory: Path) -> dict:
            (calls / partition).touch()
            time.sleep(0.2)
            return Writer("rows")(directory)

        wait_for(ready)
        ArtifactStore(tmp_path / "root").build(plan_of(partition=partition), make)

    processes = [start(lambda partition=partition: build(partition)) for partition in ("x", "y", "z")]
    ready.touch()
    for process in processes:
        process.join(30)
    store = ArtifactStore(tmp_path / "root")
    versions = list(store.refs())
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(calls.iterdir())) == 1
    assert [version.partition for version in versions] == ["x", "y", "z"]
    assert sorted(version.cached for version in versions) == [False, True, True]
    assert len({version.digest for version in versions}) == 1


def test_processes_that_build_one_partition_agree_on_its_ref(tmp_path: Path) -> None:
    def build(rate: float) -> None:
        store = ArtifactStore(tmp_path)
        for _ in range(5):
            store.build(plan_of(rate), Writer(str(rate)))

    processes = [start(lambda rate=rate: build(rate)) for rate in (0.1, 0.2)]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    store = ArtifactStore(tmp_path)
    history = list(store.history("mined_negatives", "disease/bm25"))
    # No entry is lost: each one's parent is the next, the last has none, and the rates alternate.
    assert [version.parent for version in history] == [*(version.id for version in history[1:]), None]
    rates = [version.settings["rate"] for version in history]
    assert set(rates) == {0.1, 0.2}
    assert all(one != other for one, other in pairwise(rates))
    assert sum(not version.cached for version in history) == 2


def test_a_collection_leaves_running_builds_and_what_they_read_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "root")
    upstream = store.build(plan_of(0.1), Writer("upstream"))
    making, go_on = tmp_path / "making", tmp_path / "go_on"

    def make(directory: Path) -> dict:
        making.touch()
        wait_for(go_on)
        return Writer(text_of(ArtifactStore(tmp_path / "root"), upstream) + " index")(directory)

    plan = plan_of(asset="faiss_index", inputs={"mined_negatives[disease/bm25]": upstream.digest})
    process = start(lambda: ArtifactStore(tmp_path / "root").build(plan, make))
    wait_for(making)
    store.build(plan_of(0.2), Writer("newer"))
    assert store.collect_garbage(dry_run=False).removed_objects == 0
    go_on.touch()
    process.join(30)
    assert process.exitcode == 0
    version = store.read("faiss_index", "disease/bm25")
    assert version is not None
    assert text_of(store, version) == "upstream index"


def test_a_known_object_that_is_collected_before_it_is_published_is_made_again(tmp_path: Path) -> None:
    root, waits = tmp_path / "root", tmp_path / "waits"
    store = ArtifactStore(root)
    known = store.build(plan_of(0.1), Writer("known"))
    store.build(plan_of(0.2), Writer("newer"))

    class Touch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            waits.touch()

    def build() -> None:
        logging.basicConfig(level=logging.INFO, handlers=[Touch()], force=True)
        ArtifactStore(root).build(plan_of(0.1), Writer("known"))

    with exclusive(root, PUBLISH_LOCK):
        # The process has found its object sound and waits to publish it, when a collection takes the object away.
        process = start(build)
        wait_for(waits)
        store.open(known).rename(tmp_path / "collected")
    process.join(30)
    assert process.exitcode == 0
    version = store.read("mined_negatives", "disease/bm25")
    assert version is not None
    assert (version.cached, text_of(store, version)) == (False, "known")


def test_what_build_returns_is_there_however_often_garbage_is_collected(tmp_path: Path) -> None:
    stop = tmp_path / "stop"

    def collect() -> None:
        while not stop.exists():
            ArtifactStore(tmp_path / "root").collect_garbage(dry_run=False)

    process = start(collect)
    store = ArtifactStore(tmp_path / "root")
    for number in range(30):
        text = str(number % 2)
        assert text_of(store, store.build(plan_of(text), Writer(text))) == text
    stop.touch()
    process.join(30)
    assert process.exitcode == 0


def test_a_record_that_a_living_process_writes_is_no_leftover_and_that_of_a_killed_one_is(tmp_path: Path) -> None:
    root, waits = tmp_path / "root", tmp_path / "waits"
    store = ArtifactStore(root)
    store.build(plan_of(0.1), Writer("rows"))

    class Touch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            waits.touch()

    def remove() -> None:
        logging.basicConfig(level=logging.INFO, handlers=[Touch()], force=True)
        ArtifactStore(root).remove_leftovers()

    with exclusive(root, PUBLISH_LOCK):  # as the store holds it while it publishes
        unfinished = scratch_path(root, "record")
        unfinished.write_bytes(b"{")
        process = start(remove)
        wait_for(waits)
        assert unfinished.exists()
    process.join(30)  # as if its writer had been killed there
    assert process.exitcode == 0 and not unfinished.exists()


def test_what_is_being_built_is_known_until_it_is_made_or_its_process_is_killed(tmp_path: Path) -> None:
    plan, going = plan_of(0.1), tmp_path / "going"
    seen = []

    def make(directory: Path) -> dict:
        seen.append(ArtifactStore(tmp_path / "root").is_building(plan.fingerprint))
        return Writer("rows")(directory)

    def hang(directory: Path) -> dict:
        going.touch()
        time.sleep(60)
        return Writer("rows")(directory)

    store, other = ArtifactStore(tmp_path / "root"), plan_of(0.2)
    assert not store.is_building(plan.fingerprint)
    store.build(plan, make)
    assert seen == [True] and not store.is_building(plan.fingerprint)
    process = start(lambda: ArtifactStore(tmp_path / "root").build(other, hang))
    wait_for(going)
    assert store.is_building(other.fingerprint) and not store.is_building(plan.fingerprint)
    process.kill()
    process.join(30)
    assert not store.is_building(other.fingerprint)
