from dataclasses import replace
from pathlib import Path

from embed_pipeline.artifacts import ArtifactStore, GarbageReport
from embed_pipeline_tests.artifacts.works import Writer, plan_of, text_of

NOTHING = GarbageReport(
    dry_run=True,
    kept_objects=0,
    removed_objects=0,
    removed_memos=0,
    removed_manifests=0,
    removed_leftovers=0,
    freed_bytes=0,
)


def test_an_empty_store_has_no_garbage(store: ArtifactStore) -> None:
    assert store.collect_garbage(dry_run=True) == NOTHING


def test_objects_that_no_ref_leads_to_are_removed_with_their_memos_and_histories_stay(store: ArtifactStore) -> None:
    versions = [store.build(plan_of(rate), Writer("x" * rate)) for rate in (10, 100, 1000)]
    other = store.build(plan_of(7, asset="faiss_index"), Writer("other"))
    expected = replace(NOTHING, kept_objects=2, removed_objects=2, removed_memos=2)
    would = store.collect_garbage(dry_run=True)
    did = store.collect_garbage(dry_run=False)
    assert would == replace(did, dry_run=True)
    # A Writer writes its text twice. A root elsewhere has a copy here.
    assert would.freed_bytes in (220, 440)
    assert replace(would, freed_bytes=0) == expected
    assert store.collect_garbage(dry_run=True) == replace(NOTHING, kept_objects=2)
    assert text_of(store, versions[-1]) == "x" * 1000
    assert text_of(store, other) == "other"
    assert list(store.history("mined_negatives", "disease/bm25")) == versions[::-1]


def test_removed_work_is_done_again_when_it_is_wanted_again(store: ArtifactStore) -> None:
    store.build(plan_of(0.1), Writer("one"))
    store.build(plan_of(0.2), Writer("two"))
    store.collect_garbage(dry_run=False)
    make = Writer("one")
    assert text_of(store, store.build(plan_of(0.1), make)) == "one"
    assert make.calls == 1


def test_what_a_current_version_was_made_from_is_kept(store: ArtifactStore) -> None:
    cleaned = store.build(plan_of(0.1, asset="cleaned_qa"), Writer("cleaned"))
    mined = store.build(plan_of(0.1, inputs={"cleaned_qa[disease]": cleaned.digest}), Writer("mined"))
    store.build(plan_of(0.1, asset="faiss_index", inputs={"mined_negatives[x]": mined.digest}), Writer("index"))
    # The index still stands on the old ones when newer ones are there.
    store.build(plan_of(0.2, asset="cleaned_qa"), Writer("cleaned anew"))
    store.build(plan_of(0.2), Writer("mined anew"))
    assert store.collect_garbage(dry_run=False).removed_objects == 0
    assert (text_of(store, cleaned), text_of(store, mined)) == ("cleaned", "mined")


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for rate in (0.1, 0.2):
        store.build(plan_of(rate), Writer(str(rate)))
    (tmp_path / "staging" / f"record-{0:016x}").write_text("left")

    def listing() -> list[tuple[Path, int]]:
        return sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.*") if path.suffix != ".lock")

    before = listing()
    report = store.collect_garbage(dry_run=True)
    assert (report.removed_objects, report.removed_leftovers) == (1, 1)
    assert listing() == before


def test_a_collection_leaves_no_lock_and_no_working_directory(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.build(plan_of(), Writer("rows"))
    store.collect_garbage(dry_run=False)
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["publish.lock"]
    assert list((tmp_path / "staging").iterdir()) == []
