"""Laws of encoders behind a service, with the real openai client against a server of our own."""

import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from embed_pipeline.encoding.hosted import HostedEncoder, load_hosted_encoder
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.service_errors import hide_key
from embed_pipeline.encoding.usage import SpendLimitError
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline_tests.embedding_server import Call, EmbeddingServer, count_tokens, one_in_three
from embed_pipeline_tests.failing_server import Failure
from embed_pipeline_tests.fakes import FakeEncoder
from embed_pipeline_tests.stopwatch import fastest

CANARY = "sk-canary-7f3a9c2e51d84b06"
TEXTS = [f"question {number} about 糖尿病" for number in range(23)]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "AZURE_OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CANARY_KEY", CANARY)


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(FakeEncoder()) as running:
        yield running


def settings_for(server: EmbeddingServer, **changes: Any) -> HostedEncoderSettings:
    found = {"service": "compatible", "model": "fake", "base_url": f"{server.url}/v1", "vector_dimension": 32}
    return HostedEncoderSettings.model_validate({**found, "batch_texts": 4, "timeout_seconds": 5, **changes})


def encoder_for(server: EmbeddingServer, directory: Path, **changes: Any) -> HostedEncoder:
    return load_hosted_encoder(settings_for(server, **changes), usage_directory=directory / "usage")


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    return str(caught.value)


def test_the_vectors_are_those_of_the_served_encoder_to_the_bit(server: EmbeddingServer, tmp_path: Path) -> None:
    encoder = encoder_for(server, tmp_path)
    np.testing.assert_array_equal(encoder.encode_passages(TEXTS), FakeEncoder().encode_passages(TEXTS))
    assert [len(call.texts) for call in server.calls] == [4, 4, 4, 4, 4, 3]
    assert encoder.encode_queries([]).shape == (0, 32)
    assert encoder.encode_queries([]).dtype == np.float32


def test_a_service_that_fails_one_call_in_three_gives_the_same_vectors(tmp_path: Path) -> None:
    with EmbeddingServer(FakeEncoder(), fail=one_in_three(silent_seconds=1.7)) as server:
        encoder = encoder_for(server, tmp_path, timeout_seconds=1.5)
        np.testing.assert_array_equal(encoder.encode_passages(TEXTS), FakeEncoder().encode_passages(TEXTS))
        assert (server.answered, len(server.calls)) == (6, 9)
        assert [request.texts for request in encoder.usage.requests] == [4, 4, 4, 4, 4, 3]
        assert max(encoder.request_milliseconds()) < 1500, "waiting is not latency"


def test_a_service_that_fails_more_often_than_max_retries_is_an_error(tmp_path: Path) -> None:
    with EmbeddingServer(FakeEncoder(), fail=lambda number, call: Failure(429)) as server:
        encoder = encoder_for(server, tmp_path, max_retries=2)
        message = message_of(lambda: encoder.encode_queries(["a"]))
        assert "status 429" in message and "after 3 attempts" in message and "quota" in message
        assert len(server.calls) == 3


def test_the_wait_that_the_service_asks_for_is_kept(tmp_path: Path) -> None:
    def fail(number: int, call: Call) -> Failure | None:
        return Failure(429, headers={"retry-after": "0.05"}) if number % 2 == 0 else None

    with EmbeddingServer(FakeEncoder(), fail=fail) as server:
        seconds = fastest(lambda: encoder_for(server, tmp_path).encode_queries(["a"]))
        # Without the header the client waits 0.375 to 0.5 s.
        assert 0.05 <= seconds < 0.37


def test_dimensions_are_asked_for_and_come_back(server: EmbeddingServer, tmp_path: Path) -> None:
    encoder = encoder_for(server, tmp_path, dimensions=8, vector_dimension=None)
    expected = FakeEncoder().encode_queries(TEXTS)[:, :8]
    np.testing.assert_allclose(
        encoder.encode_queries(TEXTS), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6
    )
    assert server.calls[0].body["dimensions"] == encoder.dimension == 8
    encoder_for(server, tmp_path).encode_queries(["a"])
    assert "dimensions" not in server.calls[-1].body


