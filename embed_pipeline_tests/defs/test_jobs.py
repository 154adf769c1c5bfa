"""`run_stale`: one action that runs what is stale, as ordinary runs, and stops for no failure but what stands on it."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.jobs import STALE_TAG
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import JOBS, Work, ready_work, work_off
from embed_pipeline_tests.small_project import edit_dataset, make_rows, write_project, write_workbook

EVERYTHING = ["read_workbooks small", "prepare_dataset small", "evaluate_variant small/bm25", f"publish_metrics {ALL}"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two data sets, small and other, of one variant that needs no model."""
    data = write_project(tmp_path)
    edit_dataset(data / "small", variants=["bm25"], automation="off")
    return data


def _pipeline(data: Path) -> PipelineResource:
    return PipelineResource(data=str(data), home=str(data.parent / "home"))


def _run(data: Path, instance: dg.DagsterInstance, *, dataset: str | None = None) -> dg.ExecuteInProcessResult:
    job = build_definitions(_pipeline(data)).resolve_job_def("run_stale")
    config = {"ops": {"stale_runs": {"config": {"dataset": dataset} if dataset else {}}}}
    return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)


def _started(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[str]:
    """The runs that a run_stale started, oldest first, with their partition."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={STALE_TAG: result.run_id}), ascending=True)
    assert all(run.is_finished for run in runs)
    return [f"{run.job_name} {run.tags.get('dagster/partition', ALL)}" for run in runs]


def _failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.user_failure_data.description)


def test_it_runs_what_is_stale_upstream_first_as_runs_of_the_asset_jobs_and_then_nothing(data: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = _run(data, instance)
        assert first.success and _started(instance, first) == EVERYTHING
        assert instance.get_latest_materialization_event(dg.AssetKey("metrics_table")) is not None
        second = _run(data, instance)
        assert second.success and _started(instance, second) == []
        write_workbook(data / "small" / "first.xlsx", make_rows(), creator="somebody else")
        third = _run(data, instance)
        assert third.success and _started(instance, third) == EVERYTHING[:2]


def test_a_data_set_limits_it_and_a_wrong_name_is_answered_with_the_known_ones(data: Path) -> None:
    shutil.copytree(data / "small", data / "other")
    with dg.DagsterInstance.ephemeral() as instance:
        limited = _run(data, instance, dataset="small")
        assert limited.success and _started(instance, limited) == EVERYTHING
        wrong = _run(data, instance, dataset="smal")
    (event,) = [event for event in wrong.all_events if event.is_step_failure]
    assert "no data set 'smal'; near: small. Data sets: other, small." in str(event.step_failure_data.error)


def test_a_failure_is_counted_at_the_end_and_stops_nothing_that_does_not_stand_on_it(data: Path) -> None:
    shutil.copytree(data / "small", data / "other")
    (data / "other" / "first.xlsx").write_bytes(b"no workbook")
    with dg.DagsterInstance.ephemeral() as instance:
        result = _run(data, instance)
        assert not result.success
        assert set(_started(instance, result)) == {*EVERYTHING, "read_workbooks other", "prepare_dataset other"}
    told = _failure(result)
    assert told.startswith("1 of 6 runs failed.") and "prepare_dataset other: " in told and "first.xlsx" in told


def test_a_variant_added_after_the_definitions_were_loaded_is_run_too(data: Path) -> None:
    loaded = build_definitions(_pipeline(data)).resolve_job_def("run_stale")
    (data / "recipes" / "tfidf.yaml").write_text("{description: n-grams, retriever: tfidf}", encoding="utf-8")
    edit_dataset(data / "small", variants=["bm25", "tfidf"])
    with dg.DagsterInstance.ephemeral() as instance:
        result = loaded.execute_in_process(instance=instance)
        assert "evaluate_variant small/tfidf" in _started(instance, result)


def test_the_launchpad_describes_the_field() -> None:
    job = build_definitions(PipelineResource(data="data", home="home")).resolve_job_def("run_stale")
    field = job.get_node_named("stale_runs").definition.config_schema.as_field().config_type.fields["dataset"]
    assert not field.is_required and "Only this data set" in (field.description or "")


def _work(number: int) -> Work:
    return Work(JOBS[0], f"set{number}", (), key="")


def test_what_failed_is_tried_once_and_given_up_with_all_its_nodes() -> None:
    seen: list[set[Node]] = []

    def find(given_up) -> list[Work]:
        seen.append(set(given_up))
        return [_work(0), _work(1)]

    attempts = work_off(find, lambda work: ("broken",) if work.partition == "set0" else ())
    assert [(a.work.partition, a.errors) for a in attempts] == [("set0", ("broken",)), ("set1", ())]
    assert seen == [set(), {Node("raw_xlsx", "set0")}, {Node("raw_xlsx", "set0")}]


def test_after_it_nothing_is_ready(data: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        _run(data, instance)
    assert ready_work(_pipeline(data).graph()) == ()
