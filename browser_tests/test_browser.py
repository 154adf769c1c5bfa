"""One walk through the real UI, station by station; each test goes on where the one before it stopped.

The browser shows and clicks, GraphQL and the command line are the second witness.
"""

import re

import pytest
from playwright.sync_api import expect

from browser_tests.project import VARIANTS, drop_workbook, spoil_documents
from browser_tests.server import DevServer, PartitionCounts
from browser_tests.ui import LOCATION, Ui
from embed_pipeline.definitions import STAGES
from embed_pipeline.graph.catalogue import ASSETS

TOLD_OF_ALL = {"cached", "digest", "build_seconds", "build_cost_usd", "contents", "inputs", "settings", "fingerprint"}
SMALL = ("words", "tuned", "merged", "adapted", "reranked", "weighed")
STALE_SENSOR, NIGHT = "stale_partitions", "nightly_reevaluation"
TOUCHED = {
    *("raw_xlsx[small]", "cleaned_qa[small]", "mined_negatives[small/tuned]", "finetuned_checkpoint[small/tuned]"),
    *("word_vectors[small/words]", "merged_checkpoint[small/merged]", "adapter[small/adapted]"),
    *("reranker_checkpoint[small/reranked]", "hybrid_weights[small/weighed]", "promoted_checkpoint[small]"),
    *("exported_model[small/tuned]", "vector_store[small/tuned]"),
    *(
        f"{asset}[small/{variant}]"
        for variant in SMALL
        for asset in ("faiss_index", "query_metrics", "general_metrics")
    ),
    *("metrics_table[all]", "report[all]"),
}
"""What stands on the workbooks of `small`, written down by hand."""
SPOILED = {
    *(f"{asset}[help]" for asset in ("raw_documents", "passages", "synthetic_qa", "cleaned_qa")),
    *("faiss_index[help/bm25]", "query_metrics[help/bm25]"),
}
"""What stands on the documents of `help`, the published assets aside."""


def test_the_lineage_shows_every_asset_in_the_group_of_its_stage(ui: Ui) -> None:
    graph = ui.open_lineage()
    for stage in STAGES:
        expect(ui.visible(stage.__name__.rpartition(".")[2]).first).to_be_visible()
    for asset in ASSETS:
        shown = re.compile(f"^{asset[:3]}.*{asset[-3:]}$")  # a long name is shortened in the middle
        expect(graph.get_by_text(shown)).not_to_have_count(0)
    ui.shoot("lineage")


def test_materialize_all_makes_every_asset_green(ui: Ui, server: DevServer) -> None:
    assert {counts.materialized for counts in server.partition_counts().values() if counts} == {0}
    ui.launch_backfill()
    ui.open("/runs")
    expect(ui.visible("Backfill").first).to_be_visible()
    ui.shoot("backfill_started")
    server.wait_for(lambda: _backfills_ended(server), "the backfill")
    assert {run["status"] for run in server.runs()} == {"SUCCESS"}
    for asset, counts in server.partition_counts().items():
        assert counts is None or counts == PartitionCounts(counts.all, counts.all, 0, 0) != PartitionCounts(
            0, 0, 0, 0
        ), asset
    assert set(server.states().values()) == {"fresh"}
    ui.open("/assets")
    for asset in ASSETS:
        expect(ui.visible(asset)).to_be_visible()
    partitioned = sum(counts is not None for counts in server.partition_counts().values())
    expect(ui.visible("All")).to_have_count(partitioned)  # all partitions are there
    expect(ui.visible("Materialized")).to_have_count(len(ASSETS) - partitioned)
    ui.shoot("catalog_green")
    ui.open_lineage()
    ui.shoot("lineage_green")


def test_every_materialisation_says_what_is_in_it_and_what_it_cost(server: DevServer) -> None:
    told = server.metadata()
    assert set(told) == set(ASSETS)
    for asset, entries in told.items():
        expected = TOLD_OF_ALL - ({"contents"} if asset == "metrics_table" else set())
        assert expected <= set(entries), asset
        assert "dagster/row_count" in entries or "steps" in entries, asset
        assert "TableMetadataEntry" in entries.values(), asset


def test_the_loss_curve_opens_as_a_picture(ui: Ui) -> None:
    ui.open_asset("finetuned_checkpoint")
    expect(ui.row("last_steps")).to_contain_text("learning_rate")
    ui.shoot("finetuned_checkpoint")
    picture = ui.open_picture("curves")
    expect(picture).to_have_attribute("alt", "the course of the training")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 400")
    ui.shoot("loss_curve")
    ui.close()


def test_the_metrics_table_shows_every_variant_with_its_verdict(ui: Ui) -> None:
    ui.open_asset("metrics_table")
    table = ui.row("headline")
    for variant in VARIANTS:
        expect(table).to_contain_text(variant.partition("/")[2])
    expect(table).to_contain_text("baseline")
    ui.shoot("metrics_table")
    picture = ui.open_picture("plot_small")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 400")
    ui.shoot("metrics_plot")
    ui.close()
    for asset in ("cleaned_qa", "mined_negatives", "query_metrics", "synthetic_qa"):
        ui.open_asset(asset)
        expect(ui.row("digest")).to_be_visible()
        ui.shoot(asset)


def test_a_check_shows_figure_limit_and_remedy(ui: Ui) -> None:
    ui.open_asset("cleaned_qa", "checks")
    ui.visible("few_rows_are_rejected").first.click()
    for word in ("share_rejected", "limit", "remedy"):
        expect(ui.visible(word).first).to_be_visible()
    ui.shoot("check")


