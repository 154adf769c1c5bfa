"""What runs by itself: exactly what a change made stale, once; every variant at night."""

from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.graph import Node
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline_tests.small_project import edit_yaml, write_project


@pytest.fixture
def pipeline(tmp_path: Path) -> PipelineResource:
    write_project(tmp_path)
    return PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home"))


def _stand_in(pipeline: PipelineResource, *assets: str) -> None:
    """Builds stand-in artifacts for the named assets, all of them if none is named."""
    graph = pipeline.graph()
    for node in graph.nodes():
        if not assets or node.asset in assets:
            graph.store.build(graph.plan(node), lambda out: (out / "stand_in").write_text("x") and {})


def _requests(pipeline: PipelineResource) -> list[dg.RunRequest]:
    definitions = build_definitions(pipeline)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, resources={"pipeline": pipeline}, repository_def=definitions.get_repository_def()
        )
        return list(definitions.resolve_sensor_def("stale_partitions").evaluate_tick(context).run_requests or [])


def _named(requests: list[dg.RunRequest]) -> set[tuple[str | None, str | None]]:
    return {(request.job_name, request.partition_key) for request in requests}


def test_a_fresh_project_asks_for_nothing(pipeline: PipelineResource) -> None:
    _stand_in(pipeline)
    assert _requests(pipeline) == []


def test_new_data_is_prepared_before_anything_else(pipeline: PipelineResource) -> None:
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


def test_a_changed_recipe_asks_for_its_own_variant_alone(pipeline: PipelineResource) -> None:
    _stand_in(pipeline)
    edit_yaml(Path(pipeline.data) / "recipes" / "tuned.yaml", "training", epochs=9)
    assert _named(_requests(pipeline)) == {("finetune_variant", "small/tuned")}


def test_the_same_state_has_the_same_run_key_and_going_back_has_another(pipeline: PipelineResource) -> None:
    recipe = Path(pipeline.data) / "recipes" / "tuned.yaml"
    _stand_in(pipeline)
    edit_yaml(recipe, "training", epochs=9)
    keys = {request.run_key for _ in range(2) for request in _requests(pipeline)}
    assert len(keys) == 1
    _stand_in(pipeline)
    edit_yaml(recipe, "training", epochs=2)
    edit_yaml(recipe, "training", seed=5)
    (request,) = _requests(pipeline)
    assert request.run_key not in keys


def test_every_variant_is_evaluated_at_night(pipeline: PipelineResource) -> None:
    definitions = build_definitions(pipeline)
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 1, 2, 2, 0), repository_def=definitions.get_repository_def()
    )
    requests = definitions.resolve_schedule_def("nightly_reevaluation").evaluate_tick(context).run_requests or []
    assert {request.partition_key for request in requests} == {"small/bm25", "small/base", "small/tuned"}
    assert {request.run_key for request in requests} == {f"2026-01-02 {r.partition_key}" for r in requests}


def test_training_waits_its_turn_in_the_gpu_pool(pipeline: PipelineResource) -> None:
    assets = build_definitions(pipeline).resolve_asset_graph()
    assert assets.get(dg.AssetKey("finetuned_checkpoint")).pools == {"gpu"}
    assert Node("finetuned_checkpoint", "small/tuned") in set(pipeline.graph().nodes())
