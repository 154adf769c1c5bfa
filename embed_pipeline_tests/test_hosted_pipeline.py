"""A hosted encoder through the whole graph: the local one's row, a cap that holds, a key that leaks nowhere."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import yaml

from embed_pipeline.assembly.cleanup import recheck_vectors
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.running import execute
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.usage import UsageLog
from embed_pipeline.encoding.vector_cache import VectorCache
from embed_pipeline.graph.work import ready_work
from embed_pipeline.project.recipes import read_recipe
from embed_pipeline.reporting.database import read_newest
from embed_pipeline_tests.embedding_server import EmbeddingServer, one_in_three
from embed_pipeline_tests.fakes import FakeEncoder
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, write_full_project, write_yaml
from embed_pipeline_tests.tiny_cross_encoder import write_cross_encoder

KEY = "sk-canary-7f3a9c51e8"
VARIABLE = "EMBED_PIPELINE_TEST_KEY"
SERVED = EncoderSettings(
    model="bundled-english", pooling="mean", query_max_length=64, passage_max_length=64, dtype="float32"
)
OPERATIONAL = {"recipe", "variant", "evaluated_at", "run_id", "git_commit", "index_digest", "query_metrics_digest"}
PROFILE = {"cost_usd", "latency_p50_ms", "latency_p95_ms", "passages_per_second", "dimension", "max_length", "dtype"}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(load_local_encoder(SERVED), fail=one_in_three(), key=KEY) as running:
        yield running


def _write(root: Path, server: EmbeddingServer, **hosted: object) -> PipelineProject:
    """Two variants of the small data set: the bundled encoder itself, and the same behind the server."""
    (root / "dagster").mkdir(parents=True)
    data = write_full_project(root)
    shutil.rmtree(data / "bilingual")
    write_yaml(data / "recipes" / "local.yaml", {"description": "local", "encoder": SERVED.model_dump(mode="json")})
    encoder = {
        "service": "compatible",
        "base_url": f"{server.url}/v1",
        "model": "served",
        "api_key_variable": VARIABLE,
        "vector_dimension": 384,
        "max_length": 64,
        "price_per_million_tokens": 10.0,
        "batch_texts": 16,
        **hosted,
    }
    write_yaml(data / "recipes" / "hosted.yaml", {"description": "hosted", "encoder": encoder})
    dataset = data / "small" / "dataset.yaml"
    content = dataset.read_text(encoding="utf-8").splitlines()
    start = content.index("variants:")
    content[start : start + 7] = ["variants: [local, hosted]"]
    dataset.write_text("\n".join(content) + "\n", encoding="utf-8")
    return PipelineProject(root)


def _errors(project: PipelineProject) -> list[str]:
    """Run what is stale, once each; returns the errors."""
    errors: list[str] = []
    seen = set()
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        while todo := [work for work in ready_work(project.graph) if (work.job.name, work.partition) not in seen]:
            seen.add((todo[0].job.name, todo[0].partition))
            errors += execute(build_definitions(project.pipeline), todo[0], instance)
    return errors


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, server: EmbeddingServer) -> PipelineProject:
    project = _write(tmp_path_factory.mktemp("hosted") / "project", server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, KEY)
        project.run()
    return project


def test_a_server_that_fails_one_call_in_three_gives_the_vectors_of_the_local_encoder(
    finished: PipelineProject, server: EmbeddingServer
) -> None:
    assert len(server.calls) > server.answered > 10
    texts = [query.text for query in finished.queries() if query.split == "test"]
    cache = VectorCache(finished.root / "home" / "vectors")
    both = []
    for name in ("local", "hosted"):
        recipe = read_recipe(finished.root / "data" / "recipes" / f"{name}.yaml")
        assert recipe.encoder is not None
        lookup = cache.lookup(finished.graph.base_encoder(recipe.encoder).query_fingerprint, texts, 384)
        assert lookup.found.all()
        both.append(lookup.vectors)
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)


def test_its_rows_of_the_table_are_those_of_the_local_encoder(finished: PipelineProject) -> None:
    rows = read_newest(finished.root / "home" / "metrics.duckdb", dataset="small")
    found: dict[str, list[dict]] = {"local": [], "hosted": []}
    for row in rows:
        fields = {name: value for name, value in asdict(row).items() if name not in OPERATIONAL | PROFILE}
        compared = {name for name in fields if name in ("baseline", "verdict") or "differ" in name or "p_" in name}
        found[row.variant].append({k: v for k, v in fields.items() if k not in compared and k != "detectable"})
    assert found["hosted"] == found["local"] and len(found["local"]) > 50
    verdicts = {row.verdict for row in rows if row.variant == "hosted" and row.covers_own_queries}
    assert verdicts == {"no evidence"}


def test_cost_latency_throughput_dimension_and_length_are_columns(finished: PipelineProject) -> None:
    rows = read_newest(finished.root / "home" / "metrics.duckdb", dataset="small", variant="hosted")
    row = next(row for row in rows if row.covers_own_queries)
    assert row.cost_usd and 0 < row.cost_usd < 0.1
    assert row.latency_p50_ms and row.latency_p95_ms and row.passages_per_second
    assert (row.dimension, row.max_length) == (384, 64)


def test_no_text_is_sent_twice_and_a_second_run_sends_nothing(
    finished: PipelineProject, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log,) = (finished.root / "home" / "usage").glob("*.jsonl")
    requests = UsageLog(log).requests
    sent = sum(request.texts for request in requests)
    texts = {query.text for query in finished.queries() if query.split != "train"}
    assert sent == len(texts) + 8 + 24  # labels; passages and questions of the general suite
    calls = len(server.calls)
    monkeypatch.setenv(VARIABLE, KEY)
    finished.execute("evaluate_variant", "small/hosted")
    assert finished.run() == [] and len(server.calls) == calls


@pytest.mark.slow
def test_an_adaptation_behind_a_hosted_encoder_costs_what_that_costs_and_sends_no_text_again(
    tmp_path: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    project = _write(tmp_path / "project", server)
    recipes = project.root / "data" / "recipes"
    hosted = yaml.safe_load((recipes / "hosted.yaml").read_text(encoding="utf-8"))
    write_yaml(recipes / "behind.yaml", {**hosted, "adaptation": {"method": "linear", "epochs": 1}})
    edit_dataset(project.root / "data" / "small", variants=["hosted", "behind"], general_suite=[])
    project.run()
    found = {}
    for variant in ("hosted", "behind"):
        rows = read_newest(project.root / "home" / "metrics.duckdb", dataset="small", variant=variant)
        found[variant] = next(row for row in rows if row.covers_own_queries)
    assert found["behind"].cost_usd == found["hosted"].cost_usd != 0
    assert (found["behind"].dimension, found["behind"].max_length) == (384, 64)
    (log,) = (project.root / "home" / "usage").glob("*.jsonl")
    assert sum(request.texts for request in UsageLog(log).requests) == len({q.text for q in project.queries()}) + 8


@pytest.mark.slow
def test_a_second_stage_behind_a_hosted_encoder_adds_its_time_to_the_requests(
    tmp_path: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    project = _write(tmp_path / "project", server)
    rerank = {"of": "hosted", "model": str(write_cross_encoder(tmp_path / "cross")), "top_k": 4, "keep": 4}
    second = {"description": "two stages", "retriever": "reranked", "rerank": rerank}
    write_yaml(project.root / "data" / "recipes" / "second.yaml", second)
    edit_dataset(project.root / "data" / "small", variants=["hosted", "second"], general_suite=[])
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        while todo := [work for work in ready_work(project.graph) if work.partition != "small/hosted"]:
            assert not execute(build_definitions(project.pipeline), todo[0], instance)
    (log,) = (project.root / "home" / "usage").glob("*.jsonl")
    alone = [1000 * request.seconds for request in UsageLog(log).requests if request.texts == 1]
    profile = project.manifest("query_metrics", "small/second").details["profile"]
    assert isinstance(profile, dict) and alone
    assert profile["latency_p50_ms"] > np.median(alone)


@pytest.mark.slow
def test_the_cap_stops_before_it_is_passed_and_the_next_run_goes_on_from_there(
    finished: PipelineProject, tmp_path: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    (whole,) = (finished.root / "home" / "usage").glob("*.jsonl")
    limit = round(UsageLog(whole).spent_usd / 2, 6)
    project = _write(tmp_path / "project", server, spend_limit_usd=limit)
    errors = _errors(project)
    assert any("spend_limit_usd" in error and "Raise spend_limit_usd" in error for error in errors)
    (log,) = (project.root / "home" / "usage").glob("*.jsonl")
    usage = UsageLog(log)
    spent, sent = usage.spent_usd, sum(request.texts for request in usage.requests)
    assert 0 < spent <= limit and usage.reserved_usd == 0
    assert project.graph.store.read("query_metrics", "small/local") is not None
    recipe = project.root / "data" / "recipes" / "hosted.yaml"
    recipe.write_text(
        recipe.read_text(encoding="utf-8").replace(f"spend_limit_usd: {limit}", "spend_limit_usd: 5.0"),
        encoding="utf-8",
    )
    assert _errors(project) == []
    texts = {query.text for query in project.queries() if query.split != "train"}
    assert sum(request.texts for request in UsageLog(log).requests) == len(texts) + 8 + 24 > sent


def test_the_key_is_in_nothing_that_was_written_logged_or_said(
    finished: PipelineProject, tmp_path: Path, server: EmbeddingServer
) -> None:
    """Success and refusal; every byte of the project folder, Dagster's storage, and everything printed."""
    refused = _write(tmp_path / "project", server)
    edit_dataset(refused.dataset, variants=["hosted"], general_suite=[])
    shutil.rmtree(refused.root / "data" / "general")
    code = (
        "import sys; from pathlib import Path\n"
        "from embed_pipeline_tests.pipeline_project import PipelineProject\n"
        "from embed_pipeline_tests.test_hosted_pipeline import _errors\n"
        "print(*_errors(PipelineProject(Path(sys.argv[1]))), sep='\\n')\n"
    )
    wrong = KEY + "-wrong"
    found = subprocess.run(
        [sys.executable, "-c", code, str(refused.root)],
        env={"PATH": "/usr/bin:/bin", VARIABLE: wrong, "OPENAI_LOG": "debug", "HOME": str(tmp_path)},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert b"401" in found.stdout and VARIABLE.encode() in found.stdout
    written = [path for root in (finished.root, refused.root) for path in root.rglob("*") if path.is_file()]
    assert len(written) > 100
    contents = [found.stdout, found.stderr, *(path.read_bytes() for path in written)]
    assert not any(KEY.encode() in content for content in contents)


@pytest.mark.slow
def test_vectors_that_an_older_version_kept_are_found_in_cache_and_index_and_made_again(
    finished: PipelineProject, tmp_path: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    shutil.copytree(finished.root, tmp_path / "project", symlinks=True)
    project = PipelineProject(tmp_path / "project")
    store, index = project.graph.store, project.manifest("faiss_index", "small/hosted")
    recipe = read_recipe(project.root / "data" / "recipes" / "hosted.yaml")
    assert recipe.encoder is not None
    cache, encoder = VectorCache(project.root / "home" / "vectors"), project.graph.base_encoder(recipe.encoder)
    text = read_dataset(store.open(project.manifest("cleaned_qa", "small"))).passages[0].text
    cache.store(encoder.passage_fingerprint, [text], np.full((1, 384), 3, np.float32))
    (told,) = recheck_vectors(project.graph, dry_run=True)
    assert told.startswith("vectors of served, ") and ": would remove 1 not of length 1 of " in told
    store.forget(index)
    project.run()
    spoilt = project.manifest("faiss_index", "small/hosted")
    assert spoilt.digest != index.digest
    of_cache, of_index = recheck_vectors(project.graph, dry_run=False)
    assert ": removed 1 not of length 1 of " in of_cache
    assert of_index.startswith("faiss_index[small/hosted]: 1 not of length 1 of 8 vectors; it is taken out.")
    assert of_index.endswith("embed-pipeline run --variant small/hosted")
    project.run()
    assert project.manifest("faiss_index", "small/hosted").digest == index.digest
    assert list(recheck_vectors(project.graph, dry_run=False)) == [
        "kept vectors and indexes: each vector is one of a text"
    ]


def _sleep(project: PipelineProject) -> tuple[bool, dict[str, Any]]:
    """One night; whether it succeeded, and the figures of the check on hosted models with its verdict."""
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        job = build_definitions(project.pipeline).resolve_job_def("reevaluate")
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        key = dg.AssetCheckKey(dg.AssetKey("metrics_table"), "hosted_models_are_unchanged")
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        assert record.event and record.event.dagster_event
        found = record.event.dagster_event.asset_check_evaluation_data
    return result.success, {"passed": found.passed, **{name: entry.value for name, entry in found.metadata.items()}}


@pytest.mark.slow
def test_a_model_that_changes_silently_turns_a_check_red_alerts_once_and_is_not_mixed_with_the_kept_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told.jsonl"
    code = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"
    monkeypatch.setenv("EMBED_PIPELINE_ALERT_COMMAND", f'{sys.executable} -c "{code}"')
    monkeypatch.setenv(VARIABLE, KEY)
    with EmbeddingServer(FakeEncoder(384), key=KEY) as server:
        project = _write(tmp_path / "project", server)
        shutil.rmtree(project.root / "data" / "general")
        settings = yaml.safe_load((project.dataset / "dataset.yaml").read_text(encoding="utf-8"))
        write_yaml(project.dataset / "dataset.yaml", {**settings, "variants": ["hosted"], "general_suite": []})
        assert _errors(project) == []
        success, check = _sleep(project)
        assert success and check["passed"] and check["models_sampled"] == 1 and check["cost_usd"] > 0
        assert not told.exists()

        server.encoder = FakeEncoder(384, weights="retrained")
        (project.dataset / "labels.txt").open("a", encoding="utf-8").write("肺炎\n")
        sent = [len(server.calls)]
        for _ in range(2):
            success, check = _sleep(project)
            sent.append(len(server.calls))
            assert success and not check["passed"] and "served at " in check["model_1"]
            assert "`edition`" in check["remedy"]
        assert sent == [sent[0], sent[0] + 1, sent[0] + 2]  # the samples alone: no new text beside old vectors
        (alert,) = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
        assert alert["changed_models"][0]["lowest"] < 0.999 and "served" in alert["text"]

        edit_yaml(project.root / "data" / "recipes" / "hosted.yaml", "encoder", edition="since November")
        assert _sleep(project)[0]  # everything is encoded anew by the model as it is now
        success, check = _sleep(project)
        assert success and check["passed"] and check["models_sampled"] == 1
        assert len(told.read_text(encoding="utf-8").splitlines()) == 1
        assert KEY not in (project.root / "home" / "hosted_samples.jsonl").read_text(encoding="utf-8")


def test_a_service_that_cannot_be_asked_is_told_and_holds_up_no_night(
    finished: PipelineProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    shutil.copytree(finished.root, root)
    monkeypatch.delenv(VARIABLE, raising=False)
    success, check = _sleep(PipelineProject(root))
    assert success and check["passed"] and "not asked: " in check["model_1"] and VARIABLE in check["model_1"]
