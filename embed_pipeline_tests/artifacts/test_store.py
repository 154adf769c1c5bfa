import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from embed_pipeline.artifacts import ArtifactStore, DamagedObjectError, Plan
from embed_pipeline_tests.artifacts.works import Writer, overwrite, plan_of, text_of


def test_building_twice_does_the_work_once(store: ArtifactStore) -> None:
    make = Writer("rows")
    first = store.build(plan_of(), make, run_id="one")
    second = store.build(plan_of(), make, run_id="two")
    assert make.calls == 1
    assert (first.cached, second.cached) == (False, True)
    assert second == replace(first, cached=True)
    assert list(store.history("mined_negatives", "disease/bm25")) == [first]


def test_a_setting_is_part_of_the_version(store: ArtifactStore) -> None:
    slow, fast = Writer("slow"), Writer("fast")
    one = store.build(plan_of(0.1), slow)
    two = store.build(plan_of(0.2), fast)
    assert (slow.calls, fast.calls) == (1, 1)
    assert one.fingerprint != two.fingerprint
    assert text_of(store, two) == "fast"


def test_equal_bytes_have_one_digest_whatever_made_them(store: ArtifactStore) -> None:
    one = store.build(plan_of(0.1), Writer("same"))
    two = store.build(plan_of(0.2), Writer("same"))
    other = store.build(plan_of(0.2, asset="faiss_index"), Writer("same"))
    assert one.digest == two.digest == other.digest
    assert store.collect_garbage(dry_run=True).kept_objects == 1


def test_a_downstream_plan_stays_a_hit_when_upstream_is_rebuilt_to_the_same_bytes(store: ArtifactStore) -> None:
    make = Writer("index")
    for rate in (0.1, 0.2):
        upstream = store.build(plan_of(rate), Writer("same"))
        store.build(plan_of(asset="faiss_index", inputs={"mined_negatives[x]": upstream.digest}), make)
    assert make.calls == 1


def test_a_setting_changed_back_costs_nothing_and_is_a_new_entry_in_the_history(store: ArtifactStore) -> None:
    make = Writer("first")
    first = store.build(plan_of(0.1), make)
    second = store.build(plan_of(0.2), Writer("second"))
    third = store.build(plan_of(0.1), make)
    assert make.calls == 1
    assert third == replace(first, cached=True, parent=second.id)
    assert list(store.history("mined_negatives", "disease/bm25")) == [third, second, first]
    assert text_of(store, third) == "first"


def test_the_same_work_under_another_partition_is_a_hit(store: ArtifactStore) -> None:
    make = Writer("rows")
    store.build(plan_of(partition="a/x"), make)
    second = store.build(plan_of(partition="a/y"), make)
    assert make.calls == 1
    assert second.cached
    assert store.read("mined_negatives", "a/y") == second


def test_digest_is_the_sha256_of_the_sorted_list_of_files(tmp_path: Path) -> None:
    built = ArtifactStore(tmp_path).build(plan_of(), Writer("rows"))
    file = hashlib.sha256(b"rows").hexdigest()
    text = json.dumps([["deep/er/copy.txt", file], ["rows.txt", file]], separators=(",", ":"))
    assert built.digest == hashlib.sha256(text.encode()).hexdigest()


def test_what_was_never_built_reads_as_none(store: ArtifactStore) -> None:
    assert store.read("mined_negatives", "disease/bm25") is None
    assert list(store.history("mined_negatives", "disease/bm25")) == []
    assert list(store.refs()) == []


def test_a_maker_that_fails_leaves_the_old_ref_and_nothing_else(store: ArtifactStore) -> None:
    old = store.build(plan_of(0.1), Writer("old"))

    def fail(directory: Path) -> dict:
        (directory / "half.txt").write_text("half")
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        store.build(plan_of(0.2), fail)
    assert store.read("mined_negatives", "disease/bm25") == old
    report = store.collect_garbage(dry_run=True)
    assert (report.removed_objects, report.removed_memos, report.removed_leftovers) == (0, 0, 0)
    assert store.build(plan_of(0.2), Writer("new")).cached is False


