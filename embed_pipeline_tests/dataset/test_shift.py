import pytest

from embed_pipeline.dataset.audit import compare_counts, language_of, measure_shift, newest_batch
from embed_pipeline.dataset.formats import build_dataset
from embed_pipeline.records import Judgment, Passage, Query


def test_lengths_are_compared_by_their_largest_difference_in_share() -> None:
    first = [Query(f"a{n}", "字" * length, "train") for n, length in enumerate((1, 2, 3, 4))]
    second = [Query(f"b{n}", "字" * length, "test") for n, length in enumerate((3, 4, 5, 6))]
    shift = measure_shift(build_dataset([*first, *second], (), ()), first, second)
    assert shift.length.distance == 0.5  # up to two characters: half of the first, none of the second
    assert (shift.first_median, shift.second_median) == (2.5, 4.5)


def test_a_handful_of_queries_proves_no_shift() -> None:
    first = [Query("a1", "字", "train"), Query("a2", "字", "train")]
    second = [Query("b1", "字字字", "test")]
    shift = measure_shift(build_dataset([*first, *second], (), ()), first, second)
    assert shift.length.distance == 1 and shift.length.p_value == pytest.approx(2 / 3)  # 1 of 3 orders, either side


def test_counts_are_compared_by_half_the_sum_of_differences() -> None:
    found = compare_counts({"a": 80, "b": 20}, {"a": 50, "b": 50})
    assert found.distance == pytest.approx(0.3)
    # chi-square of [[80, 20], [50, 50]]: 19.78 at one degree of freedom
    assert found.p_value == pytest.approx(8.69e-6, rel=0.01)


def test_equal_shares_and_rare_values_are_no_shift() -> None:
    assert compare_counts({"a": 10, "b": 20}, {"a": 30, "b": 60}).distance == pytest.approx(0)
    own = compare_counts({f"a{n}": 1 for n in range(100)}, {f"b{n}": 1 for n in range(100)})
    assert (own.distance, own.p_value) == (0.0, 1.0)


def test_labels_that_moved_most_come_first() -> None:
    queries = [Query(f"q{n:02}", "字", "train" if n < 40 else "test") for n in range(80)]
    label = ["p1"] * 20 + ["p2"] * 10 + ["p3"] * 10 + ["p1"] * 4 + ["p2"] * 24 + ["p3"] * 12
    judgments = [Judgment(query.id, name) for query, name in zip(queries, label, strict=True)]
    data = build_dataset(queries, [Passage(name, name) for name in ("p1", "p2", "p3")], judgments)
    shift = measure_shift(data, data.queries_of("train"), data.queries_of("test"))
    assert shift.most_shifted_labels == ("p1", "p2", "p3")
    assert shift.labels.distance == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("投保BMI多少", "cjk"),
        ("Wie hoch ist das?", "latin"),
        ("Привет", "cyrillic"),
        ("123？", "none"),
        ("ab投保", "cjk"),
    ],
)
def test_a_text_without_a_language_has_its_most_frequent_script(text: str, language: str) -> None:
    assert language_of(Query("q", text, "train")) == language
    assert language_of(Query("q", text, "train", {"language": "xx"})) == "xx"


def test_the_newest_batch_is_the_last_file_read() -> None:
    assert newest_batch({"q1": "b", "q2": "a", "q3": "a"}) == {"q2", "q3"}
    assert newest_batch({"q1": "a", "q2": "a"}) == frozenset()
    assert newest_batch({}) == frozenset()


def test_an_empty_group_is_refused() -> None:
    with pytest.raises(ValueError, match="both groups"):
        measure_shift(build_dataset((), (), ()), [], [])
