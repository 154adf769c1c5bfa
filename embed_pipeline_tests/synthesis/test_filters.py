import difflib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_pipeline.dataset.normalisation import canonical_form, query_id
from embed_pipeline.records import Passage, Split
from embed_pipeline.synthesis.filters import (
    copied_share_of,
    drop_copied,
    drop_near_duplicates,
    keep_answerable,
    keep_found_again,
)
from embed_pipeline.synthesis.questions import SyntheticQuestion
from embed_pipeline.synthesis.sources import collect_sources
from embed_pipeline.synthesis.templates import load_template
from embed_pipeline_tests.synthesis.written_passages import RuleChat, documents, passage

PASSAGES = documents(4, 3)
SOURCES = collect_sources(PASSAGES)
JUDGE = load_template("judge", "en", None)


def question(text: str, *passages: Passage, split: Split = "train", style: str = "question") -> SyntheticQuestion:
    ids = tuple(one.id for one in passages or PASSAGES[:1])
    return SyntheticQuestion(
        id=query_id(text), text=text, passage_ids=ids, split=split, style=style, generator="chat", model="m"
    )


def shared_share(text: str, other: str) -> float:
    """The larger of the two shares, by another way: difflib's longest match and a list of 5-grams."""
    matcher = difflib.SequenceMatcher(None, text, other, autojunk=False)
    run = matcher.find_longest_match().size / len(text)
    grams = [text[at : at + 5] for at in range(len(text) - 4)]
    known = {other[at : at + 5] for at in range(len(other) - 4)}
    return max(run, sum(gram in known for gram in grams) / len(grams) if grams else 0)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("abc", min_size=1, max_size=25),
    other=st.text("abc", min_size=1, max_size=60),
    threshold=st.sampled_from([0.2, 0.5, 0.8, 1.0]),
)
def test_a_question_is_copied_exactly_when_its_run_or_its_grams_reach_the_share(
    text: str, other: str, threshold: float
) -> None:
    expected = shared_share(text, other)
    found = copied_share_of(text, other, threshold)
    assert (found >= threshold) == (expected >= threshold)
    if found >= threshold:
        assert found == pytest.approx(expected)


def test_copied_questions_are_dropped_whatever_their_case_and_punctuation() -> None:
    one = passage("Claims are paid within thirty days of the receipt of all papers.", "b.md", "Claims", page="4")
    sources = collect_sources([one, *PASSAGES])
    copied = question("Are CLAIMS “paid within thirty days of the receipt”?", one)
    fresh = question("How long until I get my money?", one)
    found = drop_copied([copied, fresh], sources, 0.8)
    assert found.kept == (fresh,)
    (entry,) = found.dropped
    assert (entry.workbook, entry.sheet, entry.row, entry.column) == ("b.md", "Claims", 1, "question")
    assert (entry.reason, entry.value) == ("copied_question", copied.text)
    assert "the limit is 80%" in entry.detail


def test_a_question_for_two_passages_is_copied_from_either() -> None:
    found = drop_copied([question(PASSAGES[1].text, PASSAGES[0], PASSAGES[1])], SOURCES, 0.8)
    assert found.kept == ()


def jaccard(a: str, b: str) -> float:
    first, second = ({t[i : i + 3] for i in range(max(1, len(t) - 2))} for t in (canonical_form(a), canonical_form(b)))
    return len(first & second) / len(first | second)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), threshold=st.sampled_from([0.5, 0.85]))
def test_of_near_duplicates_the_held_out_one_stays_then_the_first(data: st.DataObject, threshold: float) -> None:
    texts = data.draw(st.lists(st.text("abcd", min_size=3, max_size=9), max_size=12))
    asked = [question(text, split=data.draw(st.sampled_from(["train", "validation", "test"]))) for text in texts]
    found = drop_near_duplicates(asked, SOURCES, threshold)
    expected: list[int] = []
    for split in ("test", "validation", "train"):
        for at, one in enumerate(asked):
            if one.split == split and not any(jaccard(one.text, asked[other].text) >= threshold for other in expected):
                expected.append(at)
    assert found.kept == tuple(asked[at] for at in sorted(expected))
    assert len(found.dropped) == len(asked) - len(expected)
    assert {entry.reason for entry in found.dropped} <= {"near_duplicate_question"}


