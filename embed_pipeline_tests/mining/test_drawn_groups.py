"""The draw of the groups, and the file FlagEmbedding trains on: enough negatives, never a positive, alike by seed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from embed_pipeline.mining.groups import TrainingGroup, draw_groups, write_flagembedding_groups
from embed_pipeline.records import Passage

PASSAGES = [Passage(f"p{number}", f"label {number}") for number in range(9)]
GROUP = TrainingGroup("q", "question", ("p0", "p1"), ("label 0", "label 1"), (0.9, 0.8), ("p2",), ("label 2",), (0.5,))


def _write(path: Path, *, group_size: int = 5, seed: int = 0, with_scores: bool = False) -> dict:
    write_flagembedding_groups([GROUP], PASSAGES, path, group_size=group_size, seed=seed, with_scores=with_scores)
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_short_group_is_filled_with_passages_that_are_neither_positive_nor_there_already(tmp_path: Path) -> None:
    record = _write(tmp_path / "groups.jsonl")
    assert len(record["neg"]) == 4 == len(set(record["neg"]))
    assert not set(record["neg"]) & set(record["pos"])
    assert record["neg"][0] == "label 2"


def test_the_same_seed_fills_alike(tmp_path: Path) -> None:
    first, again, other = (_write(tmp_path / "groups.jsonl", seed=seed)["neg"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_corpus_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs 9 more negatives, the corpus has 6 left"):
        _write(tmp_path / "groups.jsonl", group_size=11)


def test_distillation_is_refused_when_a_negative_would_have_no_score(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 mined negatives, distillation needs 4 with scores"):
        _write(tmp_path / "groups.jsonl", with_scores=True)


def test_the_draw_keeps_the_order_and_hardly_changes_when_groups_are_added() -> None:
    groups = [replace(GROUP, query_id=f"q{number:03}") for number in range(100)]
    drawn = draw_groups(groups, 20, seed=3)
    assert len(drawn) == 20 and drawn == [group for group in groups if group in drawn]
    more = draw_groups([*groups, *(replace(GROUP, query_id=f"r{number}") for number in range(10))], 20, seed=3)
    assert len({group.query_id for group in drawn} & {group.query_id for group in more}) >= 14
    assert drawn != draw_groups(groups, 20, seed=4)
    assert draw_groups(groups, None, seed=3) == draw_groups(groups, 100, seed=3) == groups
