import json
from dataclasses import replace

import pytest

from embed_pipeline.mining.groups import TrainingGroup, read_groups, write_groups

GROUP = TrainingGroup(
    query_id="q-1",
    query="有点脂肪肝，能买百万医疗吗",
    positive_ids=("p-1",),
    positives=("脂肪肝",),
    positive_scores=(0.8123,),
    negative_ids=("p-2", "p-3"),
    negatives=("肝炎", "胆囊炎"),
    negative_scores=(0.7, 0.6),
)
NO_NEGATIVES = replace(GROUP, query_id="q-0", negative_ids=(), negatives=(), negative_scores=())


def test_groups_survive_the_file(tmp_path):
    write_groups([GROUP, NO_NEGATIVES], tmp_path / "g.jsonl")
    assert read_groups(tmp_path / "g.jsonl") == (NO_NEGATIVES, GROUP)


def test_the_file_has_the_field_names_of_flagembedding(tmp_path):
    write_groups([GROUP], tmp_path / "g.jsonl")
    line = json.loads((tmp_path / "g.jsonl").read_text("utf-8"))
    assert (line["query"], line["pos"], line["neg"]) == (GROUP.query, ["脂肪肝"], ["肝炎", "胆囊炎"])
    assert (line["pos_scores"], line["neg_scores"]) == ([0.8123], [0.7, 0.6])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neg": "肝炎"}, "line 2, neg"),
        ({"pos": "脂肪肝"}, "line 2, pos"),
        ({"pos": [], "pos_scores": [], "pos_ids": []}, "line 2, pos"),
        ({"pos": [1]}, r"line 2, pos\.0"),
        ({"neg_scores": [0.7]}, "equally long, found 2, 1 and 2"),
        ({"neg": ["脂肪肝", "肝炎"]}, "a positive must not be a negative too, found '脂肪肝'"),
        ({"query": ""}, "line 2, query"),
        ({"instruction": "x"}, "line 2, instruction"),
    ],
)
def test_a_broken_line_is_named(tmp_path, changes, message):
    path = tmp_path / "g.jsonl"
    write_groups([GROUP], path)
    line = json.loads(path.read_text("utf-8")) | changes
    path.write_text(path.read_text("utf-8") + json.dumps(line) + "\n", "utf-8")
    with pytest.raises(ValueError, match=message):
        read_groups(path)


@pytest.mark.parametrize("line", ["", "[]", "{}", "no json"])
def test_a_line_that_is_no_group_is_named(tmp_path, line):
    (tmp_path / "g.jsonl").write_text(line + "\n", "utf-8")
    with pytest.raises(ValueError, match=r"g\.jsonl, line 1"):
        read_groups(tmp_path / "g.jsonl")


def test_an_infinite_score_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_groups([replace(GROUP, positive_scores=(float("inf"),))], tmp_path / "g.jsonl")
