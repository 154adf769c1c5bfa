"""What real embedding servers answer, as their users report it, and what comes of it here: docs/services.md."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_pipeline.encoding.encoder import RefusedTextsError
from embed_pipeline.encoding.hosted import load_hosted_encoder
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.records import Passage
from embed_pipeline.retrieval.searching import Search, write_search_index
from embed_pipeline_tests.embedding_server import Call, EmbeddingServer
from embed_pipeline_tests.encoding.test_hosted import encoder_for, message_of, settings_for
from embed_pipeline_tests.failing_server import Failure
from embed_pipeline_tests.fakes import FakeEncoder

TEXTS = [f"line {number:02d} of the tide table" for number in range(16)]
OFFENDER = TEXTS[11]
NAN = {"error": {"message": "failed to encode response: json: unsupported value: NaN", "type": "api_error"}}
TOO_LONG = {
    "message": "Input validation error: `inputs` must have less than 512 tokens. Given: 534",
    "type": "Validation",
}
BATCH = {"code": 20042, "message": "input batch size 16 > maximum allowed batch size 5", "data": None}


def refuse(texts: Sequence[str], failure: Failure) -> Callable[[int, Call], Failure | None]:
    return lambda number, call: failure if set(texts) & set(call.texts) else None


def cached(server: EmbeddingServer, folder: Path, **changes: Any) -> CachedEncoder:
    settings = {"batch_texts": 16, "max_retries": 1, **changes}
    return CachedEncoder(encoder_for(server, folder, **settings), VectorCache(folder / "vectors"))


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(500, body=NAN), "status 500 (failed to encode response: json: unsupported value: NaN)"),
        (Failure(413, body=TOO_LONG), "must have less than 512 tokens. Given: 534)"),
        (Failure(400, body={"error": "the input length exceeds the context length"}), "exceeds the context length)"),
        (Failure(500, "input (596 tokens) is too large to process"), "is too large to process)"),
        (Failure(200, body=NAN), "status 400 (failed to encode"),
        (Failure(500, "Internal Server Error"), "status 500 (Internal Server Error)"),
        (Failure(422, body={"detail": [{"loc": ["body"], "msg": "text is not allowed"}]}), "(text is not allowed)"),
    ],
)
def test_one_text_that_cannot_be_encoded_is_named_and_the_others_of_its_batch_are_kept(
    tmp_path: Path, failure: Failure, words: str
) -> None:
    with EmbeddingServer(FakeEncoder(), fail=refuse([OFFENDER], failure)) as server:
        message = message_of(lambda: cached(server, tmp_path).encode_passages(TEXTS))
        assert f"1 of 16 passages have no vector, all others are kept: {OFFENDER!r}" in message and words in message
        # The whole, two ends, and halves; no more than one repeat of what is not known to be of the text.
        assert len(server.calls) <= 16
        made = len(server.calls)
        again = cached(server, tmp_path)
        others = [text for text in TEXTS if text != OFFENDER]
        np.testing.assert_array_equal(again.encode_passages(others), FakeEncoder().encode_passages(others))
        assert len(server.calls) == made, "what was answered is asked for again"


def test_what_was_encoded_on_the_way_to_the_text_is_paid_once(tmp_path: Path) -> None:
    with EmbeddingServer(FakeEncoder(), fail=refuse([OFFENDER], Failure(500, body=NAN))) as server:
        encoder = cached(server, tmp_path, price_per_million_tokens=1)
        message_of(lambda: encoder.encode_passages(TEXTS))
        usage = encoder.encoder.usage  # type: ignore[attr-defined]
        assert sum(request.texts for request in usage.requests) == 15 and usage.reserved_usd == 0


def test_several_texts_are_all_named_up_to_a_limit(tmp_path: Path) -> None:
    bad = TEXTS[2:6]
    with EmbeddingServer(FakeEncoder(), fail=refuse(bad, Failure(413, body=TOO_LONG))) as server:
        with pytest.raises(RefusedTextsError, match="4 of 16 passages have no vector") as caught:
            cached(server, tmp_path).encode_passages(TEXTS)
        assert list(caught.value.refused.values()) == bad
    with (
        EmbeddingServer(FakeEncoder(), fail=refuse(TEXTS[1:-1], Failure(413, body=TOO_LONG))) as server,
        pytest.raises(RefusedTextsError, match="8 of 16 passages have no vector, the rest was not tried"),
    ):
        cached(server, tmp_path / "many").encode_passages(TEXTS)


def test_a_service_that_refuses_everything_is_asked_for_two_texts_more_and_no_text_is_blamed(tmp_path: Path) -> None:
    with EmbeddingServer(FakeEncoder(), fail=lambda number, call: Failure(400, "unknown field: colour")) as server:
        message = message_of(lambda: cached(server, tmp_path).encode_passages(TEXTS))
        assert "unknown field: colour" in message and "refused alone too" in message
        assert [len(call.texts) for call in server.calls] == [16, 1, 1]


TOKENS = {"error": {"message": "Requested 453357 tokens, max 300000 tokens per request", "code": "max_tokens"}}


@pytest.mark.parametrize("body", [BATCH, TOKENS])
def test_a_limit_on_texts_per_request_is_found_once_and_kept_to(tmp_path: Path, body: object) -> None:
    def fail(number: int, call: Call) -> Failure | None:
        return Failure(400, body=body) if len(call.texts) > 5 else None

    with EmbeddingServer(FakeEncoder(), fail=fail) as server:
        texts = [f"{text}, page {page}" for page in range(4) for text in TEXTS]
        found = cached(server, tmp_path).encode_passages(texts)
        np.testing.assert_array_equal(found, FakeEncoder().encode_passages(texts))
        refused = [number for number, call in enumerate(server.calls) if len(call.texts) > 5]
        assert max(refused) < 9, "asked for too many again"


def test_the_passage_that_has_no_vector_is_named_with_its_id_and_file(tmp_path: Path) -> None:
    passages = [Passage(f"p{at}", text, {"file": "tides.md"}) for at, text in enumerate(TEXTS)]
    with (
        EmbeddingServer(FakeEncoder(), fail=refuse([OFFENDER], Failure(500, body=NAN))) as server,
        pytest.raises(ValueError, match=r"^passage p11 of tides\.md: 1 of 16 passages"),
    ):
        write_search_index(
            Search("dense", "en", cached(server, tmp_path)),
            passages,
            tmp_path / "index",
        )


@pytest.mark.parametrize("value", [None, float("nan"), 0.0])
def test_a_vector_of_null_nan_or_zeros_is_refused_by_its_text_and_the_others_of_the_answer_are_kept(
    tmp_path: Path, value: float | None
) -> None:
    def alter(answer: dict[str, Any]) -> object:
        data = [{**one, "embedding": [value] * 32} if one["index"] == 3 else one for one in answer["data"]]
        return {**answer, "data": data}

    with EmbeddingServer(FakeEncoder(), alter=alter) as server:
        encoder = cached(server, tmp_path)
        with pytest.raises(RefusedTextsError, match="1 of 16 passages have no vector") as caught:
            encoder.encode_passages(TEXTS)
        ((at, text),) = caught.value.refused.items()
        assert text == TEXTS[at] and repr(text) in str(caught.value)
        found = encoder.cache.lookup(encoder.passage_fingerprint, TEXTS, 32).found
        assert found.sum() == 15 and not found[at] and len(server.calls) == 1


@pytest.mark.parametrize(
    ("body", "status", "attempts"),
    [
        ({"error": {"message": "model is loading"}}, 503, 3),
        ({"error": "The server is overloaded, try again later", "error_type": "Overloaded"}, 503, 3),
        ({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503, 3),
        ({"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, 429, 3),
        ([{"error": {"code": 429, "message": "Resource has been exhausted", "status": "RESOURCE_EXHAUSTED"}}], 429, 3),
        (b"", 502, 3),
        ({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, 401, 1),
        ({"error": 'model "sea" not found, try pulling it first'}, 404, 1),
        ({"object": "error", "message": "dimensions is currently not supported", "code": 400}, 400, 1),
        ({"code": 20012, "message": "Model does not exist.", "data": None}, 404, 1),
        ({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, 429, 1),
    ],
)
def test_an_error_in_a_200_is_what_it_says_repeated_or_not_in_its_own_words(
    tmp_path: Path, body: object, status: int, attempts: int
) -> None:
    told: list[str] = []
    with EmbeddingServer(FakeEncoder(), fail=lambda number, call: Failure(200, body=body, headers=FAST)) as server:
        settings = settings_for(server, max_retries=2)
        encoder = load_hosted_encoder(settings, usage_directory=tmp_path, report=told.append)
        message = message_of(lambda: encoder.encode_passages(["a"]))
        said = json.dumps(body) if body else "an empty answer"
        words = message.partition(f"status {status} (")[2].partition(")")[0].strip(".")
        assert words and words in said.replace('\\"', '"') and len(server.calls) == attempts
    # Waiting is told while it goes on, once in ten seconds.
    assert len(told) == (attempts > 1) and all(f"status {status} ({words[:9]}" in line for line in told)


FAST = {"retry-after-ms": "1"}


def test_a_429_without_money_or_with_a_wait_of_hours_is_not_repeated(tmp_path: Path) -> None:
    quota = Failure(429, body={"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    day = Failure(429, "exceeded call rate limit. Please retry after 86400 seconds.", {"retry-after": "86400"})
    for failure, remedy in ((quota, "quota and payment"), (day, "Please retry after 86400 seconds")):
        with EmbeddingServer(FakeEncoder(), fail=lambda number, call, f=failure: f) as server:
            assert remedy in message_of(lambda: encoder_for(server, tmp_path).encode_passages(["a"]))
            assert len(server.calls) == 1


def test_a_service_that_refuses_base64_is_asked_for_lists_from_then_on(tmp_path: Path) -> None:
    def fail(number: int, call: Call) -> Failure | None:
        told = {"object": "error", "message": "base64 encoding is not currently supported", "code": 400}
        return Failure(400, body=told) if call.body["encoding_format"] == "base64" else None

    with EmbeddingServer(FakeEncoder(), fail=fail) as server:
        found = encoder_for(server, tmp_path, batch_texts=8).encode_passages(TEXTS)
        np.testing.assert_allclose(found, FakeEncoder().encode_passages(TEXTS), atol=1e-7)
        assert [call.body["encoding_format"] for call in server.calls] == ["base64", "float", "float"]


def _entries(change: Callable[[dict[str, Any], np.ndarray], object]) -> Callable[[dict[str, Any]], object]:
    def alter(answer: dict[str, Any]) -> object:
        rows = [np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4") for one in answer["data"]]
        return {**answer, "data": [change(one, row) for one, row in zip(answer["data"], rows, strict=True)]}

    return alter


def _text(row: np.ndarray, kind: str) -> str:
    return base64.b64encode(row.astype(kind).tobytes()).decode()


@pytest.mark.parametrize(
    "change",
    [
        lambda one, row: {**one, "embedding": [str(value) for value in row]},
        lambda one, row: {**one, "embedding": [row.tolist()]},
        lambda one, row: {**one, "embedding": row.tolist(), "index": one["index"], "object": None},
    ],
)
def test_numbers_as_strings_and_a_vector_in_a_list_of_its_own_are_read(tmp_path: Path, change: Any) -> None:
    with EmbeddingServer(FakeEncoder(), alter=_entries(change)) as server:
        found = encoder_for(server, tmp_path).encode_passages(TEXTS)
        np.testing.assert_allclose(found, FakeEncoder().encode_passages(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one, row: {**one, "embedding": _text(row, "<f8")}, "found length 64 (8 bytes a number?)"),
        (lambda one, row: {**one, "embedding": _text(row, "<f2")}, "found length 16 (2 bytes a number?)"),
        (lambda one, row: {**one, "embedding": [row.tolist()] * 7}, "found 7 vectors for one text"),
        (lambda one, row: {**one, "index": 0}, "Set batch_texts: 1"),
        (lambda one, row: {name: one[name] for name in ("embedding",)}, "1 distinct (None …)"),
        (lambda one, row: {**one, "index": one["index"] + 1}, "an index from 0 to 3"),
    ],
)
def test_what_cannot_be_read_for_sure_is_an_error_that_says_why(tmp_path: Path, change: Any, words: str) -> None:
    with EmbeddingServer(FakeEncoder(), alter=_entries(change)) as server:
        assert words in message_of(lambda: encoder_for(server, tmp_path).encode_passages(TEXTS))


def test_one_text_a_request_needs_no_index(tmp_path: Path) -> None:
    with EmbeddingServer(FakeEncoder(), alter=_entries(lambda one, row: {"embedding": row.tolist()})) as server:
        found = encoder_for(server, tmp_path, batch_texts=1).encode_passages(TEXTS[:3])
        np.testing.assert_allclose(found, FakeEncoder().encode_passages(TEXTS[:3]), atol=1e-7)


def test_an_answer_a_byte_at_a_time_ends_with_the_deadline_of_the_whole_request(tmp_path: Path) -> None:
    def fail(number: int, call: Call) -> Failure | None:
        return Failure(drip_seconds=0.05, body={"data": [{}] * 500})

    with EmbeddingServer(FakeEncoder(), fail=fail) as server:
        started = time.monotonic()
        encoder = encoder_for(server, tmp_path, timeout_seconds=0.5, max_retries=1, price_per_million_tokens=1)
        message = message_of(lambda: encoder.encode_passages(["a"]))
        # Two attempts and half a second between them; a whole answer takes minutes.
        assert time.monotonic() - started < 20 and len(server.calls) == 2
        assert "no whole answer within 0.5 s after 2 attempts" in message
        assert encoder.usage.unanswered == 2, "the service may charge for both"


def test_an_answer_without_end_is_cut_at_a_size_that_no_true_one_has(tmp_path: Path) -> None:
    with EmbeddingServer(FakeEncoder(), fail=lambda n, c: Failure(200, body=b"[" + b" " * 3_000_000)) as server:
        message = message_of(lambda: encoder_for(server, tmp_path).encode_passages(["a"]))
        assert "an answer of more than 1 MB" in message and len(server.calls) == 1


def test_a_redirect_is_named_and_the_key_is_not_sent_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDE_KEY", "sk-tide-0123456789")
    with EmbeddingServer(FakeEncoder()) as target:
        moved = Failure(308, headers={"location": f"{target.url}/v1/embeddings"})
        with EmbeddingServer(FakeEncoder(), fail=lambda number, call: moved) as server:
            encoder = encoder_for(server, tmp_path, api_key_variable="TIDE_KEY")
            message = message_of(lambda: encoder.encode_passages(["a"]))
        assert f"moved to {target.url}/v1/embeddings" in message and "base_url" in message
        assert not target.calls


def test_a_service_that_goes_away_on_the_way_to_a_text_keeps_what_was_encoded(tmp_path: Path) -> None:
    def fail(number: int, call: Call) -> Failure | None:
        gone = Failure(404, "gone") if number == 6 else None
        return gone or refuse([OFFENDER], Failure(500, body=NAN))(number, call)

    with EmbeddingServer(FakeEncoder(), fail=fail) as server:
        encoder = cached(server, tmp_path)
        with pytest.raises(ValueError, match="status 404"):
            encoder.encode_passages(TEXTS)
        kept = encoder.cache.lookup(encoder.passage_fingerprint, TEXTS, 32).found.sum()
        assert 2 < kept == sum(request.texts for request in encoder.encoder.usage.requests)  # type: ignore[attr-defined]
