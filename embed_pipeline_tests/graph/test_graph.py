"""What an artifact depends on, said by its plan: its own settings, the weights' content, its inputs; never a name."""

import itertools
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import yaml

from embed_pipeline.artifacts import Plan
from embed_pipeline.artifacts.workspace import exclusive, marked
from embed_pipeline.assembly.cleanup import remove_unused
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.assets.reporting import _standing
from embed_pipeline.defs.partitions import define_partitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.graph.catalogue import ALL, ASSETS, JOBS, Job
from embed_pipeline.graph.freshness import assess, explain
from embed_pipeline.graph.graph import COMPILED_FOLDER, Graph, MissingInputError
from embed_pipeline.graph.topology import Node, Topology, select_nodes
from embed_pipeline.graph.work import Work, all_work, in_turn, ready_work, work_off
from embed_pipeline.project.project import Project
from embed_pipeline.training.finetune import PROGRESS_FOLDER
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, write_full_project, write_model, write_yaml

TUNED = "small/tuned"


@pytest.fixture
def pipeline(template: Path, tmp_path: Path) -> PipelineResource:
    """A project in which nothing has run, but every input of a plan has a stand-in artifact."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    for name in ("base", "tuned"):
        edit_yaml(tmp_path / "data" / "recipes" / f"{name}.yaml", "encoder", model=str(tmp_path / "model"))
    pipeline = PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home"))
    graph = pipeline.graph()
    for node in graph.nodes():
        graph.store.build(graph.plan(node), lambda out, text=str(node): (out / "stand_in").write_text(text) and {})
    return pipeline


def _plan(pipeline: PipelineResource, asset: str, partition: str) -> Plan:
    return pipeline.graph().plan(Node(asset, partition))


def _states(pipeline: PipelineResource) -> dict[str, str]:
    return {str(assessment.node): assessment.state for assessment in assess(pipeline.graph())}


def _unfinished(pipeline: PipelineResource) -> dict[str, str]:
    return {name: state for name, state in _states(pipeline).items() if state != "fresh"}


def _edit_dataset(pipeline: PipelineResource, **changes: object) -> None:
    path = Path(pipeline.data) / "small" / "dataset.yaml"
    write_yaml(path, yaml.safe_load(path.read_text(encoding="utf-8")) | changes)


def _damage(pipeline: PipelineResource, node: Node) -> None:
    graph = pipeline.graph()
    manifest = graph.store.read(node.asset, node.partition)
    assert manifest is not None
    shutil.rmtree(graph.store.open(manifest))


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


def test_that_a_constant_rate_warms_up_now_concerns_checkpoints_with_such_a_rate_alone(
    pipeline: PipelineResource,
) -> None:
    """The version of the code stays, so that no other training is made anew."""
    found = {}
    for scheduler, share in (("linear", 0.1), ("cosine", 0.1), ("constant", 0.0), ("constant", 0.1)):
        edit_yaml(_recipe(pipeline, "tuned"), "training", scheduler=scheduler, warmup_share=share)
        found[scheduler, share] = set(_plan(pipeline, "finetuned_checkpoint", TUNED).settings)
    plain = found["linear", 0.1]
    assert found["cosine", 0.1] == found["constant", 0.0] == plain
    assert found["constant", 0.1] == plain | {"warms_up"}


def test_a_mining_setting_concerns_the_negatives(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "tuned"), "mining", number=2)
    assert _states(pipeline)[f"mined_negatives[{TUNED}]"] == "stale"


def test_where_nothing_is_mined_the_base_concerns_the_checkpoint_alone(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "tuned"), "mining", number=0)
    before = {asset: _plan(pipeline, asset, TUNED).fingerprint for asset in ("mined_negatives", "finetuned_checkpoint")}
    write_model(Path(pipeline.data).parent / "model", seed=9)
    after = {asset: _plan(pipeline, asset, TUNED).fingerprint for asset in before}
    assert [asset for asset in before if before[asset] != after[asset]] == ["finetuned_checkpoint"]


def test_the_same_weights_elsewhere_change_no_encoding_and_other_weights_do(pipeline: PipelineResource) -> None:
    before = _plan(pipeline, "faiss_index", "small/base").fingerprint
    model = Path(pipeline.data).parent / "model"
    model.rename(model.with_name("renamed"))
    edit_yaml(_recipe(pipeline, "base"), "encoder", model=str(model.with_name("renamed")))
    assert _plan(pipeline, "faiss_index", "small/base").fingerprint == before
    write_model(model.with_name("renamed"), seed=9)
    assert _plan(pipeline, "faiss_index", "small/base").fingerprint != before


def test_what_a_classifier_finds_is_not_looked_for_on_a_general_suite_by_a_second_stage_either(tmp_path: Path) -> None:
    data = write_full_project(tmp_path)
    write_yaml(data / "recipes" / "learnt.yaml", {"description": "x", "retriever": "classifier"})
    for name, of in (("second", "learnt"), ("other", "bm25")):
        rerank = {"of": of, "model": "local/cross-encoder"}
        write_yaml(data / "recipes" / f"{name}.yaml", {"description": "x", "retriever": "reranked", "rerank": rerank})
    edit_dataset(data / "small", variants=["bm25", "learnt", "second", "other"])
    nodes = set(Topology(Project(data=data, home=tmp_path / "home")).nodes())
    measured = {node.partition for node in nodes if node.asset == "general_metrics"}
    assert {"small/bm25", "small/other"} == {name for name in measured if name.startswith("small/")}


def test_the_description_of_a_data_set_concerns_its_report_alone(pipeline: PipelineResource) -> None:
    path = Path(pipeline.data) / "small" / "dataset.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("eight labels", "other words"), encoding="utf-8")
    assert _unfinished(pipeline) == {f"report[{ALL}]": "stale"}


def test_the_description_of_a_recipe_concerns_the_table_and_no_weights(pipeline: PipelineResource) -> None:
    path = _recipe(pipeline, "tuned")
    path.write_text(path.read_text(encoding="utf-8").replace("description: tuned", "description: x"), encoding="utf-8")
    assert _unfinished(pipeline) == {f"metrics_table[{ALL}]": "stale", f"report[{ALL}]": "waiting"}


def test_another_baseline_makes_the_comparisons_stale_and_measures_nothing_again(pipeline: PipelineResource) -> None:
    _edit_dataset(pipeline, variants=["base", "bm25", "tuned"])
    assert _unfinished(pipeline) == {f"metrics_table[{ALL}]": "stale", f"report[{ALL}]": "waiting"}


def test_another_headline_is_chosen_by_and_told_of_and_measures_nothing_again(pipeline: PipelineResource) -> None:
    _edit_dataset(pipeline, headline="precise@3")
    told = {f"metrics_table[{ALL}]": "stale", f"report[{ALL}]": "waiting"}
    assert _unfinished(pipeline) == {"promoted_checkpoint[small]": "stale", **told}


def test_the_split_concerns_the_cleaned_data_and_all_that_follows(pipeline: PipelineResource) -> None:
    _edit_dataset(pipeline, split={"train": 0.6, "validation": 0.15, "test": 0.25, "seed": 2})
    assert _states(pipeline)["raw_xlsx[small]"] == "fresh"
    assert _states(pipeline)["cleaned_qa[small]"] == "stale"
    assert {state for name, state in _unfinished(pipeline).items() if "_qa" not in name} == {"waiting"}


def test_an_encoder_length_concerns_every_asset_of_its_variant_and_no_other_variant(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "base"), "encoder", query_max_length=40)
    names = set(_unfinished(pipeline)) - {f"metrics_table[{ALL}]", f"report[{ALL}]"}
    own = {"faiss_index[small/base]", "query_metrics[small/base]"}
    assert names == own | {"promoted_checkpoint[small]"}  # it chooses among all variants of the data set


def test_the_kind_of_index_concerns_the_index_and_not_the_weights(pipeline: PipelineResource) -> None:
    path = _recipe(pipeline, "tuned")
    before = path.read_text(encoding="utf-8")
    for section, stale in (("recall_at_least: 0.5", False), ("kind: hnsw", True)):
        path.write_text(f"{before}\nindex: {{{section}}}\n", encoding="utf-8")
        states = _states(pipeline)
        assert states[f"finetuned_checkpoint[{TUNED}]"] == "fresh"
        assert (states[f"faiss_index[{TUNED}]"] == "stale") is stale


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
    assert partitions.of("finetuned_checkpoint").get_partition_keys() == ["second/tuned", TUNED]


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
    # The table marks what was measured on the data before.
    assert [work.job.name for work in ready_work(pipeline.graph())] == ["publish_metrics"]


def test_all_work_lists_every_run_upstream_first(pipeline: PipelineResource) -> None:
    listed = [(work.job.name, work.partition) for work in all_work(pipeline.graph())]
    assert listed[:2] == [("read_workbooks", "small"), ("prepare_dataset", "small")] and listed[-1] == (
        "publish_metrics",
        ALL,
    )
    assert ("finetune_variant", TUNED) in listed and ("finetune_variant", "small/base") not in listed


def test_a_damaged_artifact_is_made_again_before_what_reads_it(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "base"), "encoder", query_max_length=40)
    asked = [(work.job.name, work.partition) for work in ready_work(pipeline.graph())]
    assert asked == [("evaluate_variant", "small/base"), ("promote_checkpoint", "small")]
    _damage(pipeline, Node("cleaned_qa", "small"))
    (work,) = ready_work(pipeline.graph())
    assert (work.job.name, work.partition) == ("prepare_dataset", "small")
    assert any("cleaned_qa: " in reason and "nothing there" in reason for reason in work.reasons)


def test_a_damaged_workbook_keeps_its_message_and_the_other_data_sets_go_on(pipeline: PipelineResource) -> None:
    data = Path(pipeline.data)
    shutil.copytree(data / "small", data / "second")
    for path in (data / "small").glob("*.xlsx"):
        path.unlink()
    states = {str(a.node): a for a in assess(pipeline.graph())}
    assert states["raw_xlsx[small]"].state == "failed" and "first.xlsx" in states["raw_xlsx[small]"].reasons[0]
    assert [(work.job.name, work.partition) for work in ready_work(pipeline.graph())] == [("read_workbooks", "second")]


def test_what_waits_names_whom_it_waits_for_and_why_follows_it_to_the_cause(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "tuned"), "mining", number=2)
    lines = list(explain(pipeline.graph(), Node("query_metrics", TUNED)))
    assert lines[0] == f"query_metrics[{TUNED}] is waiting"
    assert lines[1].strip().startswith(f"waits for finetuned_checkpoint[{TUNED}], which is waiting")
    assert any("setting mining.number: 3 → 2" in line for line in lines)


def test_only_what_is_wanted_is_worked_on(pipeline: PipelineResource) -> None:
    for name in ("base", "tuned"):
        edit_yaml(_recipe(pipeline, name), "encoder", query_max_length=40)
    wanted = {"small/base", ALL}
    found = [w.partition for w in ready_work(pipeline.graph(), lambda node: node.partition in wanted)]
    assert found == ["small/base"]


def test_the_partitions_of_a_data_set_reach_its_own_variants_and_no_other(pipeline: PipelineResource) -> None:
    shutil.copytree(Path(pipeline.data) / "small", Path(pipeline.data) / "second")
    partitions = define_partitions(pipeline.project())
    with dg.DagsterInstance.ephemeral() as instance:
        downstream = partitions.mapping("cleaned_qa", "query_metrics").get_downstream_partitions_for_partitions(
            partitions.datasets.subset_with_partition_keys(["second"]), partitions.datasets, partitions.variants
        )
        upstream = partitions.mapping(
            "finetuned_checkpoint", "query_metrics"
        ).get_upstream_mapped_partitions_result_for_partitions(
            partitions.variants.subset_with_partition_keys(["small/base"]),
            partitions.variants,
            partitions.of("finetuned_checkpoint"),
            dynamic_partitions_store=instance,
        )
    assert set(downstream.get_partition_keys()) == {"second/bm25", "second/base", "second/tuned"}
    assert set(upstream.partitions_subset.get_partition_keys()) == set()


def test_every_job_has_the_partitions_of_its_assets_and_the_definitions_are_sound(pipeline: PipelineResource) -> None:
    definitions, partitions = build_definitions(pipeline), define_partitions(pipeline.project())
    dg.Definitions.validate_loadable(definitions)
    expected = {job.name: partitions.of(job.assets[0]) for job in JOBS} | {"publish_metrics": None}
    assert {job.name: definitions.resolve_job_def(job.name).partitions_def for job in JOBS} == expected
    assert {asset for job in JOBS for asset in job.assets} == set(ASSETS)
    assert all(partitions.of(asset) == partitions.of(job.assets[0]) for job in JOBS for asset in job.assets)


def test_dagster_knows_every_edge_but_the_one_that_would_be_a_cycle(tmp_path: Path) -> None:
    topology = Topology(PipelineResource(data=str(write_full_project(tmp_path)), home=str(tmp_path)).project())
    edges = {(upstream.asset, node.asset) for node in topology.nodes() for upstream in topology.upstream(node)}
    known = {(upstream, asset) for asset, found in ASSETS.items() for upstream in found.upstream}
    assert edges - known <= {("finetuned_checkpoint", "mined_negatives")}


def test_what_was_interrupted_is_not_called_never_built_and_says_what_a_run_goes_on_from(
    pipeline: PipelineResource,
) -> None:
    def interrupted(out: Path) -> dict[str, object]:
        raise KeyboardInterrupt

    edit_yaml(_recipe(pipeline, "tuned"), "training", learning_rate=1.0)
    graph, node = pipeline.graph(), Node("finetuned_checkpoint", TUNED)
    plan = graph.plan(node)
    with pytest.raises(KeyboardInterrupt):
        graph.store.build(plan, interrupted)
    begun, change = _reasons(pipeline, node)
    assert begun.startswith("interrupted: begun 20") and "begins it anew" in begun
    assert change.startswith("setting training.learning_rate")
    (graph.project.home / PROGRESS_FOLDER / plan.fingerprint / "checkpoint-40").mkdir(parents=True)
    assert _reasons(pipeline, node)[0].endswith("goes on from the training's checkpoint of step 40")
    with (
        marked(Path(pipeline.home) / "artifacts", plan.fingerprint),
        exclusive(Path(pipeline.home) / "artifacts", plan.fingerprint),
    ):
        assert _reasons(pipeline, node)[0].startswith("being built since 20")
    _rebuild(pipeline, node)
    assert _reasons(pipeline, node) == ()


def _reasons(pipeline: PipelineResource, node: Node) -> tuple[str, ...]:
    return next(found.reasons for found in assess(pipeline.graph()) if found.node == node)


def _rebuild(pipeline: PipelineResource, *nodes: Node, **details: object) -> None:
    graph = pipeline.graph()
    for node in nodes:
        graph.store.build(graph.plan(node), lambda out, text=str(node): (out / "new").write_text(text) and details)


def test_a_variant_that_failed_its_check_does_not_hold_up_the_table(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "tuned"), "training", learning_rate=1.0)
    edit_yaml(_recipe(pipeline, "base"), "encoder", query_max_length=40)
    _rebuild(pipeline, Node("finetuned_checkpoint", TUNED), failed_blocking_checks="loss_is_finite")
    assert [work.partition for work in ready_work(pipeline.graph())] == ["small/base"]  # and no promotion
    _rebuild(pipeline, Node("faiss_index", "small/base"), Node("query_metrics", "small/base"))
    assert [work.job.name for work in ready_work(pipeline.graph())] == ["publish_metrics"]
    _rebuild(pipeline, Node("metrics_table", ALL), Node("report", ALL))
    assert ready_work(pipeline.graph()) == ()
    left = _unfinished(pipeline)
    assert left.pop("promoted_checkpoint[small]") == "failed"  # it cannot choose while a candidate is not usable
    assert left == {f"faiss_index[{TUNED}]": "failed", f"query_metrics[{TUNED}]": "waiting"}


def test_a_variant_whose_run_failed_and_was_given_up_does_not_hold_up_the_table(pipeline: PipelineResource) -> None:
    edit_yaml(_recipe(pipeline, "tuned"), "training", learning_rate=1.0)
    edit_yaml(_recipe(pipeline, "base"), "encoder", query_max_length=40)
    _rebuild(pipeline, Node("faiss_index", "small/base"), Node("query_metrics", "small/base"))
    assert [work.job.name for work in ready_work(pipeline.graph())] == ["finetune_variant"]
    given_up = {Node("mined_negatives", TUNED), Node("finetuned_checkpoint", TUNED)}
    found = ready_work(pipeline.graph(), given_up=given_up)
    assert [work.job.name for work in found] == ["publish_metrics"]


def test_a_variant_on_request_takes_part_only_where_it_is_asked_for(pipeline: PipelineResource) -> None:
    path = Path(pipeline.data) / "small" / "dataset.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    first, *others = content["variants"]
    content |= {"variants": [first], "variants_on_request": others, "baseline": first}
    write_yaml(path, content)
    asked = pipeline.model_copy(update={"on_request": True})
    assert list(pipeline.project().variants) == [f"small/{first}"]
    assert list(asked.project().variants) == [f"small/{name}" for name in (first, *others)]
    assert {node.partition for node in pipeline.graph().nodes()}.isdisjoint(f"small/{name}" for name in others)
    with pytest.raises(ValueError, match=r"takes part on request only\. Say --on-request"):
        select_nodes(pipeline.project(), None, f"small/{others[0]}")


def test_a_variant_that_always_runs_cannot_stand_on_one_on_request(pipeline: PipelineResource) -> None:
    _edit_dataset(pipeline, variants=["bm25", "fused"], variants_on_request=["tuned"], baseline="bm25")
    (Path(pipeline.data) / "recipes" / "fused.yaml").write_text(
        "description: both\nretriever: fused\nfusion: {dense: tuned}\n", encoding="utf-8"
    )
    assert "fusion.dense: expected a dense variant of small" in pipeline.project().broken["small"]


def test_a_variant_on_request_without_a_recipe_takes_no_figure_off_the_table(pipeline: PipelineResource) -> None:
    path = Path(pipeline.data) / "small" / "dataset.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    step: Any = SimpleNamespace(pipeline=pipeline, graph=pipeline.graph())
    before = [(one.dataset, one.variant) for one in _standing(step)]
    write_yaml(path, content | {"variants_on_request": ["nowhere"]})
    step.graph = pipeline.graph()
    assert before and [(one.dataset, one.variant) for one in _standing(step)] == before


def test_what_is_on_request_is_no_reason_to_clean_again(pipeline: PipelineResource) -> None:
    _edit_dataset(pipeline, variants=["bm25", "base"], variants_on_request=["tuned"], baseline="bm25")
    assert "cleaned_qa[small]" not in _unfinished(pipeline)


def test_gc_keeps_what_was_compiled_of_models_in_use_alone(pipeline: PipelineResource) -> None:
    _edit_dataset(pipeline, variants=["bm25", "base"])
    graph = pipeline.graph()
    encoder = graph.local_encoder(graph.project.variants["small/base"].local_encoder)
    left = graph.project.home / COMPILED_FOLDER / "openvino-of-a-model-of-yesterday"
    for folder in (*encoder.compiled_folders, left):
        folder.mkdir(parents=True)
    assert "compiled models: removed 1 folders of models that no variant uses" in remove_unused(graph, dry_run=False)
    assert not left.exists() and all(folder.is_dir() for folder in encoder.compiled_folders)


def test_gc_asks_for_no_model_of_a_variant_on_request_of_which_nothing_was_built(
    pipeline: PipelineResource, tmp_path: Path
) -> None:
    _edit_dataset(pipeline, variants=["bm25"], variants_on_request=["base", "tuned"], baseline="bm25")
    for name in ("base", "tuned"):
        edit_yaml(Path(pipeline.data) / "recipes" / f"{name}.yaml", "encoder", model="/no/such/model")
    asked = pipeline.model_copy(update={"on_request": True})
    with pytest.raises(ValueError, match="/no/such/model"):  # something of them stands in this store
        list(remove_unused(asked.graph(), dry_run=True))
    elsewhere = asked.model_copy(update={"home": str(tmp_path / "new")})
    assert len(list(remove_unused(elsewhere.graph(), dry_run=True))) == 6


def test_work_that_is_due_again_and_again_for_the_same_reasons_ends_with_an_error() -> None:
    job, keys = Job("prepare_dataset", ("cleaned_qa",), ""), itertools.count()

    def find(given_up):
        return [] if given_up else [Work(job, "small", ("file x: a → b",), str(next(keys)))]

    attempts = work_off(find, lambda work: ())
    assert [bool(attempt.errors) for attempt in attempts] == [False, False, False, True]
    assert "run 3 times and still due: file x: a → b" in attempts[-1].errors[0]


def test_side_by_side_no_piece_is_begun_twice_and_a_second_training_comes_last() -> None:
    train, measure = (job for job in JOBS if job.name in ("finetune_variant", "evaluate_variant"))
    todo = {f"{job.name} {at}": Work(job, str(at), (), "") for job in (train, measure) for at in range(3)}
    begun, ended, most, lock, both = [], set(), 0, threading.Lock(), threading.Barrier(2, timeout=30)

    def run(work: Work) -> tuple[str, ...]:
        nonlocal most
        with lock:
            begun.append(f"{work.job.name} {work.partition}")
            most = max(most, len(begun) - len(ended))
            is_of_the_first_two = len(begun) <= 2
        if is_of_the_first_two:
            both.wait()
        time.sleep(0.02)
        with lock:
            ended.add(f"{work.job.name} {work.partition}")
        return ("broken",) if work is todo["evaluate_variant 1"] else ()

    with ThreadPoolExecutor(2) as threads:
        find = lambda given_up: [work for name, work in todo.items() if name not in ended]  # noqa: E731
        attempts = work_off(find, run, threads=threads, jobs=2)
    assert sorted(begun) == sorted(todo) and most == 2
    assert [bool(a.errors) for a in attempts if a.work is todo["evaluate_variant 1"]] == [True]
    assert sorted(begun[:2]) == ["evaluate_variant 0", "finetune_variant 0"]  # which thread is first is chance


def test_what_another_run_has_done_meanwhile_is_not_run_again(pipeline: PipelineResource) -> None:
    (Path(pipeline.data) / "small" / "labels.txt").open("a", encoding="utf-8").write("肺炎\n")
    ran: list[str] = []

    def make(asset: str) -> None:
        graph = pipeline.graph()
        graph.store.build(graph.plan(Node(asset, "small")), lambda out: (out / "made").write_text(asset) and {})

    def read_graph() -> Graph:
        if not ran:
            make("raw_xlsx")  # another one was faster
        return pipeline.graph()

    def run(work: Work) -> tuple[str, ...]:
        ran.append(work.job.name)
        make(work.job.assets[0])
        return ()

    wanted = lambda node: node.asset in ("raw_xlsx", "cleaned_qa")  # noqa: E731
    attempts = work_off(lambda given_up: ready_work(pipeline.graph(), wanted), in_turn(run, read_graph))
    assert ran == ["prepare_dataset"] and [attempt.work.job.name for attempt in attempts] == ran


def test_a_piece_that_another_process_is_at_is_waited_for_and_then_looked_for_anew(pipeline: PipelineResource) -> None:
    (Path(pipeline.data) / "small" / "labels.txt").open("a", encoding="utf-8").write("肺炎\n")
    graph = pipeline.graph()
    (work,) = ready_work(graph, lambda node: node.asset == "raw_xlsx")
    said: list[str] = []
    with ThreadPoolExecutor(1) as threads:
        with work.turn(graph) as is_due:
            waits = threads.submit(in_turn(lambda work: ("run",), pipeline.graph, said.append), work)
            while not said:
                time.sleep(0.01)
        assert is_due and waits.result(30) is None
    assert said == ["waiting for another process that works on read_workbooks small"]
