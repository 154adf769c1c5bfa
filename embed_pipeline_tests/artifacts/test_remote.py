"""Promise 6: the root is an fsspec URL."""

import os
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from embed_pipeline.artifacts import ArtifactStore, DamagedObjectError
from embed_pipeline_tests.artifacts.works import Writer, overwrite, plan_of, text_of

MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def root() -> str:
    return f"memory://{uuid4().hex}/root"


def test_a_file_url_is_the_directory_that_it_names(tmp_path: Path) -> None:
    built = ArtifactStore(f"file://{tmp_path}").build(plan_of(), Writer("rows"))
    assert text_of(ArtifactStore(tmp_path), built) == "rows"
    assert ArtifactStore(tmp_path).open(built).is_relative_to(tmp_path)


def test_another_machine_finds_what_one_built(root: str, tmp_path: Path) -> None:
    built = ArtifactStore(root, tmp_path / "one").build(plan_of(), Writer("rows"))
    other, make = ArtifactStore(root, tmp_path / "two"), Writer("rows")
    assert other.build(plan_of(), make).cached
    assert make.calls == 0
    assert other.read("mined_negatives", "disease/bm25") == built
    assert text_of(other, built) == "rows"
    assert other.open(built).is_relative_to(tmp_path / "two")


def test_a_root_elsewhere_needs_a_local_directory(root: str) -> None:
    with pytest.raises(ValueError, match="needs a local directory"):
        ArtifactStore(root)


def test_a_kind_of_place_that_does_not_exist_is_said_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gopher://x: expected a folder or an fsspec URL, .*EMBED_PIPELINE_ARTIFACTS"):
        ArtifactStore("gopher://x", tmp_path)


def remote_files(root: str) -> list[str]:
    return sorted(MEMORY.find(f"{root}/objects"))


@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_a_damaged_object_elsewhere_is_never_served_and_is_rebuilt(root: str, tmp_path: Path, damage: str) -> None:
    built = ArtifactStore(root, tmp_path / "one").build(plan_of(), Writer("rows"))
    target = next(path for path in remote_files(root) if path.endswith("rows.txt"))
    if damage == "change":
        MEMORY.pipe_file(target, b"rowz")
    elif damage == "remove":
        MEMORY.rm(target)
    else:
        MEMORY.pipe_file(f"{target}.extra", b"extra")
    other, make = ArtifactStore(root, tmp_path / "two"), Writer("rows")
    with pytest.raises(DamagedObjectError, match=f"{built.digest}.*Run the asset again"):
        other.open(built)
    assert text_of(other, other.build(plan_of(), make)) == "rows"
    assert make.calls == 1
    third = ArtifactStore(root, tmp_path / "three")
    assert text_of(third, built) == "rows"
    assert third.collect_garbage(dry_run=True).removed_leftovers == 0


def test_a_damaged_copy_is_fetched_again(root: str, tmp_path: Path) -> None:
    store, make = ArtifactStore(root, tmp_path), Writer("rows")
    built = store.build(plan_of(), make)
    overwrite(store.open(built) / "rows.txt", "rowz")
    assert text_of(store, built) == "rows"
    assert store.build(plan_of(), make).cached
    assert make.calls == 1


def test_a_sound_copy_is_served_without_fetching(root: str, tmp_path: Path) -> None:
    store = ArtifactStore(root, tmp_path)
    built = store.build(plan_of(), Writer("rows"))
    MEMORY.rm(root, recursive=True)
    assert text_of(store, built) == "rows"


def test_collecting_garbage_removes_the_object_and_the_copy(root: str, tmp_path: Path) -> None:
    store = ArtifactStore(root, tmp_path)
    for rate in (0.1, 0.2):
        store.build(plan_of(rate), Writer(str(rate)))
    assert len(remote_files(root)) == 4
    store.collect_garbage(dry_run=False)
    assert len(remote_files(root)) == 2
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "objects")) == 2
