"""The field `because` and the first line of `why`: a path from what changed to the artifact."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.artifacts import Manifest
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.graph.freshness import MAX_PATHS, Causes, assess
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.topology import Node
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, make_rows, write_workbook

CHECKPOINT = Node("finetuned_checkpoint", "small/tuned")


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template / "data", tmp_path / "data")
    return tmp_path / "data"


def _pipeline(data: Path) -> PipelineResource:
    return PipelineResource(data=str(data), home=str(data.parent / "home"))


def _graph(data: Path) -> Graph:
    return _pipeline(data).graph()


def _build(data: Path, node: Node) -> tuple[Manifest, tuple[str, ...]]:
    """A stand-in whose bytes follow from its plan, and why it was built."""
    graph = _graph(data)
    plan, before = graph.plan(node), graph.store.read(node.asset, node.partition)
    made = graph.store.build(plan, lambda out: (out / "stand_in").write_text(plan.fingerprint) and {})
    return made, Causes(graph).of_build(made, before)


def _build_all(data: Path) -> dict[str, tuple[Manifest, tuple[str, ...]]]:
    return {str(node): _build(data, node) for node in _graph(data).nodes()}


def _steps(before: Mapping[str, tuple], after: Mapping[str, tuple], *names: str) -> str:
    """The tail of a path, as the digests of both rounds give it."""
    return "".join(
        f" → {name.partition('[')[0]} {before[name][0].digest[:8]}… → {after[name][0].digest[:8]}…" for name in names
    )


def test_what_had_no_version_before_was_built_for_the_first_time(data: Path) -> None:
    assert {because for _, because in _build_all(data).values()} == {("built for the first time",)}


def test_what_was_asked_for_again_was_found_and_nothing_changed(data: Path) -> None:
    _build_all(data)
    _, because = _build(data, CHECKPOINT)
    assert because == ("found in the store: nothing changed",)


def test_a_changed_file_is_followed_through_every_artifact_on_the_way(data: Path) -> None:
    before = _build_all(data)
    write_workbook(data / "small" / "first.xlsx", make_rows()[:50])
    after = _build_all(data)
    way = ["raw_xlsx[small]", "cleaned_qa[small]", "mined_negatives[small/tuned]", str(CHECKPOINT)]
    assert after[str(CHECKPOINT)][1] == ("data/small/first.xlsx changed" + _steps(before, after, *way),)
    # The table stands on the file by many ways; the longest is told, and only that one.
    (told,) = after["metrics_table[all]"][1]
    assert told.startswith("data/small/first.xlsx changed" + _steps(before, after, *way)) and "faiss_index" in told


def test_a_changed_setting_is_named_with_its_field_and_both_values(data: Path) -> None:
    before = _build_all(data)
    edit_yaml(data / "recipes" / "tuned.yaml", "training", learning_rate=1e-3)
    after = _build_all(data)
    cause = "training.learning_rate of small/tuned changed (0.005 → 0.001)"
    assert after[str(CHECKPOINT)][1] == (cause + _steps(before, after, str(CHECKPOINT)),)
    assert after["faiss_index[small/base]"][1] == ("found in the store: nothing changed",)


def test_two_changes_are_two_paths(data: Path) -> None:
    _build_all(data)
    write_workbook(data / "small" / "second.xlsx", make_rows()[:3])
    edit_yaml(data / "recipes" / "tuned.yaml", "training", epochs=7)
    because = _build_all(data)[str(CHECKPOINT)][1]
    assert sorted(path.partition(" → ")[0] for path in because) == [
        "data/small/second.xlsx added",
        "training.epochs of small/tuned changed (2.0",
    ]


def test_what_is_changed_back_is_found_in_the_store_with_its_cause(data: Path) -> None:
    _build_all(data)
    edit_yaml(data / "recipes" / "tuned.yaml", "training", epochs=7)
    _build_all(data)
    edit_yaml(data / "recipes" / "tuned.yaml", "training", epochs=2)
    _, because = _build(data, CHECKPOINT)
    assert because[0].startswith("found in the store: training.epochs of small/tuned changed (7.0 → 2.0) → ")


def test_a_removed_file_is_called_removed(data: Path) -> None:
    write_workbook(data / "small" / "second.xlsx", make_rows()[:3])
    _build_all(data)
    (data / "small" / "second.xlsx").unlink()
    assert _build(data, Node("raw_xlsx", "small"))[1][0].startswith("data/small/second.xlsx removed → raw_xlsx ")


def test_more_causes_than_can_be_read_are_counted(data: Path) -> None:
    _build_all(data)
    for number in range(MAX_PATHS + 3):
        write_workbook(data / "small" / f"more{number:02d}.xlsx", make_rows()[:1])
    because = _build(data, Node("raw_xlsx", "small"))[1]
    assert len(because) == MAX_PATHS + 1 and because[-1] == "and 3 more"


def test_why_of_something_stale_is_the_path_that_a_run_would_follow(data: Path) -> None:
    made = _build_all(data)
    write_workbook(data / "small" / "first.xlsx", make_rows()[:50])
    edit_dataset(data / "small", near_duplicate_threshold=0.8)
    graph = _graph(data)
    paths = Causes(graph).of_node(CHECKPOINT, {a.node: a for a in assess(graph)})
    way = ["raw_xlsx[small]", "cleaned_qa[small]", "mined_negatives[small/tuned]", str(CHECKPOINT)]
    open_ended = "".join(f" → {name.partition('[')[0]} {made[name][0].digest[:8]}… → …" for name in way)
    assert paths[0] == "data/small/first.xlsx changed" + open_ended
    changed = "near_duplicate_threshold of small changed (0.85 → 0.8) → cleaned_qa "
    assert len(paths) == 2 and paths[1].startswith(changed)


def test_why_of_something_fresh_is_the_path_of_its_last_build(data: Path) -> None:
    before = _build_all(data)
    write_workbook(data / "small" / "first.xlsx", make_rows()[:50])
    after = _build_all(data)
    graph = _graph(data)
    assessments = {a.node: a for a in assess(graph)}
    for name in ("raw_xlsx[small]", "cleaned_qa[small]", str(CHECKPOINT)):
        asset, _, partition = name.removesuffix("]").partition("[")
        assert Causes(graph).of_node(Node(asset, partition), assessments) == after[name][1]
    assert before.keys() == after.keys()


def test_every_materialisation_says_why(data: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = _materialise(data, instance)
        write_workbook(data / "small" / "first.xlsx", make_rows()[:50])
        second, third = _materialise(data, instance), _materialise(data, instance)
    assert first == {"raw_xlsx": "built for the first time", "cleaned_qa": "built for the first time"}
    assert second["cleaned_qa"].startswith("data/small/first.xlsx changed → raw_xlsx ")
    assert second["cleaned_qa"].startswith(second["raw_xlsx"] + " → cleaned_qa ")
    assert set(third.values()) == {"found in the store: nothing changed"}


def _materialise(data: Path, instance: dg.DagsterInstance) -> dict[str, str]:
    found = {}
    for name in ("read_workbooks", "prepare_dataset"):
        job = build_definitions(_pipeline(data)).resolve_job_def(name)
        result = job.execute_in_process(instance=instance, partition_key="small")
        for event in result.all_events:
            if event.is_step_materialization:
                made = event.materialization
                found[made.asset_key.to_user_string()] = str(made.metadata["because"].value)
    return found


def test_an_artifact_that_came_out_the_same_says_so(data: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        _materialise(data, instance)
        write_workbook(data / "small" / "first.xlsx", make_rows(), creator="somebody else")
        because = _materialise(data, instance)["cleaned_qa"]
    digest = _graph(data).input(Node("cleaned_qa", "small")).digest
    assert because.endswith(f" → cleaned_qa {digest[:8]}… again")
