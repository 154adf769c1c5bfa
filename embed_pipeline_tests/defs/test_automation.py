"""What runs by itself: exactly what a change made stale, once; a night at its time."""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from embed_pipeline.dataset.raw_files import SETTLE_SECONDS
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.defs.running import NIGHTLY_TAG
from embed_pipeline.defs.teams import TEAM_TAG
from embed_pipeline.graph.catalogue import JOBS
from embed_pipeline.graph.topology import Node
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, make_rows, settle, write_project, write_workbook


@pytest.fixture
def pipeline(tmp_path: Path) -> PipelineResource:
    write_project(tmp_path)
    edit_dataset(tmp_path / "data" / "small", automation="all")
    return PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home"))


def _stand_in(pipeline: PipelineResource, *assets: str) -> None:
    """Builds stand-in artifacts for the named assets, all of them if none is named."""
    graph = pipeline.graph()
    for node in graph.nodes():
        if not assets or node.asset in assets:
            graph.store.build(graph.plan(node), lambda out: (out / "stand_in").write_text("x") and {})


def _tick(
    pipeline: PipelineResource,
    instance: dg.DagsterInstance | None = None,
    *,
    loaded: dg.Definitions | None = None,
    arrived: bool = True,
) -> SensorExecutionData:
    """What the sensor says now; `loaded`: definitions of an earlier load; `arrived`: files have lain there for long."""
    definitions = loaded or build_definitions(pipeline)
    if arrived:
        settle(Path(pipeline.data))
    with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as used:
        context = dg.build_sensor_context(
            instance=used, resources={"pipeline": pipeline}, repository_def=definitions.get_repository_def()
        )
        return definitions.resolve_sensor_def("stale_partitions").evaluate_tick(context)


def _requests(pipeline: PipelineResource) -> list[dg.RunRequest]:
    return list(_tick(pipeline).run_requests or [])


def _named(requests: Iterable[dg.RunRequest]) -> set[tuple[str | None, str | None]]:
    return {(request.job_name, request.partition_key) for request in requests}


def test_a_fresh_project_asks_for_nothing_and_says_so(pipeline: PipelineResource) -> None:
    _stand_in(pipeline)
    tick = _tick(pipeline)
    assert not tick.run_requests and tick.skip_message == "everything is fresh"


def test_new_data_is_prepared_before_anything_else(pipeline: PipelineResource) -> None:
    assert _named(_requests(pipeline)) == {("read_workbooks", "small")}
    _stand_in(pipeline, "raw_xlsx")
    assert _named(_requests(pipeline)) == {("prepare_dataset", "small")}


def test_after_the_data_every_variant_that_is_ready_runs_and_no_index_before_its_checkpoint(
    pipeline: PipelineResource,
) -> None:
    _stand_in(pipeline, "raw_xlsx", "cleaned_qa")
    assert _named(_requests(pipeline)) == {
        ("finetune_variant", "small/tuned"),
        ("evaluate_variant", "small/base"),
        ("evaluate_variant", "small/bm25"),
    }


def test_the_table_comes_last_and_once(pipeline: PipelineResource) -> None:
    _stand_in(pipeline, *(asset for job in JOBS for asset in job.assets if job.name != "publish_metrics"))
    assert _named(_requests(pipeline)) == {("publish_metrics", None)}


def test_a_changed_recipe_asks_for_its_own_variant_alone(pipeline: PipelineResource) -> None:
    _stand_in(pipeline)
    edit_yaml(Path(pipeline.data) / "recipes" / "tuned.yaml", "training", epochs=9)
    assert _named(_requests(pipeline)) == {("finetune_variant", "small/tuned")}


def test_the_same_state_has_the_same_run_key(pipeline: PipelineResource) -> None:
    _stand_in(pipeline)
    edit_yaml(Path(pipeline.data) / "recipes" / "tuned.yaml", "training", epochs=9)
    assert len({request.run_key for _ in range(2) for request in _requests(pipeline)}) == 1


def test_a_change_made_undone_and_made_again_asks_each_time(pipeline: PipelineResource) -> None:
    # Dagster ignores a run key that it has seen: a key that comes back is a run that never starts.
    _stand_in(pipeline)
    keys = []
    for epochs in (9, 2, 9, 2):
        edit_yaml(Path(pipeline.data) / "recipes" / "tuned.yaml", "training", epochs=epochs)
        (request,) = _requests(pipeline)
        keys.append(request.run_key)
        _stand_in(pipeline)
    assert len(set(keys)) == len(keys)


