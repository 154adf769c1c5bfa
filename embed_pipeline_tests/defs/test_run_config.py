"""Who may launch a run does not thereby choose where the server reads and writes."""

import os
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource, check_named_places, pipeline_from_environment
from embed_pipeline_tests.small_project import edit_dataset, write_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    edit_dataset(write_project(root) / "small", variants=["bm25"])
    for name in [name for name in os.environ if name.startswith("EMBED_PIPELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(root)
    return root


def _run(config: Mapping[str, object], resource: str = "pipeline") -> dg.ExecuteInProcessResult:
    job = build_definitions(pipeline_from_environment()).resolve_job_def("read_workbooks")
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            instance=instance,
            partition_key="small",
            run_config={"resources": {resource: {"config": dict(config)}}},
            raise_on_error=False,
        )


def _message(result: dg.ExecuteInProcessResult) -> str:
    errors = [event.event_specific_data.error for event in result.all_events if event.is_failure]  # type: ignore[union-attr]
    return str(errors[0])


def test_a_run_may_name_places_inside_the_project(project: Path) -> None:
    assert _run({"home": "other/home", "artifacts": "other/artifacts"}).success
    assert (project / "other" / "artifacts").is_dir()


@pytest.mark.parametrize("field", ["data", "home", "artifacts", "linked_folders"])
@pytest.mark.parametrize("place", ["{outside}", "../outside", "data/../../outside", "link/inside"])
def test_a_run_may_name_no_place_outside_it(project: Path, field: str, place: str) -> None:
    outside = project.parent / "outside"
    outside.mkdir()
    (project / "link").symlink_to(outside)
    result = _run({field: place.replace("{outside}", str(outside))})
    assert not result.success
    assert f"run config, resources.pipeline.config.{field}: expected a folder inside" in _message(result)
    assert list(outside.iterdir()) == [] and not (project / ".embed_pipeline").exists()


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "file:///etc", "file:/etc", "memory://x", "simplecache::file:///etc", "~"]
)
def test_a_run_may_name_no_other_store(project: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"pipeline\.config\.artifacts: .*EMBED_PIPELINE_ARTIFACTS"):
        check_named_places({"artifacts": url}, pipeline_from_environment())


def test_a_variable_of_the_server_is_no_place_and_its_value_is_not_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    result = _run({"data": {"env": "SOME_KEY"}})
    assert not result.success
    assert "pipeline.config.data" in _message(result) and "sk-secret" not in _message(result)


def test_what_the_server_is_set_to_may_be_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = project.parent / "outside"
    monkeypatch.setenv("EMBED_PIPELINE_LINKED_FOLDERS", str(outside))
    monkeypatch.setenv("EMBED_PIPELINE_ARTIFACTS", "s3://bucket/x")
    own = PipelineResource.model_validate({"artifacts": "s3://bucket/x", "linked_folders": str(outside)})
    check_named_places({"artifacts": "s3://bucket/x", "home": str(outside / "home")}, own)
    assert _run({"artifacts": str(outside / "store"), "linked_folders": str(outside)}).success


def test_a_folder_named_for_pickles_is_never_written(project: Path) -> None:
    assert _run({"base_dir": str(project.parent / "pickles")}, "io_manager").success
    assert not (project.parent / "pickles").exists()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("EMBED_PIPELINE_DEVICE", "tpu", "EMBED_PIPELINE_DEVICE: expected 'cpu' or 'cuda', found 'tpu'. Correct or"),
        ("EMBED_PIPELINE_PROCESSES", "0", "EMBED_PIPELINE_PROCESSES: expected greater than or equal to 1, found '0'."),
    ],
)
def test_a_wrong_variable_is_named_with_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError) as error:
        pipeline_from_environment()
    assert str(error.value).startswith(told)
