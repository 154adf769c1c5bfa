import json
from pathlib import Path

import pytest

from embed_pipeline.dataset.formats import (
    PassageFile,
    RetrievalDataset,
    build_dataset,
    read_dataset,
    read_passages,
    write_dataset,
)
from embed_pipeline.dataset.sampling import sample_dataset
from embed_pipeline.records import Judgment, Passage, Query

QUERIES = (Query("q-2", "第二\u2028问", "test"), Query("q-1", "一", "train"), Query("q-3", "三", "train"))
PASSAGES = (Passage("p-b", "乙"), Passage("p-a", "甲"))
JUDGMENTS = (Judgment("q-2", "p-a"), Judgment("q-1", "p-b", 0), Judgment("q-1", "p-a", 2))


def dataset() -> RetrievalDataset:
    return build_dataset(QUERIES, PASSAGES, JUDGMENTS)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_dataset(dataset(), tmp_path)
    assert read_dataset(tmp_path) == dataset()
    assert list(read_passages(tmp_path / "corpus.jsonl")) == [PASSAGES[1], PASSAGES[0]]


def test_bytes_do_not_depend_on_the_order_of_the_parts(tmp_path: Path) -> None:
    write_dataset(dataset(), tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_dataset(RetrievalDataset(QUERIES[::-1], PASSAGES[::-1], JUDGMENTS[::-1]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert set(first) == {"queries.jsonl", "corpus.jsonl", "judgments.jsonl"}
    assert first["corpus.jsonl"].decode() == '{"id": "p-a", "text": "甲"}\n{"id": "p-b", "text": "乙"}\n'


def test_lookups_by_split_and_query() -> None:
    assert [query.id for query in dataset().queries_of("train")] == ["q-1", "q-3"]
    assert dataset().queries_of("validation") == ()
    assert dataset().relevant() == {"q-1": {"p-a": 2, "p-b": 0}, "q-2": {"p-a": 1}, "q-3": {}}


@pytest.mark.parametrize(("queries", "passages"), [(3, 5), (3, 1), (50, 100)])
def test_a_sample_is_as_large_as_it_may_be_and_keeps_every_relevant_passage(queries: int, passages: int) -> None:
    whole = build_dataset(
        [Query(f"q{at}", str(at), "test" if at % 2 else "train") for at in range(20)],
        [Passage(f"p{at}", str(at)) for at in range(30)],
        [Judgment(f"q{at}", f"p{at}", at % 3) for at in range(20)],
    )
    drawn = sample_dataset(whole, "test", max_queries=queries, max_passages=passages, seed=1)
    asked = {query.id for query in drawn.queries}
    assert asked <= {query.id for query in whole.queries_of("test")} and len(asked) == min(queries, 10)
    needed = {j.passage_id for j in whole.judgments if j.query_id in asked and j.grade}
    kept = {passage.id for passage in drawn.passages}
    assert needed <= kept and len(kept) == min(30, max(passages, len(needed)))
    assert drawn == sample_dataset(whole, "test", max_queries=queries, max_passages=passages, seed=1)


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("queries.jsonl", "{", "line 2: .*Expecting"),
        ("queries.jsonl", "[]", "line 2: expected an object, found list"),
        ("queries.jsonl", '{"id": "q-9", "text": "x", "split": "dev"}', "split must be one of .*'dev'"),
        ("queries.jsonl", '{"id": "q-9", "split": "test"}', "line 2: text must be text that is not empty, found None"),
        ("corpus.jsonl", '{"id": 5, "text": "x"}', "line 2: id must be text .*found 5"),
        ("judgments.jsonl", '{"query_id": "q-1", "passage_id": "p-a", "grade": true}', "grade must .*found True"),
        ("judgments.jsonl", '{"query_id": "q-1", "passage_id": "p-a", "grade": -1}', "grade must .*found -1"),
    ],
)
def test_malformed_line_is_named(tmp_path: Path, name: str, line: str, told: str) -> None:
    write_dataset(dataset(), tmp_path)
    lines = (tmp_path / name).read_text(encoding="utf-8").split("\n")
    (tmp_path / name).write_text("\n".join([lines[0], line, *lines[2:]]), encoding="utf-8")
    with pytest.raises(ValueError, match=name.replace(".", r"\.") + ".*" + told):
        read_dataset(tmp_path)


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    write_dataset(dataset(), tmp_path)
    (tmp_path / "corpus.jsonl").write_bytes(b'{"id": "p-a", "text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"corpus\.jsonl, line 1: .*utf-8"):
        read_dataset(tmp_path)


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"queries\.jsonl: no such file"):
        read_dataset(tmp_path)


def test_repeated_and_unknown_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="query id q-1 is there twice"):
        build_dataset((*QUERIES, QUERIES[1]), PASSAGES, ())
    with pytest.raises(ValueError, match="passage id p-a is there twice"):
        build_dataset((), (*PASSAGES, Passage("p-a", "other")), ())
    with pytest.raises(ValueError, match="judgment of q-1 p-a is there twice"):
        build_dataset(QUERIES, PASSAGES, (Judgment("q-1", "p-a"), Judgment("q-1", "p-a", 2)))
    write_dataset(dataset(), tmp_path)
    with (tmp_path / "judgments.jsonl").open("a") as file:
        file.write(json.dumps({"query_id": "q-1", "passage_id": "p-x", "grade": 1}) + "\n")
    with pytest.raises(ValueError, match="p-x"):
        read_dataset(tmp_path)


def test_ids_with_spaces_are_told_apart() -> None:
    queries = (Query("1", "one", "train"), Query("1 2", "two", "train"))
    passages = (Passage("2 3", "first"), Passage("3", "second"))
    judgments = (Judgment("1", "2 3"), Judgment("1 2", "3"))
    assert build_dataset(queries, passages, judgments).judgments == judgments


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_passage_file_gives_what_reading_all_gives(tmp_path: Path, end: str) -> None:
    file = tmp_path / "corpus.jsonl"
    lines = [json.dumps({"id": f"p{n}", "text": "乙\u2028" * (n + 1)}, ensure_ascii=False) for n in range(9)]
    file.write_bytes(("\n".join(lines) + end).encode())
    passages, expected = PassageFile(file), tuple(read_passages(file))
    assert len(passages) == 9 and tuple(passages) == expected
    assert (passages[0], passages[-1], passages[2:7:2]) == (expected[0], expected[-1], expected[2:7:2])
    assert passages[4:100] == expected[4:]


def test_a_passage_file_of_no_line_is_empty_and_a_wrong_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_bytes(b"")
    assert len(PassageFile(file)) == 0 and PassageFile(file)[:3] == ()
    file.write_text('{"id": "a", "text": "b"}\n[]\n')
    with pytest.raises(ValueError, match="line 2: expected an object"):
        PassageFile(file)[1]
