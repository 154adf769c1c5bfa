"""A hopeless training stops, and its error says why."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from embed_pipeline.dataset.formats import read_passages
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.records import Judgment, Query
from embed_pipeline.training.collator import StepCollator
from embed_pipeline.training.examples import Examples, TokenTable, TrainingQuery
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline.training.trainer import StepSampler
from embed_pipeline.training.training_run import train
from embed_pipeline.training.validation_task import read_validation, write_validation
from embed_pipeline.training.watchdog import HopelessTrainingError, LossWatch, WeightsWatch, check_validation
from embed_pipeline_tests.training.conftest import write_job


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_or_gradient_that_is_no_number_stops(value: float) -> None:
    with pytest.raises(HopelessTrainingError, match="step 3: expected a finite loss"):
        LossWatch().check_loss(3, value)
    with pytest.raises(HopelessTrainingError, match="step 3: expected a finite gradient"):
        LossWatch().check_gradient(3, value)


def test_a_loss_of_zero_three_times_in_a_row_stops() -> None:
    watch = LossWatch()
    for loss in (0.0, 0.0, 0.1, 0.0, 0.0):
        watch.check_loss(1, loss)
    with pytest.raises(HopelessTrainingError, match="exactly 0"):
        watch.check_loss(2, 0.0)


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize(("queries", "processes", "batch_size"), [(5, 8, 16), (1, 2, 16), (9, 8, 1), (100, 8, 1)])
def test_a_process_without_a_query_is_not_taken_for_one_that_learns_nothing(
    queries: int, processes: int, batch_size: int, at_once: int
) -> None:
    """Of every query the loss is 1 here, so that a process's loss is the sum of its weights."""
    texts = TokenTable(np.arange(4 * queries, dtype=np.int32), np.arange(0, 4 * queries + 1, 4))
    drawn = tuple(TrainingQuery(at, (at,), (), {}) for at in range(queries))
    settings = TrainingSettings.model_validate({"learning_rate": 1, "epochs": 6, "candidates": "in_batch"})
    sampler = StepSampler([4] * queries, batch_size=batch_size * processes, group_by_length=True, seed=0)
    idle = 0
    for process in range(processes):
        watch, examples = LossWatch(at_once), Examples("sample", drawn, texts, texts)
        collator = StepCollator(examples, settings, padding=0, process=process, processes=processes, chunk_tokens=4096)
        for epoch in range(6):
            sampler.set_epoch(epoch)
            for step, batch in enumerate(sampler, start=1):
                weights = collator(batch)["weights"]
                watch.see("loss", step, weights.sum(), weights)
                idle += not weights.any()
        watch.settle()
    assert idle >= 3


def test_a_process_that_has_queries_now_and_then_learns_nothing_where_the_loss_of_those_is_zero() -> None:
    watch = LossWatch()
    for counts in (True, False, False, False, True):
        watch.check_loss(1, 0.0, counts=counts)
    with pytest.raises(HopelessTrainingError, match="exactly 0"):
        watch.check_loss(2, 0.0)
    with pytest.raises(HopelessTrainingError, match="expected a finite loss"):
        watch.check_loss(3, float("nan"), counts=False)


def test_validation_below_the_base_stops_only_after_the_limit_in_a_row() -> None:
    check_validation([0.1, 0.6, 0.1], 0.5, "ndcg@10", 2)
    check_validation([0.5, 0.5], 0.5, "ndcg@10", 2)
    check_validation([0.1] * 9, 0.5, "ndcg@10", None)
    with pytest.raises(HopelessTrainingError, match=r"below the base's 0\.5000 for 2 evaluations"):
        check_validation([0.6, 0.1, 0.2], 0.5, "ndcg@10", 2)


@pytest.mark.parametrize("candidates", ["corpus", "flagembedding"])
def test_a_training_that_moves_no_weight_or_bursts_stops(small_model: Path, tmp_path: Path, candidates: str) -> None:
    still = {"epochs": 1, "learning_rate": 1e-60, "vocabulary_extension": None, "candidates": candidates}
    with pytest.raises(HopelessTrainingError, match="no weight has changed since the start"):
        train(write_job(tmp_path / "still", small_model, **still), lambda _: None, lambda _: None)
    with pytest.raises(HopelessTrainingError, match="expected a finite"):
        train(
            write_job(tmp_path / "bursting", small_model, **{**still, "learning_rate": 1e9}),
            lambda _: None,
            lambda _: None,
        )


def test_a_training_away_from_what_the_base_could_do_stops(small_model: Path, tmp_path: Path) -> None:
    validation = {"every": "1 steps", "measure": "ndcg@3", "stop_below_base": 2}
    job = write_job(tmp_path, small_model, epochs=20, vocabulary_extension=None, validation=validation)
    base, passages = load_local_encoder(job.encoder, directory=small_model), list(read_passages(job.corpus))
    file = tmp_path / "validation.jsonl"
    queries = read_validation(file)
    texts, corpus = [query.text for query in queries], [passage.text for passage in passages]
    first = (base.encode_queries(texts) @ base.encode_passages(corpus).T).argmax(axis=1)
    judgments = [Judgment(query.id, passages[row].id) for query, row in zip(queries, first, strict=True)]
    write_validation(
        [Query(query.id, query.text, "validation") for query in queries], judgments, tmp_path / "validation.jsonl"
    )
    with pytest.raises(HopelessTrainingError, match=r"stayed below the base's 1\.0000 for 2 evaluations"):
        train(job, lambda _: None, lambda _: None)


def test_losses_that_are_read_together_are_judged_one_by_one_and_before_a_checkpoint() -> None:
    watch = LossWatch(at_once=4)
    for step in (1, 2, 3):
        watch.see("loss", step, torch.tensor(float("nan") if step == 2 else 1.0))
    with pytest.raises(HopelessTrainingError, match="step 2: expected a finite loss"):
        watch.settle()
    watch.see("loss", 4, torch.tensor(1.0))
    watch.settle()


def test_weights_that_never_move_are_noticed_although_the_training_was_interrupted(tmp_path: Path) -> None:
    network, arguments, control = torch.nn.Linear(2, 2), TrainingArguments(use_cpu=True), TrainerControl()
    before, after = WeightsWatch(network, steps=4), WeightsWatch(network, steps=4)
    before.on_train_begin(arguments, TrainerState(global_step=0), control)
    before.keep(tmp_path)
    after.restore(tmp_path, first=True)
    after.on_train_begin(arguments, TrainerState(global_step=2, max_steps=9), control)
    after.on_step_end(arguments, TrainerState(global_step=3, max_steps=9), control)
    with pytest.raises(HopelessTrainingError, match="step 4: no weight has changed"):
        after.on_step_end(arguments, TrainerState(global_step=4, max_steps=9), control)
    with torch.no_grad():
        network.bias.add_(1)
    after.on_step_end(arguments, TrainerState(global_step=4, max_steps=9), control)
