"""Validation during training: the best step's weights are kept, and the network is left as it was."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from embed_pipeline.dataset.formats import read_passages
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.evaluation.measures import measure_queries, parse_measure
from embed_pipeline.records import Hit, Judgment
from embed_pipeline.training.finetune import FinetuneJob
from embed_pipeline.training.training_run import train
from embed_pipeline.training.validation import NetworkMeasure
from embed_pipeline.training.validation_task import ValidationTask, read_validation
from embed_pipeline_tests.small_project import encoder_settings
from embed_pipeline_tests.training.conftest import write_job


def test_the_kept_weights_measured_again_have_the_best_value_and_patience_ended_the_training(
    small_model: Path, tmp_path: Path
) -> None:
    validation = {"every": "1 steps", "patience": 2, "measure": "ndcg@3", "stop_below_base": None}
    settings = {"epochs": 20, "learning_rate": 2e-2, "vocabulary_extension": None, "validation": validation}
    job = write_job(tmp_path, small_model, **settings)
    train(job, lambda _: None, lambda _: None)
    log = [json.loads(line) for line in (job.output / "training_log.jsonl").read_text(encoding="utf-8").splitlines()]
    values = {entry["step"]: entry["validation"] for entry in log}
    summary = json.loads((job.output / "training_summary.json").read_text(encoding="utf-8"))
    best = min(step for step, value in values.items() if value == max(values.values()))
    assert summary["best_step"] == best and max(values) == best + 2 and max(values) < 80
    assert values[max(values)] != values[best], "else the last weights would do as well"
    assert abs(_measure_again(job, job.output) - values[best]) < 1e-6
    assert abs(_measure_again(job, small_model) - summary["validation_base"]) < 1e-6


def _measure_again(job: FinetuneJob, folder: Path) -> float:
    """The value as evaluation finds it: another encoder, another ranking, another measure."""
    settings = EncoderSettings.model_validate(encoder_settings(folder))
    encoder, passages = load_local_encoder(settings, directory=folder), list(read_passages(job.corpus))
    queries = read_validation(job.validation or Path())
    vectors = encoder.encode_passages([passage.text for passage in passages])
    scores = encoder.encode_queries([query.text for query in queries]) @ vectors.T
    hits = [
        Hit(query.id, passages[row].id, rank, float(scores[at, row]))
        for at, query in enumerate(queries)
        for rank, row in enumerate(np.argsort(-scores[at], kind="stable"), start=1)
    ]
    judgments = [Judgment(query.id, key, grade) for query in queries for key, grade in query.relevant.items()]
    found = measure_queries(hits, judgments, [query.id for query in queries], measures=[parse_measure("ndcg@3")])
    return float(np.mean([one.value for one in found]))


def test_a_part_in_evaluation_for_good_stays_so_and_chance_is_left_alone(small_model: Path) -> None:
    network = AutoModel.from_pretrained(small_model).train()
    network.embeddings.eval()
    modes = [module.training for module in network.modules()]
    encoder = EncoderSettings.model_validate(encoder_settings(small_model))
    task = ValidationTask(("痛风",), ("痛风", "湿疹"), ({0: 1},))
    measure = NetworkMeasure(network, AutoTokenizer.from_pretrained(small_model), encoder, task, "ndcg@10")
    chance = torch.random.get_rng_state()
    assert 0 <= measure() <= 1
    assert [module.training for module in network.modules()] == modes and len(set(modes)) == 2
    assert torch.equal(torch.random.get_rng_state(), chance)