def test_a_maker_must_write_files_and_json(store: ArtifactStore, tmp_path: Path) -> None:
    def link(directory: Path) -> dict:
        (directory / "link").symlink_to(tmp_path)
        return {}

    def odd_details(directory: Path) -> dict:
        (directory / "rows.txt").write_text("rows")
        return {"folder": directory}

    with pytest.raises(ValueError, match="at least one file"):
        store.build(plan_of(), lambda _: {})
    with pytest.raises(ValueError, match="regular file"):
        store.build(plan_of(), link)
    with pytest.raises(ValueError, match=r"details\.folder must be JSON"):
        store.build(plan_of(), odd_details)
    assert store.read("mined_negatives", "disease/bm25") is None


def test_partitions_never_share_a_ref(store: ArtifactStore) -> None:
    keys = [
        "",
        ".",
        "..",
        "a/b",
        "a_b",
        "a%2Fb",
        "A/b",
        "a/b ",
        "疾病/模型",
        "病疾/模型",
        "x" * 300,
        "x" * 301,
        "../../up",
    ]
    for key in keys:
        store.build(plan_of(key, partition=key), Writer(key))
    for key in keys:
        version = store.read("mined_negatives", key)
        assert version is not None
        assert text_of(store, version) == key
    assert [version.partition for version in store.refs()] == sorted(keys)


def test_refs_are_sorted_by_asset_and_partition(store: ArtifactStore) -> None:
    for asset, partition in [("b", "x"), ("a", "z"), ("a", "y")]:
        store.build(plan_of(asset=asset, partition=partition), Writer("rows"))
    assert [(version.asset, version.partition) for version in store.refs()] == [("a", "y"), ("a", "z"), ("b", "x")]


def test_objects_are_write_protected(store: ArtifactStore) -> None:
    directory = store.open(store.build(plan_of(), Writer("rows")))
    modes = [path.stat().st_mode for path in directory.rglob("*.txt")]
    assert len(modes) == 2
    assert not any(mode & 0o222 for mode in modes)


def flip_a_byte(directory: Path) -> None:
    # Same length, and the old modification time on top: only the content tells.
    path = directory / "rows.txt"
    times = path.stat()
    overwrite(path, "rowz")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut_off(directory: Path) -> None:
    overwrite(directory / "rows.txt", "")


def remove_a_file(directory: Path) -> None:
    (directory / "rows.txt").unlink()


def add_a_file(directory: Path) -> None:
    (directory / "deep" / "extra.txt").write_text("extra")


def rename_a_file(directory: Path) -> None:
    (directory / "rows.txt").rename(directory / "lines.txt")


def replace_a_file_by_a_link(directory: Path) -> None:
    (directory / "rows.txt").unlink()
    (directory / "rows.txt").symlink_to(directory / "deep" / "er" / "copy.txt")


def remove_everything(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    directory.rmdir()


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        cut_off,
        remove_a_file,
        add_a_file,
        rename_a_file,
        replace_a_file_by_a_link,
        remove_everything,
    ],
)
def test_a_damaged_object_is_never_served_and_is_rebuilt(tmp_path: Path, damage) -> None:
    store, make = ArtifactStore(tmp_path), Writer("rows")
    first = store.build(plan_of(), make)
    directory = store.open(first)
    damage(directory)
    with pytest.raises(DamagedObjectError, match=f"{directory}.*{first.digest}.*found .*Run the asset again"):
        store.open(first)
    second = store.build(plan_of(), make)
    assert make.calls == 2
    assert (second.cached, second.digest, second.parent) == (False, first.digest, first.id)
    assert text_of(store, second) == "rows"
    assert store.collect_garbage(dry_run=True).removed_leftovers == 0


