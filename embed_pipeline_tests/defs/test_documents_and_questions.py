"""The sections of dataset.yaml that belong to documents and questions, and what is checked about both."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from embed_pipeline.cli import main
from embed_pipeline.dataset.ledger import LedgerEntry, Reason, read_ledger
from embed_pipeline.defs.assets.documents import check_passages
from embed_pipeline.defs.assets.synthesis import check_questions
from embed_pipeline.documents.passages import DocumentSummary
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline.graph.source_settings import counting_encoder, dataset_settings, round_trip_recipe, source_files
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import ready_work
from embed_pipeline.project.project import Project
from embed_pipeline.records import Split
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import write_yaml

ENCODER = {"model": "bundled-english", "pooling": "mean"}


def _project(tmp_path: Path, **changes: object) -> Project:
    folder = tmp_path / "data" / "terms"
    (folder / "documents").mkdir(parents=True)
    (tmp_path / "data" / "recipes").mkdir()
    for name in ("a.md", "b.md"):
        (folder / "documents" / name).write_text(f"# {name}\n\nSome text.\n", encoding="utf-8")
    recipes = {
        "bm25": {"description": "words", "retriever": "bm25"},
        "small": {"description": "zero-shot", "encoder": ENCODER},
        "tuned": {
            "description": "tuned",
            "encoder": ENCODER,
            "mining": {},
            "training": {"candidates": "corpus", "learning_rate": 1e-3, "epochs": 1},
        },
    }
    for name, recipe in recipes.items():
        write_yaml(tmp_path / "data" / "recipes" / f"{name}.yaml", recipe)
    content = {
        "description": "terms",
        "documents": {"files": ["documents/*.md"]},
        "synthesis": {"generator": "inverse_cloze"},
        "variants": ["bm25", "small"],
    }
    write_yaml(folder / "dataset.yaml", {**content, **changes})
    return Project(tmp_path / "data", tmp_path / "home")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"documents": {"files": ["*.md"], "pasage_tokens": 5}},
            "documents.pasage_tokens: no such field. Nearest",
        ),
        ({"documents": {"files": []}}, "documents.files"),
        ({"documents": {"files": ["*.md"], "passage_tokens": 100, "overlap_tokens": 90}}, "at most half"),
        ({"synthesis": {"generator": "chat"}}, "needs the settings of a model"),
        ({"synthesis": {"styles": ["judge"]}}, "judge is the template of the judge"),
    ],
)
def test_a_malformed_section_is_named_with_its_field(tmp_path: Path, changes: dict, message: str) -> None:
    project = _project(tmp_path, **changes)
    assert not project.datasets and "dataset.yaml" in project.broken["terms"]
    assert message in project.broken["terms"]


def test_a_key_written_into_the_file_is_not_repeated(tmp_path: Path) -> None:
    chat = {"service": "openai", "model": "m", "api_key": "sk-canary-1234567890"}
    told = _project(tmp_path, synthesis={"generator": "chat", "chat": chat}).broken["terms"]
    assert "api_key" in told and "canary" not in told


def test_the_raw_files_are_the_documents_by_their_path(tmp_path: Path) -> None:
    project = _project(tmp_path)
    assert list(source_files(project, "terms")) == ["documents/a.md", "documents/b.md"]


def test_the_first_local_encoder_counts_tokens_and_another_can_be_named(tmp_path: Path) -> None:
    assert counting_encoder(_project(tmp_path / "1"), "terms") == EncoderSettings.model_validate(ENCODER)
    alone = _project(tmp_path / "2", variants=["bm25"])
    assert counting_encoder(alone, "terms").model == "bundled"
    wrong = _project(tmp_path / "3", documents={"files": ["documents/*.md"], "encoder": "bm25"})
    with pytest.raises(ValueError, match="a variant with a local encoder"):
        counting_encoder(wrong, "terms")


def test_a_round_trip_through_a_trained_variant_is_refused(tmp_path: Path) -> None:
    project = _project(tmp_path, synthesis={"round_trip": {"recipe": "tuned"}})
    with pytest.raises(ValueError, match="trained on the questions"):
        round_trip_recipe(project, "terms")


@pytest.mark.parametrize(
    "section", [{"retriever": "hybrid", "hybrid": {"dense": "base"}}, {"merge": {"of": ["tuned"]}}], ids=str
)
def test_a_round_trip_through_what_stands_on_another_variant_is_refused(tmp_path: Path, section: dict) -> None:
    project = _project(tmp_path, synthesis={"round_trip": {"recipe": "later"}})
    write_yaml(project.data / "recipes" / "later.yaml", {"description": "later", **section})
    with pytest.raises(ValueError, match="Name bm25, tfidf or a recipe without training"):
        round_trip_recipe(project, "terms")


def test_cutting_and_writing_concern_their_own_asset_and_not_the_cleaned_data(tmp_path: Path) -> None:
    def settings(number: int, asset: str, **changes: object) -> dict:
        project = _project(tmp_path / str(number), **changes)
        return dataset_settings(
            project, Node(asset, "terms"), lambda _: pytest.fail("no encoder is needed"), resolve_model
        )

    other = {"documents": {"files": ["documents/*.md"], "passage_tokens": 99}, "synthesis": {"seed": 7}}
    changed = {
        asset: settings(at, asset) != settings(10 + at, asset, **other)
        for at, asset in enumerate(("raw_documents", "passages", "synthetic_qa", "cleaned_qa"))
    }
    assert changed == {"raw_documents": False, "passages": True, "synthetic_qa": True, "cleaned_qa": False}


def test_a_link_out_and_a_pipe_among_the_documents_stop_nothing_and_stand_in_the_ledger(tmp_path: Path) -> None:
    project = _project(tmp_path)
    (tmp_path / "dagster").mkdir()
    documents = tmp_path / "data" / "terms" / "documents"
    (documents / "away.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "secret.md").write_text("# Secret\n\nNobody's business.\n", encoding="utf-8")
    os.mkfifo(documents / "pipe.md")
    assert list(source_files(project, "terms")) == ["documents/a.md", "documents/b.md"]
    run = PipelineProject(tmp_path)
    assert "passages built" in run.execute("read_documents", "terms")
    folder = run.graph.store.open(run.manifest("passages", "terms"))
    left_out = {entry.workbook: entry.reason for entry in read_ledger(folder / "ledger.jsonl")}
    assert {name: left_out[name] for name in ("documents/away.md", "documents/pipe.md")} == dict.fromkeys(
        ("documents/away.md", "documents/pipe.md"), "no_plain_file"
    )
    assert "business" not in (folder / "corpus.jsonl").read_text(encoding="utf-8")
    (documents / "pipe.md").unlink()
    assert ready_work(run.graph)[0].job.name == "read_documents"


def test_estimate_says_that_nobody_is_asked_offline_and_names_the_data_sets(tmp_path: Path, monkeypatch) -> None:
    _project(tmp_path)
    monkeypatch.setenv("EMBED_PIPELINE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("EMBED_PIPELINE_HOME", str(tmp_path / "home"))
    unknown = CliRunner().invoke(main, ["estimate", "other"])
    assert unknown.exit_code == 2 and "no data set 'other'" in unknown.output and "Data sets: terms." in unknown.output


def _entry(reason: Reason) -> LedgerEntry:
    return LedgerEntry("a.pdf", "", 0, None, reason, "", None, None, "why")


def _summary(file: str, passages: int, pages: int | None = None) -> DocumentSummary:
    return DocumentSummary(file, 100 * passages, pages, passages, 50 * passages)


@pytest.mark.parametrize(
    ("documents", "ledger", "passed"),
    [
        ([_summary("a", 9), _summary("b", 3)], [], True),
        ([_summary("a", 9), _summary("b", 0)], [_entry("broken_file")], False),
        ([_summary("a", 9, pages=10)], [_entry("page_without_text")], False),
        ([_summary("a", 9, pages=100)], [_entry("page_without_text")], True),
    ],
)
def test_unread_files_and_pages_above_the_limit_fail(documents, ledger, passed: bool) -> None:
    assert check_passages(documents, ledger)[0].passed is passed


def _question(name: str, split: Split, *passages: str) -> SyntheticQuestion:
    return SyntheticQuestion.model_validate(
        {"id": name, "text": name, "passage_ids": passages, "split": split, "style": "s", "generator": "chat"}
    )


def test_a_passage_asked_about_in_train_and_test_blocks() -> None:
    questions = [_question("a", "train", "p1"), _question("b", "test", "p1", "p2"), _question("c", "validation", "p3")]
    shared, splits, _, kept, asked = check_questions(questions, [], passages=3)
    assert (shared.passed, shared.blocking, shared.figures["shared"]) == (False, True, 1)
    assert splits.passed and kept.passed and asked.passed


def test_an_empty_split_blocks_and_few_kept_or_asked_warn() -> None:
    ledger = [_entry("not_answerable")] * 9
    shared, splits, _, kept, asked = check_questions([_question("a", "train", "p1")], ledger, passages=10)
    assert shared.passed
    assert (splits.passed, splits.blocking, splits.figures["empty_splits"]) == (False, True, "validation, test")
    assert (kept.passed, kept.blocking, asked.passed, asked.blocking) == (False, False, False, False)
