import random

from embed_pipeline.dataset.audit import describe_labels, find_empty_splits, find_leaks
from embed_pipeline.dataset.formats import build_dataset
from embed_pipeline.records import Judgment, Passage, Query

LONG = "有点脂肪肝去年体检的时候发现的可以投保百万医疗险吗还需要做什么检查才能知道"


def leaks_of(*queries: Query) -> list[tuple[str, str, float]]:
    return [
        (leak.query.id, leak.train_query.id, round(leak.similarity, 3))
        for leak in find_leaks(build_dataset(queries, (), ()), 0.85)
    ]


def test_exact_and_near_duplicates_of_held_out_queries_are_leaks() -> None:
    near = LONG[:-1]
    count = len(LONG) - 2
    assert leaks_of(
        Query("a", LONG, "train"),
        Query("b", LONG + "？", "test"),  # the same but for punctuation
        Query("c", near, "validation"),
        Query("d", "完全不同的一个问题", "test"),
        Query("e", near + "，", "train"),
    ) == [("b", "a", 1.0), ("c", "e", 1.0)]
    assert leaks_of(Query("a", LONG, "train"), Query("c", near, "test")) == [("c", "a", round((count - 1) / count, 3))]


def test_likeness_inside_a_split_or_between_held_out_splits_is_no_leak() -> None:
    assert leaks_of(Query("a", LONG, "train"), Query("b", LONG + "吗", "train")) == []
    assert leaks_of(Query("a", LONG, "test"), Query("b", LONG, "validation")) == []


def test_leaks_are_those_that_comparing_all_pairs_finds() -> None:
    chance = random.Random(5)
    texts = []
    for _ in range(60):
        text = list(LONG)
        for _ in range(chance.randint(0, 4)):
            text[chance.randrange(len(text))] = chance.choice("甲乙丙")
        texts.append("".join(text))
    queries = [Query(f"q{i:02}", text, chance.choice(("train", "test"))) for i, text in enumerate(texts)]

    def jaccard(a: str, b: str) -> float:
        first, second = ({t[i : i + 3] for i in range(len(t) - 2)} for t in (a, b))
        return len(first & second) / len(first | second)

    train = [query for query in queries if query.split == "train"]
    expected = {
        query.id
        for query in queries
        if query.split == "test" and any(jaccard(query.text, t.text) >= 0.7 for t in train)
    }
    leaks = find_leaks(build_dataset(queries, (), ()), 0.7)
    assert [leak.query.id for leak in leaks] == sorted(expected)
    assert 0 < len(expected) < len(queries) - len(train)
    for leak in leaks:
        assert leak.similarity == max(jaccard(leak.query.text, query.text) for query in train)


def test_empty_splits_and_labels_without_training_are_named() -> None:
    data = build_dataset(
        [Query("q1", "一二三", "train"), Query("q2", "一", "train"), Query("q3", "一二三四", "test")],
        [Passage("p1", "丙"), Passage("p2", "乙"), Passage("p3", "甲"), Passage("p4", "丁")],
        [Judgment("q1", "p1"), Judgment("q1", "p2", 0), Judgment("q3", "p1"), Judgment("q3", "p3")],
    )
    assert find_empty_splits(data) == ("validation",)
    labels = describe_labels(data)
    assert [passage.text for passage in labels.never_in_train] == ["丁", "乙", "甲"]
    assert [passage.text for passage in labels.only_held_out] == ["甲"]
    assert labels.shared == 0.5  # p1 has two queries, p3 one
