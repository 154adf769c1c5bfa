"""Every query is in exactly one slice of each property, and slices say what they hold."""

from collections import Counter

from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.evaluation.latency import measure_latency, measure_throughput, spread, summarise_latency
from embed_pipeline.evaluation.slices import MOST_VALUES, Slice, slice_queries
from embed_pipeline.records import Judgment, Passage, Query


def _dataset() -> RetrievalDataset:
    queries = [Query(f"t{i}", f"train {i}", "train") for i in range(30)]
    judgments = [Judgment(query.id, "often" if i < 25 else "rare") for i, query in enumerate(queries)]
    tests = {"a": ["often"], "b": ["often", "rare"], "c": ["never"], "d": ["often", "rare", "never", "x", "y"]}
    for name, relevant in tests.items():
        attributes = {"language": "en" if name in "ab" else "de", "channel": "chat"}
        queries.append(Query(name, name * (1 + 10 * "abcd".index(name)), "test", attributes))
        judgments += [Judgment(name, passage) for passage in relevant]
    passages = [Passage(name, name) for name in ("often", "rare", "never", "x", "y")]
    return build_dataset(queries, passages, judgments)


def _named(slices: tuple[Slice, ...]) -> dict[str, tuple[str, ...]]:
    return {str(found): found.query_ids for found in slices}


def test_slices_by_labels_train_frequency_length_and_attributes() -> None:
    found = _named(slice_queries(_dataset(), "test"))
    assert {name: ids for name, ids in found.items() if name.startswith("labels")} == {
        "labels: 1": ("a", "c"),
        "labels: 2": ("b",),
        "labels: 4 and more": ("d",),
    }
    assert found["train frequency: unseen"] == ("c", "d")
    assert found["train frequency: 5 to 19"] == ("b",)
    assert found["train frequency: 20 and more"] == ("a",)
    assert (found["language: de"], found["language: en"]) == (("c", "d"), ("a", "b"))
    assert not any(name.startswith("channel") for name in found)  # one value says nothing


def test_relevant_copies_of_one_text_are_one_label_also_where_train_has_another_of_them() -> None:
    plain = _dataset()
    copies = tuple(Passage(f"{name} too", name) for name in ("often", "x"))
    judgments = [
        Judgment(one.query_id, "often too" if one.query_id == "a" else one.passage_id) for one in plain.judgments
    ]
    copied = build_dataset(plain.queries, (*plain.passages, *copies), [*judgments, Judgment("b", "often too")])
    assert slice_queries(copied, "test") == slice_queries(plain, "test")


def test_every_query_is_in_one_slice_of_each_property() -> None:
    dataset = _dataset()
    slices = slice_queries(dataset, "test")
    for name in {found.property for found in slices}:
        members = Counter(q for found in slices if found.property == name for q in found.query_ids)
        assert members == Counter(query.id for query in dataset.queries_of("test"))


def test_an_attribute_of_many_values_ends_in_one_slice_of_the_rest() -> None:
    queries = [Query(f"q{i:02d}", "text", "test", {"shop": f"s{i // 2:02d}"}) for i in range(2 * MOST_VALUES + 6)]
    dataset = build_dataset(queries, [Passage("p", "p")], [Judgment(query.id, "p") for query in queries])
    slices = slice_queries(dataset, "test")
    assert len(slices) == MOST_VALUES + 1 and slices[-1].value == "other" and len(slices[-1].query_ids) == 6


def test_without_train_queries_there_is_no_train_frequency() -> None:
    queries = [Query("a", "short", "test"), Query("b", "much longer", "test"), Query("c", "the longest of all", "test")]
    dataset = build_dataset(queries, [Passage("p", "p")], [Judgment(query.id, "p") for query in queries])
    assert {found.property for found in slice_queries(dataset, "test")} == {"length"}


def test_latency_is_over_single_queries_and_none_without_any() -> None:
    asked: list[Query] = []
    queries = [Query(f"q{i}", "text", "test") for i in range(100)]
    found = measure_latency(asked.append, queries)
    assert found is not None and 0 <= found.p50_ms <= found.p95_ms
    assert len(asked) <= 33 and measure_latency(asked.append, []) is None
    assert measure_throughput(len, ["text"] * 200) and measure_throughput(len, []) is None


def test_percentiles_of_a_hand_example() -> None:
    found = summarise_latency([float(value) for value in range(101)])
    assert found is not None and (found.p50_ms, found.p95_ms) == (50.0, 95.0)
    assert spread(range(10), 4) == [0, 3, 6, 9] and spread(range(3), 10) == [0, 1, 2]
