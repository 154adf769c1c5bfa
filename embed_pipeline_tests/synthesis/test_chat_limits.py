"""Laws of the limits on spend and calls, and of the estimate before them."""

import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embed_pipeline.encoding.usage import CallLimitError, SpendLimitError
from embed_pipeline.synthesis.chat import ChatRequest, ChatSettings
from embed_pipeline.synthesis.chat_usage import CallBudget
from embed_pipeline.synthesis.hosted_chat import HostedChat, load_hosted_chat
from embed_pipeline_tests.chat_server import ChatCall, ChatServer, count_tokens, one_in
from embed_pipeline_tests.failing_server import Failure

SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
REQUESTS = [
    ChatRequest(system="", user=f"passage {number:02d}", schema_name="question", schema=SCHEMA) for number in range(30)
]
ANSWER = {"question": "why?" * 20}
# Tokens and USD of one call as the server counts them.
PROMPT, REPLY = count_tokens(REQUESTS[0].user), count_tokens('{"question": "' + "why?" * 20 + '"}')
PRICES = {"usd_per_million_prompt_tokens": 100.0, "usd_per_million_answer_tokens": 400.0, "max_answer_tokens": 50}
COST = (PROMPT * 100 + REPLY * 400) / 1e6


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(lambda call: ANSWER) as running:
        yield running


def chat_for(server: ChatServer, directory: Path, **changes: Any) -> HostedChat:
    found = {"service": "compatible", "model": "fake", "base_url": f"{server.url}/v1", "timeout_seconds": 5}
    settings = ChatSettings.model_validate({**found, **PRICES, **changes})
    return load_hosted_chat(settings, cache_directory=directory / "calls", usage_directory=directory / "usage")


def charged(server: ChatServer) -> float:
    """What the server would charge for everything that it answered."""
    return len(server.answered) * COST


@pytest.mark.parametrize("parallel", [1, 8])
@pytest.mark.parametrize("fails", [False, True])
def test_a_cap_of_half_the_cost_stops_below_it_keeps_what_it_has_and_a_higher_one_goes_on(
    tmp_path: Path, parallel: int, fails: bool
) -> None:
    cap = 15 * COST
    with ChatServer(lambda call: ANSWER, fail=one_in(3) if fails else lambda number, call: None) as server:
        chat = chat_for(server, tmp_path, spend_limit_usd=cap, parallel=parallel)
        got = []
        with pytest.raises(SpendLimitError, match=r"call cache\. Raise spend_limit_usd and run again"):
            for answer in chat.answer(REQUESTS):
                got.append(answer.content)
        assert got and all(content == ANSWER for content in got)
        assert charged(server) <= cap and chat.usage.spent_usd == pytest.approx(charged(server))
        # Threads get as far as one call after the other would: to the most that one more could cost.
        most = chat.settings.cost(chat._client.most_prompt_tokens(REQUESTS[0]), 50)
        assert charged(server) > cap - most
        answered = len(server.answered)
        assert chat.usage.unanswered == 0 and chat.estimate(REQUESTS).answered == answered

        with pytest.raises(SpendLimitError):
            list(chat_for(server, tmp_path, spend_limit_usd=cap, parallel=parallel).answer(REQUESTS))
        assert len(server.answered) == answered
        more = chat_for(server, tmp_path, spend_limit_usd=100 * COST, parallel=parallel)
        assert [one.content for one in more.answer(REQUESTS)] == [ANSWER] * 30
        assert len(server.answered) == 30 and more.usage.spent_usd == pytest.approx(30 * COST)


def test_who_waits_for_money_is_served_in_turn(server: ChatServer, tmp_path: Path) -> None:
    chat = chat_for(server, tmp_path, spend_limit_usd=COST)
    budget, stop, served = CallBudget(chat.settings, chat.usage), threading.Event(), []

    def spend(name: int) -> None:
        with budget.call(COST, stop) as reservation:
            served.append(name)
            reservation.release()

    with budget.call(COST, stop) as reservation:
        threads = [threading.Thread(target=spend, args=(name,)) for name in range(6)]
        for at, thread in enumerate(threads):
            thread.start()
            while len(budget._waiting) <= at:
                time.sleep(0.001)
        reservation.release()
    for thread in threads:
        thread.join(10)
    assert served == list(range(6))


@pytest.mark.parametrize("parallel", [1, 8])
def test_the_call_limit_is_reached_exactly_and_a_higher_one_goes_on(tmp_path: Path, parallel: int) -> None:
    free = {"usd_per_million_prompt_tokens": 0, "usd_per_million_answer_tokens": 0}
    with ChatServer(lambda call: ANSWER, fail=one_in(4)) as server:
        for limit in (13, 21):
            with pytest.raises(CallLimitError, match=f"call_limit {limit}; {limit} calls are answered"):
                list(chat_for(server, tmp_path, call_limit=limit, parallel=parallel, **free).answer(REQUESTS))
            assert len(server.answered) == limit
        answers = list(chat_for(server, tmp_path, call_limit=30, parallel=parallel, **free).answer(REQUESTS))
        assert len(answers) == len(server.answered) == 30