def test_a_run_that_failed_half_way_is_not_asked_for_again(pipeline: PipelineResource) -> None:
    _stand_in(pipeline, "raw_xlsx", "cleaned_qa")
    (before,) = [request for request in _requests(pipeline) if request.job_name == "finetune_variant"]
    _stand_in(pipeline, "mined_negatives")
    (after,) = [request for request in _requests(pipeline) if request.job_name == "finetune_variant"]
    assert before.run_key == after.run_key


def test_a_workbook_that_was_only_saved_again_is_cleaned_and_nothing_follows(pipeline: PipelineResource) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        jobs = [build_definitions(pipeline).resolve_job_def(name) for name in ("read_workbooks", "prepare_dataset")]
        assert all(job.execute_in_process(instance=instance, partition_key="small").success for job in jobs)
        _stand_in(pipeline)
        write_workbook(Path(pipeline.data) / "small" / "first.xlsx", make_rows(), creator="somebody else")
        for job in jobs:
            assert _named(_requests(pipeline)) == {(job.name, "small")}
            assert job.execute_in_process(instance=instance, partition_key="small").success
        assert _requests(pipeline) == []


def test_while_a_run_is_under_way_nothing_is_asked_for(pipeline: PipelineResource) -> None:
    job = build_definitions(pipeline).resolve_job_def("prepare_dataset")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        tick = _tick(pipeline, instance)
    assert not tick.run_requests and "under way" in (tick.skip_message or "")


def test_a_data_set_that_the_loaded_definitions_do_not_know_waits_for_a_reload(pipeline: PipelineResource) -> None:
    loaded = build_definitions(pipeline)
    _stand_in(pipeline)
    data = Path(pipeline.data)
    shutil.copytree(data / "small", data / "second")
    assert not _tick(pipeline, loaded=loaded).run_requests
    assert _named(_requests(pipeline)) == {("read_workbooks", "second")}


def test_a_variant_that_the_loaded_definitions_do_not_know_waits_for_a_reload(pipeline: PipelineResource) -> None:
    loaded, data = build_definitions(pipeline), Path(pipeline.data)
    _stand_in(pipeline)
    (data / "recipes" / "tfidf.yaml").write_text("{description: n-grams, retriever: tfidf}", encoding="utf-8")
    edit_dataset(data / "small", variants=["bm25", "base", "tuned", "tfidf"])
    assert not _tick(pipeline, loaded=loaded).run_requests
    assert _named(_requests(pipeline)) == {("evaluate_variant", "small/tfidf")}


def test_a_removed_workbook_is_read_again_without_it(pipeline: PipelineResource) -> None:
    folder = Path(pipeline.data) / "small"
    write_workbook(folder / "second.xlsx", make_rows()[:3])
    _stand_in(pipeline)
    (folder / "second.xlsx").unlink()
    assert _named(_requests(pipeline)) == {("read_workbooks", "small")}


def test_a_tick_that_starts_nothing_says_what_waits_and_for_which_setting(pipeline: PipelineResource) -> None:
    edit_dataset(Path(pipeline.data) / "small", automation="cheap")
    _stand_in(pipeline)
    edit_yaml(Path(pipeline.data) / "recipes" / "tuned.yaml", "training", epochs=9)
    tick = _tick(pipeline)
    assert not tick.run_requests and "finetune_variant small/tuned waits for you: automation: cheap in " in str(
        tick.skip_message
    )


def test_a_file_that_is_still_copied_starts_no_run_and_the_tick_names_it(pipeline: PipelineResource) -> None:
    _stand_in(pipeline)
    settle(Path(pipeline.data))
    loaded, added = build_definitions(pipeline), Path(pipeline.data) / "small" / "second.xlsx"
    write_workbook(added, make_rows()[:3])
    just_after = added.stat().st_mtime + SETTLE_SECONDS - 1  # a busy machine may be slow to come to the look
    os.utime(added, (just_after, just_after))
    tick = _tick(pipeline, loaded=loaded, arrived=False)
    assert not tick.run_requests and "waits for second.xlsx: written to within" in str(tick.skip_message)
    assert _named(_requests(pipeline)) == {("read_workbooks", "small")}


