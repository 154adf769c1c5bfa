"""The file FlagEmbedding trains on: enough negatives, never a positive, the same for the same seed."""

import json
from pathlib import Path

import pytest

from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.records import Passage
from embed_pipeline.training.groups import write_flagembedding_groups

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
