import re
from dataclasses import replace

import pytest

from embed_pipeline.dataset.normalisation import normalise_text
from embed_pipeline.dataset.settings import SplitSettings
from embed_pipeline.records import Passage
from embed_pipeline.synthesis.chat_writing import Written
from embed_pipeline.synthesis.inverse_cloze import (
    HEADING_PASSAGES,
    count_words,
    draw_sentences,
    heading_query,
    shorten,
    trim,
    write_offline,
)
from embed_pipeline.synthesis.settings import SynthesisSettings
from embed_pipeline.synthesis.sources import collect_sources, split_sources
from embed_pipeline_tests.synthesis.written_passages import documents, passage

SHARES = SplitSettings(train=0.5, validation=0.25, test=0.25, seed=1)
POLICY = (
    "1. The insurer pays for the treatment in a public hospital. Why? The waiting period begins on the first day of "
    "the contract; it ends after ninety days. (a) Teeth are not covered by this policy."
)
CHINESE = "第三条 本合同的等待期为九十天。（一）等待期内发生的疾病不予赔付；好。意外伤害没有等待期！"


def write(passages: list[Passage], **settings: object) -> Written:
    asked = SynthesisSettings.model_validate(settings)
    sources = collect_sources(passages)
    return write_offline(sources.ordered, sources, split_sources(passages, SHARES, "document"), asked)


@pytest.mark.parametrize("text", [POLICY, CHINESE])
@pytest.mark.parametrize("seed", range(4))
def test_a_pseudo_question_is_a_whole_sentence_of_its_passage_of_reasonable_length(text: str, seed: int) -> None:
    one = passage(text)
    drawn = draw_sentences(one, 10, seed)
    assert len(drawn) == len(set(drawn)) >= 2
    for sentence in drawn:
        assert sentence in normalise_text(text)
        assert re.match(r"[\w“]", sentence) and not re.search(r"[.。；;！]$", sentence)
        assert count_words(sentence) >= 4
    assert draw_sentences(one, 1, seed) == drawn[:1]


def test_the_draw_depends_on_the_seed_and_on_no_other_passage() -> None:
    one, others = passage(POLICY), documents(4, 2)
    assert len({draw_sentences(one, 1, seed) for seed in range(20)}) > 1
    alone = {q.text for q in write([*others, one]).questions if q.passage_ids == (one.id,)}
    among = {q.text for q in write([*documents(6, 3), one], seed=0).questions if q.passage_ids == (one.id,)}
    assert alone == among and len(alone) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. Scope of cover.", "Scope of cover"),
        ("2.1 Scope", "Scope"),
        ("2.5 percent of the sum are due.", "2.5 percent of the sum are due"),
        ("30 days are enough.", "30 days are enough"),
        ("(3) The insurer pays", "The insurer pays"),
        ("a) b) Teeth", "Teeth"),
        ("iv. Last part;", "Last part"),
        ("• Bring your card", "Bring your card"),
        ("Article 4 of the act applies", "Article 4 of the act applies"),
        ("Article 4 – Deadlines", "Deadlines"),
        ("Article 4. Deadlines", "Deadlines"),
        ("§ 7 Kündigung", "Kündigung"),
        ("Chapitre premier", ""),
        ("一、保险责任", "保险责任"),
        ("（二）责任免除。", "责任免除"),
        ("1．等待期", "等待期"),
        ("第十二条　等待期为九十天。", "等待期为九十天"),
        ("第三条规定的期限届满后，合同终止", "第三条规定的期限届满后,合同终止"),
        ("…", ""),
        ("A friend in need", "A friend in need"),
    ],
)
def test_enumeration_marks_go_and_references_and_amounts_stay(text: str, expected: str) -> None:
    assert trim(text) == expected


@pytest.mark.parametrize(
    ("clauses", "fitting"),
    [
        (["one two three four five six seven eight nine ten,"] * 5, 4),
        (["it costs 1,000 and more than that in each of the ten years;"] * 4, 2),
        (["被保险人在等待期内因疾病住院治疗的，"] * 5, 3),
        (["word " * 41], 0),
        (["a short one"], 1),
    ],
)
def test_a_long_sentence_is_cut_after_the_last_clause_that_fits(clauses: list[str], fitting: int) -> None:
    text = normalise_text(" ".join(clauses) if clauses[0].isascii() else "".join(clauses))
    found = shorten(text)
    assert text.startswith(found)
    assert count_words(found) == sum(count_words(clause) for clause in clauses[:fitting])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("Travel policy", "Exclusions"), "Travel policy Exclusions"),
        (("Travel policy", "What you must do after an accident"), "What you must do after an accident"),
        (("Exclusions",), ""),
        (("3 Scope of cover",), "Scope of cover"),
        (("保险条款", "第二章 责任免除"), "保险条款 责任免除"),
        (("责任免除",), "责任免除"),
        (("总则",), ""),
        (("Travel policy", "1."), ""),
    ],
)
def test_a_short_heading_takes_its_parent_along_and_one_word_is_no_question(
    path: tuple[str, ...], expected: str
) -> None:
    assert heading_query(path) == expected


def test_a_heading_asks_for_all_passages_below_it_and_for_none_where_there_are_many() -> None:
    others = documents(3, 1)
    few = [passage(f"Few {at} is a sentence of six words.", "b.md", "Cover › Claims and papers", at) for at in range(3)]
    many = [
        passage(f"Many {at} is a sentence of six words.", "c.md", "Cover › Rules of the house", at) for at in range(4)
    ]
    found = [q for q in write([*others, *few, *many]).questions if q.style == "heading"]
    by_text = {q.text: q.passage_ids for q in found}
    assert by_text["Cover Claims and papers"] == tuple(one.id for one in few)
    assert "Cover Rules of the house" not in by_text
    assert max(map(len, by_text.values())) <= HEADING_PASSAGES


def test_passages_below_a_deeper_heading_count_for_the_one_above() -> None:
    top = passage("Here is what the whole chapter says.", "b.md", "The whole chapter of rules", 0)
    below = [
        passage(f"Part {at} is a sentence of six words.", "b.md", f"The whole chapter of rules › Part {at}", at + 1)
        for at in range(3)
    ]
    texts = [q.text for q in write([*documents(3, 1), top, *below]).questions if q.style == "heading"]
    assert "The whole chapter of rules" not in texts  # four passages
    assert "The whole chapter of rules Part 1" in texts


def test_a_heading_over_two_splits_is_no_question() -> None:
    passages = [
        passage(f"Text {at} is a sentence of six words.", "a.md", "One and only heading", at) for at in range(3)
    ]
    sources = collect_sources(passages)
    splits = split_sources([*passages, *documents(12, 1)], SHARES, "document")
    torn = replace(splits, splits={**splits.splits, passages[0].id: "train", passages[1].id: "test"})
    found = write_offline(sources.ordered, sources, torn, SynthesisSettings())
    assert [q.style for q in found.questions] == ["sentence"] * 3


def test_a_passage_without_a_sentence_of_reasonable_length_is_in_the_ledger() -> None:
    found = write([*documents(3, 1), passage("Yes. No. 4,120 3,077 2,008 Net 9,114.", "z.md")])
    assert [(entry.workbook, entry.reason, entry.column) for entry in found.dropped] == [
        ("z.md", "malformed_question", "sentence")
    ]


def test_offline_questions_say_that_they_are() -> None:
    for question in write(documents(4, 2), seed=7).questions:
        assert (question.generator, question.model, question.template, question.seed) == ("inverse_cloze", "", "", 7)
        assert question.style in ("sentence", "heading")