def test_vectors_as_lists_are_read_too(tmp_path: Path) -> None:
    def as_lists(answer: dict[str, Any]) -> dict[str, Any]:
        import base64

        for entry in answer["data"]:
            entry["embedding"] = np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4").tolist()
        return answer

    with EmbeddingServer(FakeEncoder(), alter=as_lists) as server:
        vectors = encoder_for(server, tmp_path).encode_queries(TEXTS)
        np.testing.assert_array_equal(vectors, FakeEncoder().encode_queries(TEXTS))


def test_without_normalize_the_lengths_stay(tmp_path: Path) -> None:
    class Long(FakeEncoder):
        def encode_passages(self, texts):
            return super().encode_passages(texts) * 3

    with EmbeddingServer(Long()) as server:
        raw = encoder_for(server, tmp_path, normalize=False).encode_queries(TEXTS)
        np.testing.assert_allclose(np.linalg.norm(raw, axis=1), 3, rtol=1e-6)
        unit = encoder_for(server, tmp_path).encode_queries(TEXTS)
        np.testing.assert_allclose(unit, FakeEncoder().encode_queries(TEXTS), atol=1e-6)


def test_instructions_reach_the_service(server: EmbeddingServer, tmp_path: Path) -> None:
    encoder = encoder_for(server, tmp_path, query_instruction="q", instruction_format="{}: {}")
    encoder.encode_queries(["a"])
    encoder.encode_passages(["a"])
    assert [call.texts for call in server.calls] == [("q: a",), ("a",)]
    assert encoder.query_fingerprint != encoder.passage_fingerprint


def test_azure_is_asked_on_its_own_path_with_its_own_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", CANARY)
    with EmbeddingServer(FakeEncoder(), key=CANARY) as server:
        encoder = encoder_for(
            server, tmp_path, service="azure", model="our-ada", base_url=server.url, api_version="2024-10-21"
        )
        np.testing.assert_array_equal(encoder.encode_queries(TEXTS), FakeEncoder().encode_queries(TEXTS))
        call = server.calls[0]
        assert call.path == "/openai/deployments/our-ada/embeddings?api-version=2024-10-21"
        assert call.headers["api-key"] == CANARY and "authorization" not in call.headers


def test_a_server_without_a_key_variable_sees_nothing_of_openai(
    server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, CANARY)
    encoder_for(server, tmp_path).encode_queries(["a"])
    assert CANARY not in str(server.calls[0].headers) and "authorization" not in server.calls[0].headers
    encoder_for(server, tmp_path, api_key_variable="CANARY_KEY").encode_queries(["a"])
    assert server.calls[1].headers["authorization"] == f"Bearer {CANARY}"


def test_openai_is_asked_at_its_own_address_whatever_the_environment_says(
    server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = HostedEncoderSettings.model_validate({"service": "openai", "model": "text-embedding-3-small"})
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert own.url == "https://api.openai.com/v1"
    client = load_hosted_encoder(own, usage_directory=tmp_path)._client._client
    assert str(client.base_url) == "https://api.openai.com/v1/"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(401, "Incorrect API key"), ["status 401", "Incorrect API key", "environment variable CANARY_KEY"]),
        (Failure(404, "The model `fake` does not exist"), ["status 404", "does not exist", "Correct model"]),
        (Failure(400, "maximum context length is 8192 tokens"), ["status 400", "8191 tokens", "shortened or split"]),
    ],
)
def test_a_refusal_names_service_model_status_and_remedy(tmp_path: Path, failure: Failure, words: list[str]) -> None:
    with EmbeddingServer(FakeEncoder(), fail=lambda number, call: failure) as server:
        encoder = encoder_for(server, tmp_path, api_key_variable="CANARY_KEY", price_per_million_tokens=1)
        message = message_of(lambda: encoder.encode_queries(["a"]))
        for word in ["service compatible", "model fake", server.url, *words]:
            assert word in message
        assert len(server.calls) == 1
        assert (encoder.usage.spent_usd, encoder.usage.reserved_usd) == (0, 0)