def test_what_is_in_the_cache_comes_out_whatever_the_limit(server: ChatServer, tmp_path: Path) -> None:
    list(chat_for(server, tmp_path).answer(REQUESTS[:20]))
    got = []
    with pytest.raises(CallLimitError):
        for answer in chat_for(server, tmp_path, call_limit=1).answer(REQUESTS):
            got.append(answer.cached)
    assert got == [True] * 20


def test_calls_that_got_no_answer_count_against_both_limits(tmp_path: Path) -> None:
    def fail(number: int, call: ChatCall) -> Failure | None:
        return Failure(silent_seconds=1.7) if number == 1 else None

    for name in ("call_limit", "spend_limit_usd"):
        with ChatServer(lambda call: ANSWER, fail=fail) as server:
            directory = tmp_path / name
            most = chat_for(server, directory)._client.most_prompt_tokens(REQUESTS[0]) * 100 / 1e6 + 50 * 400 / 1e6
            limit = 3 if name == "call_limit" else COST + 2 * most
            chat = chat_for(server, directory, **{name: limit}, parallel=1, timeout_seconds=1.5)
            with pytest.raises((CallLimitError, SpendLimitError)):
                list(chat.answer(REQUESTS))
            # One answered, one without an answer, that one once more.
            assert len(server.calls) == 3 and len(server.answered) == 2
            assert chat.usage.unanswered == 1 and chat.usage.spent_usd + chat.usage.reserved_usd <= COST + 2 * most


def test_a_limit_in_the_middle_of_a_repeat_is_the_limits_error(tmp_path: Path) -> None:
    with ChatServer(lambda call: ANSWER, fail=lambda number, call: Failure(silent_seconds=0.6)) as server:
        chat = chat_for(server, tmp_path, call_limit=2, parallel=2, timeout_seconds=0.4)
        with pytest.raises(CallLimitError) as caught:
            list(chat.answer(REQUESTS))
        assert caught.value.__cause__ is None and caught.value.__context__ is None
        assert len(server.calls) == 2 and chat.usage.unanswered == 2
        # No frame of the client, which holds the request and its headers.
        assert all("site-packages" not in frame.filename for frame in traceback.extract_tb(caught.value.__traceback__))


def test_models_at_work_at_once_share_one_limit(server: ChatServer, tmp_path: Path) -> None:
    stopped: list[Exception] = []

    def work(number: int) -> None:
        try:
            # Another answer each, one model: the limit is the model's.
            chat = chat_for(server, tmp_path, spend_limit_usd=20 * COST, temperature=number / 10, parallel=2)
            list(chat.answer(REQUESTS))
        except SpendLimitError as error:
            stopped.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stopped) == 3 and 0 < charged(server) <= 20 * COST


def test_the_estimate_is_bytes_and_most_tokens_first_and_then_what_calls_took(
    server: ChatServer, tmp_path: Path
) -> None:
    chat = chat_for(server, tmp_path, structured="prompt")
    before = chat.estimate([*REQUESTS, *REQUESTS])
    prompt_bytes = sum(chat._client.prompt_bytes(one) for one in REQUESTS)
    assert (before.calls, before.answered, before.answer_tokens) == (30, 0, 30 * 50)
    assert before.prompt_tokens == round(prompt_bytes / 3)
    assert before.cost_usd == pytest.approx((before.prompt_tokens * 100 + 1500 * 400) / 1e6)
    assert not server.calls

    list(chat.answer(REQUESTS[:10]))
    half = chat.estimate(REQUESTS)
    assert (half.calls, half.answered, half.answer_tokens) == (20, 10, 20 * REPLY)
    spent = chat.usage.spent_usd
    list(chat.answer(REQUESTS))
    # All prompts are of one length, so what ten took is what thirty take.
    assert half.cost_usd == pytest.approx(chat.usage.spent_usd - spent, rel=1e-6)
    after = chat.estimate(REQUESTS)
    assert (after.calls, after.answered, after.cost_usd) == (0, 30, 0.0)
    assert chat.estimate([]).calls == 0


@pytest.mark.parametrize("structured", ["json_schema", "json_object", "prompt"])
@pytest.mark.parametrize("text", ["a", "糖尿病的症状" * 50, "\x00\u200b\U0001f600" * 20])
def test_what_is_set_aside_covers_one_token_for_every_byte(
    server: ChatServer, tmp_path: Path, structured: str, text: str
) -> None:
    chat = chat_for(server, tmp_path, structured=structured)
    asked = ChatRequest(system="s" * 10, user=text, schema_name="q", schema=SCHEMA)
    list(chat.answer([asked]))
    sent = server.calls[0].body
    form = str(sent.get("response_format", ""))
    bytes_sent = sum(len(message["content"].encode()) for message in sent["messages"])
    assert chat._client.most_prompt_tokens(asked) >= bytes_sent + len(form) * (structured == "json_schema")


def test_tokens_that_the_service_does_not_count_are_charged_as_the_most(tmp_path: Path) -> None:
    with ChatServer(lambda call: ANSWER, alter=lambda answer: {**answer, "usage": None}) as server:
        chat = chat_for(server, tmp_path)
        list(chat.answer(REQUESTS[:1]))
        assert chat.usage.spent_usd == chat.settings.cost(chat._client.most_prompt_tokens(REQUESTS[0]), 50)
