"""Every kind of variant on one graph: what the table and the reports then hold, and what each change runs again."""

import json
import shutil
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.checks import outcomes_of
from embed_pipeline.defs.reproduction import reproduce
from embed_pipeline.evaluation.measuring import read_calibration, read_returned, read_scores
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.lineage import describe_lineage
from embed_pipeline.reporting.database import read_history, read_newest
from embed_pipeline.reporting.metrics_table import ALL_QUERIES, BASE_MODEL, MetricRow
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_yaml, write_yaml

VARIANTS = ("bm25", "tfidf", "words", "base", "tuned", "fused")


@pytest.fixture
def project(finished: PipelineProject, tmp_path: Path) -> PipelineProject:
    """A copy of the finished project that a test may change."""
    root = tmp_path / "project"
    shutil.copytree(finished.root, root)
    return PipelineProject(root)


def _rows(project: PipelineProject, dataset: str = "small") -> tuple[MetricRow, ...]:
    return read_newest(project.root / "home" / "metrics.duckdb", dataset=dataset)


def _headline(project: PipelineProject) -> dict[str, MetricRow]:
    return {row.variant: row for row in _rows(project) if row.covers_own_queries and str(row.at) == "precise@5"}


def test_every_kind_of_variant_has_a_row_with_comparison_cost_and_latency(finished: PipelineProject) -> None:
    rows = _headline(finished)
    assert set(rows) == set(VARIANTS)
    for name, row in rows.items():
        assert (row.verdict is None) == (name == "bm25")
        assert row.p_adjusted is None or row.p_value is None or row.p_adjusted >= row.p_value
        assert row.cost_usd == 0 and row.latency_p50_ms and row.latency_p95_ms
        assert (row.dimension is None) == (name in ("bm25", "tfidf"))
    assert rows["tuned"].checkpoint_digest == rows["fused"].checkpoint_digest is not None
    assert rows["base"].max_length == 48 and rows["words"].dimension == 16


def test_the_word_vectors_know_no_test_question(finished: PipelineProject) -> None:
    details = finished.manifest("word_vectors", "small/words").details
    queries = [query for query in finished.queries() if query.split == "train"]
    assert details["texts"] == len(queries) + 8


def test_slices_cover_the_queries_and_a_column_of_the_workbook_is_one(finished: PipelineProject) -> None:
    rows = [row for row in _rows(finished) if row.variant == "bm25" and str(row.at) == "precise@5"]
    whole = next(row for row in rows if row.slice == ALL_QUERIES)
    names = {row.slice.partition(": ")[0] for row in rows} - {ALL_QUERIES}
    assert {"labels", "length", "Channel", "train frequency"} >= names >= {"labels", "length", "Channel"}
    for name in names:
        parts = [row for row in rows if row.slice.startswith(f"{name}: ")]
        assert sum(part.queries for part in parts) == whole.queries
        mean = sum(part.value * part.queries for part in parts) / whole.queries
        assert mean == pytest.approx(whole.value)


def test_forgetting_is_the_difference_to_the_base_model_and_only_what_trained_can_forget(
    finished: PipelineProject,
) -> None:
    rows = {row.variant: row for row in _rows(finished) if row.measured_on == "general" and str(row.at) == "ndcg@10"}
    assert set(rows) == set(VARIANTS)
    assert rows["tuned"].baseline == BASE_MODEL
    assert rows["tuned"].difference == pytest.approx(rows["tuned"].value - rows["base"].value)
    assert rows["fused"].baseline == BASE_MODEL
    assert all(rows[name].difference is None for name in ("bm25", "tfidf", "words", "base"))


def test_languages_are_measured_pair_by_pair(finished: PipelineProject) -> None:
    rows = [row for row in _rows(finished, "bilingual") if row.slice.startswith("question ")]
    pairs = {f"question {a} → passage {b}" for a in ("en", "zh") for b in ("en", "zh")}
    assert {row.slice for row in rows} == pairs and {str(row.at) for row in rows} == {"mrr@10"}
    assert {row.queries for row in rows} == {16} and {row.ceiling for row in rows} == {1.0}


def test_scores_and_threshold_are_kept_beside_the_measures(finished: PipelineProject) -> None:
    folder = finished.graph.store.open(finished.manifest("query_metrics", "small/tuned"))
    calibration, scores = read_calibration(folder), read_scores(folder)
    assert calibration is not None and calibration.wanted_precision == 0.6
    assert calibration.test_queries == sum(query.split == "test" for query in finished.queries())
    assert scores is not None and sum(scores.positives) > 0
    returned = read_returned(folder)
    assert returned is not None and returned.test_queries == calibration.test_queries
    assert 1 <= returned.test.returned <= returned.rule.at_most and returned.test.f1_low <= returned.test.f1_high
    only_test = finished.graph.store.open(finished.manifest("query_metrics", "general/bm25"))
    assert read_calibration(only_test) is None and read_returned(only_test) is None


def test_every_data_set_has_its_report(finished: PipelineProject) -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (finished.root / "home" / "reports").glob("*")}
    assert set(pages) == {"small", "general", "bilingual"}
    assert all(name in pages["small"] for name in VARIANTS)
    assert "http://" not in pages["small"].replace("http://www.w3.org", "") and "https://" not in pages["small"]


def test_another_loss_limit_measures_the_suite_again_and_encodes_nothing(project: PipelineProject) -> None:
    path, vectors = project.root / "data" / "small" / "dataset.yaml", project.vectors()
    write_yaml(path, yaml.safe_load(path.read_text(encoding="utf-8")) | {"general_loss_limit": 0.5})
    assert project.run() == [f"measure_general_suite small/{name}" for name in VARIANTS]
    assert project.vectors() == vectors