def test_what_is_read_while_somebody_writes_is_what_was_digested_or_an_error_that_names_the_file(
    pipeline: PipelineResource,
) -> None:
    labels, stop = Path(pipeline.data) / "small" / "labels.txt", threading.Event()

    def write() -> None:
        with labels.open("ab", buffering=0) as file:
            for _ in range(100_000):  # an end, whatever becomes of the test
                if stop.wait(0.0005):
                    return
                file.write(b"# still writing\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        job = build_definitions(pipeline).resolve_job_def("read_workbooks")
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(instance=instance, partition_key="small", raise_on_error=False)
    finally:
        stop.set()
        writer.join()
    if result.success:
        store = pipeline.graph().store
        made = store.read("raw_xlsx", "small")
        assert made is not None
        digest = hashlib.sha256((store.open(made) / "labels.txt").read_bytes()).hexdigest()
        assert dict(made.settings["files"])["labels.txt"] == digest
    else:
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        assert "labels.txt: changed while it was read" in str(failure.step_failure_data.error)
    assert ("read_workbooks", "small") in _named(_requests(pipeline))  # what came after is read by the next tick


def test_every_night_is_one_run_of_reevaluate_that_is_named_after_its_time(pipeline: PipelineResource) -> None:
    definitions, names = build_definitions(pipeline), set()
    schedule = definitions.resolve_schedule_def("nightly_reevaluation")
    assert schedule.job_name == "reevaluate"
    for hour in (2, 3):  # one that comes every hour must not take the second for the first again
        at = datetime(2026, 1, 2, hour, 0)
        context = dg.build_schedule_context(
            scheduled_execution_time=at, repository_def=definitions.get_repository_def()
        )
        (request,) = schedule.evaluate_tick(context).run_requests or []
        assert request.tags[NIGHTLY_TAG] == request.run_key == f"2026-01-02 0{hour}:00"
        names.add(request.run_key)
    assert len(names) == 2


def test_the_night_begins_when_and_where_the_environment_says(pipeline: PipelineResource) -> None:
    fields = {"data": pipeline.data, "home": pipeline.home, "nightly_cron": "30 4 * * 1", "time_zone": "Asia/Shanghai"}
    schedule = build_definitions(PipelineResource(**fields)).resolve_schedule_def("nightly_reevaluation")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 4 * * 1", "Asia/Shanghai")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"time_zone": "Mars/Base"}, "TIME_ZONE='Mars/Base'"), ({"nightly_cron": "at two"}, "NIGHTLY_CRON='at two'")],
)
def test_a_time_that_is_none_is_refused_with_its_variable(
    pipeline: PipelineResource, wrong: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_definitions(PipelineResource(data=pipeline.data, home=pipeline.home, **wrong))


def test_a_team_waits_for_its_own_runs_and_never_for_those_of_another_team(pipeline: PipelineResource) -> None:
    ours, theirs = (_of_team(pipeline, team) for team in ("underwriting", "claims"))
    with dg.DagsterInstance.ephemeral() as instance:
        started = dg.DagsterRunStatus.STARTED
        job = build_definitions(theirs).resolve_job_def("evaluate_variant")
        instance.create_run_for_job(job, status=started, tags=job.run_tags)
        assert _tick(theirs, instance).skip_message
        assert _named(_tick(ours, instance).run_requests or []) == {("read_workbooks", "small")}


def test_a_night_of_a_team_carries_its_tag(pipeline: PipelineResource) -> None:
    ours = _of_team(pipeline, "underwriting")
    assert build_definitions(ours).resolve_job_def("reevaluate").run_tags[TEAM_TAG] == "underwriting"


def test_a_teams_assets_and_checks_are_the_same_graph_under_its_keys(pipeline: PipelineResource) -> None:
    alone, ours = (
        build_definitions(one).resolve_asset_graph() for one in (pipeline, _of_team(pipeline, "underwriting"))
    )
    for key in alone.get_all_asset_keys():
        node, other = alone.get(key), ours.get(key.with_prefix("underwriting"))
        assert {parent.with_prefix("underwriting") for parent in node.parent_keys} == other.parent_keys
        assert {check.name for check in node.check_keys} == {check.name for check in other.check_keys}
    assert len(ours.get_all_asset_keys()) == len(alone.get_all_asset_keys())


def test_a_team_whose_name_cannot_be_in_a_key_is_refused(pipeline: PipelineResource) -> None:
    with pytest.raises(ValueError, match=r"EMBED_PIPELINE_TEAM: expected a letter.*found 'under/writing'"):
        build_definitions(_of_team(pipeline, "under/writing"))


def _of_team(pipeline: PipelineResource, team: str) -> PipelineResource:
    return PipelineResource(data=pipeline.data, home=pipeline.home, team=team)


def test_training_waits_its_turn_in_the_gpu_pool(pipeline: PipelineResource) -> None:
    assets = build_definitions(pipeline).resolve_asset_graph()
    assert assets.get(dg.AssetKey("finetuned_checkpoint")).pools == {"gpu"}
    assert Node("finetuned_checkpoint", "small/tuned") in set(pipeline.graph().nodes())
