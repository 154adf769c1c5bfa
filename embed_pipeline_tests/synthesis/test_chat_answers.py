"""Laws of what an answer is worth: an object that fits its schema, or a problem, kept either way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_pipeline.synthesis.call_cache import StoredAnswer
from embed_pipeline.synthesis.chat import ChatRequest, ChatSettings
from embed_pipeline.synthesis.chat_answers import check_schema, content_of, is_strict, problem_of
from embed_pipeline.synthesis.hosted_chat import load_hosted_chat
from embed_pipeline_tests.chat_server import ChatServer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {"text": {"type": "string", "minLength": 1}, "grade": {"type": ["integer", "null"]}},
                "required": ["text"],
                "additionalProperties": False,
            },
        },
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "kind": {"enum": ["a", "b"]},
        "sure": {"type": "boolean"},
    },
    "required": ["questions"],
    "additionalProperties": False,
}
GOOD = '{"questions": [{"text": "why?", "grade": null}], "score": 1, "kind": "a", "sure": true}'


def judged(text: str | None, *, finish_reason: str = "stop", refusal: str = "") -> object:
    stored = StoredAnswer(text, finish_reason, refusal, prompt_tokens=1, answer_tokens=9)
    return content_of(stored, ChatRequest(system="", user="u", schema_name="q", schema=SCHEMA))


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n {GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"Here you are:\n{GOOD}\nAnything else?",
        f"<think>maybe {{this}}</think>{GOOD}",
        '{"questions": [{"text": "draft"}]}\nOn second thought:\n' + GOOD,
        f"Use {{curly}} braces [1]: {GOOD} (see {{1}})",
        f"<think>They want {{braces}}. {GOOD}",
        f"<Thinking>{{draft}}</Thinking>\n{GOOD}",
        f"thoughts without a beginning {{x}} </think>{GOOD}",
        f"{GOOD}\n<think>did I keep to {{the form}}?</think>",
        f"<|channel|>analysis<|message|>need {{json}}<|end|><|channel|>final <|constrain|>json<|message|>{GOOD}",
        f"analysisThey want {{json}}.assistantfinal{GOOD}",
        GOOD[:-1] + ",}",
        GOOD.replace("null}]", "null,},]"),
        GOOD.replace('"', "＂").replace(",", "，").replace(":", "：").replace("{", "｛").replace("}", "｝"),
        GOOD.replace('"questions":', '"Questions" : // what I would ask\n'),
        json.dumps(GOOD),
    ],
)
def test_an_object_is_found_in_what_models_write_around_it(text: str) -> None:
    assert judged(text) == {
        "questions": [{"text": "why?", "grade": None}],
        "score": 1,
        "kind": "a",
        "sure": True,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no text in the answer"),
        (" \n", "no text in the answer"),
        ("I cannot do that.", "no JSON object: I cannot do that."),
        ("}{", "no JSON object"),
        (GOOD[:-1], "no JSON object"),
        ("Voilà: " + GOOD[:34], "no JSON object: Unterminated string at character 40, near"),
        ("<think>" + GOOD + "</think>", "no JSON object: <think>"),
        ("[1, 2]", "no JSON object: [1, 2]"),
        ('{"questions": NaN}', "no JSON object"),
        ('{"questions": [{"text": "\\ud800"}]}', "no JSON object"),
        ('{"questions":' + "[" * 100_000 + "}", "no JSON object"),
        ("{}", "answer: expected questions, found none"),
        ('{"questions": "why?"}', 'answer.questions: expected array, found "why?"'),
        ('{"questions": []}', "answer.questions: number of items: expected 1 to 3, found 0"),
        ('{"questions": [{"text": "a"}], "score": 1.5}', "answer.score: expected 0 to 1, found 1.5"),
        ('{"questions": [{"text": "a"}], "score": 1e999}', "answer.score: expected number"),
        ('{"questions": [{"text": "a"}], "kind": "c"}', "answer.kind: expected one of ['a', 'b'], found \"c\""),
        ('{"questions": [{"text": "a"}], "sure": 1}', "answer.sure: expected boolean, found 1"),
    ],
)
def test_what_does_not_fit_is_a_problem_that_says_where(text: str | None, problem: str) -> None:
    found = judged(text)
    assert isinstance(found, str) and found.startswith(problem)


def test_refusals_filters_and_cut_answers_are_problems_even_around_a_good_object() -> None:
    assert judged(GOOD, refusal="I must not") == "refused: I must not"
    assert judged(GOOD, finish_reason="content_filter") == "stopped by the service's content filter"
    assert judged(GOOD, finish_reason="sensitive") == "stopped by the service's content filter"
    assert judged(GOOD, finish_reason="length") == "cut off after 9 tokens; raise max_answer_tokens"
    assert "9 tokens of white space" in str(judged('{"questions":' + " \n" * 400, finish_reason="length"))
    full = StoredAnswer("", "length", "", prompt_tokens=4095, answer_tokens=1)
    asked = ChatRequest(system="", user="u", schema_name="q", schema=SCHEMA)
    assert "the prompt fills the model's context" in str(content_of(full, asked))


@given(text=st.text(st.characters(), max_size=60) | st.text('{}[]":,0aé\\\n', max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_judge(text: str) -> None:
    found = judged(text)
    assert isinstance(found, str | dict)
    str(found).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "grade", "x"]), inner),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"text": ""}, "item.text: length: expected 1 to any, found 0"),
        ({"text": 3}, "item.text: expected string, found 3"),
        ({"grade": 3}, "item: expected text, found none"),
        ({"text": "a", "grade": 1.5}, "item.grade: expected integer or null, found 1.5"),
        ({"text": "a", "grade": True}, "item.grade: expected integer or null, found true"),
        ({"text": "a", "why": 1}, "item: expected only text, grade, found why"),
        ({"text": "a", "grade": None}, ""),
    ],
)
def test_an_item_that_does_not_fit_says_where_and_costs_no_other_item(item: Any, problem: str) -> None:
    schema = SCHEMA["properties"]["questions"]["items"]
    assert problem_of(item, schema, "item") == problem
    found = judged(json.dumps({"questions": [{"text": "fine"}, item]}))
    assert isinstance(found, dict) and found["questions"][0] == {"text": "fine"} and len(found["questions"]) == 2


def test_the_position_where_an_answer_breaks_is_named_with_what_stands_there() -> None:
    found = judged(GOOD.replace('"score": 1', '"score": one'))
    assert isinstance(found, str) and found.startswith("no JSON object: Expecting value at character 59, near ")
    assert '"score": one, "kind"' in found


LIST = {**SCHEMA, "properties": {"questions": SCHEMA["properties"]["questions"]}}


@pytest.mark.parametrize(
    "text",
    [
        '[{"text": "a"}, {"text": "b"}]',
        'Here you are [1]:\n```json\n[{"text": "a"}, {"text": "b",}]\n```',
        '{"text": "a"}\n{"text": "b"}',
        '{"text": "a"},\n{"Text": "b", "why": "an extra name"}',
    ],
)
def test_a_list_or_lines_of_items_alone_stand_for_the_object(text: str) -> None:
    stored = StoredAnswer(text, "stop", "", prompt_tokens=1, answer_tokens=9)
    request = ChatRequest(system="", user="u", schema_name="q", schema=LIST)
    assert content_of(stored, request) == {"questions": [{"text": "a"}, {"text": "b"}]}
    cut = StoredAnswer(text[: text.rindex("b")], "stop", "", prompt_tokens=1, answer_tokens=9)
    assert isinstance(content_of(cut, request), str), "what is cut off is not taken for whole"


@given(questions=JSON)
@settings(max_examples=200, deadline=None)
def test_every_item_is_found_exactly_when_it_fits(questions: Any) -> None:
    def fits(one: Any) -> bool:
        if not isinstance(one, dict) or not isinstance(one.get("text"), str) or not one["text"]:
            return False
        grade = one.get("grade")
        return set(one) <= {"text", "grade"} and (grade is None or type(grade) is int)

    schema = SCHEMA["properties"]["questions"]["items"]
    found = judged(json.dumps({"questions": questions}))
    assert isinstance(found, dict) == (isinstance(questions, list) and 1 <= len(questions) <= 3)
    for item in questions if isinstance(found, dict) else ():
        assert (not problem_of(item, schema, "item")) == fits(item)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#/definitions/a"}}},
        {"type": "array", "items": {"anyOf": [{"type": "string"}]}},
        {"type": "text"},
        {"type": "object", "additionalProperties": {"type": "string"}},
    ],
)
def test_a_schema_that_would_go_unchecked_is_refused_before_a_call(schema: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a JSON schema of"):
        check_schema(schema, "schema q")
    check_schema(SCHEMA, "schema q")


def test_strict_is_what_closes_every_object_and_requires_every_property() -> None:
    inner = SCHEMA["properties"]["questions"]["items"]
    assert not is_strict(SCHEMA) and not is_strict(inner)
    assert is_strict({**inner, "required": ["text", "grade"]})
    assert not is_strict({"type": "array", "items": inner}) and is_strict({"type": "array", "items": {"type": "null"}})


def _with_choice(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda answer: {**answer, "choices": [{**answer["choices"][0], **changes}]}


@pytest.mark.parametrize(
    ("alter", "problem"),
    [
        (lambda answer: {**answer, "choices": []}, "no text in the answer"),
        (_with_choice(message={"role": "assistant", "content": None, "refusal": "No."}), "refused: No."),
        (_with_choice(message=None), "no text in the answer"),
        (_with_choice(message={"role": "assistant", "content": "\ud800{"}), "no JSON object"),
        (_with_choice(finish_reason="length"), "cut off"),
        (_with_choice(finish_reason="content_filter"), "stopped by the service's content filter"),
    ],
)
def test_a_problem_was_paid_for_and_is_kept(alter: Any, problem: str, tmp_path: Path) -> None:
    with ChatServer(lambda call: {"questions": [{"text": "a"}]}, alter=alter) as server:
        chosen = ChatSettings(service="compatible", model="m", base_url=server.url, usd_per_million_answer_tokens=1)
        asked = [ChatRequest(system="", user="u", schema_name="q", schema=SCHEMA)]
        for cached in (False, True):
            chat = load_hosted_chat(chosen, cache_directory=tmp_path, usage_directory=tmp_path)
            (answer,) = chat.answer(asked)
            assert answer.content is None and answer.problem.startswith(problem) and answer.cached is cached
        assert len(server.calls) == 1 and chat.usage.spent_usd > 0