def test_a_near_duplicate_names_what_it_repeats() -> None:
    kept, repeated = (
        question("How long is the waiting period?", split="test"),
        question("how long is the waiting period"),
    )
    found = drop_near_duplicates([repeated, kept], SOURCES, 0.85)
    assert found.kept == (kept,)
    assert kept.id in found.dropped[0].detail and "of test (similarity 1.00)" in found.dropped[0].detail


def test_a_question_is_kept_with_its_worst_rank_when_every_passage_is_found() -> None:
    rng = random.Random(3)
    ids = [one.id for one in PASSAGES]
    asked = [question(f"q {at}", *rng.sample(PASSAGES, rng.choice([1, 2]))) for at in range(40)]
    hits = {one.text: rng.sample(ids, 6) for one in asked}
    found = keep_found_again(asked, SOURCES, lambda texts: [hits[text] for text in texts], recipe="bm25", top_k=4)
    expected = {}
    for one in asked:
        ranks = [hits[one.text].index(key) + 1 if key in hits[one.text] else 99 for key in one.passage_ids]
        if max(ranks) <= 4:
            expected[one.id] = max(ranks)
    assert {one.id: one.rank for one in found.kept} == expected
    assert 0 < len(expected) < 40
    assert [entry.value for entry in found.dropped] == [one.text for one in asked if one.id not in expected]
    assert "bm25 does not find p-" in found.dropped[0].detail


def test_a_search_that_answers_too_few_questions_is_refused() -> None:
    with pytest.raises(ValueError, match="expected hits for each of 1 questions, found 0"):
        keep_found_again([question("q")], SOURCES, lambda texts: [], recipe="bm25", top_k=4)


def test_no_question_asks_no_search() -> None:
    found = keep_found_again([], SOURCES, lambda texts: [["never"]], recipe="bm25", top_k=4)
    assert found.kept == found.dropped == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"reason": "clear", "answerable": 1}, None),
        ({"reason": "clear", "answerable": 0.7}, None),
        ({"answerable": 0.9}, None),
        ({"reason": "only half of it", "answerable": 0.69}, "not_answerable"),
        ({"reason": "off", "answerable": 0}, "not_answerable"),
        ({"reason": "percent", "answerable": 85}, "unanswered_call"),
        ({"reason": "words", "answerable": "yes"}, "unanswered_call"),
        ({"reason": "yes", "answerable": True}, "unanswered_call"),
        ({"answerable": float("nan")}, "unanswered_call"),
        ({}, "unanswered_call"),
        (None, "unanswered_call"),
    ],
)
def test_a_grade_at_the_threshold_keeps_and_a_missing_grade_drops(content: dict | None, reason: str | None) -> None:
    asked = question("How long?")
    judge = RuleChat(lambda request: content)
    found = keep_answerable([asked], SOURCES, judge, JUDGE, language="en", threshold=0.7, seed=5)
    if reason is None:
        assert content is not None
        assert found.kept == (asked.model_copy(update={"answerable": float(content["answerable"])}),)
    else:
        assert found.kept == () and [entry.reason for entry in found.dropped] == [reason]


def test_the_judge_sees_the_question_and_all_its_passages_in_order() -> None:
    judge = RuleChat(lambda request: {"reason": "both", "answerable": 1})
    asked = question("How do the two compare?", PASSAGES[4], PASSAGES[2])
    keep_answerable([asked], SOURCES, judge, JUDGE, language="en", threshold=0.7, seed=5)
    (request,) = judge.asked
    assert asked.text in request.user
    assert f"[1] {PASSAGES[4].text}\n\n[2] {PASSAGES[2].text}" in request.user
    assert request.seed == 5
    assert list(request.schema["properties"]) == ["reason", "answerable"]
