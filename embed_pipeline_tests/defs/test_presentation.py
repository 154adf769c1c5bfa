"""What a reader of the UI is told: nothing in the graph is without its words."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.artifacts import Manifest
from embed_pipeline.artifacts.digests import JSON
from embed_pipeline.definitions import STAGES, defs
from embed_pipeline.defs.assets.publishing import materialized, table
from embed_pipeline.defs.checks import CheckOutcome, results
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.encoding.usage import spent_usd
from embed_pipeline.graph.catalogue import ASSETS
from embed_pipeline.progress import Progress, Reading, Tally, format_seconds, read_progress

GRAPH = defs.resolve_asset_graph()
REPOSITORY = defs.get_repository_def()
KEYS = sorted(GRAPH.get_all_asset_keys(), key=str)
CHECKS = [spec for key in KEYS for spec in GRAPH.get(key).assets_def.check_specs]


def _specs() -> Iterator[dg.AssetSpec]:
    for key in KEYS:
        yield GRAPH.get(key).assets_def.get_asset_spec(key)


@pytest.mark.parametrize("spec", _specs(), ids=lambda spec: spec.key.to_user_string())
def test_an_asset_says_its_grain_owner_kind_place_and_what_it_costs(spec: dg.AssetSpec) -> None:
    assert spec.description and spec.description.split("\n")[0].endswith(".")
    assert spec.owners and spec.kinds
    assert spec.group_name in {stage.__name__.rpartition(".")[2] for stage in STAGES}
    assert spec.tags["grain"] in ("data_set", "variant", "project")
    assert spec.tags["cost"] in ("cheap", "gpu", "may_be_paid")
    assert spec.code_version == ASSETS[spec.key.to_user_string()].version


@pytest.mark.parametrize("spec", _specs(), ids=lambda spec: spec.key.to_user_string())
def test_the_grain_in_the_tags_is_that_of_the_partitions(spec: dg.AssetSpec) -> None:
    if spec.partitions_def is None:
        assert spec.tags["grain"] == "project"
    else:  # the shipped data have no partition of some assets
        grains = {"variant" if "/" in key else "data_set" for key in spec.partitions_def.get_partition_keys()}
        assert spec.tags["grain"] in (grains or {"variant", "data_set"})


def test_the_pool_of_the_gpu_and_the_tag_of_the_gpu_are_on_the_same_assets() -> None:
    tagged = {spec.key for spec in _specs() if spec.tags["cost"] == "gpu"}
    pooled = {key for key in KEYS if GRAPH.get(key).pools == {"gpu"}}
    assert tagged == pooled != set()


def test_a_check_has_a_result_of_its_own_for_each_partition_of_its_asset() -> None:
    assert [spec.name for spec in CHECKS if spec.partitions_def != GRAPH.get(spec.asset_key).partitions_def] == []


def test_every_check_job_sensor_schedule_and_setting_is_described() -> None:
    told = {f"check {spec.name}": spec.description for spec in CHECKS}
    told |= {f"job {job.name}": job.description for job in REPOSITORY.get_all_jobs() if not job.name.startswith("__")}
    told |= {f"sensor {sensor.name}": sensor.description for sensor in REPOSITORY.sensor_defs}
    told |= {f"schedule {schedule.name}": schedule.description for schedule in REPOSITORY.schedule_defs}
    told |= {f"setting {name}": field.description for name, field in PipelineResource.model_fields.items()}
    assert len(CHECKS) > 10 and len(told) > len(CHECKS) + 10
    assert [name for name, words in told.items() if not words] == []


def test_the_launchpad_shows_the_description_of_every_setting_and_refuses_a_value_that_is_none() -> None:
    job = defs.resolve_job_def("evaluate_variant")
    config = job.resource_defs["pipeline"].config_schema.config_type
    fields = config.fields  # type: ignore[union-attr]
    assert set(fields) == set(PipelineResource.model_fields)
    assert [name for name, field in fields.items() if not field.description] == []
    wrong = {"resources": {"pipeline": {"config": {"device": "gpu"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match="device"):
        dg.validate_run_config(job, wrong)


def _manifest(**details: JSON) -> Manifest:
    return Manifest(
        asset="cleaned_qa",
        partition="small",
        digest="d" * 64,
        fingerprint="f" * 64,
        code_version="1",
        settings={"seed": 1},
        inputs={},
        parent=None,
        cached=True,
        seconds=1.234,
        built_at="2026-01-01T00:00:00+00:00",
        run_id="run",
        git_commit=None,
        packages={},
        details=details,
    )


def test_what_a_reader_looks_for_first_stands_before_tables_and_these_before_the_evidence() -> None:
    made = materialized(_manifest(queries=7), rows=7, metadata={"samples": table([{"query": "q"}])})
    names = list(made.metadata or {})
    first = ["dagster/row_count", "cached", "digest", "build_seconds", "build_cost_usd", "queries", "samples"]
    assert names[: len(first)] == first
    assert names[len(first) :] == ["built_at", "inputs", "settings", "fingerprint", "git_commit"]
    assert (made.metadata or {})["dagster/row_count"] == 7


def test_an_artifact_from_the_store_shows_what_its_build_cost() -> None:
    assert (materialized(_manifest(cost_usd=0.25), rows=1).metadata or {})["build_cost_usd"] == 0.25
    assert (materialized(_manifest(), rows=1).metadata or {})["build_cost_usd"] == 0.0


def test_a_failed_check_says_what_to_do_where_it_is_seen_first() -> None:
    outcome = CheckOutcome(
        name="splits_share_no_query", passed=False, blocking=True, figures={"leaks": 2, "limit": 0}, remedy="Look."
    )
    spec = dg.AssetCheckSpec("splits_share_no_query", asset="cleaned_qa")
    (failed,) = results([outcome], [spec])
    (passed,) = results([outcome.model_copy(update={"passed": True})], [spec])
    assert failed.description == "leaks: 2; limit: 0. Look."
    assert passed.description == "leaks: 2; limit: 0"
    assert failed.severity == dg.AssetCheckSeverity.ERROR


def test_an_artifact_of_a_version_with_other_checks_is_shown_with_those_of_today() -> None:
    gone = CheckOutcome(name="a_check_of_yesterday", passed=False, blocking=True, figures={}, remedy="")
    (result,) = results([gone], [dg.AssetCheckSpec("a_check_of_today", asset="cleaned_qa")])
    assert result.check_name == "a_check_of_today" and result.passed
    assert "did not have this check" in (result.description or "")


def _told(steps: Iterable[tuple[float, int, int]]) -> list[str]:
    """What is said when `done` of `total` is reached at the given seconds."""
    told: list[str] = []
    now = 0.0
    progress = Progress(told.append, "encoded", "texts", clock=lambda: now)
    for now, done, total in steps:  # noqa: B007, the clock reads it
        progress(done, total)
    return told


def test_progress_says_share_rate_and_the_time_left_at_that_rate() -> None:
    assert _told([(0.0, 100, 1000), (10.0, 200, 1000), (20.0, 300, 1000), (90.0, 1000, 1000)]) == [
        "encoded 100 of 1000 texts (10%)",
        "encoded 200 of 1000 texts (20%), 10 texts/s, 1 min 20 s left",
        "encoded 300 of 1000 texts (30%), 10 texts/s, 1 min 10 s left",
        "encoded 1000 of 1000 texts (100%), 10 texts/s",
    ]


def test_progress_says_nothing_between_hundredths_unless_half_a_minute_has_passed() -> None:
    assert len(_told([(float(second), second, 10_000) for second in range(100)])) == 4


def test_progress_of_a_brisk_step_is_said_every_two_seconds_and_at_its_end() -> None:
    told = _told([(at / 10, at * 10, 1000) for at in range(101)])
    assert [line.partition(" of ")[0] for line in told] == [f"encoded {done}" for done in (0, 200, 400, 600, 800, 1000)]


def test_no_time_left_is_foreseen_from_the_first_seconds() -> None:
    told = _told([(0.0, 1, 1000), (3.0, 31, 1000), (6.0, 61, 1000)])
    assert [line.partition("texts")[2] for line in told] == [
        " (0%)",
        " (3%), 10 texts/s",
        " (6%), 10 texts/s, 1 min 34 s left",
    ]


def test_a_line_of_progress_is_read_back_as_it_was_meant() -> None:
    lines: list[str] = []
    progress = Progress(lines.append, "trained", "steps", clock=iter([0.0, 10.0]).__next__)
    progress(10, 120)
    progress(30, 120, "loss 0.12, learning rate 1.0e-05")
    assert read_progress(lines[0]) == Reading("trained", 10, 120, "", "")
    assert read_progress(lines[1]) == Reading(
        "trained", 30, 120, "2 steps/s, 45 s left", "loss 0.12, learning rate 1.0e-05"
    )
    assert read_progress("cleaned_qa[small] built in 0.3 s: digest a, because: 3 of 4 files (75%) changed!") is None


def test_progress_starts_anew_with_the_next_thing_that_is_encoded() -> None:
    told = _told([(0.0, 5, 10), (1.0, 10, 10), (50.0, 1, 100), (60.0, 11, 100)])
    assert told[2:] == ["encoded 1 of 100 texts (1%)", "encoded 11 of 100 texts (11%), 1 texts/s, 1 min 29 s left"]


def test_a_tally_says_how_many_and_how_fast_at_every_so_many_things() -> None:
    told: list[str] = []
    now = 0.0
    tally = Tally(told.append, "read", "rows", 100, clock=lambda: now)
    for done in range(0, 251, 50):
        now = done / 25
        tally(done)
    assert told == ["read 100 rows, 25 rows/s", "read 200 rows, 25 rows/s"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")]
)
def test_a_duration_reads_as_one_would_say_it(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


def test_what_was_paid_is_the_sum_of_the_answered_lines_of_every_log(tmp_path: Path) -> None:
    lines = [
        {"event": "reserved", "id": "a", "cost_usd": 9.0},
        {"event": "answered", "reservation": "a", "cost_usd": 0.25},
        {"event": "released", "reservation": "b"},
    ]
    written = "".join(json.dumps(line) + "\n" for line in lines)
    for folder in ("usage", "chat"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.jsonl").write_text(written + '{"event": "answ')  # cut off while it is written
    assert spent_usd(tmp_path / "usage", tmp_path / "chat") == 0.5
    assert spent_usd(tmp_path / "nothing") == 0.0