def test_nobody_at_the_address_is_an_error_that_says_so(tmp_path: Path) -> None:
    with EmbeddingServer(FakeEncoder()) as server:
        encoder = encoder_for(server, tmp_path, max_retries=0)
    assert "no connection" in message_of(lambda: encoder.encode_queries(["a"]))


def _first(answer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**answer, "data": [{**answer["data"][0], **changes}, *answer["data"][1:]]}


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (lambda answer: {**answer, "data": answer["data"][1:]}, "expected 3 vectors, one per text, found 2"),
        (lambda answer: {**answer, "data": []}, "expected 3 vectors, one per text, found 0"),
        (
            lambda answer: _first(answer, index=0),
            "expected an index from 0 to 2 on each of 3 vectors, found 2",
        ),
        (lambda answer: _first(answer, embedding=[0.5] * 31), "expected vectors of length 32, found length 31"),
        (lambda answer: _first(answer, embedding=[1e300] * 32), "found NaN, null or infinity for 'c'"),
        (lambda answer: _first(answer, embedding=["a"] * 32), "found something else than numbers for 'c'"),
        (lambda answer: _first(answer, embedding="%%%"), "found something else than numbers for 'c'"),
        (lambda answer: b"<html>a login page</html>", "expected an answer, found something else"),
        (lambda answer: b'{"data": [', "found something that cannot be read"),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error(tmp_path: Path, alter: Any, found: str) -> None:
    with EmbeddingServer(FakeEncoder(), alter=alter) as server:
        assert found in message_of(lambda: encoder_for(server, tmp_path).encode_passages(["a", "b", "c"]))


@pytest.mark.parametrize(
    ("row", "found"), [([0.0] * 32, "zeros alone for 'text number"), ([0.5] * 32, "one and the same for all 8: 'text ")]
)
def test_vectors_that_say_nothing_are_refused_with_their_texts_and_never_kept(
    tmp_path: Path, row: list[float], found: str
) -> None:
    texts = [f"text number {number}" for number in range(8)]

    def alter(answer: dict[str, Any]) -> object:
        return {**answer, "data": [{**entry, "embedding": row} for entry in answer["data"]]}

    cache = VectorCache(tmp_path / "vectors")
    with EmbeddingServer(FakeEncoder(), alter=alter) as server:
        encoder = CachedEncoder(encoder_for(server, tmp_path, batch_texts=8), cache)
        assert found in message_of(lambda: encoder.encode_passages(texts))
    assert not cache.lookup(encoder.passage_fingerprint, texts, 32).found.any()


def test_zeros_that_an_earlier_version_kept_are_asked_for_again(server: EmbeddingServer, tmp_path: Path) -> None:
    cache, encoder = VectorCache(tmp_path / "vectors"), encoder_for(server, tmp_path)
    cache.store(encoder.passage_fingerprint, ["a text"], np.zeros((1, 32), np.float32))
    assert CachedEncoder(encoder, cache).encode_passages(["a text"]).any()


def test_an_empty_text_is_refused_before_anything_is_sent(server: EmbeddingServer, tmp_path: Path) -> None:
    assert "passage 1 of the request is empty" in message_of(
        lambda: encoder_for(server, tmp_path).encode_passages(["a", "", "b"])
    )
    assert not server.calls


@given(lengths=st.lists(st.integers(1, 3000), max_size=40))
@settings(max_examples=60, deadline=None)
def test_portions_cover_the_texts_in_order_within_both_budgets(lengths: list[int]) -> None:
    found = {"service": "compatible", "model": "m", "base_url": "http://localhost", "vector_dimension": 2}
    decided = HostedEncoderSettings.model_validate({**found, "batch_texts": 5, "batch_tokens": 1000})
    encoder = load_hosted_encoder(decided, usage_directory=Path("unused"))
    texts = ["a" * length for length in lengths]
    sizes = encoder.portions("passage", texts)
    assert sum(sizes) == len(texts) and all(1 <= size <= 5 for size in sizes)
    start = 0
    for size in sizes:
        portion = texts[start : start + size]
        assert size == 1 or sum(map(len, portion)) / 3 <= 1000
        assert encoder.portions("passage", portion) == [size]
        start += size


