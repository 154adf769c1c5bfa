import random

from embed_pipeline.dataset.audit import compared_passages, find_contradictions, find_duplicate_passages
from embed_pipeline.dataset.formats import build_dataset
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.records import Judgment, Passage, Query

LONG = "有点脂肪肝去年体检的时候发现的可以投保百万医疗险吗还需要做什么检查才能知道"
PASSAGES = [Passage("p1", "甲"), Passage("p2", "乙")]


def contradictions_of(first: str, second: str, *judgments: Judgment) -> list[tuple[str, str, str, str | None]]:
    data = build_dataset([Query("a", first, "train"), Query("b", second, "train")], PASSAGES, judgments)
    return [(c.first.id, c.second.id, c.kind, c.passage_id) for c in find_contradictions(data, 0.85)]


def test_like_queries_without_a_common_passage_contradict() -> None:
    assert contradictions_of(LONG, LONG + "？", Judgment("a", "p1"), Judgment("b", "p2")) == [
        ("a", "b", "disjoint", None)
    ]
    assert contradictions_of(LONG, LONG, Judgment("a", "p1"), Judgment("b", "p1"), Judgment("b", "p2")) == []
    assert contradictions_of(LONG, LONG, Judgment("a", "p1")) == []
    assert contradictions_of(LONG, "完全不同的一个问题", Judgment("a", "p1"), Judgment("b", "p2")) == []


def test_a_passage_relevant_to_one_and_irrelevant_to_the_other_is_named() -> None:
    judgments = [Judgment("a", "p1"), Judgment("a", "p2"), Judgment("b", "p1"), Judgment("b", "p2", 0)]
    assert contradictions_of(LONG, LONG[:-1], *judgments) == [("a", "b", "opposite", "p2")]


def test_queries_of_different_numbers_are_different_questions() -> None:
    judgments = (Judgment("a", "p1"), Judgment("b", "p2"))
    assert contradictions_of(LONG + "12", LONG + "13", *judgments) == []
    assert len(contradictions_of(LONG + "12", LONG + "12？", *judgments)) == 1


def test_duplicate_passages_are_those_that_comparing_all_pairs_finds() -> None:
    chance = random.Random(5)
    texts = []
    for _ in range(60):
        text = list(LONG)
        for _ in range(chance.randint(0, 6)):
            text[chance.randrange(len(text))] = chance.choice("甲乙丙丁戊己庚辛壬癸")
        texts.append("".join(text))
    passages = [Passage(f"p{n:02}", text) for n, text in enumerate(texts)]

    def jaccard(a: str, b: str) -> float:
        first, second = ({t[i : i + 3] for i in range(len(t) - 2)} for t in (canonical_form(a), canonical_form(b)))
        return len(first & second) / len(first | second)

    expected = [
        passage.id
        for at, passage in enumerate(passages)
        if any(jaccard(passage.text, earlier.text) >= 0.85 for earlier in passages[:at])
    ]
    found = find_duplicate_passages(passages)
    assert [duplicate.passage.id for duplicate in found] == expected
    assert 0 < len(expected) < 59
    for duplicate in found:
        assert duplicate.earlier.id < duplicate.passage.id
        assert duplicate.similarity == jaccard(duplicate.passage.text, duplicate.earlier.text)


def test_passages_are_compared_on_their_first_characters() -> None:
    passages = [Passage("a", LONG + "甲乙丙丁" * 20), Passage("b", LONG + "戊己庚辛" * 20)]
    assert find_duplicate_passages(passages) == ()
    assert len(find_duplicate_passages(passages, characters=len(LONG))) == 1
    assert find_duplicate_passages(()) == ()


def test_a_draw_of_passages_is_compared_with_all_before_it_however_far_away() -> None:
    texts = [f"{chance.getrandbits(64):016x}" for chance in [random.Random(3)] for _ in range(30_060)]
    texts[30_050], texts[30_055], texts[20] = texts[10], texts[30_052], texts[10]
    passages = [Passage(f"p{n:05}", text) for n, text in enumerate(texts)]
    found = find_duplicate_passages(passages, compared=[20, 30_000, 30_050, 30_055])
    assert [(one.earlier.id, one.passage.id) for one in found] == [
        ("p00010", "p00020"),
        ("p00010", "p30050"),
        ("p30052", "p30055"),
    ]


def test_all_passages_are_compared_up_to_a_size_and_a_draw_above_it() -> None:
    assert compared_passages(50_000) == range(50_000)
    drawn = compared_passages(50_001)
    assert len(set(drawn)) == 10_000 and list(drawn) == sorted(drawn) and drawn == compared_passages(50_001)
