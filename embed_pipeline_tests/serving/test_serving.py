"""The service as its users see it: OpenAI's own client, plain HTTP, a load, a reload under load, signals."""

import base64
import json
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import openai
import pytest

from embed_pipeline.assembly.variant_encoder import load_variant_encoder
from embed_pipeline.dataset.normalisation import normalise_text
from embed_pipeline.encoding.cross_encoder import CrossEncoderSettings, TextPair, load_cross_encoder
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.evaluation.measuring import HITS_FILE, read_calibration, read_returned
from embed_pipeline.evaluation.query_metrics import read_hits
from embed_pipeline.serving.server import Server, ServerSettings
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, mark_project, write_project, write_yaml
from embed_pipeline_tests.test_stopping import Command
from embed_pipeline_tests.tiny_cross_encoder import FakePairScorer, write_cross_encoder

TEXTS = ["我肝上有油，能买吗", "痛风", "体检说高压一百六，可以投保不"]


WRITTEN = [normalise_text(text) for text in TEXTS]
"""The same as the data set has them; the service does that for whoever asks."""


class Running:
    """A service under way and its address."""

    def __init__(self, project: PipelineProject, name: str, **settings) -> None:
        self.said: list[str] = []
        self.server = Server(
            lambda: project.graph, name, ServerSettings(port=0, reload_seconds=0.1, **settings), self.said.append
        )
        self.address = self.server.start()

    def client(self, **options) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.address}/v1", **{"api_key": "none", "max_retries": 0, **options})

    def ask(
        self, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, dict, dict[str, str]]:
        """Status, content and headers of an answer; a body that is bytes goes as it is."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path, data, {"Content-Type": "application/json", **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                text, status, found = response.read().decode(), response.status, dict(response.headers)
        except urllib.error.HTTPError as error:
            text, status, found = error.read().decode(), error.code, dict(error.headers)
        is_json = found["content-type"] == "application/json"
        return status, json.loads(text) if is_json else {"text": text}, found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> PipelineProject:
    """The small project with a hybrid and a reranked variant, and vectors that were trained to be cut."""
    root = tmp_path_factory.mktemp("serving") / "project"
    (root / "dagster").mkdir(parents=True)
    write_project(root)
    recipes = root / "data" / "recipes"
    weighed = {"dense": "tuned", "part_weights": [0.5, 1.0], "lexical_weights": [0.2, 3.0]}
    write_yaml(recipes / "hybrid.yaml", {"description": "three scores", "retriever": "hybrid", "hybrid": weighed})
    model = str(write_cross_encoder(root / "cross_encoder"))
    rerank = {"of": "tuned", "model": model, "top_k": 5, "keep": 3, "max_length": 64}
    write_yaml(recipes / "reranked.yaml", {"description": "two stages", "retriever": "reranked", "rerank": rerank})
    edit_yaml(recipes / "tuned.yaml", "training", matryoshka_dimensions=[8, 16])
    edit_dataset(
        root / "data" / "small",
        variants=["bm25", "base", "tuned", "hybrid", "reranked"],
        answer_precision=0.6,
        promotion_loss_limit=1.0,
    )
    found = PipelineProject(root)
    found.run()
    return found


@pytest.fixture(scope="module")
def running(project: PipelineProject) -> Iterator[dict[str, Running]]:
    """A service per variant, begun when it is first asked for."""

    class Services(dict[str, Running]):
        def __missing__(self, name: str) -> Running:
            self[name] = Running(project, name)
            return self[name]

    services = Services()
    yield services
    for service in services.values():
        service.server.stop()


def encoder_of(project: PipelineProject, variant: str) -> Encoder:
    graph = project.graph
    cache = VectorCache(project.root / "other_vectors")
    found = load_variant_encoder(graph, graph.project.variants[variant], lambda one: CachedEncoder(one, cache))
    assert found is not None
    return found


def vectors_of(response: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    return np.array([one.embedding for one in response.data], dtype=np.float32)


def test_openais_client_gets_the_vectors_of_the_variants_own_encoder(running, project) -> None:
    service, encoder = running["small/tuned"], encoder_of(project, "small/tuned")
    client = service.client()
    for form in ("float", "base64"):
        found = client.embeddings.create(model="small/tuned-query", input=TEXTS, encoding_format=form, extra_body={})
        rows = [one.embedding for one in found.data]
        if form == "base64":
            rows = [np.frombuffer(base64.b64decode(row), dtype="<f4") if isinstance(row, str) else row for row in rows]
        np.testing.assert_allclose(np.array(rows), encoder.encode_queries(WRITTEN), atol=1e-5)
        assert [one.index for one in found.data] == [0, 1, 2] and found.usage.total_tokens > 20
    one = client.embeddings.create(model="small/tuned", input=TEXTS[0], extra_body={"input_type": "passage"})
    np.testing.assert_allclose(vectors_of(one), encoder.encode_passages(WRITTEN[:1]), atol=1e-5)
    assert [model.id for model in client.models.list()] == ["small/tuned"]


def test_a_vector_is_cut_only_to_a_length_that_was_trained(running) -> None:
    client = running["small/tuned"].client()
    whole = vectors_of(client.embeddings.create(model="small/tuned-query", input=TEXTS))
    short = vectors_of(client.embeddings.create(model="small/tuned-query", input=TEXTS, dimensions=8))
    assert whole.shape == (3, 32) and short.shape == (3, 8)
    expected = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(short, expected, atol=1e-5)
    with pytest.raises(openai.BadRequestError, match=r"was trained for \(8, 16, 32\), found 9"):
        client.embeddings.create(model="small/tuned-query", input=TEXTS, dimensions=9)
    base = running["small/base"].client()
    with pytest.raises(openai.BadRequestError, match=r"\(32\), found 8"):
        base.embeddings.create(model="small/base-query", input=TEXTS, dimensions=8)


def test_a_request_that_does_not_say_query_or_passage_is_refused_where_they_differ(running, project) -> None:
    with pytest.raises(openai.BadRequestError, match="input_type: small/tuned encodes queries and passages diff"):
        running["small/tuned"].client().embeddings.create(model="small/tuned", input=TEXTS)
    told = Running(project, "small/tuned", input_type="query")
    try:
        found = told.client().embeddings.create(model="small/tuned", input=TEXTS)
        np.testing.assert_allclose(
            vectors_of(found), encoder_of(project, "small/tuned").encode_queries(WRITTEN), atol=1e-5
        )
    finally:
        told.server.stop()


def test_what_was_cut_off_is_said(running) -> None:
    text = "我肝上有油" * 20
    status, found, _ = running["small/tuned"].ask(
        "/v1/embeddings", {"model": "small/tuned-query", "input": ["痛风", text]}
    )
    assert status == 200 and found["truncated"] == [1] and found["usage"]["prompt_tokens"] == 4 + 48


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/embeddings", {"model": "gpt", "input": "a"}, 404, "expected small/tuned"),
        ("/v1/embeddings", {"model": "small/tuned-query", "input": []}, 400, "input: "),
        ("/v1/embeddings", {"model": "small/tuned-query", "input": "​ "}, 400, "without a visible character"),
        ("/v1/embeddings", {"model": "small/tuned-query", "input": [1, 2]}, 400, "found token numbers"),
        ("/v1/embeddings", {"model": "small/tuned-query", "input": [[1, 2]]}, 400, "found token numbers"),
        ("/v1/embeddings", {"model": "small/tuned-query", "input": ["a"] * 2049}, 400, "at most 2048"),
        ("/v1/embeddings", {"model": "small/tuned-query", "input": ["a", *[1] * 2048]}, 400, "at most 2048"),
        ("/v1/rerank", {"query": "a", "documents": [1] * 2049}, 400, "at most 2048"),
        ("/v1/embeddings", {"model": "small/tuned-query", "input": "a" * 100_001}, 400, "at most 100,000"),
        ("/v1/embeddings", {"model": "small/tuned-query", "input": "a", "dimension": 8}, 400, "dimension"),
        ("/v1/embeddings", b"{", 400, "JSON"),
        ("/v1/rerank", {"query": "a"}, 400, "documents"),
        ("/search", {"query": "a", "k": 0}, 400, "k: "),
        ("/search", {"query": "a", "k": 101}, 400, "k: "),
        ("/search", {"query": ["a"]}, 400, "query: "),
        ("/search", {"query": "a", "model": "small/base"}, 404, "expected small/tuned"),
        ("/search", b'{"query": "' + b"a" * 17 * 2**20 + b'"}', 413, "at most 16 MiB"),
    ],
)
def test_a_wrong_request_is_refused_with_what_to_change(running, path: str, body, status: int, said: str) -> None:
    found, content, _ = running["small/tuned"].ask(path, body)
    assert found == status and said in content["error"]["message"], content
    assert set(content["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/search"])
def test_a_body_that_is_wrong_in_a_million_places_is_refused_at_once_and_shortly(running, path: str) -> None:
    items = ",".join(["1"] * 500_000)
    fields = ",".join(f'"{at}":1' for at in range(500_000))
    many = f'"input": ["a", {items}], "documents": ["a", {items}], "query": ["a", {items}]'
    long = "k" * 2**20
    for body in (
        f"{{{many}}}",
        f"{{{fields}}}",
        f'{{"{long}": 1}}',
        f'{{"model": "{long}", "query": "a", "input": "a"}}',
    ):
        service, began = running["small/tuned"], time.process_time()
        status, content, _ = service.ask(path, body.encode())
        assert status in (400, 404) and len(json.dumps(content)) < 2000
        assert time.process_time() - began < 2


def test_only_json_and_only_this_machines_names_are_answered(running) -> None:
    service = running["small/tuned"]
    assert service.ask("/search", {"query": "痛风"}, headers={"Content-Type": "text/plain"})[0] == 415
    assert service.ask("/search", {"query": "痛风"}, headers={"Host": "evil.example"})[0] == 400
    assert service.ask("/search")[0] == 405
    assert service.ask("/nothing")[0] == 404


@pytest.mark.parametrize("variant", ["small/bm25", "small/tuned", "small/hybrid", "small/reranked"])
def test_search_finds_what_the_evaluation_found_and_says_whether_it_is_sure(running, project, variant: str) -> None:
    folder = project.graph.store.open(project.manifest("query_metrics", variant))
    calibration, chosen, recorded = read_calibration(folder), read_returned(folder), {}
    for hit in read_hits(folder / HITS_FILE):
        recorded.setdefault(hit.query_id, []).append((hit.passage_id, pytest.approx(hit.score, abs=1e-5)))
    queries = [query for query in project.queries() if query.split == "test"][:8]
    for query in queries:
        status, found, headers = running[variant].ask("/search", {"query": query.text, "k": 3})
        assert status == 200
        assert [(hit["passage_id"], hit["score"]) for hit in found["hits"]] == recorded.get(query.id, [])[:3]
        threshold = calibration.threshold if calibration else None
        assert found["threshold"] == threshold
        best = found["hits"][0]["score"] if found["hits"] else None
        assert found["sure"] is (None if calibration is None else bool(threshold and best and best >= threshold))
        scores = [hit["score"] for hit in found["hits"]]
        assert found["returned"] == (chosen.rule.count(scores) if chosen else None)
        assert headers["x-variant"] == variant
    assert found["second_stage"] is (variant == "small/reranked")
    two = running[variant].ask("/search", {"query": "我肝上有油，大脚趾半夜痛醒"})[1]
    assert two["clauses"] == (["我肝上有油", "大脚趾半夜痛醒"] if variant == "small/hybrid" else [])
    assert (two["weights"] is not None) is (variant == "small/hybrid")


def test_rerank_orders_by_the_cross_encoder_and_by_vectors_where_there_is_none(running, project) -> None:
    documents = ["脂肪肝", "痛风", {"text": "高血压"}]
    body = {"query": TEXTS[0], "documents": documents, "return_documents": True}
    scorer = load_cross_encoder(CrossEncoderSettings(model=str(project.root / "cross_encoder"), max_length=64))
    texts = ["脂肪肝", "痛风", "高血压"]
    raw = scorer.score([TextPair(WRITTEN[0], text) for text in texts])
    encoder = encoder_of(project, "small/tuned")
    cosines = encoder.encode_passages(texts) @ encoder.encode_queries(WRITTEN[:1])[0]
    cases = {"small/reranked": ("cross-encoder", 1 / (1 + np.exp(-raw))), "small/tuned": ("vectors", cosines)}
    for variant, (kind, expected) in cases.items():
        status, found, _ = running[variant].ask("/v1/rerank", body)
        assert status == 200 and found["scored_by"] == kind
        order = np.argsort(-expected)
        assert [one["index"] for one in found["results"]] == order.tolist()
        np.testing.assert_allclose([one["relevance_score"] for one in found["results"]], expected[order], atol=1e-4)
        assert [one["document"]["text"] for one in found["results"]] == [texts[at] for at in order]
        assert len(running[variant].ask("/v1/rerank", {**body, "top_n": 1})[1]["results"]) == 1
    found = running["small/reranked"].ask("/v1/rerank", {**body, "raw_scores": True})[1]
    np.testing.assert_allclose(sorted(one["relevance_score"] for one in found["results"]), np.sort(raw), atol=1e-4)
    status, found, _ = running["small/bm25"].ask("/v1/rerank", body)
    assert status == 400 and "neither a cross-encoder nor vectors" in found["error"]["message"]
    status, found, _ = running["small/bm25"].ask("/v1/embeddings", {"model": "small/bm25", "input": "a"})
    assert status == 400 and "has no vectors" in found["error"]["message"]


def test_rerank_keeps_the_models_order_where_its_scores_are_all_1_between_0_and_1(project) -> None:
    service = Running(project, "small/reranked")
    try:
        served = service.server.served
        scorer = FakePairScorer({"脂肪肝": 40.0, "痛风": 60.0, "高血压": 50.0})
        service.server.service.served = replace(served, search=replace(served.search, scorer=scorer))
        found = service.ask("/v1/rerank", {"query": "a", "documents": list(scorer.scores)})[1]["results"]
        assert [one["index"] for one in found] == [1, 2, 0]
        assert [one["relevance_score"] for one in found] == [1.0, 1.0, 1.0]
    finally:
        service.server.stop()


def test_each_answer_names_the_checkpoint_it_came_from(running, project) -> None:
    digest = project.manifest("finetuned_checkpoint", "small/tuned").digest
    service = running["small/tuned"]
    raw = service.client().embeddings.with_raw_response.create(model="small/tuned-query", input="痛风")
    assert raw.headers["x-checkpoint-digest"] == digest
    status, found, headers = service.ask("/healthz")
    assert status == 200 and found["artifacts"]["finetuned_checkpoint[small/tuned]"] == digest
    assert headers["x-checkpoint-digest"] == digest
    index = project.manifest("faiss_index", "small/base").digest
    assert running["small/base"].ask("/healthz")[2]["x-checkpoint-digest"] == index


def test_a_key_is_asked_for_where_one_is_set(project) -> None:
    service = Running(project, "small/bm25", api_key="correct horse")
    try:
        for path, body in (("/search", {"query": "痛风"}), ("/v1/models", None), ("/metrics", None)):
            assert service.ask(path, body)[0] == 401
            assert service.ask(path, body, headers={"Authorization": "Bearer wrong"})[0] == 401
            assert service.ask(path, body, headers={"Authorization": "Bearer correct horse"})[0] == 200
        assert service.ask("/healthz")[0] == 200 and service.ask("/")[0] == 200
        with pytest.raises(openai.AuthenticationError):
            service.client(api_key="wrong").embeddings.create(model="small/bm25", input="a")
    finally:
        service.server.stop()
    with pytest.raises(ValueError, match="expected an API key where other machines can ask"):
        Server(lambda: project.graph, "small/bm25", ServerSettings(host="0.0.0.0"), print)


def test_the_metrics_are_lines_that_prometheus_reads(running) -> None:
    service = running["small/tuned"]
    service.ask("/search", {"query": "痛风"})
    status, found, headers = service.ask("/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    line = re.compile(r'embed_pipeline_\w+(\{(\w+="[^"\n]*",?)+\})? [0-9.e+-]+|# (HELP|TYPE) embed_pipeline_\w+ .+')
    assert [one for one in found["text"].splitlines() if not line.fullmatch(one)] == []
    assert re.search(r'requests_total\{path="/search",status="200"\} [1-9]', found["text"])
    buckets = [int(n) for n in re.findall(r'request_seconds_bucket\{path="/search",le="[^"]+"\} (\d+)', found["text"])]
    assert buckets == sorted(buckets) and buckets[-1] > 0


def test_what_users_ask_is_not_written_down(running, project) -> None:
    before = project.vectors()
    assert running["small/tuned"].ask("/search", {"query": "谁也没问过的问题"})[0] == 200
    running["small/tuned"].client().embeddings.create(model="small/tuned-query", input="谁也没问过的问题")
    assert project.vectors() == before


def test_the_page_loads_nothing_from_elsewhere(running) -> None:
    status, found, headers = running["small/tuned"].ask("/")
    assert status == 200 and "default-src 'none'" in headers["content-security-policy"]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", found["text"]) and "试一个问题" in found["text"]


def test_under_load_no_answer_is_lost_or_mixed_up_and_requests_share_batches(running, project) -> None:
    service, encoder = running["small/tuned"], encoder_of(project, "small/tuned")
    texts = [f"{row}我肝上有油{'、能买吗' * (row % 7)}" for row in range(240)]
    expected = encoder.encode_queries(texts)
    client = service.client()

    def embed(row: int) -> bool:
        found = vectors_of(client.embeddings.create(model="small/tuned-query", input=texts[row]))
        return np.allclose(found[0], expected[row], atol=1e-5)

    before = service.server.service.metrics.batch
    count, total = sum(before.counts), before.sum
    with ThreadPoolExecutor(24) as pool:
        whole = pool.submit(lambda: client.embeddings.create(model="small/tuned-query", input=texts))
        assert all(pool.map(embed, range(len(texts))))
        np.testing.assert_allclose(vectors_of(whole.result()), expected, atol=1e-5)
    after = service.server.service.metrics.batch
    assert after.sum - total == 480 and sum(after.counts) - count < 240, "requests went one by one"
    assert service.server.service.batcher.waiting == 0


def test_a_full_queue_answers_429_and_the_client_that_comes_again_is_answered(project) -> None:
    service = Running(project, "small/tuned", queue=4, batch_tokens=40)
    try:
        body = {"model": "small/tuned-query", "input": TEXTS[:1]}
        with ThreadPoolExecutor(24) as pool:
            found = list(pool.map(lambda _: service.ask("/v1/embeddings", body), range(96)))
        statuses = {status for status, _, _ in found}
        assert statuses == {200, 429}
        refused = next(headers for status, _, headers in found if status == 429)
        assert refused["retry-after"] == "1"
        # A request larger than the queue is taken while nothing waits.
        many = service.client().embeddings.create(model="small/tuned-query", input=TEXTS * 10)
        assert len(many.data) == 30
        with ThreadPoolExecutor(12) as pool:
            client = service.client(max_retries=8)
            answers = pool.map(
                lambda _: client.embeddings.create(model="small/tuned-query", input=TEXTS[:1]), range(24)
            )
            assert all(len(answer.data) == 1 for answer in answers)
    finally:
        service.server.stop()


def _waits_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Askers:
    """Four clients that ask on until the end; every answer with the digest that it names, and what went wrong."""

    def __init__(self, service: Running, model: str) -> None:
        self.found: list[tuple[str, np.ndarray]] = []
        self.failures: list[Exception] = []
        self._service, self._model, self._stop = service, model, threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(4)]

    def __enter__(self) -> "Askers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self, expected: dict[str, np.ndarray]) -> None:
        """No answer is lost, and each is of the digest that it names."""
        assert self.failures == []
        assert {name for name, _ in self.found} == set(expected), "an answer of a half-built state"
        assert all(np.allclose(vectors, expected[name], atol=1e-5) for name, vectors in self.found)

    def _ask_on(self) -> None:
        client = self._service.client()
        while not self._stop.is_set():
            try:
                raw = client.embeddings.with_raw_response.create(model=self._model, input=TEXTS)
                self.found.append((raw.headers["x-checkpoint-digest"], vectors_of(raw.parse())))
            except Exception as error:  # whatever it is, the test tells it
                self.failures.append(error)
                return


def test_an_index_that_is_replaced_under_load_costs_no_answer(project: PipelineProject, tmp_path: Path) -> None:
    changing = PipelineProject(Path(shutil.copytree(project.root, tmp_path / "project")))
    service = Running(changing, "small/base")
    try:
        first, old = service.server.served, encoder_of(changing, "small/base").encode_queries(WRITTEN)
        with Askers(service, "small/base-query") as askers:
            edit_yaml(changing.root / "data" / "recipes" / "base.yaml", "encoder", query_instruction="问：")
            changing.execute("evaluate_variant", "small/base")
            digest = changing.manifest("faiss_index", "small/base").digest
            _waits_for(lambda: askers.failures or (askers.found and askers.found[-1][0] == digest))
        new = encoder_of(changing, "small/base").encode_queries(WRITTEN)
        assert np.abs(new - old).max() > 1e-3
        askers.check({first.checkpoint: old, digest: new})
    finally:
        service.server.stop()


def test_figures_that_are_measured_after_an_index_was_taken_are_taken_too(project, tmp_path: Path) -> None:
    changing = PipelineProject(Path(shutil.copytree(project.root, tmp_path / "project")))
    changing.graph.store.forget(changing.manifest("query_metrics", "small/base"))
    service = Running(changing, "small/base")
    try:
        asked = {"query": "痛风"}
        assert service.ask("/search", asked)[1]["sure"] is None
        assert not service.server.reload()
        changing.execute("evaluate_variant", "small/base")
        _waits_for(lambda: service.ask("/search", asked)[1]["sure"] is not None)
        assert not service.server.reload()
    finally:
        service.server.stop()


@pytest.mark.slow
def test_a_promoted_checkpoint_that_changes_is_taken_whole_and_without_a_lost_answer(
    project: PipelineProject, tmp_path: Path
) -> None:
    changing = PipelineProject(Path(shutil.copytree(project.root, tmp_path / "project")))
    service = Running(changing, "small")
    try:
        first = service.server.served
        assert first.variant == "small/tuned"
        old = encoder_of(changing, "small/tuned").encode_queries(WRITTEN)
        with Askers(service, "small-query") as askers:
            recipe = changing.root / "data" / "recipes" / "tuned.yaml"
            edit_yaml(recipe, "training", epochs=3)
            changing.execute("finetune_variant", "small/tuned")
            # Weights and index are of different rounds now; that is said and not served.
            _waits_for(lambda: any("goes on answering" in line for line in service.said))
            assert service.ask("/search", {"query": "痛风"})[2]["x-checkpoint-digest"] == first.checkpoint
            kept = recipe.read_text(encoding="utf-8")
            recipe.write_text("encoder: [", encoding="utf-8")
            time.sleep(0.5)
            assert service.ask("/search", {"query": "痛风"})[0] == 200
            recipe.write_text(kept, encoding="utf-8")
            changing.execute("evaluate_variant", "small/tuned")
            assert service.server.served is first, "the choice of the checkpoint to take is still of the old one"
            changing.execute("promote_checkpoint", "small")
            digest = changing.manifest("finetuned_checkpoint", "small/tuned").digest
            assert digest != first.checkpoint
            _waits_for(lambda: askers.failures or askers.found[-1][0] == digest)
        new = encoder_of(changing, "small/tuned").encode_queries(WRITTEN)
        assert np.abs(new - old).max() > 1e-3
        askers.check({first.checkpoint: old, digest: new})
        assert service.said[-1] == f"serving small/tuned {digest[:12]}"
        assert service.server.service.metrics.reloads["done"] == 1
    finally:
        service.server.stop()


def _waiting(address: str) -> int:
    """How many texts wait in a service."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as response:
        return int(response.read().decode().rpartition("embed_pipeline_waiting_texts ")[2].split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_command_answers_what_was_asked_and_ends(project: PipelineProject, tmp_path: Path, number) -> None:
    root = Path(shutil.copytree(project.root, tmp_path / "project"))
    mark_project(root)
    (root / "home").rename(root / ".embed_pipeline")
    command = Command(root, "serve", "small/tuned", "--port", "0", "--batch-tokens", "80")
    command.wait_until(lambda: "serving small/tuned" in command.said())
    address = re.search(r"http://\S+", command.said())
    assert address is not None
    client = openai.OpenAI(base_url=f"{address[0]}/v1", api_key="none", max_retries=0)
    texts = [f"{row}我肝上有油，能买吗" for row in range(600)]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: client.embeddings.create(model="small/tuned-query", input=texts))
        _waits_for(lambda: _waiting(address[0]) > 0)
        assert command.stop(number) < 20
        assert len(answer.result().data) == len(texts)
    assert "Stopped. What was asked before was answered." in command.said() and "Traceback" not in command.said()


def test_a_port_that_is_taken_and_a_variant_that_was_not_built_are_said(running, project, tmp_path: Path) -> None:
    port = int(running["small/tuned"].address.rpartition(":")[2])
    with pytest.raises(ValueError, match="expected a free port"):
        Server(lambda: project.graph, "small/bm25", ServerSettings(port=port), print).start()
    elsewhere = ServerSettings(host="192.0.2.1", api_key="correct horse")
    with pytest.raises(ValueError, match=r"expected an address of this machine.*--host"):
        Server(lambda: project.graph, "small/bm25", elsewhere, print).start()
    empty = PipelineProject(tmp_path)
    shutil.copytree(project.root / "data", tmp_path / "data")
    with pytest.raises(ValueError, match="does not exist yet"):
        Server(lambda: empty.graph, "small/tuned", ServerSettings(), print)
