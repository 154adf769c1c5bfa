import pytest

from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.evaluation.query_metrics import read_hits, read_query_metrics, write_hits, write_query_metrics
from embed_pipeline.records import Hit

RESULTS = [
    QueryMeasure("q-1", Measure("recall", 10), 1 / 3),
    QueryMeasure("q-1", Measure("recall", 2), 0.0),
    QueryMeasure("q-0", Measure("precise", 5), 1.0),
]
HITS = [Hit("q-1", "p-1", 2, 0.1), Hit("q-1", "p-9", 1, 0.1 + 0.2), Hit("q-0", "高血压", 1, -3.5)]


def test_query_metrics_survive_the_file_to_the_last_bit(tmp_path):
    write_query_metrics(RESULTS, tmp_path / "m.jsonl")
    assert set(read_query_metrics(tmp_path / "m.jsonl")) == set(RESULTS)


def test_hits_survive_the_file_to_the_last_bit(tmp_path):
    write_hits(HITS, tmp_path / "h.jsonl")
    assert read_hits(tmp_path / "h.jsonl") == (HITS[2], HITS[1], HITS[0])


def test_equal_content_gives_equal_bytes(tmp_path):
    for name, results, hits in (("a", RESULTS, HITS), ("b", RESULTS[::-1], HITS[::-1])):
        write_query_metrics(results, tmp_path / f"{name}.metrics")
        write_hits(hits, tmp_path / f"{name}.hits")
    assert (tmp_path / "a.metrics").read_bytes() == (tmp_path / "b.metrics").read_bytes()
    assert (tmp_path / "a.hits").read_bytes() == (tmp_path / "b.hits").read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no json",
        '{"query_id": "q"}',
        '{"query_id": "q", "measure": "accuracy", "cutoff": 1, "value": 1.0}',
        '{"query_id": "q", "measure": "recall", "cutoff": 1, "value": 1.5}',
        '{"query_id": "q", "measure": "recall", "cutoff": "1", "value": 1.0}',
    ],
)
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / "m.jsonl"
    write_query_metrics(RESULTS, path)
    path.write_text(path.read_text("utf-8") + line + "\n", "utf-8")
    with pytest.raises(ValueError, match=r"m\.jsonl, line 4[:,] "):
        read_query_metrics(path)


def test_a_broken_hit_is_named(tmp_path):
    (tmp_path / "h.jsonl").write_text('{"query_id": "q", "passage_id": "p", "rank": 0, "score": 1.0}\n', "utf-8")
    with pytest.raises(ValueError, match=r"h\.jsonl, line 1, rank"):
        read_hits(tmp_path / "h.jsonl")