@pytest.mark.slow
def test_a_new_setting_of_the_fused_part_reaches_the_fused_variant(project: PipelineProject) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=1e-3)
    ran = project.run()
    assert ran[0] == "finetune_variant small/tuned" and ran[-1] == f"publish_metrics {ALL}"
    assert {job for job in ran if job.startswith("evaluate")} == {
        "evaluate_variant small/tuned",
        "evaluate_variant small/fused",
    }


def test_the_history_grows_by_one_batch_per_evaluation(project: PipelineProject) -> None:
    table = project.root / "home" / "metrics.duckdb"
    before = len(read_history(table))
    project.execute("publish_metrics", None)
    assert len(read_history(table)) == 2 * before
    assert project.run() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worse", "section", "changes", "measured_again"),
    [
        ("fused", "fusion", {"dense": "base"}, 1),
        # sees a word or two; the fused variant stands on it
        pytest.param("tuned", "encoder", {"query_max_length": 4}, 2, marks=pytest.mark.slow),
    ],
)
def test_a_night_that_made_a_variant_worse_raises_one_alarm_and_the_next_night_none(
    project: PipelineProject,
    monkeypatch: pytest.MonkeyPatch,
    worse: str,
    section: str,
    changes: dict,
    measured_again: int,
) -> None:
    told = project.root / "told.jsonl"
    code = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"
    monkeypatch.setenv("EMBED_PIPELINE_ALERT_COMMAND", f'{sys.executable} -c "{code}"')
    edit_yaml(project.root / "data" / "recipes" / f"{worse}.yaml", section, **changes)
    project.run()
    (alarm,) = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    assert [drop["variant"] for drop in alarm["drops"]] == [f"small/{worse}"] or f"small/{worse}" in alarm["text"]
    (check,) = outcomes_of(project.manifest("metrics_table", ALL))
    assert not check.passed and check.figures["measured_again"] == measured_again
    project.execute("publish_metrics", None)
    assert len(told.read_text(encoding="utf-8").splitlines()) == 1


def test_a_figure_of_trained_weights_is_made_again_to_the_byte(project: PipelineProject) -> None:
    found = reproduce(project.pipeline, "small/fused", "ndcg@10", build_definitions)
    assert found.same, found.lines
    assert {line.partition(": ")[2] for line in found.lines[:-1]} == {"the same bytes"}
    assert any(line.startswith("finetuned_checkpoint[small/tuned]") for line in found.lines)
    assert not list((project.root / "home" / "artifacts" / "staging").iterdir())


def test_the_first_thing_that_differs_is_named_upstream_first(project: PipelineProject) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", seed=7)
    found = reproduce(project.pipeline, "small/tuned", None, build_definitions)
    assert not found.same and "finetuned_checkpoint[small/tuned]: setting training.seed: 0 → 7" in found.lines[0]
    (project.dataset / "labels.txt").open("a", encoding="utf-8").write("肺炎\n")
    found = reproduce(project.pipeline, "small/tuned", None, build_definitions)
    assert "raw_xlsx[small]: file labels.txt: " in found.lines[0]


def _metadata(project: PipelineProject, asset: str, partition: str | None) -> dict[str, str]:
    """The Markdown in the newest materialisation of an asset, by entry."""
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        partitions = [partition] if partition else None
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=partitions), limit=1
        )
        made = records.records[0].asset_materialization
    assert made is not None
    return {name: value.value for name, value in made.metadata.items() if isinstance(value, dg.MarkdownMetadataValue)}


def test_the_chain_of_a_figure_is_in_the_metadata_with_a_link_to_each_artifact(finished: PipelineProject) -> None:
    shown = _metadata(finished, "query_metrics", "small/fused")["lineage"]
    told = list(describe_lineage(finished.graph, "small/fused", None))[1:]
    nodes = [line.split()[0] for line in told if "sha256" not in line]
    assert [line.split("[", 1)[1].split("](")[0] for line in shown.splitlines() if "/assets/" in line] == nodes
    assert "(/assets/finetuned_checkpoint?view=partitions&partition=small%2Ftuned)" in shown
    sums = [line.split()[-1] for line in told if "sha256" in line]
    assert sums and [line.split("`")[1] for line in shown.splitlines() if "sha256" in line] == sums


def test_the_table_links_every_figure_to_the_bytes_it_was_made_from(finished: PipelineProject) -> None:
    shown = _metadata(finished, "metrics_table", None)["lineage"].splitlines()[2:]
    row = _headline(finished)["tuned"]
    (line,) = [line for line in shown if line.startswith("| small/tuned |")]
    digests = [row.query_metrics_digest, row.index_digest, row.checkpoint_digest, row.cleaned_digest, row.raw_digest]
    assert [cell.split("`")[1] for cell in line.split("|")[3:-1]] == [(digest or "")[:12] for digest in digests]
    assert "(/assets/raw_xlsx?view=partitions&partition=small)" in line
    (lexical,) = [line for line in shown if line.startswith("| small/bm25 |")]
    assert " – " in lexical and len(shown) == len(finished.graph.project.variants)


@pytest.mark.slow
def test_a_drop_that_comes_back_after_it_was_undone_is_told_again(
    project: PipelineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The store serves the second bad table from the first one's memo; what it is compared with is another one.
    told = project.root / "told.jsonl"
    code = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"
    monkeypatch.setenv("EMBED_PIPELINE_ALERT_COMMAND", f'{sys.executable} -c "{code}"')
    for length, alarms in ((4, 1), (48, 1), (4, 2)):
        edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "encoder", query_max_length=length)
        project.run()
        assert len(told.read_text(encoding="utf-8").splitlines()) == alarms
