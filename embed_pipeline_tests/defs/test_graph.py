"""What an artifact depends on, said by its plan: its own settings, the weights' content, its inputs; never a name."""

import shutil
from pathlib import Path

import pytest

from embed_pipeline.artifacts import Plan
from embed_pipeline.defs.freshness import assess
from embed_pipeline.defs.graph import ALL, MissingInputError, Node
from embed_pipeline.defs.partitions import define_partitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.defs.work import all_work, ready_work
from embed_pipeline_tests.small_project import edit_yaml, write_model, write_project, write_yaml

TUNED = "small/tuned"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    write_project(root)
    return root


@pytest.fixture
def pipeline(template: Path, tmp_path: Path) -> PipelineResource:
    """A project in which nothing has run, but every input of a plan has a stand-in artifact."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    for name in ("base", "tuned"):
        edit_yaml(tmp_path / "data" / "recipes" / f"{name}.yaml", "encoder", model=str(tmp_path / "model"))
    pipeline = PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home"))
    graph = pipeline.graph()
    for node in graph.nodes():
        graph.store.build(graph.plan(node), lambda out: (out / "stand_in").write_text("x") and {})
    return pipeline


def _plan(pipeline: PipelineResource, asset: str, partition: str) -> Plan:
    return pipeline.graph().plan(Node(asset, partition))


def _states(pipeline: PipelineResource) -> dict[str, str]:
    return {str(assessment.node): assessment.state for assessment in assess(pipeline.graph())}


def _recipe(pipeline: PipelineResource, name: str) -> Path:
    return Path(pipeline.data) / "recipes" / f"{name}.yaml"


def test_what_was_just_built_is_fresh(pipeline: PipelineResource) -> None:
    assert set(_states(pipeline).values()) == {"fresh"}
    assert ready_work(pipeline.graph()) == ()


def test_a_training_setting_concerns_the_checkpoint_and_not_the_negatives(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "tuned"), "training", epochs=7)
    states = _states(pipeline)
    assert states[f"mined_negatives[{TUNED}]"] == "fresh"
    assert states[f"finetuned_checkpoint[{TUNED}]"] == "stale"
    assert states[f"query_metrics[{TUNED}]"] == "waiting"
    assert states["query_metrics[small/base]"] == states["query_metrics[small/bm25]"] == "fresh"


def test_a_mining_setting_concerns_the_negatives(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "tuned"), "mining", number=2)
    assert _states(pipeline)[f"mined_negatives[{TUNED}]"] == "stale"


def test_the_same_weights_elsewhere_change_no_encoding_and_other_weights_do(pipeline: PipelineResource) -> None:
    before = _plan(pipeline, "faiss_index", "small/base").fingerprint
    model = Path(pipeline.data).parent / "model"
    model.rename(model.with_name("renamed"))
    edit_yaml(_recipe(pipeline, "base"), "encoder", model=str(model.with_name("renamed")))
    assert _plan(pipeline, "faiss_index", "small/base").fingerprint == before
    write_model(model.with_name("renamed"), seed=9)
    assert _plan(pipeline, "faiss_index", "small/base").fingerprint != before


def test_the_description_of_a_data_set_makes_only_the_report_stale(pipeline: PipelineResource) -> None:
    path = Path(pipeline.data) / "small" / "dataset.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("eight labels", "other words"), encoding="utf-8")
    assert [name for name, state in _states(pipeline).items() if state != "fresh"] == [f"report[{ALL}]"]


def test_a_changed_label_list_and_a_changed_workbook_are_named(pipeline: PipelineResource) -> None:
    with (Path(pipeline.data) / "small" / "labels.txt").open("a", encoding="utf-8") as file:
        file.write("肺炎\n")
    (raw,) = [a for a in assess(pipeline.graph()) if a.state == "stale"]
    assert raw.node == Node("raw_xlsx", "small")
    assert raw.reasons[0].startswith("file labels.txt: ")


def test_more_processes_are_another_training(pipeline: PipelineResource) -> None:
    two = PipelineResource(data=pipeline.data, home=pipeline.home, training_processes=2)
    difference = _plan(two, "finetuned_checkpoint", TUNED).differences(_plan(pipeline, "finetuned_checkpoint", TUNED))
    assert [(change.name, change.before, change.after) for change in difference] == [("processes", "1", "2")]


def test_a_variant_that_does_not_train_has_no_negatives_and_no_checkpoint(pipeline: PipelineResource) -> None:
    graph = pipeline.graph()
    names = [str(node) for node in graph.nodes()]
    assert f"finetuned_checkpoint[{TUNED}]" in names
    assert "finetuned_checkpoint[small/base]" not in names and "mined_negatives[small/bm25]" not in names
    assert Node("finetuned_checkpoint", "small/base") not in graph.upstream(Node("faiss_index", "small/base"))


def test_a_new_folder_is_a_new_partition(pipeline: PipelineResource) -> None:
    data = Path(pipeline.data)
    shutil.copytree(data / "small", data / "second")
    partitions = define_partitions(pipeline.project())
    assert partitions.datasets.get_partition_keys() == ["second", "small"]
    assert set(partitions.variants.get_partition_keys()) >= {"second/bm25", "small/bm25"}
    assert partitions.trained.get_partition_keys() == ["second/tuned", TUNED]


def test_nothing_is_planned_on_an_artifact_whose_blocking_check_failed(pipeline: PipelineResource) -> None:
    graph = pipeline.graph()
    write_yaml(Path(pipeline.data) / "small" / "unused.yaml", {})
    edited = Path(pipeline.data) / "small" / "labels.txt"
    edited.write_text(edited.read_text(encoding="utf-8") + "肺炎\n", encoding="utf-8")
    graph.store.build(graph.plan(Node("raw_xlsx", "small")), lambda out: (out / "raw").write_text("new") and {})
    details = {"failed_blocking_checks": "splits_share_no_query"}
    graph.store.build(graph.plan(Node("cleaned_qa", "small")), lambda out: (out / "x").write_text("y") and details)
    with pytest.raises(MissingInputError, match=r"cleaned_qa\[small\] failed its check splits_share_no_query"):
        graph.plan(Node("faiss_index", "small/base"))
    assert _states(pipeline)["faiss_index[small/base]"] == "failed"
    assert ready_work(pipeline.graph()) == ()


def test_all_work_lists_every_run_upstream_first(pipeline: PipelineResource) -> None:
    listed = [(work.job.name, work.partition) for work in all_work(pipeline.graph())]
    assert listed[0] == ("prepare_dataset", "small") and listed[-1] == ("publish_metrics", ALL)
    assert ("finetune_variant", TUNED) in listed and ("finetune_variant", "small/base") not in listed
