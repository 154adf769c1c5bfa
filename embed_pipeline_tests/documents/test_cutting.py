"""Passages: whole sentences of one section, within the limit, with nothing lost and nothing crossed."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_pipeline.dataset.normalisation import normalise_text, passage_id
from embed_pipeline.documents.cutting import HEADING_SEPARATOR, cut_document, sentence_spans
from embed_pipeline.documents.document import Document, DocumentBuilder
from embed_pipeline.documents.headings import article_name, begins_article
from embed_pipeline.documents.reading import read_document
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.encoding.bundled import bundled_english_directory
from embed_pipeline.encoding.tokens import token_counter
from embed_pipeline.records import Passage

POLICY = Path(__file__).parents[2] / "data" / "policy_zh" / "documents" / "critical_illness_terms.docx"


def count_words(texts: Sequence[str]) -> list[int]:
    """A token is a word, or a single Chinese character."""
    return [len(re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+", text)) for text in texts]


def _settings(**changes: object) -> DocumentSettings:
    return DocumentSettings.model_validate({"files": ["x"], "passage_tokens": 16, **changes})


def _cut(document: Document, **changes: object) -> list[Passage]:
    return list(cut_document(document, _settings(**changes), count_words))


def _document(*blocks: str | tuple[str, int]) -> Document:
    builder = DocumentBuilder("a.md")
    for block in blocks:
        if isinstance(block, tuple):
            builder.heading(*block)
        else:
            builder.block(block)
    return builder.build()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("等待期为九十日。“为什么？”他问。没有…", ["等待期为九十日。", "“为什么？”", "他问。", "没有…"]),
        ("One. Two! Three? (Four.) Five", ["One.", "Two!", "Three?", "(Four.)", "Five"]),
        ("See Art. 3 of the act, e.g. No. 5 here. Dr. No pays 3.5 million.", None),
        ("Nach Abs. 2 Nr. 4 gilt z. B. das Gesetz. Ende.", ["Nach Abs. 2 Nr. 4 gilt z. B. das Gesetz.", "Ende."]),
        ("Voir l’art. 5, p. ex. celui-ci. Fin.", ["Voir l’art. 5, p. ex. celui-ci.", "Fin."]),
        ("1. First point\n\n2. Second point", ["1. First point", "2. Second point"]),
        ("  ", []),
    ],
)
def test_a_sentence_ends_where_a_reader_ends_it(text: str, sentences: list[str] | None) -> None:
    found = [text[span.start : span.end] for span in sentence_spans(text)]
    assert found == (
        ["See Art. 3 of the act, e.g. No. 5 here.", "Dr. No pays 3.5 million."] if sentences is None else sentences
    )


@given(st.text(alphabet="ab。.！? \n“”)A1", max_size=60))
def test_every_character_but_white_space_is_in_exactly_one_sentence(text: str) -> None:
    spans = sentence_spans(text)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    inside = "".join(text[span.start : span.end] for span in spans)
    assert "".join(inside.split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("第三条 等待期", "第三条"),
        ("第3条之一 例外", "第3条之一"),
        ("第二十条", "第二十条"),
        ("第三条（定义）本条款所称", "第三条"),
        ("第三条(定义)本条款所称", "第三条"),
        ("第三条【责任】保险人", "第三条"),
        ("第一条の二　前条の規定", "第一条の二"),
        ("第三条（一）项的规定", ""),
        ("第一条の規定は適用しない。", ""),
        ("Article 3", "Article 3"),
        ("Article premier", "Article premier"),
        ("Art. 12 Scope", "Art. 12"),
        ("§ 7 Kündigung", "§ 7"),
        ("Section 4. Powers", "Section 4."),
        ("Article 3 of the act applies.", ""),
        ("依照第三条的规定", ""),
        ("第三章 总则", ""),
        ("Section 4.2 says", ""),
    ],
)
def test_an_article_begins_at_its_mark_and_a_reference_begins_none(text: str, name: str) -> None:
    assert article_name(text) == name and begins_article(text) is bool(name)


def test_a_passage_knows_file_headings_and_characters() -> None:
    document = _document(("One", 1), "A first sentence stands here.", ("Below", 2), "And another one stands there.")
    first, second = _cut(document)
    assert first.attributes == {"file": "a.md", "start": "5", "end": "34", "heading": "One"}
    assert second.attributes["heading"] == f"One{HEADING_SEPARATOR}Below"
    assert first.id == passage_id(first.text) and first.text == "A first sentence stands here."


def test_a_heading_alone_gives_no_passage_and_stands_in_the_path_below() -> None:
    (passage,) = _cut(_document(("One", 1), ("Two", 2), "Text below both headings."))
    assert passage.attributes["heading"] == "One › Two" and "One" not in passage.text


def test_headings_that_nothing_stands_under_are_one_passage_of_their_own() -> None:
    hours, parking, dogs = "Opening hours: 9 to 17", "Parking: free", "Dogs: allowed"
    first, second = _cut(_document((hours, 2), (parking, 2), (dogs, 2), "We welcome you."))
    assert first.text == f"{hours} {parking}" and "heading" not in first.attributes
    assert second.text == "We welcome you." and second.attributes["heading"] == dogs
    (last,) = _cut(_document(("FAQ", 1), (hours, 2), ("On Sundays", 3)))
    assert last.text == f"FAQ {hours} On Sundays"


def test_a_table_of_contents_of_headings_is_a_few_passages() -> None:
    contents = [(f"第{n}章 总则", 2) for n in range(1, 41)]
    passages = _cut(_document(*contents, *(part for one in contents for part in (one, "本章有一条。"))))
    below = [passage for passage in passages if "heading" in passage.attributes]
    assert len(below) == 40 and all(passage.text == "本章有一条。" for passage in below)
    assert len(passages) - len(below) <= 20


def test_the_number_of_an_article_stands_over_its_title_of_the_same_level() -> None:
    blocks = [
        ("CHAPTER I", 2),
        ("GENERAL", 2),
        ("Article 1", 2),
        ("Subject", 2),
        "It is this.",
        ("Article 2", 2),
        "So.",
    ]
    passages = _cut(_document(*blocks))
    assert [(passage.text, passage.attributes.get("heading")) for passage in passages] == [
        ("CHAPTER I GENERAL", None),
        ("It is this.", "Article 1 › Subject"),
        ("So.", "Article 2"),
    ]


def test_sentences_are_spread_evenly_and_the_last_passage_is_no_small_rest() -> None:
    text = " ".join(f"Sentence {n} has five words." for n in range(10))
    sizes = [count_words([passage.text])[0] for passage in _cut(_document(text), passage_tokens=18)]
    assert sum(sizes) == 50 and max(sizes) <= 18 and min(sizes) >= 10


def test_with_articles_each_begins_a_passage_and_is_in_its_path() -> None:
    blocks = ["第一条 短。", "属于第一条。", "第二条 也短。"]
    together = _cut(_document(("总则", 1), *blocks), passage_tokens=60)
    apart = _cut(_document(("总则", 1), *blocks), passage_tokens=60, cut="article")
    assert len(together) == 1
    assert [passage.attributes["heading"] for passage in apart] == ["总则 › 第一条", "总则 › 第二条"]
    assert apart[0].text == "第一条 短。 属于第一条。"


def test_a_sentence_above_the_limit_is_cut_at_commas_and_loses_nothing() -> None:
    text = ", ".join(f"part number {n}" for n in range(12)) + "."
    passages = _cut(_document(text))
    assert all(count_words([passage.text])[0] <= 16 for passage in passages)
    assert "".join(passage.text for passage in passages).replace(" ", "") == text.replace(" ", "")
    assert all(passage.text.endswith((",", ".")) for passage in passages)


def test_a_word_above_the_limit_ends_all_the_same() -> None:
    def count_characters(texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    passages = list(cut_document(_document("x" * 100), _settings(passage_tokens=16), count_characters))
    assert "".join(passage.text for passage in passages) == "x" * 100
    assert max(len(passage.text) for passage in passages) == 16


def test_overlap_repeats_whole_sentences_inside_a_section_only() -> None:
    text = " ".join(f"Sentence {n} has five words." for n in range(8))
    passages = _cut(_document(("One", 1), text, ("Two", 1), text), passage_tokens=16, overlap_tokens=5)
    by_section: dict[str, list[Passage]] = {}
    for passage in passages:
        by_section.setdefault(passage.attributes["heading"], []).append(passage)
    for own in by_section.values():
        for before, after in pairwise(own):
            assert before.text.split(". ")[-1].rstrip(".") == after.text.split(". ")[0].rstrip(".")
    starts = [int(passage.attributes["start"]) for passage in by_section["Two"]]
    assert min(starts) > max(int(passage.attributes["end"]) for passage in by_section["One"])


def test_headings_go_before_the_text_where_asked_and_count() -> None:
    document = _document(("One", 1), ("Two", 2), " ".join(f"Sentence {n} has five words." for n in range(8)))
    for passage in _cut(document, heading_in_text=True):
        assert passage.text.startswith("One › Two\n") and count_words([passage.text])[0] <= 16


_WORDS = st.text(alphabet="ab字词", min_size=1, max_size=6)
_SENTENCES = st.lists(_WORDS, min_size=1, max_size=30).map(lambda words: " ".join(words) + ".")
_BLOCKS = st.one_of(_SENTENCES, st.tuples(_WORDS, st.integers(1, 3)), _SENTENCES.map(lambda text: f"第一条 {text}"))


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.lists(_BLOCKS, min_size=1, max_size=12),
    tokens=st.integers(16, 40),
    overlap=st.integers(0, 8),
    cut=st.sampled_from(["section", "article"]),
    heading_in_text=st.booleans(),
)
def test_nothing_is_lost_crossed_or_too_long(
    blocks, tokens: int, overlap: int, cut: str, heading_in_text: bool
) -> None:
    document = _document(*blocks)
    passages = _cut(document, passage_tokens=tokens, overlap_tokens=overlap, cut=cut, heading_in_text=heading_in_text)
    covered: set[int] = set()
    for passage in passages:
        start, end = int(passage.attributes["start"]), int(passage.attributes["end"])
        body = normalise_text(document.text[start:end])
        assert passage.text.endswith(body) and (heading_in_text or passage.text == body)
        assert count_words([passage.text])[0] <= tokens
        inside = [b for b in document.blocks if b.start < end and start < b.end]
        assert len({b.headings for b in inside}) == 1 and all(b.kind != "heading" for b in inside)
        if cut == "article":
            assert not any(begins_article(document.text[b.start : b.end]) and b.start > start for b in inside)
        covered.update(range(start, end))
    paths = {passage.attributes.get("heading", "") for passage in passages}
    assert all(any(path.startswith(" › ".join(b.headings)) for path in paths) for b in document.blocks)
    wanted = {at for b in document.blocks if b.kind != "heading" for at in range(b.start, b.end)}
    assert {at for at in wanted if not document.text[at].isspace()} <= covered
    assert passages == _cut(
        document, passage_tokens=tokens, overlap_tokens=overlap, cut=cut, heading_in_text=heading_in_text
    )
    if not overlap:
        spans = [(int(p.attributes["start"]), int(p.attributes["end"])) for p in passages]
        assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_the_limit_holds_for_the_real_tokenizer_on_a_real_document() -> None:
    count = token_counter(bundled_english_directory())
    document = read_document(POLICY, "policy.docx")
    for limit in (24, 64, 200):
        passages = list(cut_document(document, _settings(passage_tokens=limit, cut="article"), count))
        assert max(count([passage.text for passage in passages])) <= limit
        assert "第一章" not in "".join(passage.text for passage in passages)