def test_a_backfill_over_all_variants_runs_from_the_ui_and_builds_nothing_again(ui: Ui, server: DevServer) -> None:
    before = {run["id"] for run in server.runs()}
    ui.open(f"{LOCATION}/jobs/evaluate_variant")
    ui.launch_backfill()
    server.wait_for(lambda: _backfills_ended(server), "the backfill of the variants")
    new = [run for run in server.runs() if run["id"] not in before]
    assert {run["tags"]["dagster/partition"] for run in new} == set(VARIANTS)
    assert {run["status"] for run in new} == {"SUCCESS"}
    ui.open_asset("query_metrics")
    expect(ui.row("cached")).to_contain_text("true")
    ui.shoot("variants_backfilled")


def test_the_nightly_schedule_ticks_once_it_is_switched_on(ui: Ui, server: DevServer) -> None:
    assert server.ticks(NIGHT) == []
    ui.switch(f"schedules/{NIGHT}", on=True)
    server.wait_for(lambda: any(tick["runIds"] for tick in server.ticks(NIGHT)), "a tick of the schedule")
    ui.switch(f"schedules/{NIGHT}", on=False)
    server.wait_for(lambda: not server.unfinished(), "the night")
    launched = {run for tick in server.ticks(NIGHT) for run in tick["runIds"]}
    night = [run for run in server.runs() if run["tags"].get("dagster/schedule_name") == NIGHT]
    assert launched == {run["id"] for run in night} != set()
    assert {run["status"] for run in night} == {"SUCCESS"}
    ui.open(f"{LOCATION}/schedules/{NIGHT}")
    expect(ui.page.get_by_text("Every minute").first).to_be_visible()
    expect(ui.page.get_by_text(re.compile("^[0-9]+ runs? requested$")).first).to_be_visible()
    ui.shoot("night")


def test_a_dropped_workbook_makes_exactly_what_stands_on_it_stale(server: DevServer) -> None:
    assert _not_fresh(server) <= {"report[all]"}  # the night appended to the history that a report draws
    drop_workbook(server.root)
    assert _not_fresh(server) == TOUCHED


def test_spoiled_documents_concern_their_own_data_set(server: DevServer) -> None:
    spoil_documents(server.root)
    assert _not_fresh(server) == TOUCHED | SPOILED


def test_the_sensor_makes_what_was_touched_fresh_and_leaves_the_rest_alone(ui: Ui, server: DevServer) -> None:
    ui.switch(f"sensors/{STALE_SENSOR}", on=True)
    ui.shoot("sensor_on")
    server.wait_for(lambda: _followed(server), "the sensor to find nothing to do any more")
    ui.switch(f"sensors/{STALE_SENSOR}", on=False)
    ui.shoot("sensor_ticked")
    assert _not_fresh(server) & TOUCHED == set()
    asked = [run for run in server.runs() if run["tags"].get("dagster/sensor_name") == STALE_SENSOR]
    partitions = {run["tags"].get("dagster/partition") for run in asked}
    assert partitions == {"small", *(f"small/{name}" for name in SMALL), "help", None}
    ui.open_asset("finetuned_checkpoint")
    expect(ui.row("cached")).to_contain_text("false")
    ui.shoot("trained_again")


def test_a_failed_blocking_check_is_red_and_stops_its_downstream(ui: Ui, server: DevServer) -> None:
    runs = [run for run in server.runs() if run["tags"].get("dagster/partition", "").startswith("help")]
    since = runs[: [run["status"] for run in runs].index("FAILURE") + 1]
    assert [(run["jobName"], run["status"]) for run in since] == [("synthesise_questions", "FAILURE")]
    states = server.states()
    assert {states[name] for name in ("cleaned_qa[help]", "faiss_index[help/bm25]")} <= {"failed", "waiting"}
    assert "every_split_has_questions" in server.type("status")
    ui.open_asset("synthetic_qa", "checks")
    ui.visible("every_split_has_questions").first.click()
    expect(ui.page.get_by_text("Failed").first).to_be_visible()
    ui.shoot("failed_check")
    ui.open("/runs")
    expect(ui.page.get_by_text("Failure").first).to_be_visible()
    ui.shoot("runs_red")
    ui.open_lineage()
    ui.shoot("lineage_red")


def _not_fresh(server: DevServer) -> set[str]:
    states = server.states()
    assert len(states) > 20
    return {name for name, state in states.items() if state != "fresh"}


def _backfills_ended(server: DevServer) -> bool:
    query = "{ partitionBackfillsOrError(limit: 9) { ... on PartitionBackfills { results { status } } } }"
    found = server.ask(query)["partitionBackfillsOrError"]["results"]
    return bool(found) and {one["status"] for one in found} <= {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED"}


def _followed(server: DevServer) -> bool:
    """The newest tick looked while nothing ran, waited for no file that had just been written, and asked for no run."""
    ticks = server.ticks(STALE_SENSOR)
    reason = (ticks[0]["skipReason"] or "") if ticks else ""
    return bool(ticks) and ticks[0]["status"] == "SKIPPED" and "fresh" in reason and "written to" not in reason


@pytest.fixture(autouse=True)
def _show_where_it_stopped(ui: Ui, request: pytest.FixtureRequest):
    """A last screenshot of a station that failed."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        ui.shoot(f"stopped_{request.node.name}")
