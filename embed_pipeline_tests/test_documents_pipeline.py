"""Documents through the whole graph: passages, questions of a chat model, a trained encoder, a row that says so."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.reproduction import reproduce
from embed_pipeline.defs.running import execute
from embed_pipeline.graph.work import ready_work
from embed_pipeline.reporting.database import read_newest
from embed_pipeline.synthesis.assembling import shared_sources
from embed_pipeline.synthesis.chat import ChatSettings
from embed_pipeline.synthesis.questions import read_questions
from embed_pipeline_tests.chat_server import ChatServer
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.question_writer import write_question
from embed_pipeline_tests.small_project import encoder_settings, training_settings, write_model, write_yaml

DOCUMENTS = Path(__file__).parents[1] / "data" / "policy_zh" / "documents"
PARALLEL = 2


def _chat(server: ChatServer, **changes: object) -> dict[str, object]:
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_answer_tokens": 4.0}
    settings = {"service": "compatible", "model": "stand-in", "base_url": f"{server.url}/v1", "parallel": PARALLEL}
    return {**settings, **prices, "max_answer_tokens": 200, **changes}


def _write(root: Path, chat: dict[str, object]) -> PipelineProject:
    data = root / "data"
    (root / "dagster").mkdir(parents=True)
    shutil.copytree(DOCUMENTS, data / "terms" / "documents")
    (data / "recipes").mkdir()
    model = write_model(root / "model")
    encoder = encoder_settings(model, passage_max_length=48)
    write_yaml(data / "recipes" / "bm25.yaml", {"description": "words", "retriever": "bm25"})
    mining = {"range_end": 10, "number": 3, "margin_relative": None}
    tuned = {"description": "tuned", "encoder": encoder, "mining": mining, "training": training_settings(epochs=1)}
    write_yaml(data / "recipes" / "tuned.yaml", tuned)
    _write_dataset(data, chat)
    return PipelineProject(root)


def _write_dataset(data: Path, chat: dict[str, object], **synthesis: object) -> None:
    content = {
        "description": "terms of an insurer",
        "language": "zh",
        "documents": {"files": ["documents/*"], "cut": "article", "passage_tokens": 200},
        "synthesis": {"generator": "chat", "chat": chat, "styles": ["question", "keyword"], **synthesis},
        "headline": "ndcg@10",
        "variants": ["bm25", "tuned"],
    }
    write_yaml(data / "terms" / "dataset.yaml", content)


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(write_question) as running:
        yield running


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, server: ChatServer) -> PipelineProject:
    project = _write(tmp_path_factory.mktemp("documents") / "project", _chat(server))
    project.run()
    return project


def _build_questions(project: PipelineProject) -> list[str]:
    """Run what is stale up to the questions, once each; returns the errors."""
    errors: list[str] = []
    seen = set()
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        while todo := [w for w in ready_work(project.graph) if w.job.name not in seen and "documents" in w.job.name]:
            seen.add(todo[0].job.name)
            errors += execute(build_definitions(project.pipeline), todo[0], instance)
        todo = [work for work in ready_work(project.graph) if work.job.name == "synthesise_questions"]
        errors += [error for work in todo for error in execute(build_definitions(project.pipeline), work, instance)]
    return errors


def test_documents_end_in_a_trained_encoder_and_rows_that_say_who_asked(finished: PipelineProject) -> None:
    rows = [row for row in read_newest(finished.root / "home" / "metrics.duckdb") if row.covers_own_queries]
    assert {row.variant for row in rows} == {"bm25", "tuned"}
    assert {row.synthetic for row in rows} == {"chat stand-in"}
    assert all(row.checkpoint_digest for row in rows if row.variant == "tuned")
    raw = finished.manifest("raw_documents", "terms").digest
    assert {row.raw_digest for row in rows} == {raw}


def test_every_question_leads_to_its_passage_file_and_characters(finished: PipelineProject) -> None:
    dataset = read_dataset(finished.graph.store.open(finished.manifest("cleaned_qa", "terms")))
    files = {path.name for path in DOCUMENTS.iterdir()}
    assert len(dataset.queries) > 50 and {query.attributes["style"] for query in dataset.queries} == {
        "question",
        "keyword",
    }
    for passage in dataset.passages:
        assert Path(passage.attributes["file"]).name in files
        assert int(passage.attributes["end"]) > int(passage.attributes["start"])


def test_no_passage_of_a_held_out_question_is_the_source_of_a_training_question(finished: PipelineProject) -> None:
    manifest = finished.manifest("synthetic_qa", "terms")
    questions = read_questions(finished.graph.store.open(manifest) / "questions.jsonl")
    assert {question.split for question in questions} == {"train", "validation", "test"}
    assert shared_sources(questions) == ()
    assert "failed_blocking_checks" not in manifest.details


def test_everything_is_fresh_afterwards_and_a_document_saved_again_asks_nothing(
    finished: PipelineProject, server: ChatServer
) -> None:
    calls, questions = len(server.calls), finished.manifest("synthetic_qa", "terms").digest
    path = finished.root / "data" / "terms" / "documents" / "note.md"
    assert ready_work(finished.graph) == ()
    path.write_text("# 附注\n\n本附注说明青梧人寿的客服时间:每天早上八点到晚上十点,节假日不休息。\n", encoding="utf-8")
    try:
        assert [work.job.name for work in ready_work(finished.graph)] == ["read_documents"]
        assert _build_questions(finished) == []
        assert finished.manifest("synthetic_qa", "terms").digest != questions
        assert 0 < len(server.calls) - calls <= 8  # the new passage's questions and their grades; none of the others
    finally:
        path.unlink()
    assert _build_questions(finished) == [] and len(server.calls) - calls <= 8
    assert finished.manifest("synthetic_qa", "terms").digest == questions and ready_work(finished.graph) == ()


@pytest.mark.slow
def test_killed_at_half_the_next_run_repeats_no_call_that_was_answered(tmp_path: Path) -> None:
    with ChatServer(write_question, delay_seconds=0.02) as server:
        project = _write(tmp_path / "project", _chat(server))
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("EMBED_PIPELINE_", "DAGSTER_HOME"))},
            "EMBED_PIPELINE_DATA": str(project.root / "data"),
            "EMBED_PIPELINE_HOME": str(project.root / "home"),
        }
        command = [sys.executable, "-c", "from embed_pipeline.cli import main; main()", "run"]
        killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(server.answered) < 100 and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert _build_questions(project) == []
        asked = [json.dumps(call.body, sort_keys=True) for call in server.calls]
        assert len(asked) > 200
        assert len(asked) - len(set(asked)) <= PARALLEL  # those under way when it was killed


def test_a_cap_of_half_the_cost_stops_below_it_and_what_was_answered_is_kept(
    finished: PipelineProject, server: ChatServer, tmp_path: Path
) -> None:
    spent = _spent(finished)
    project = _write(tmp_path / "project", _chat(server, spend_limit_usd=spent / 2))
    before = len(server.answered)
    (error,) = _build_questions(project)
    assert "spend_limit_usd" in error and 0 < _spent(project) <= spent / 2
    assert project.graph.store.read("synthetic_qa", "terms") is None
    answered = len(server.answered) - before
    _write_dataset(project.root / "data", _chat(server, spend_limit_usd=2 * spent))
    assert _build_questions(project) == []
    whole = len(server.answered) - before
    assert answered > 50 and whole == len({json.dumps(c.body, sort_keys=True) for c in server.answered[before:]})
    same = project.manifest("synthetic_qa", "terms").digest == finished_questions(finished, tmp_path, server)
    assert same


def finished_questions(finished: PipelineProject, tmp_path: Path, server: ChatServer) -> str:
    """The digest of the questions that a run without a cap writes."""
    project = _write(tmp_path / "uncapped", _chat(server))
    shutil.copytree(finished.root / "home" / "chat", project.root / "home" / "chat")
    calls = len(server.calls)
    assert _build_questions(project) == [] and len(server.calls) == calls
    return project.manifest("synthetic_qa", "terms").digest


def _spent(project: PipelineProject) -> float:
    logs = (project.root / "home" / "chat").glob("*.jsonl")
    lines = [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    return sum(line["cost_usd"] for line in lines if line["event"] == "answered")


def test_a_figure_is_made_again_from_the_recorded_answers(finished: PipelineProject, server: ChatServer) -> None:
    calls = len(server.calls)
    found = reproduce(finished.pipeline, "terms/bm25", None, build_definitions)
    assert found.same, found.lines
    assert any(line.startswith("synthetic_qa[terms]: the same bytes") for line in found.lines)
    assert len(server.calls) == calls


def test_prices_limits_and_address_of_the_service_make_nothing_stale(finished: PipelineProject) -> None:
    data = finished.root / "data"
    settings = ChatSettings.model_validate(
        json.loads(json.dumps(finished.graph.project.synthesis["terms"].chat.model_dump(mode="json")))  # type: ignore[union-attr]
    )
    changed = settings.model_dump(mode="json") | {"base_url": "http://127.0.0.1:9/v1", "call_limit": 5, "parallel": 1}
    before = (data / "terms" / "dataset.yaml").read_text(encoding="utf-8")
    questions = [work for work in ready_work(finished.graph) if work.job.name == "synthesise_questions"]
    assert questions == []
    try:
        _write_dataset(data, changed)
        assert [w for w in ready_work(finished.graph) if w.job.name == "synthesise_questions"] == []
    finally:
        (data / "terms" / "dataset.yaml").write_text(before, encoding="utf-8")