def test_the_first_thirty_queries_go_alone_once_over_all_runs(server: EmbeddingServer, tmp_path: Path) -> None:
    texts = [f"question {number:02d}" for number in range(50)]
    cache = VectorCache(tmp_path)
    CachedEncoder(encoder_for(server, tmp_path), cache).encode_queries(texts[:20])
    CachedEncoder(encoder_for(server, tmp_path), cache).encode_queries(texts)
    assert [len(call.texts) for call in server.calls] == [1] * 30 + [4] * 5
    assert len(encoder_for(server, tmp_path).request_milliseconds(1)) == 30
    encoder_for(server, tmp_path / "other").encode_passages(texts)
    assert [len(call.texts) for call in server.calls[35:]] == [4] * 12 + [2]


def test_the_fingerprint_follows_what_changes_the_vectors_and_nothing_else(tmp_path: Path) -> None:
    base = {"service": "openai", "model": "text-embedding-3-small"}

    def fingerprint(**changes: Any) -> str:
        decided = HostedEncoderSettings.model_validate({**base, **changes})
        return load_hosted_encoder(decided, usage_directory=tmp_path).fingerprint

    changed = [
        {},
        {"model": "text-embedding-3-large"},
        {"base_url": "https://eu.api.openai.com/v1"},
        {"dimensions": 256},
        {"normalize": False},
        {"query_instruction": "q: "},
        {"passage_instruction": "q: "},
    ]
    assert len({fingerprint(**changes) for changes in changed}) == len(changed)
    alike = {
        "batch_texts": 1,
        "timeout_seconds": 1,
        "spend_limit_usd": 1,
        "api_key_variable": "OTHER",
        "max_retries": 0,
    }
    assert fingerprint(**alike, base_url="https://api.openai.com/v1/") == fingerprint()


def test_what_a_set_of_texts_costs_is_what_the_service_counted(server: EmbeddingServer, tmp_path: Path) -> None:
    encoder = encoder_for(server, tmp_path, price_per_million_tokens=2.0)
    assert encoder.cost_of(["abc"] * 5) == pytest.approx(1 * 2.0 / 1e6)
    encoder.encode_passages(TEXTS)
    assert encoder.cost_of(TEXTS + TEXTS) == pytest.approx(count_tokens(TEXTS) * 2.0 / 1e6)
    assert encoder.usage.spent_usd == pytest.approx(count_tokens(TEXTS) * 2.0 / 1e6)
    assert encoder_for(server, tmp_path).cost_of(TEXTS) == 0
    assert len(encoder.request_milliseconds()) == 6 and len(encoder.request_milliseconds(3)) == 1
    assert (encoder.texts_per_second() or 0) > 10
    fresh = encoder_for(server, tmp_path, query_instruction="q")
    assert (fresh.request_milliseconds(), fresh.texts_per_second()) == ([], None)


