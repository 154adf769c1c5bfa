"""Laws of calls to a chat model, with the real openai client against a server of our own."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embed_pipeline.encoding.service_errors import ServiceError
from embed_pipeline.synthesis.chat import ChatAnswer, ChatRequest, ChatSettings
from embed_pipeline.synthesis.hosted_chat import HostedChat, load_hosted_chat
from embed_pipeline_tests.chat_server import ChatCall, ChatServer, one_in, refuse_schema
from embed_pipeline_tests.failing_server import Failure

ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-7f3a9c2e51d84b06"
SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string", "minLength": 1}},
    "required": ["question"],
    "additionalProperties": False,
}


def request(user: str, **changes: Any) -> ChatRequest:
    return ChatRequest(**{"system": "Ask.", "user": user, "schema_name": "question", "schema": SCHEMA, **changes})


REQUESTS = [request(f"passage {number} 糖尿病") for number in range(24)]


def echo(call: ChatCall) -> dict[str, str]:
    return {"question": f"what of {call.user}?"}


EXPECTED = [{"question": f"what of {one.user}?"} for one in REQUESTS]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "AZURE_OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CANARY_KEY", CANARY)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(echo) as running:
        yield running


def chat_for(server: ChatServer, directory: Path, **changes: Any) -> HostedChat:
    found = {"service": "compatible", "model": "fake", "base_url": f"{server.url}/v1", "timeout_seconds": 5}
    settings = ChatSettings.model_validate({**found, **changes})
    return load_hosted_chat(settings, cache_directory=directory / "calls", usage_directory=directory / "usage")


def contents(answers: Iterator[ChatAnswer]) -> list[object]:
    return [answer.content for answer in answers]


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(ServiceError) as caught:
        call()
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    return str(caught.value)


def call_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "chat call"]


def test_answers_come_in_the_order_of_the_requests(tmp_path: Path) -> None:
    def first_one_later(call: ChatCall) -> dict[str, str]:
        wait_until(lambda: " 0 " not in call.user or len(server.answered) > 0)
        return echo(call)

    with ChatServer(first_one_later) as server:
        progress: list[tuple[int, int]] = []
        chat = chat_for(server, tmp_path)
        answers = list(chat.answer(REQUESTS, lambda done, of: progress.append((done, of))))
    assert [answer.content for answer in answers] == EXPECTED
    assert [answer.request for answer in answers] == REQUESTS
    assert progress == [(done, 24) for done in range(1, 25)]
    assert server.answered[0].user != REQUESTS[0].user
    assert chat.name == "fake" and list(chat.answer([])) == []


def test_calls_run_in_parallel_and_never_more_than_allowed(tmp_path: Path) -> None:
    eight = threading.Barrier(8, timeout=30)

    def when_eight_are_there(call: ChatCall) -> dict[str, str]:
        eight.wait()
        return echo(call)

    with ChatServer(when_eight_are_there) as server:
        answers = chat_for(server, tmp_path, parallel=8, timeout_seconds=60).answer(REQUESTS)
        assert contents(answers) == EXPECTED
        assert server.most_at_once == 8 and len(server.calls) == 24
        assert call_threads() == []


def test_a_service_that_fails_one_call_in_three_gives_the_same_answers(tmp_path: Path) -> None:
    with ChatServer(echo, fail=one_in(3, silent_seconds=2.2)) as server:
        chat = chat_for(server, tmp_path, timeout_seconds=2, parallel=8)
        assert contents(chat.answer(REQUESTS)) == EXPECTED
        assert Counter(call.user for call in server.answered) == {one.user: 1 for one in REQUESTS}
        assert len(server.calls) > 30 and max(call.seconds for call in chat.usage.requests) < 2


def test_a_service_that_fails_more_often_than_max_retries_is_an_error(tmp_path: Path) -> None:
    with ChatServer(echo, fail=lambda number, call: Failure(429)) as server:
        chat = chat_for(server, tmp_path, max_retries=2, parallel=1)
        message = message_of(lambda: list(chat.answer(REQUESTS)))
        assert "status 429" in message and "after 3 attempts" in message and "lower parallel" in message
        assert len(server.calls) == 3 and call_threads() == []


def test_a_wait_that_the_service_asks_for_holds_every_call(tmp_path: Path) -> None:
    def fail(number: int, call: ChatCall) -> Failure | None:
        if number > 0:
            return None
        wait_until(lambda: len(server.calls) == 2)  # the other thread's, which is under way when the service asks
        asked.append(time.monotonic())
        return Failure(429, headers={"retry-after": "0.4"})

    asked: list[float] = []
    with ChatServer(echo, fail=fail, delay_seconds=0.05) as server:
        assert contents(chat_for(server, tmp_path, parallel=2).answer(REQUESTS[:6])) == EXPECTED[:6]
        assert len(server.calls) == 7
        assert min(call.at for call in server.calls[2:]) - asked[0] >= 0.4


def test_requests_per_minute_holds_for_repeats_and_threads(tmp_path: Path) -> None:
    with ChatServer(echo, fail=one_in(3)) as server:
        chat = chat_for(server, tmp_path, parallel=8, requests_per_minute=1200)
        started = time.monotonic()
        assert contents(chat.answer(REQUESTS[:8])) == EXPECTED[:8]
        times = sorted(call.at for call in server.calls)
        assert len(times) > 8
        # 50 ms apart when sent; none arrives before it was sent, however long its way was.
        assert all(at - started >= 0.05 * number for number, at in enumerate(times))


def test_a_second_run_makes_no_call(server: ChatServer, tmp_path: Path) -> None:
    first = list(chat_for(server, tmp_path).answer(REQUESTS))
    again = list(chat_for(server, tmp_path).answer(REQUESTS[::-1]))
    assert [answer.content for answer in again] == EXPECTED[::-1]
    assert not any(answer.cached for answer in first) and all(answer.cached for answer in again)
    assert len(server.calls) == 24


def test_equal_requests_are_one_call(server: ChatServer, tmp_path: Path) -> None:
    answers = list(chat_for(server, tmp_path).answer([*REQUESTS[:3], *REQUESTS[:3], REQUESTS[0]]))
    assert [answer.content for answer in answers] == [*EXPECTED[:3], *EXPECTED[:3], EXPECTED[0]]
    assert [answer.cached for answer in answers] == [False] * 3 + [True] * 4
    assert len(server.calls) == 3


def test_more_requests_than_are_looked_ahead_are_each_asked_once(server: ChatServer, tmp_path: Path) -> None:
    requests = [request(f"p{number % 300}") for number in range(1000)]
    list(chat_for(server, tmp_path, parallel=8).answer(requests[280:300]))
    answers = list(chat_for(server, tmp_path, parallel=8).answer(requests))
    assert [answer.content for answer in answers] == [{"question": f"what of {one.user}?"} for one in requests]
    assert len(server.calls) == 300 and sum(not answer.cached for answer in answers) == 280


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"temperature": 0.5},
        {"max_answer_tokens": 99},
        {"structured": "prompt"},
        {"send_seed": False},
    ],
)
def test_what_decides_the_answer_is_asked_anew_and_nothing_else(
    server: ChatServer, tmp_path: Path, changes: dict[str, Any]
) -> None:
    alike = {"parallel": 2, "timeout_seconds": 9, "max_retries": 1, "call_limit": 50, "api_key_variable": "CANARY_KEY"}
    list(chat_for(server, tmp_path).answer(REQUESTS[:1]))
    list(chat_for(server, tmp_path, **alike).answer(REQUESTS[:1]))
    assert len(server.calls) == 1
    list(chat_for(server, tmp_path, **changes).answer(REQUESTS[:1]))
    assert len(server.calls) == 2


def test_every_part_of_a_request_tells_calls_apart(server: ChatServer, tmp_path: Path) -> None:
    other = {**SCHEMA, "description": "a question"}
    apart = [{}, {"user": "b"}, {"system": "b"}, {"seed": 1}, {"schema": other}, {"schema_name": "b"}]
    list(chat_for(server, tmp_path).answer([request(**{"user": "a", **changes}) for changes in apart]))
    assert len(server.calls) == len(apart)


def test_the_form_is_asked_for_as_the_settings_say(server: ChatServer, tmp_path: Path) -> None:
    def body(**changes: Any) -> dict[str, Any]:
        list(chat_for(server, tmp_path, parallel=1, **changes).answer([request("a", seed=7)]))
        return dict(server.calls[-1].body)

    held = body(temperature=0.5, max_answer_tokens=77)
    assert held["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "question", "schema": SCHEMA, "strict": True},
    }
    assert (held["temperature"], held["max_tokens"], held["seed"]) == (0.5, 77, 7)
    assert held["messages"] == [{"role": "system", "content": "Ask."}, {"role": "user", "content": "a"}]
    told = body(structured="json_object", send_seed=False)
    assert told["response_format"] == {"type": "json_object"} and '"minLength": 1' in told["messages"][0]["content"]
    assert "temperature" not in told and "seed" not in told
    asked = body(structured="prompt")
    assert "response_format" not in asked and "JSON schema" in asked["messages"][0]["content"]


def test_azure_is_asked_on_its_own_path_with_its_own_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", CANARY)
    with ChatServer(echo, key=CANARY) as server:
        chat = chat_for(server, tmp_path, service="azure", model="ours", base_url=server.url, api_version="2024-10-21")
        assert contents(chat.answer(REQUESTS)) == EXPECTED
        call = server.calls[0]
        assert call.path == "/openai/deployments/ours/chat/completions?api-version=2024-10-21"
        assert call.headers["api-key"] == CANARY and "authorization" not in call.headers
        assert call.body["max_completion_tokens"] == 1024 and "max_tokens" not in call.body


def test_a_server_without_a_key_variable_sees_nothing_of_openai(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, CANARY)
    list(chat_for(server, tmp_path).answer(REQUESTS[:1]))
    assert CANARY not in str(server.calls[0].headers) and "authorization" not in server.calls[0].headers


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(401, "Incorrect API key"), ["status 401", "environment variable CANARY_KEY"]),
        (Failure(403, "no access"), ["status 403", "environment variable CANARY_KEY"]),
        (Failure(404, "The model `fake` does not exist"), ["status 404", "does not exist", "Correct model"]),
        (Failure(400, "Unsupported value: 'temperature'"), ["status 400", "temperature", "Correct the setting"]),
        (Failure(422, "response_format: extra input"), ["status 422", "set structured: json_object or prompt"]),
    ],
)
def test_a_refusal_ends_the_work_at_once_and_names_service_model_status_and_remedy(
    tmp_path: Path, failure: Failure, words: list[str]
) -> None:
    def fail(number: int, call: ChatCall) -> Failure | None:
        return failure if number >= 4 else None

    with ChatServer(echo, fail=fail) as server:
        chat = chat_for(server, tmp_path, api_key_variable="CANARY_KEY", usd_per_million_answer_tokens=1, parallel=2)
        message = message_of(lambda: list(chat.answer(REQUESTS)))
        for word in ["chat model: service compatible", "model fake", server.url, *words]:
            assert word in message
        assert 5 <= len(server.calls) <= 6 and call_threads() == []
        assert chat.usage.reserved_usd == 0 and len(chat.usage.requests) == 4
        assert chat.estimate(REQUESTS).answered == 4


def test_a_service_without_schemas_is_named_and_answers_when_told_to_in_words(tmp_path: Path) -> None:
    with ChatServer(echo, fail=refuse_schema) as server:
        message = message_of(lambda: list(chat_for(server, tmp_path).answer(REQUESTS)))
        assert "takes no json_schema: set structured: json_object or prompt" in message
        assert contents(chat_for(server, tmp_path, structured="json_object").answer(REQUESTS)) == EXPECTED


def test_a_prompt_that_the_content_filter_refuses_is_a_problem_and_the_others_go_on(tmp_path: Path) -> None:
    def fail(number: int, call: ChatCall) -> Failure | None:
        return Failure(400, "The response was filtered", {}, "content_filter") if " 3 " in call.user else None

    with ChatServer(echo, fail=fail) as server:
        for _ in range(2):
            answers = list(chat_for(server, tmp_path).answer(REQUESTS))
            assert [answer.problem for answer in answers if not answer.content] == [
                "stopped by the service's content filter"
            ]
        assert len(server.calls) == 24


@pytest.mark.parametrize(
    ("answer", "found"),
    [(b"<html>a login page</html>", "found something"), ({"error": "overloaded"}, "found status 503 (overloaded)")],
)
def test_an_answer_that_is_none_is_an_error_and_not_kept(tmp_path: Path, answer: object, found: str) -> None:
    with ChatServer(echo, alter=lambda _: answer) as server:
        chat = chat_for(server, tmp_path, max_retries=0)
        assert f"expected an answer, {found}" in message_of(lambda: list(chat.answer(REQUESTS[:1])))
        assert chat.estimate(REQUESTS[:1]).calls == 1


def test_nobody_at_the_address_is_an_error_that_says_so(tmp_path: Path) -> None:
    with ChatServer(echo) as server:
        chat = chat_for(server, tmp_path, max_retries=0)
    assert "no connection" in message_of(lambda: list(chat.answer(REQUESTS)))


def test_closing_the_iterator_ends_every_thread_and_keeps_what_was_under_way(tmp_path: Path) -> None:
    closed = threading.Event()

    def slow_after_the_first(call: ChatCall) -> dict[str, str]:
        closed.wait(0 if " 0 " in call.user else 1)
        return echo(call)

    with ChatServer(slow_after_the_first) as server:
        chat = chat_for(server, tmp_path)
        answers = chat.answer(REQUESTS)
        next(answers)
        assert len(call_threads()) == 4
        answers.close()  # type: ignore[attr-defined]
        closed.set()
        assert call_threads() == []
        made = len(server.calls)
        assert 1 <= made < 12
        assert chat.estimate(REQUESTS).answered == made and chat.usage.reserved_usd == 0
        assert contents(chat.answer(REQUESTS)) == EXPECTED and len(server.calls) == 24


def test_a_long_wait_ends_with_the_work(tmp_path: Path) -> None:
    def fail(number: int, call: ChatCall) -> Failure | None:
        return Failure(429, headers={"retry-after": "60"}) if number > 4 else None

    def seconds_to_close(directory: Path) -> float:
        with ChatServer(echo, fail=fail, delay_seconds=0.05) as server:
            answers = chat_for(server, directory).answer(REQUESTS)
            next(answers)
            wait_until(lambda: len(server.calls) > 5)
            time.sleep(0.1)  # the answer that asks for the wait is on its way
            started = time.monotonic()
            answers.close()  # type: ignore[attr-defined]
            took = time.monotonic() - started
            assert call_threads() == []
            return took

    assert min(seconds_to_close(tmp_path / str(attempt)) for attempt in range(3)) < 1


ASKING = """
import signal, sys, threading
from pathlib import Path
from embed_pipeline_tests.synthesis.test_chat_calls import REQUESTS, ROOT
from embed_pipeline.synthesis.chat import ChatSettings
from embed_pipeline.synthesis.hosted_chat import load_hosted_chat

signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell inherit it ignored
directory = Path(sys.argv[2])
settings = ChatSettings(service="compatible", model="fake", base_url=sys.argv[1], parallel=int(sys.argv[3]))
chat = load_hosted_chat(settings, cache_directory=directory / "calls", usage_directory=directory / "usage")
try:
    print([answer.content for answer in chat.answer(REQUESTS)])
finally:
    print([thread.name for thread in threading.enumerate()], file=sys.stderr)
"""


def ask(server: ChatServer, directory: Path, parallel: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASKING, f"{server.url}/v1", str(directory), str(parallel)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def test_killed_at_half_the_next_run_repeats_only_what_was_under_way(tmp_path: Path) -> None:
    parallel = 3
    with ChatServer(echo, delay_seconds=0.05) as server:
        process = ask(server, tmp_path, parallel)
        wait_until(lambda: len(server.answered) >= 12)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        time.sleep(0.2)
        wait_until(lambda: len(server.answered) == len(server.calls))
        chat = chat_for(server, tmp_path, parallel=parallel)
        kept = chat.estimate(REQUESTS).answered
        made = len(server.calls)
        # Each call is on the disk before its thread makes the next, so the calls under way are all that is lost.
        assert 12 - parallel <= kept and made - parallel <= kept <= made
        assert contents(chat.answer(REQUESTS)) == EXPECTED
        assert len(server.calls) == made + 24 - kept <= 24 + parallel
        assert list(Counter(call.user for call in server.calls).values()).count(2) == made - kept
        # Those that were cut off may have been charged: they stay counted.
        assert made - kept <= chat.usage.unanswered <= parallel


def test_two_processes_that_need_the_same_answers_ask_for_each_once(tmp_path: Path) -> None:
    with ChatServer(echo, delay_seconds=0.05) as server:
        both = [ask(server, tmp_path, 2) for _ in range(2)]
        printed = [process.communicate(timeout=30)[0] for process in both]
        assert printed == [f"{EXPECTED}\n"] * 2
        assert len(server.calls) == 24
        assert contents(chat_for(server, tmp_path).answer(REQUESTS)) == EXPECTED


def test_a_key_press_ends_every_thread_and_keeps_what_was_answered(tmp_path: Path) -> None:
    def slow_after_six(call: ChatCall) -> dict[str, str]:
        time.sleep(1 if len(server.answered) >= 6 else 0)
        return echo(call)

    with ChatServer(slow_after_six) as server:
        process = ask(server, tmp_path, 3)
        wait_until(lambda: len(server.answered) >= 6)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=10)[1]
        assert "KeyboardInterrupt" in errors and "['MainThread']" in errors
        assert chat_for(server, tmp_path).estimate(REQUESTS).answered == len(server.calls) < 24


def _everything_written(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_the_key_appears_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    seen: list[str] = []
    with ChatServer(echo, key=CANARY, fail=one_in(3)) as server:
        chat = chat_for(server, tmp_path, api_key_variable="CANARY_KEY", usd_per_million_prompt_tokens=1)
        assert contents(chat.answer(REQUESTS)) == EXPECTED
        assert server.calls[0].headers["authorization"] == f"Bearer {CANARY}"
        seen += [repr(chat), repr(chat.settings), str(chat.settings), chat.settings.model_dump_json()]
        seen += [repr(chat._client), repr(chat._client._client)]
        said = [f"Bearer {CANARY}", repr(CANARY.encode()), CANARY[:20] + "…", f"x{CANARY * 2}y", CANARY[9:]]
        for words in said:
            server.fail = lambda number, call, words=words: Failure(403, f"not allowed: {words}", {}, words)
            try:
                list(chat.answer([request("new")]))
            except ServiceError as error:
                seen += [traceback.format_exc(), repr(error), str(vars(error))]
        server.key = "another"
        with pytest.raises(ServiceError, match=r"status 401 .*Bearer \*\*\*") as caught:
            list(chat.answer([request("newer")]))
        seen += ["".join(traceback.format_exception(caught.value)), caplog.text]
    assert "status 403" in "".join(seen) and "HTTP Request" in caplog.text
    assert all(CANARY[at : at + 8] not in text for text in seen for at in range(len(CANARY) - 8))
    assert CANARY.encode() not in _everything_written(tmp_path) != b""


@pytest.mark.parametrize("found", [None, "", "sk canary", "sk-cänary"])
def test_a_missing_or_impossible_key_is_said_before_anything_is_sent(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    monkeypatch.delenv("CANARY_KEY")
    if found is not None:
        monkeypatch.setenv("CANARY_KEY", found)
    chat = chat_for(server, tmp_path, api_key_variable="CANARY_KEY", usd_per_million_prompt_tokens=1)
    message = message_of(lambda: list(chat.answer(REQUESTS)))
    assert "environment variable CANARY_KEY" in message and "nary" not in message.replace("CANARY_KEY", "")
    assert not server.calls and chat.usage.reserved_usd == 0
