"""The validation task: measured as the published measures are, sampled without losing an answer."""

import random
from pathlib import Path

import pytest

from embed_pipeline.evaluation.measures import measure_queries, parse_measure
from embed_pipeline.records import Hit, Judgment, Passage, Query
from embed_pipeline.training.settings import ValidationSettings
from embed_pipeline.training.validation_task import (
    ValidationQuery,
    build_task,
    measure_ranking,
    read_validation,
    write_validation,
)


@pytest.mark.parametrize("name", ["precise@5", "hit_rate@1", "recall@5", "mrr@10", "ndcg@10", "ndcg@3"])
def test_a_measure_during_training_is_the_published_one(name: str) -> None:
    for seed in range(30):
        chance = random.Random(seed)
        ranked = chance.sample(range(20), 10)
        relevant = {row: chance.choice([1, 2]) for row in chance.sample(range(20), chance.randint(1, 4))}
        hits = [Hit("q", str(row), rank, -float(rank)) for rank, row in enumerate(ranked, start=1)]
        judgments = [Judgment("q", str(row), grade) for row, grade in relevant.items()]
        (expected,) = measure_queries(hits, judgments, ["q"], measures=[parse_measure(name)])
        assert measure_ranking(name, ranked, relevant) == pytest.approx(expected.value, abs=1e-6)


def test_a_sampled_corpus_keeps_every_answer_and_is_the_same_for_a_seed() -> None:
    passages = [Passage(str(number), f"text {number}") for number in range(50)]
    queries = [ValidationQuery("a", "x", {"3": 1}), ValidationQuery("b", "y", {"40": 2, "41": 1})]
    settings = ValidationSettings(max_passages=10)
    task = build_task(queries, passages, settings, seed=1)
    assert task == build_task(queries, passages, settings, seed=1) != build_task(queries, passages, settings, seed=2)
    assert len(task.texts) == 10 and [{task.texts[row] for row in found} for found in task.relevant] == [
        {"text 3"},
        {"text 40", "text 41"},
    ]


def test_what_is_written_is_read_and_queries_without_answers_are_left_out(tmp_path: Path) -> None:
    queries = [Query("b", "y", "validation"), Query("a", "x", "validation")]
    assert write_validation(queries, [Judgment("a", "1"), Judgment("b", "1", 0)], tmp_path / "v.jsonl") == 1
    assert read_validation(tmp_path / "v.jsonl") == (ValidationQuery("a", "x", {"1": 1}),)
