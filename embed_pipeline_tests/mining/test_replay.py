"""Replay: pairs of another data set join training and nothing else."""

import pytest

from embed_pipeline.dataset.formats import build_dataset
from embed_pipeline.mining.groups import PREFIX, draw_replay
from embed_pipeline.mining.settings import ReplaySettings
from embed_pipeline.records import Judgment, Passage, Query

OTHER = build_dataset(
    [Query(f"q{at}", f"question {at}", "train" if at < 8 else "test") for at in range(10)],
    [Passage(f"p{at}", f"answer {at}") for at in range(10)],
    [Judgment(f"q{at}", f"p{at}", 1) for at in range(10)],
)
OWN = [Passage("mine", "answer 0")]


def _draw(share: float, seed: int = 0):
    return draw_replay(OTHER, ReplaySettings(dataset="other", share=share), own_queries=10, own_passages=OWN, seed=seed)


def test_a_share_of_the_own_queries_is_drawn_from_train_alone() -> None:
    replay = _draw(0.5)
    assert len(replay.groups) == 5
    assert {group.query for group in replay.groups} <= {f"question {at}" for at in range(8)}
    assert _draw(0.5) == replay and _draw(0.5, seed=1) != replay


def test_a_larger_share_takes_all_there_are_and_a_text_of_the_own_corpus_keeps_its_id() -> None:
    replay = _draw(9.0)
    assert len(replay.groups) == 8
    ids = {group.query: group.positive_ids for group in replay.groups}
    assert ids["question 0"] == ("mine",) and ids["question 1"] == (f"{PREFIX}p1",)
    assert {passage.id for passage in replay.passages} == {f"{PREFIX}p{at}" for at in range(1, 8)}


def test_a_data_set_without_train_queries_is_refused() -> None:
    empty = build_dataset([Query("q", "question", "test")], [Passage("p", "answer")], [Judgment("q", "p", 1)])
    with pytest.raises(ValueError, match="other has no train query"):
        draw_replay(empty, ReplaySettings(dataset="other"), own_queries=1, own_passages=[], seed=0)