@given(
    price=st.floats(0.001, 100),
    limit=st.floats(1e-7, 1e-2),
    batch_texts=st.integers(1, 9),
    fails=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_the_limit_is_never_passed_at_any_price(
    price: float, limit: float, batch_texts: int, fails: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("limit")
    with EmbeddingServer(FakeEncoder(4), fail=one_in_three() if fails else lambda number, call: None) as server:
        changes = {"price_per_million_tokens": price, "spend_limit_usd": limit, "batch_texts": batch_texts}
        stopped = False
        for _ in range(2):
            encoder = encoder_for(server, directory, vector_dimension=4, **changes)
            try:
                encoder.encode_passages(TEXTS)
            except SpendLimitError:
                stopped = True
        charged = sum(request.tokens for request in encoder.usage.requests) * price / 1e6
        assert encoder.usage.spent_usd == pytest.approx(charged)
        assert encoder.usage.spent_usd <= limit
        assert stopped or sum(request.texts for request in encoder.usage.requests) == 2 * len(TEXTS)


def test_calls_that_got_no_answer_count_against_the_limit(tmp_path: Path) -> None:
    def fail(number: int, call: Call) -> Failure | None:
        return Failure(silent_seconds=1.7) if number == 1 else None

    text, price = "a" * 26, 1e6 / 100  # 30 tokens at most, 11 as counted; 100 tokens for a dollar
    with EmbeddingServer(FakeEncoder(), fail=fail) as server:
        changes = {"price_per_million_tokens": price, "timeout_seconds": 1.5, "batch_texts": 1}
        encoder = encoder_for(server, tmp_path, **changes, spend_limit_usd=0.75)
        encoder.encode_queries([text])
        with pytest.raises(SpendLimitError, match=r"0\.22 is spent, 0\.3 set aside"):
            encoder.encode_queries(["b" * 26, "c" * 26])
        # 11 + 30 without an answer + 11 + 30 are above 75, so a fourth was not sent.
        assert len(server.calls) == 3
        assert count_tokens(["a" * 26] * len(server.calls)) / 100 <= 0.75


def test_encoders_at_work_at_once_share_one_limit(tmp_path: Path) -> None:
    with EmbeddingServer(FakeEncoder(4)) as server:
        changes = {"price_per_million_tokens": 10.0, "spend_limit_usd": 0.002, "batch_texts": 1}
        stopped: list[SpendLimitError] = []

        def work() -> None:
            try:
                encoder_for(server, tmp_path, vector_dimension=4, **changes).encode_passages(TEXTS)
            except SpendLimitError as error:
                stopped.append(error)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(stopped) == 4
        assert 0 < server.tokens * 10.0 / 1e6 <= 0.002


def test_what_was_answered_before_an_error_is_kept_and_not_asked_again(tmp_path: Path) -> None:
    def fail(number: int, call: Call) -> Failure | None:
        return Failure(404, "no") if number == 2 else None

    with EmbeddingServer(FakeEncoder(), fail=fail) as server:
        with pytest.raises(ValueError, match="status 404"):
            CachedEncoder(encoder_for(server, tmp_path), VectorCache(tmp_path)).encode_passages(TEXTS)
        assert len(server.calls) == 3
        again = CachedEncoder(encoder_for(server, tmp_path), VectorCache(tmp_path))
        np.testing.assert_array_equal(again.encode_passages(TEXTS), FakeEncoder().encode_passages(TEXTS))
        assert (again.served, again.encoded) == (8, 15)
        answered = [text for number, call in enumerate(server.calls) if number != 2 for text in call.texts]
        assert sorted(answered) == sorted(TEXTS)


def _everything_written(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_the_key_appears_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    seen: list[str] = []
    with EmbeddingServer(FakeEncoder(), key=CANARY, fail=one_in_three()) as server:
        encoder = encoder_for(server, tmp_path, api_key_variable="CANARY_KEY", price_per_million_tokens=1)
        cached = CachedEncoder(encoder, VectorCache(tmp_path / "vectors"))
        cached.encode_queries(TEXTS)
        assert server.calls[0].headers["authorization"] == f"Bearer {CANARY}"
        seen += [repr(encoder), repr(encoder.settings), str(encoder.settings), encoder.settings.model_dump_json()]
        seen += [repr(encoder._client), repr(encoder._client._client), encoder.fingerprint]

        echo = [f"Bearer {CANARY}", repr(CANARY.encode()), CANARY[:20] + "…", f"x{CANARY * 2}y", CANARY[9:]]
        for message in echo:
            server.fail = lambda number, call, message=message: Failure(403, f"not allowed: {message}")
            try:
                cached.encode_queries(["new"])
            except ValueError as error:
                seen += [traceback.format_exc(), repr(error), str(vars(error))]
        server.key = "another"
        with pytest.raises(ValueError, match=r"status 401 .*Bearer \*\*\*") as caught:
            cached.encode_passages(["newer"])
        seen += ["".join(traceback.format_exception(caught.value)), caplog.text]
    assert "status 403" in "".join(seen) and "HTTP Request" in caplog.text
    assert all(f"{CANARY}"[at : at + 8] not in text for text in seen for at in range(len(CANARY) - 8))
    assert CANARY.encode() not in _everything_written(tmp_path) != b""


@pytest.mark.parametrize("found", [None, "", "sk canary", "sk-cänary", "sk-canary\x07"])
def test_a_missing_or_impossible_key_is_said_before_anything_is_sent(
    server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    monkeypatch.delenv("CANARY_KEY")
    if found is not None:
        monkeypatch.setenv("CANARY_KEY", found)
    encoder = encoder_for(server, tmp_path, api_key_variable="CANARY_KEY", price_per_million_tokens=1)
    message = message_of(lambda: encoder.encode_queries(["a"]))
    assert "environment variable CANARY_KEY" in message and "nary" not in message.replace("CANARY_KEY", "")
    assert not server.calls and encoder.usage.reserved_usd == 0


def test_a_key_read_from_a_file_may_end_with_a_line_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_KEY", f"{CANARY}\n")
    with EmbeddingServer(FakeEncoder(), key=CANARY) as server:
        encoder_for(server, tmp_path, api_key_variable="CANARY_KEY").encode_queries(["a"])


@pytest.mark.parametrize(
    "misplaced",
    [
        {"api_key": CANARY},
        {"api_key": CANARY, "model": None},
        {"api_key_variable": CANARY, "max_length": -1},
        {"token": CANARY},
        {"api_key_variable": CANARY},
        {"base_url": f"https://user:{CANARY}@host/v1"},
        {"base_url": f"https://host/v1?key={CANARY}"},
    ],
)
def test_a_key_written_into_the_settings_is_refused_without_repeating_it(misplaced: dict[str, Any]) -> None:
    found = {"service": "compatible", "model": "m", "base_url": "http://host/v1", "vector_dimension": 2}
    written = {name: value for name, value in {**found, **misplaced}.items() if value is not None}
    with pytest.raises(ValidationError) as caught:
        HostedEncoderSettings.model_validate(written)
    assert CANARY not in str(caught.value) + repr(caught.value.errors())


@given(before=st.text(max_size=20), key=st.text("abcd-", min_size=1, max_size=24), after=st.text(max_size=20))
def test_hiding_leaves_no_piece_of_the_key(before: str, key: str, after: str) -> None:
    hidden = hide_key(f"{before}{key}{after}", key)
    assert "***" in hidden
    size = min(8, len(key))
    assert all(key[at : at + size] not in hidden for at in range(len(key) - size + 1))
    assert hide_key(before, "") == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "text-embedding-ada-002"}, (1536, 0.10)),
        ({"model": "text-embedding-3-small"}, (1536, 0.02)),
        ({"model": "text-embedding-3-large"}, (3072, 0.13)),
        ({"model": "text-embedding-3-large", "dimensions": 256}, (256, 0.13)),
        ({"model": "text-embedding-3-small", "price_per_million_tokens": 0.5}, (1536, 0.5)),
        ({"model": "new", "vector_dimension": 7}, (7, 0.0)),
    ],
)
def test_known_models_need_neither_length_nor_price(changes: dict[str, Any], expected: tuple[int, float]) -> None:
    decided = HostedEncoderSettings.model_validate({"service": "openai", **changes})
    assert (decided.dimension, decided.price) == expected
    assert decided.query_max_length == decided.passage_max_length == decided.max_length == 8191


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "new"}, "Set vector_dimension"),
        ({"model": "text-embedding-ada-002", "dimensions": 256}, "cannot shorten"),
        ({"model": "text-embedding-3-small", "dimensions": 2000}, "is above the 1536"),
        ({"model": "text-embedding-3-small", "vector_dimension": 99}, "vector_dimension is 1536 here"),
        ({"service": "compatible", "model": "m", "vector_dimension": 2}, "needs base_url"),
        ({"service": "azure", "model": "text-embedding-3-small", "base_url": "https://host"}, "needs api_version"),
        ({"model": "text-embedding-3-small", "api_version": "2024-10-21"}, "needs api_version, the others have none"),
        ({"model": "text-embedding-3-small", "base_url": "host:80/v1"}, "base_url must be"),
        ({"model": "text-embedding-3-small", "instruction_format": "{}"}, "exactly twice"),
        ({"model": "m", "vector_dimension": 2, "spend_limit_usd": 1.0}, "spend_limit_usd needs price"),
    ],
)
def test_settings_that_cannot_hold_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HostedEncoderSettings.model_validate({"service": "openai", **changes})
