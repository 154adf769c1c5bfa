"""What real chat servers answer, as their users report it, and what comes of it here: docs/services.md."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from embed_pipeline.dataset.settings import SplitSettings
from embed_pipeline.synthesis.chat import ChatAnswer, ChatRequest
from embed_pipeline.synthesis.chat_writing import Written, clean_question, write_with_model
from embed_pipeline.synthesis.prompting import QUESTIONS_SCHEMA, WritingRequest
from embed_pipeline.synthesis.sources import collect_sources, split_sources
from embed_pipeline.synthesis.templates import SHIPPED, read_template
from embed_pipeline_tests.chat_server import ChatCall, ChatServer
from embed_pipeline_tests.failing_server import Failure
from embed_pipeline_tests.synthesis.test_chat_calls import EXPECTED, REQUESTS, chat_for, echo, message_of
from embed_pipeline_tests.synthesis.written_passages import RuleChat, passage

FAST = {"retry-after-ms": "1"}
JSON = '{"question": "what of passage 0 糖尿病?"}'


def with_message(**message: Any) -> Callable[[dict[str, Any]], object]:
    def alter(answer: dict[str, Any]) -> object:
        choice = {**answer["choices"][0], "message": {"role": "assistant", "content": None, **message}}
        return {**answer, "choices": [choice]}

    return alter


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": JSON[:9]}, {"type": "text", "text": JSON[9:]}]},
        {"content": {"question": "what of passage 0 糖尿病?"}},
        {"content": "", "reasoning_content": JSON},
        {"reasoning": f"I shall say {JSON}"},
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "question", "arguments": JSON}}]},
        {"content": f"<|channel|>analysis<|message|>{{hm}}<|end|><|channel|>final<|message|>{JSON}"},
        {"content": JSON, "refusal": None, "reasoning_content": '{"question": "a draft"}'},
    ],
)
def test_an_answer_is_found_wherever_servers_put_it(tmp_path: Path, message: Mapping[str, Any]) -> None:
    with ChatServer(echo, alter=with_message(**message)) as server:
        (answer,) = chat_for(server, tmp_path).answer(REQUESTS[:1])
        assert answer.content == EXPECTED[0], answer.problem


def test_thoughts_without_an_object_are_no_answer(tmp_path: Path) -> None:
    with ChatServer(echo, alter=with_message(reasoning_content="I am still thinking.")) as server:
        (answer,) = chat_for(server, tmp_path).answer(REQUESTS[:1])
        assert answer.problem == "no text in the answer"


@pytest.mark.parametrize(
    ("body", "status", "attempts"),
    [
        (b"", 502, 3),
        (b"\n \n\n", 502, 3),
        ({"error": {"message": "model is loading"}}, 503, 3),
        ({"choices": None, "error": {"message": "Provider returned error", "code": 502}}, 502, 3),
        ({"choices": [{"error": {"code": 429, "message": "slow down"}, "finish_reason": "error"}]}, 429, 3),
        ({"choices": [{"message": {"content": '{"que'}, "finish_reason": "error"}]}, 502, 3),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "insufficient_system_resource"}]}, 502, 3),
        ({"error": "'response_format.type' must be 'json_schema' or 'text'"}, 400, 1),
    ],
)
def test_a_failure_in_a_200_is_what_it_says_and_never_kept_as_an_answer(
    tmp_path: Path, body: object, status: int, attempts: int
) -> None:
    with ChatServer(echo, fail=lambda number, call: Failure(200, headers=FAST, body=body)) as server:
        chat = chat_for(server, tmp_path, max_retries=2, parallel=1, usd_per_million_answer_tokens=1)
        assert f"status {status} (" in message_of(lambda: list(chat.answer(REQUESTS[:1])))
        assert len(server.calls) == attempts and chat.usage.reserved_usd == 0
        assert chat.estimate(REQUESTS[:1]).calls == 1


def test_empty_lines_before_an_answer_keep_a_connection_alive_and_are_read_over(tmp_path: Path) -> None:
    def alter(answer: dict[str, Any]) -> object:
        import json

        return b"\n\n \n" + json.dumps(answer).encode()

    with ChatServer(echo, alter=alter) as server:
        (answer,) = chat_for(server, tmp_path).answer(REQUESTS[:1])
        assert answer.content == EXPECTED[0]


def test_an_answer_a_byte_at_a_time_ends_with_the_deadline_of_the_whole_call(tmp_path: Path) -> None:
    def fail(number: int, call: ChatCall) -> Failure | None:
        return Failure(drip_seconds=0.2, body={"choices": []})

    with ChatServer(echo, fail=fail) as server:
        started = time.monotonic()
        chat = chat_for(server, tmp_path, timeout_seconds=0.4, max_retries=0)
        assert "no whole answer within 0.4 s" in message_of(lambda: list(chat.answer(REQUESTS[:1])))
        assert time.monotonic() - started < 10, "the whole takes 20 s"


def test_an_answer_without_end_is_cut_at_a_size_that_no_true_one_has(tmp_path: Path) -> None:
    body = b"{" + b" " * 17 * 2**20
    with ChatServer(echo, fail=lambda number, call: Failure(200, body=body)) as server:
        assert "an answer of more than 17 MB" in message_of(
            lambda: list(chat_for(server, tmp_path).answer(REQUESTS[:1]))
        )
        assert len(server.calls) == 1


@pytest.mark.parametrize("service", ["compatible", "azure"])
def test_the_other_name_of_the_limit_on_an_answer_is_taken_where_one_is_refused(
    tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDE_KEY", "sk-tide-0123456789")
    refused, known = ("max_tokens", "max_completion_tokens")[:: 1 if service == "compatible" else -1]

    def fail(number: int, call: ChatCall) -> Failure | None:
        told = f"Unsupported parameter: '{refused}' is not supported with this model. Use '{known}' instead."
        return Failure(400, told) if refused in call.body else None

    azure = {"service": "azure", "api_version": "2024-10-21", "api_key_variable": "TIDE_KEY"}
    with ChatServer(echo, fail=fail) as server:
        chat = chat_for(server, tmp_path, parallel=2, **(azure if service == "azure" else {}))
        assert [answer.content for answer in chat.answer(REQUESTS)] == EXPECTED
        assert len(server.calls) <= 24 + 2, "learned once"


@pytest.mark.parametrize(
    "body",
    [
        {
            "error": {
                "message": "litellm.ContentPolicyViolationError: AzureException - The response was filtered due to the "
                "prompt triggering Azure OpenAI's content management policy.",
                "code": "400",
            }
        },
        {"error": {"message": "filtered", "code": "content_filter", "innererror": {"code": "ResponsibleAI"}}},
    ],
)
def test_a_filtered_prompt_is_one_problem_whatever_a_gateway_calls_it(tmp_path: Path, body: object) -> None:
    def fail(number: int, call: ChatCall) -> Failure | None:
        return Failure(400, body=body) if " 3 " in call.user else None

    with ChatServer(echo, fail=fail) as server:
        answers = list(chat_for(server, tmp_path).answer(REQUESTS[:6]))
        problems = [answer.problem for answer in answers if answer.content is None]
        assert problems == ["stopped by the service's content filter"]


@pytest.mark.parametrize(
    ("structured", "words"),
    [
        ("json_object", "set structured: json_schema or prompt"),
        ("json_schema", "set structured: json_object or prompt"),
    ],
)
def test_a_form_that_a_service_does_not_take_is_said_with_the_others(
    tmp_path: Path, structured: str, words: str
) -> None:
    body = {"error": "'response_format.type' must be something else"}
    with ChatServer(echo, fail=lambda number, call: Failure(400, body=body)) as server:
        message = message_of(lambda: list(chat_for(server, tmp_path, structured=structured).answer(REQUESTS[:1])))
        assert "must be something else" in message and words in message


@pytest.mark.parametrize(
    ("written", "question"),
    [
        ("1. What is a spring tide?", "What is a spring tide?"),
        ("２．Who keeps the lighthouse?", "Who keeps the lighthouse?"),
        ("（3）Where is the pier?", "Where is the pier?"),
        ("4) When?", "When?"),
        ("- Why is it closed?", "Why is it closed?"),
        ("Q: What floats?", "What floats?"),
        ("Q2. What sinks?", "What sinks?"),
        ("Question 7 - What sinks?", "What sinks?"),
        ("Question: **Which buoy is red?**", "Which buoy is red?"),
        ("问题1：什么是大潮？", "什么是大潮?"),
        ("问：**大潮**何时来？", "大潮何时来?"),
        ("“What is a knot?”", "What is a knot?"),
        ("`What is a knot?`", "What is a knot?"),
        ("The **red** buoy marks what?", "The red buoy marks what?"),
        ("10:30 ferry, does it stop at the pier?", "10:30 ferry, does it stop at the pier?"),
        ("2.5 m of water: enough for a barge?", "2.5 m of water: enough for a barge?"),
        ("3 knots or more?", "3 knots or more?"),
        ("What does __init__ do, and 2**3?", "What does __init__ do, and 2**3?"),
        ("Q-ship, what was it?", "Q-ship, what was it?"),
        ('Who said "ahoy" and "avast"?', 'Who said "ahoy" and "avast"?'),
    ],
)
def test_what_stands_around_a_question_in_a_list_is_taken_off_and_nothing_else(written: str, question: str) -> None:
    assert clean_question(written) == question
    assert clean_question(question) == question


def write(chat: RuleChat, number: int = 1) -> Written:
    """What the model writes for one passage."""
    sources = [passage(f"The ferry leaves pier {at} at noon.", f"{at}.md", "Ferry") for at in range(10)]
    template = read_template(SHIPPED / "en" / "question.txt")
    request = WritingRequest(ChatRequest("", "u", "questions", QUESTIONS_SCHEMA), template, (sources[0].id,))
    splits = split_sources(sources, SplitSettings(train=0.8, validation=0.1, test=0.1, seed=0), "auto")
    return write_with_model([request], chat, collect_sources(sources), splits, number=number)


def read(*items: Any) -> tuple[list[str], list[str]]:
    """The questions kept of an answer, and the details of the ledger."""
    written = write(RuleChat(lambda _: {"questions": list(items)}), len(items))
    assert all(entry.reason == "malformed_question" for entry in written.dropped)
    return [question.text for question in written.questions], [entry.detail for entry in written.dropped]


def test_a_bad_item_is_one_entry_and_the_good_ones_are_kept() -> None:
    good = {"question": "When does the ferry leave?", "answer": "At noon."}
    bad = [{"question": "From where?", "answer": None}, {"question": "Who?"}, "Why?", {"question": 3, "answer": "x"}]
    kept, dropped = read(good, *bad, {**good, "question": "Where does it leave from?"})
    assert kept == ["When does the ferry leave?", "Where does it leave from?"] and len(dropped) == 4
    assert "item.answer: expected string, found null" in dropped[0] and "expected answer, found none" in dropped[1]


@pytest.mark.parametrize(
    ("question", "answer", "why"),
    [
        ("string", "string", "repeats the form"),
        ("Question", "answer", "repeats the form"),
        ("N/A", "x", "repeats the form"),
        ("Here is one question based on the given text:", "x", "repeats the form, announces one"),
        ("I'm sorry, but I cannot write a question about this text.", "x", "refuses to write one"),
        ("抱歉，我无法根据这段文字生成问题。", "x", "refuses to write one"),
        ("无法根据该文本提出问题", "x", "refuses to write one"),
        ("我不能为此生成有意义的问题。", "x", "refuses to write one"),
        ("According to the passage above, when does the ferry leave?", "x", "('According to the passage')"),
        ("When does the ferry leave, as mentioned above?", "x", "points at the passage"),
        ("What does this paragraph say of the ferry?", "x", "points at the passage"),
        ("根据上文，渡轮几点开？", "x", "points at the passage"),
        ("文中提到的渡轮几点开？", "x", "points at the passage"),
        ("本文的作者是谁？", "x", "points at the passage"),
        ("以上文字说的是哪艘船？", "x", "points at the passage"),
        ("违反本条的处罚是什么？", "x", "points at the passage"),
        ("Laut dem obigen Text: Wann fährt die Fähre?", "x", "points at the passage"),
        ("Who is the captain?", "The passage does not say.", "does not answer it: The passage does not say."),
        ("Who is the captain?", "Not mentioned in the text.", "does not answer it"),
        ("Which captain?", "It is unclear when, and the given text doesn't mention a name.", "does not answer it"),
        ("船长是谁？", "原文中没有提到。", "does not answer it"),
    ],
)
def test_what_is_no_question_points_at_the_passage_or_has_no_answer_is_dropped_with_a_reason(
    question: str, answer: str, why: str
) -> None:
    kept, (detail,) = read({"question": question, "answer": answer})
    assert kept == [] and why in detail


@pytest.mark.parametrize(
    "question",
    [
        "What is the right of passage of a ship in a strait?",
        "Which paragraph of the harbour act names the fee?",
        "How long is the passage through the canal?",
        "What does the text message of the harbour office say?",
        "I cannot open the lock, whom do I call",
        "本条例适用于哪些船舶？",
        "申请停泊的基本条件是什么？",
        "日本文化里的渡轮",
        "新版本文档在哪里下载？",
        "文本段落怎么排版？",
        "船票成本条目怎么填？",
        "网上文件怎么提交？",
        "无法登录订票系统的问题怎么解决？",
        "不能开船是什么问题？",
        "Sure grip shoes on deck: are they required?",
    ],
)
def test_a_question_that_only_looks_like_one_of_these_is_kept(question: str) -> None:
    kept, dropped = read({"question": question, "answer": "None."})
    assert len(kept) == 1 and not dropped


@pytest.mark.parametrize(
    "answer",
    [
        "If the document does not contain a date, the ferry office returns it.",
        "The document is returned when it does not include a date.",
        "A document that does not state the tonnage is invalid.",
        "It is returned, unless the text does not give a date.",
    ],
)
def test_an_answer_that_tells_what_a_document_may_lack_is_an_answer(answer: str) -> None:
    kept, dropped = read({"question": "What becomes of the form?", "answer": answer})
    assert len(kept) == 1 and not dropped


def test_what_was_paid_for_answers_without_a_question_is_counted() -> None:
    class Paid(RuleChat):
        def answer(self, requests: Any, progress: Any = None) -> Any:
            yield ChatAnswer(requests[0], None, "no JSON object", cost_usd=0.25)

    written = write(Paid(lambda _: None))
    assert written.lost_usd == 0.25 and written.dropped[0].reason == "unanswered_call"
