"""The project from Python: the same state as the command line, tables for pandas, encoders and searchers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import embed_pipeline
from embed_pipeline.api import OpenProject, RunFailedError
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.evaluation.query_metrics import read_hits
from embed_pipeline.project.finding import NoProjectError, UnknownNameError
from embed_pipeline.project.starting import start_project
from embed_pipeline.reporting.database import read_newest
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_dataset, mark_project

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(finished: PipelineProject, tmp_path_factory: pytest.TempPathFactory) -> PipelineProject:
    """A copy of the finished project, with the files that mark one."""
    root = tmp_path_factory.mktemp("notebook") / "project"
    shutil.copytree(finished.root, root)
    mark_project(root)
    return PipelineProject(root)


@pytest.fixture
def opened(place: PipelineProject, monkeypatch: pytest.MonkeyPatch) -> OpenProject:
    monkeypatch.setenv("EMBED_PIPELINE_HOME", "home")
    return embed_pipeline.open_project(place.root / "data" / "small")


def test_importing_the_package_loads_no_other_package() -> None:
    code = "import sys; before = set(sys.modules); import embed_pipeline; print(*sorted(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in found.stdout.split()}
    assert "embed_pipeline" in loaded and loaded - {"embed_pipeline"} <= sys.stdlib_module_names
    assert not any(name.startswith("embed_pipeline.") for name in found.stdout.split())


def test_a_folder_that_is_no_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoProjectError, match="expected a project"):
        embed_pipeline.open_project(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_metrics_have_a_row_per_variant_and_measure_with_interval_and_digests(
    opened: OpenProject, place: PipelineProject
) -> None:
    table, rows = opened.metrics(dataset="small"), read_newest(place.root / "home" / "metrics.duckdb", dataset="small")
    own = [row for row in rows if row.covers_own_queries]
    assert not table.duplicated(["variant", "measure"]).any()
    assert list(zip(table["variant"], table["measure"], table["value"], table["low"], table["high"], strict=True)) == [
        (row.variant, str(row.at), row.value, row.low, row.high) for row in own
    ]
    assert table["query_metrics_digest"].tolist() == [row.query_metrics_digest for row in own]
    assert table.loc[table["variant"] == "bm25", "p_value"].isna().all()  # the baseline
    assert table.loc[table["variant"] == "tuned", "p_value"].notna().all()
    assert set(opened.metrics(variant="small/tuned")["variant"]) == {"tuned"}
    assert len(opened.metrics(dataset="small", everything=True)) == len(rows)


def test_the_states_are_those_of_the_command_line(opened: OpenProject, place: PipelineProject) -> None:
    table = opened.status()
    assert list(table.columns) == ["asset", "partition", "state", "because"]
    nodes = [str(node) for node in place.graph.nodes()]
    assert [f"{row.asset}[{row.partition}]" for row in table.itertuples()] == nodes
    assert set(table["state"]) == {"fresh"}


def test_an_encoder_has_the_variants_own_weights(opened: OpenProject, place: PipelineProject) -> None:
    texts = ["我肝上有油，能买吗", "痛风"]
    checkpoint = place.graph.store.open(place.manifest("finetuned_checkpoint", "small/tuned"))
    expected = load_local_encoder(place.graph.project.variants["small/tuned"].local_encoder, directory=checkpoint)
    tuned = opened.encoder("small/tuned")
    np.testing.assert_allclose(tuned.encode_queries(texts), expected.encode_queries(texts), atol=1e-6)
    base = opened.encoder("small/base").encode_queries(texts)
    assert np.abs(base - tuned.encode_queries(texts)).max() > 0.01
    assert tuned.encode_passages([]).shape == (0, tuned.dimension)


@pytest.mark.parametrize("variant", ["small/bm25", "small/tfidf", "small/words", "small/tuned", "small/fused"])
def test_a_searcher_finds_what_the_evaluation_found(opened: OpenProject, place: PipelineProject, variant: str) -> None:
    test = [query for query in place.queries() if query.split == "test"]
    folder = place.graph.store.open(place.manifest("query_metrics", variant))
    recorded = {query.id: [] for query in test}
    for hit in read_hits(folder / "hits.jsonl"):
        recorded[hit.query_id].append((hit.rank, hit.passage_id))
    searcher = opened.searcher(variant)
    found = searcher.search([query.text for query in test], 20)
    assert [[(one.rank, one.passage_id) for one in hits] for hits in found] == list(recorded.values())
    assert variant == "small/bm25" or any(found)  # no question has a word of a label
    assert all(hit.text == searcher.passages[hit.passage_id].text for hits in found for hit in hits)
    assert searcher.search([]) == []
    with pytest.raises(ValueError, match=r"Write \[text\]"):
        searcher.search(test[0].text)


def test_what_has_no_vectors_or_does_not_exist_is_refused_with_the_others(opened: OpenProject) -> None:
    with pytest.raises(ValueError, match=r"small/bm25: expected a variant with vectors \(small/base, small/tuned"):
        opened.encoder("small/bm25")
    for ask in (opened.encoder, opened.searcher, lambda name: opened.metrics(variant=name)):
        with pytest.raises(UnknownNameError, match="near: small/tuned"):
            ask("small/tunde")
    with pytest.raises(UnknownNameError, match="near: small"):
        opened.metrics(dataset="smal")


def test_a_new_project_is_run_from_python_and_the_process_stays_where_it_was(tmp_path: Path) -> None:
    start_project(tmp_path / "mine")
    edit_dataset(tmp_path / "mine" / "data" / "faq_en", variants=["bm25", "tfidf"])
    before = (Path.cwd(), dict(os.environ))
    project = embed_pipeline.open_project(tmp_path / "mine")
    assert project.metrics().empty and "p_value" in project.metrics()
    with pytest.raises(ValueError, match="does not exist yet"):
        project.searcher("faq_en/bm25")
    done = project.run(variant="bm25")
    assert done == (
        "read_pairs faq_en",
        "prepare_dataset faq_en",
        "evaluate_variant faq_en/bm25",
        "publish_metrics all",
    )
    assert project.run(variant="bm25") == ()
    assert set(project.metrics()["variant"]) == {"bm25"}
    (hits,) = project.searcher("bm25").search(["the ring glows white"], k=3)
    assert [hit.rank for hit in hits] == [1, 2, 3] and "ring glows white" in hits[0].text
    (tmp_path / "mine" / "data" / "faq_en" / "faq.csv").write_text("question\n", encoding="utf-8")
    with pytest.raises(RunFailedError, match=r"prepare_dataset faq_en: .*faq\.csv"):
        project.run()
    assert (Path.cwd(), dict(os.environ)) == before
