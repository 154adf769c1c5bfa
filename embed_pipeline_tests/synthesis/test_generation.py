import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from embed_pipeline.dataset.formats import read_dataset, write_dataset
from embed_pipeline.dataset.ledger import summarise_ledger
from embed_pipeline.records import SPLITS, Passage
from embed_pipeline.synthesis.assembling import assemble_dataset, shared_sources
from embed_pipeline.synthesis.chat import ChatRequest
from embed_pipeline.synthesis.generation import SynthesisResult, plan_requests, synthesise
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.settings import SynthesisSettings
from embed_pipeline.synthesis.sources import group_sources
from embed_pipeline_tests.synthesis.written_passages import RuleChat, documents

PASSAGES = documents(12, 4)
IDS = [one.id for one in PASSAGES]
CHAT = {"service": "compatible", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
WORDS = "amber birch cedar delta ember fjord grove heath inlet jetty knoll lagoon maple noble ocean pearl quartz ridge"


def settings_of(**fields: object) -> SynthesisSettings:
    return SynthesisSettings.model_validate(
        {"generator": "chat", "chat": CHAT, "styles": ["question", "multi_hop"], "round_trip": None, **fields}
    )


def words_for(request: ChatRequest, number: int) -> str:
    """Words that differ from request to request, so that no two questions are alike."""
    digest = sum(ord(character) * at for at, character in enumerate(request.user + request.system, start=1)) + number
    words = WORDS.split()
    return " ".join(words[(digest // len(words) ** at) % len(words)] for at in range(5))


def well(request: ChatRequest) -> Mapping[str, Any]:
    """An answer without fault: three questions, or the best grade."""
    if request.schema_name == "grade":
        return {"reason": "It says so.", "answerable": 1.0}
    return {"questions": [{"question": f"Why {words_for(request, at)}?", "answer": "So."} for at in range(3)]}


def awry(request: ChatRequest) -> Mapping[str, Any] | None:
    """Every fault there is, each for some of the requests."""
    kind = sum(map(ord, request.user)) % 9
    if request.schema_name == "grade":
        return None if kind == 0 else {"reason": "So so.", "answerable": kind / 8}
    passage = request.user.split("Passage:")[-1].strip().splitlines()[0]
    return {
        0: None,
        1: {},
        2: {"questions": "none"},
        3: {"questions": []},
        4: {"questions": [{"question": passage, "answer": "x"}, {"question": "   ", "answer": "x"}]},
        5: {"questions": [{"question": "What is the same everywhere?", "answer": "x"}, "Just a text?"]},
        6: {"questions": [{"question": 7}, {"question": "Why? " * 100}, {"question": "?!"}]},
    }.get(kind, well(request))


def find_first_words(questions: Sequence[str]) -> list[list[str]]:
    """A search that finds everything for some questions and little for others."""
    return [IDS if len(question) % 3 else IDS[:9] for question in questions]


def run(passages: list[Passage], settings: SynthesisSettings, rule=well, **more: Any) -> SynthesisResult:
    return synthesise(passages, settings, language="en", chat=RuleChat(rule, "writer"), **more)


def test_copied_share_decides_how_much_of_a_passage_a_question_may_repeat() -> None:
    def half_copied(request: ChatRequest) -> Mapping[str, Any]:
        if request.schema_name == "grade":
            return well(request)
        passage = request.user.split("Passage:")[-1].strip().splitlines()[0]
        return {"questions": [{"question": f"{passage[:24]} {words_for(request, 0)}?", "answer": "So."}]}

    little, whole = (
        run(PASSAGES, settings_of(styles=["question"], copied_share=share), half_copied) for share in (0.2, 1.0)
    )
    assert not little.questions and {entry.reason for entry in little.ledger} == {"copied_question"}
    assert whole.questions and "copied_question" not in {entry.reason for entry in whole.ledger}


@pytest.mark.parametrize("rule", [well, awry])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_everything_written_is_kept_or_in_the_ledger(rule, number: int) -> None:
    settings = settings_of(questions_per_passage=number, round_trip={"top_k": 20})
    writer = RuleChat(rule)
    found = synthesise(PASSAGES, settings, language="en", chat=writer, search=find_first_words)
    written = 0
    for request in writer.asked:
        if request.schema_name == "questions":
            content = rule(request)
            items = (content or {}).get("questions")
            written += len(items) if isinstance(items, list) and items else 1
    assert written == len(found.questions) + len(found.ledger) == found.counts.written
    reasons = {name: value for name, value in vars_of(found).items() if name in summarise_ledger(found.ledger)}
    assert reasons == dict(summarise_ledger(found.ledger))
    assert found.counts.kept == len(found.questions)
    assert all(entry.workbook and entry.sheet and entry.row >= 1 and entry.detail for entry in found.ledger)


def vars_of(found: SynthesisResult) -> dict[str, int]:
    return {name: getattr(found.counts, name) for name in found.counts.__dataclass_fields__}


def test_every_fault_has_its_reason() -> None:
    settings = settings_of(questions_per_passage=2, round_trip={"top_k": 20})
    found = synthesise(PASSAGES, settings, language="en", chat=RuleChat(awry), search=find_first_words)
    assert set(summarise_ledger(found.ledger)) == {
        *("unanswered_call", "malformed_question", "copied_question", "near_duplicate_question"),
        *("lost_in_round_trip", "not_answerable"),
    }


def test_questions_carry_what_they_were_made_with() -> None:
    found = run(PASSAGES, settings_of(seed=9, questions_per_passage=3))
    groups = group_sources(PASSAGES, "auto").groups
    assert Counter(question.style for question in found.questions) == {"question": 48 * 3, "multi_hop": 12 * 3 * 3}
    for question in found.questions:
        assert (question.generator, question.model, question.seed) == ("chat", "writer", 9)
        assert len(question.template) == 12 and question.answerable == 1.0 and question.rank is None
        assert len(question.passage_ids) == (2 if question.style == "multi_hop" else 1)
        assert {found.splits[key] for key in question.passage_ids} == {question.split}
        assert len({groups[key] for key in question.passage_ids}) == 1


def test_a_pair_is_a_passage_and_the_next_one_of_its_document() -> None:
    writer = RuleChat(well)
    settings = settings_of(styles=["multi_hop"], answerable_threshold=None)
    found = synthesise(PASSAGES[::-1], settings, language="en", chat=writer)
    pairs = {question.passage_ids for question in found.questions}
    assert pairs == {
        (PASSAGES[file * 4 + at].id, PASSAGES[file * 4 + at + 1].id) for file in range(12) for at in range(3)
    }
    assert f"[1] {PASSAGES[0].text}\n\n[2] {PASSAGES[1].text}" in writer.asked[0].user


def test_no_passage_is_a_source_of_two_splits_and_every_split_has_questions() -> None:
    found = run(PASSAGES, settings_of())
    assert shared_sources(found.questions) == ()
    assert {question.split for question in found.questions} == set(SPLITS)


def test_the_order_of_the_passages_changes_nothing() -> None:
    first, second = run(PASSAGES, settings_of()), run(PASSAGES[::-1], settings_of())
    assert (first.questions, first.ledger, first.counts) == (second.questions, second.ledger, second.counts)


def test_a_sample_asks_less_and_keeps_every_split() -> None:
    for seed in range(5):
        found = run(PASSAGES, settings_of(max_passages=3, styles=["question"], seed=seed))
        assert found.counts.passages_drawn == found.counts.requests == 3
        assert {question.split for question in found.questions} == set(SPLITS)
        assert set(found.splits) == set(IDS)
    assert run(PASSAGES, settings_of(max_passages=99)).counts.passages_drawn == 48


def test_added_passages_push_out_at_most_as_many_drawn_ones() -> None:
    small = run(PASSAGES[:40], settings_of(max_passages=30, styles=["question"]))
    large = run(PASSAGES, settings_of(max_passages=36, styles=["question"]))
    before, after = ({key for q in found.questions for key in q.passage_ids} for found in (small, large))
    assert len(before - after) <= 8


def test_the_plan_is_what_is_asked_and_judging_never_asks_more() -> None:
    settings = settings_of(questions_per_passage=2)
    writer = RuleChat(well)
    synthesise(PASSAGES, settings, language="en", chat=writer)
    plan = plan_requests(PASSAGES, settings, language="en")
    assert list(plan.writing) == [request for request in writer.asked if request.schema_name == "questions"]
    judged = [request for request in writer.asked if request.schema_name == "grade"]
    assert 0 < len(judged) <= len(plan.judging_at_most) == 2 * len(plan.writing)
    assert sum(len(one.user) for one in judged) <= sum(len(one.user) for one in plan.judging_at_most)
    assert len({one.user for one in plan.judging_at_most}) == len(plan.judging_at_most)
    assert plan_requests(PASSAGES, settings_of(answerable_threshold=None), language="en").judging_at_most == ()


def test_offline_nothing_is_asked_and_a_judge_grades_when_there_is_one() -> None:
    offline = SynthesisSettings.model_validate({"round_trip": None})
    assert plan_requests(PASSAGES, offline, language="en") == plan_requests(PASSAGES, offline, language="zh")
    assert plan_requests(PASSAGES, offline, language="en").writing == ()
    found = synthesise(PASSAGES, offline, language="en")
    assert found.questions and {question.answerable for question in found.questions} == {None}
    judge = RuleChat(well)
    judged = SynthesisSettings.model_validate({"round_trip": None, "judge": CHAT})
    graded = synthesise(PASSAGES, judged, language="en", judge=judge)
    assert {question.answerable for question in graded.questions} == {1.0}
    assert len(judge.asked) <= len(plan_requests(PASSAGES, judged, language="en").judging_at_most)


def test_a_judge_of_its_own_is_asked_instead_of_the_writer() -> None:
    writer, judge = RuleChat(well), RuleChat(well)
    synthesise(PASSAGES, settings_of(judge=CHAT), language="en", chat=writer, judge=judge)
    assert {request.schema_name for request in writer.asked} == {"questions"}
    assert {request.schema_name for request in judge.asked} == {"grade"}


def test_prompts_are_in_the_language_of_the_data_set_or_of_the_settings() -> None:
    def first(dataset_language: str, **fields: object) -> str:
        return plan_requests(PASSAGES, settings_of(**fields), language=dataset_language).writing[0].user

    assert "请用中文写 1 个问题" in first("zh")
    assert "auf Deutsch" in first("zh", language="de")
    assert "in Dutch" in first("nl")
    assert "ISO 639 code xx" in first("xx")
    assert "Manual 0 › Part 0" in first("en")


def test_own_templates_are_used(tmp_path: Path) -> None:
    folder = tmp_path / "prompts" / "en"
    folder.mkdir(parents=True)
    text = "---\npassages: 1\ndescription: x\n---\n[system]\nBe brief.\n[user]\nAbout {passages}: {number}\n"
    (folder / "riddle.txt").write_text(text, encoding="utf-8")
    plan = plan_requests(PASSAGES, settings_of(styles=["riddle"]), language="en", templates_folder=tmp_path / "prompts")
    assert plan.writing[0].user == f"About {PASSAGES[0].text}: 1"


def test_progress_reaches_all_requests() -> None:
    seen: list[tuple[int, int]] = []
    run(PASSAGES, settings_of(styles=["question"]), progress=lambda done, total: seen.append((done, total)))
    assert seen[47] == (48, 48) and seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(
    ("fields", "given", "message"),
    [
        ({}, {}, "generator: chat needs a chat model, found none"),
        ({"round_trip": {"top_k": 5}}, {"chat": RuleChat(well)}, "expected the search of bm25, found none"),
        ({"generator": "inverse_cloze", "judge": CHAT}, {}, "synthesis.judge: expected a chat model that grades"),
    ],
)
def test_somebody_who_is_needed_and_missing_is_named(fields: dict, given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthesise(PASSAGES, settings_of(**fields), language="en", **given)


def test_the_data_set_has_every_passage_and_a_judgment_for_each_source(tmp_path: Path) -> None:
    found = run(PASSAGES, settings_of())
    dataset = assemble_dataset(PASSAGES, found.questions)
    assert {one.id: one for one in dataset.passages} == {one.id: one for one in PASSAGES}
    assert {(one.query_id, one.passage_id, one.grade) for one in dataset.judgments} == {
        (question.id, key, 1) for question in found.questions for key in question.passage_ids
    }
    by_id = {question.id: question for question in found.questions}
    for query in dataset.queries:
        question = by_id[query.id]
        assert (query.text, query.split) == (question.text, question.split)
        assert query.attributes == {"style": question.style, "generator": f"chat {question.model}"}
    write_dataset(dataset, tmp_path)
    assert read_dataset(tmp_path) == dataset


def question(name: str, split: str, *passages: str) -> SyntheticQuestion:
    fields = {"id": name, "text": name, "passage_ids": passages, "split": split, "style": "s", "generator": "chat"}
    return SyntheticQuestion.model_validate_json(json.dumps(fields))


def test_a_source_of_training_and_of_a_held_out_question_is_shared() -> None:
    asked = [
        question("q1", "train", "p1", "p2"),
        question("q2", "test", "p2"),
        question("q3", "validation", "p2", "p3"),
        question("q4", "test", "p3"),
        question("q0", "test", "p2"),
    ]
    shared = shared_sources(asked)
    assert [(one.passage_id, one.training_question, one.held_out_question, one.held_out_split) for one in shared] == [
        ("p2", "q1", "q3", "validation"),
        ("p2", "q1", "q0", "test"),
    ]
    assert shared_sources(asked[1:]) == ()