def test_a_damaged_object_is_replaced_when_other_work_gives_its_bytes(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    first = store.build(plan_of(0.1), Writer("rows"))
    flip_a_byte(store.open(first))
    store.build(plan_of(0.2), Writer("rows"))
    assert text_of(store, first) == "rows"


@pytest.mark.parametrize("folder", ["refs", "manifests", "memo"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"manifest":"gone","digest":"gone"}'])
def test_a_damaged_record_is_an_error_or_a_miss_and_is_rewritten(tmp_path: Path, folder: str, text: str) -> None:
    store, make = ArtifactStore(tmp_path), Writer("rows")
    store.build(plan_of(), make)
    (record,) = (tmp_path / folder).rglob("*.json")
    record.write_text(text)
    if folder != "memo":
        with pytest.raises(DamagedObjectError, match="Run the asset again"):
            store.read("mined_negatives", "disease/bm25")
        with pytest.raises(DamagedObjectError):
            store.collect_garbage(dry_run=False)
    built = store.build(plan_of(), make)
    assert store.read("mined_negatives", "disease/bm25") in (built, replace(built, cached=False))
    assert text_of(store, built) == "rows"


@pytest.mark.parametrize("folder", ["refs", "manifests"])
def test_a_damaged_ref_is_forgotten_with_a_sentence_and_sound_ones_stay(tmp_path: Path, folder: str) -> None:
    store, make = ArtifactStore(tmp_path), Writer("rows")
    store.build(plan_of(), make)
    (record,) = (tmp_path / folder).rglob("*.json")
    record.write_text("{")
    kept = store.build(plan_of(asset="faiss_index"), Writer("index"))
    (told,) = store.forget_damaged()
    assert record.name in told and store.forget_damaged() == []
    assert store.read("mined_negatives", "disease/bm25") is None
    assert store.read("faiss_index", "disease/bm25") == kept
    built = store.build(plan_of(), make)
    assert built.cached is (folder == "refs") and text_of(store, built) == "rows"


def test_open_takes_a_digest_and_refuses_what_is_none(store: ArtifactStore) -> None:
    built = store.build(plan_of(), Writer("rows"))
    assert store.open(built.digest) == store.open(built)
    with pytest.raises(DamagedObjectError):
        store.open("0" * 64)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.open("../../etc")


def test_the_manifest_tells_what_the_bytes_were_made_with(store: ArtifactStore) -> None:
    plan = Plan(asset="a", partition="p", code_version="7", settings={"k": [1, {"z": "疾"}]}, inputs={"r[p]": "d"})
    built = store.build(plan, Writer("rows"), run_id="run-1")
    assert store.read("a", "p") == built
    assert (built.code_version, built.settings, built.inputs) == ("7", plan.settings, plan.inputs)
    assert (built.run_id, built.details, built.parent) == ("run-1", {"rows": 4}, None)
    assert built.seconds >= 0
    assert built.built_at.endswith("+00:00")
    assert {"numpy", "torch", "python"} <= built.packages.keys()


def test_a_build_is_marked_while_it_runs_and_after_it_only_if_it_was_interrupted(store: ArtifactStore) -> None:
    plan, seen = plan_of(), []

    def make(out: Path) -> dict[str, object]:
        seen.append((store.is_building(plan.fingerprint), store.begun_at(plan.fingerprint) is not None))
        return Writer("rows")(out)

    def interrupted(out: Path) -> dict[str, object]:
        raise KeyboardInterrupt

    def failing(out: Path) -> dict[str, object]:
        raise ValueError

    assert store.begun_at(plan.fingerprint) is None
    with pytest.raises(KeyboardInterrupt):
        store.build(plan, interrupted)
    assert store.begun_at(plan.fingerprint) is not None and not store.is_building(plan.fingerprint)
    with pytest.raises(ValueError):
        store.build(plan, failing)
    assert store.begun_at(plan.fingerprint) is None
    store.build(plan, make)
    assert seen == [(True, True)] and store.begun_at(plan.fingerprint) is None


def test_gc_forgets_what_was_interrupted(store: ArtifactStore) -> None:
    def interrupted(out: Path) -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build(plan_of(), interrupted)
    store.collect_garbage(dry_run=True)
    assert store.begun_at(plan_of().fingerprint) is not None
    store.collect_garbage(dry_run=False)
    assert store.begun_at(plan_of().fingerprint) is None


def test_a_memo_that_leads_to_the_object_of_other_work_is_not_believed(tmp_path):
    store = ArtifactStore(tmp_path)
    plans = [
        Plan(asset="index", partition=name, code_version="1", settings={"of": name}, inputs={}) for name in ("a", "b")
    ]
    made = [store.build(plan, lambda out, p=plan: (out / "x").write_text(p.partition) and {}) for plan in plans]
    memos = [tmp_path / "memo" / f"{plan.fingerprint}.json" for plan in plans]
    memos[0].write_bytes(memos[1].read_bytes())
    again = store.build(plans[0], lambda out: (out / "x").write_text("a") and {})
    assert again.digest == made[0].digest and (store.open(again) / "x").read_text() == "a"
    assert store.build(plans[0], lambda out: 1 / 0).cached
