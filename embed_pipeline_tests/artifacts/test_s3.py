"""The store on S3: a process killed at any of its writes, two writers with homes of their own."""

import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from embed_pipeline.artifacts import ArtifactStore
from embed_pipeline_tests.artifacts.works import Writer, plan_of, text_of
from embed_pipeline_tests.s3_server import S3Server, fresh_process


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def root(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.new_bucket()}/store"


def test_another_machine_finds_what_one_built_on_s3(root: str, tmp_path: Path) -> None:
    built = ArtifactStore(root, tmp_path / "one").build(plan_of(), Writer("rows"))
    other, make = ArtifactStore(root, tmp_path / "two"), Writer("rows")
    assert other.build(plan_of(), make).cached and make.calls == 0
    assert other.read("mined_negatives", "disease/bm25") == built and text_of(other, built) == "rows"
    other.build(plan_of(0.2), Writer("newer"))
    assert [version.id for version in other.history("mined_negatives", "disease/bm25")][-1] == built.id
    assert other.collect_garbage(dry_run=False).removed_objects == 1
    assert ArtifactStore(root, tmp_path / "three").collect_garbage(dry_run=True).removed_objects == 0


def test_a_bucket_that_is_not_there_is_said_and_not_made(server: S3Server, root: str, tmp_path: Path) -> None:
    absent = root.replace("bucket-", "absent-")
    with pytest.raises(FileNotFoundError):
        ArtifactStore(absent, tmp_path).build(plan_of(), Writer("rows"))
    assert not server.files.exists(absent.split("/")[2])


def _build(root: str, home: Path, rate: float, text: str) -> None:
    made = ArtifactStore(root, home).build(plan_of(rate), Writer(text))
    assert text_of(ArtifactStore(root, home), made) == text


def _write_for_a_while(root: str, home: Path, rate: float) -> None:
    store = ArtifactStore(root, home)
    for partition in ("x", "y"):
        for _ in range(3):
            made = store.build(plan_of(rate, partition=partition), Writer(str(rate)))
            assert text_of(store, made) == str(rate)


def _build_killed_before(step: int, server: S3Server, root: str, home: Path) -> tuple[str, bool]:
    """What the ref leads to after a build that is killed before its nth write, and whether the build ended first.

    The next build, of another machine, succeeds.
    """
    old, writes = ArtifactStore(root, home / "before").build(plan_of(0.1), Writer("old")), count(1)
    code = server.run_killed(lambda path: next(writes) == step, _build, root, home / "killed", 0.2, "new")
    assert code in (0, -signal.SIGKILL)
    store = ArtifactStore(root, home / "after")
    version = store.read("mined_negatives", "disease/bm25")
    assert version is not None
    found = text_of(store, version)
    assert found == ("old" if version == old else "new")
    rebuilt, current = store.build(plan_of(0.2), Writer("new")), store.read("mined_negatives", "disease/bm25")
    assert current is not None and current.id == rebuilt.id and text_of(store, current) == "new"
    store.collect_garbage(dry_run=False)
    assert store.collect_garbage(dry_run=True).removed_objects == 0 and text_of(store, current) == "new"
    return found, code == 0


def test_a_build_whose_ref_s3_refuses_leaves_the_old_one(server, root: str, tmp_path: Path) -> None:
    old = ArtifactStore(root, tmp_path / "before").build(plan_of(0.1), Writer("old"))
    written: list[str] = []

    def refuse_the_ref(method: str, path: str) -> bool:
        written.append(path)
        return len(written) >= 5  # two files, manifest, memo, ref

    server.hook = refuse_the_ref
    with pytest.raises(PermissionError):
        ArtifactStore(root, tmp_path / "refused").build(plan_of(0.2), Writer("new"))
    server.hook = lambda method, path: False
    store = ArtifactStore(root, tmp_path / "after")
    assert store.read("mined_negatives", "disease/bm25") == old
    assert text_of(store, store.build(plan_of(0.2), Writer("new"))) == "new"


@pytest.mark.slow
def test_a_build_killed_before_any_write_to_s3_leaves_the_old_ref_or_the_new_one(
    server, root: str, tmp_path: Path
) -> None:
    found = [_build_killed_before(step, server, f"{root}/{step}", tmp_path / str(step)) for step in range(1, 7)]
    assert found == [("old", False)] * 5 + [("new", True)]


@pytest.mark.slow
def test_two_writers_with_homes_of_their_own_leave_refs_that_are_whole(root: str, tmp_path: Path) -> None:
    processes = [
        fresh_process(_write_for_a_while, root, tmp_path / name, rate) for name, rate in (("one", 0.1), ("two", 0.2))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    third = ArtifactStore(root, tmp_path / "three")
    versions = list(third.refs())
    assert [version.partition for version in versions] == ["x", "y"]
    assert all(text_of(third, version) == str(version.settings["rate"]) for version in versions)
    # Locks hold on one machine, so an entry of a history may be lost; what is left of it leads to the beginning.
    for version in versions:
        history = list(third.history("mined_negatives", version.partition))
        assert history[0] == version and history[-1].parent is None
