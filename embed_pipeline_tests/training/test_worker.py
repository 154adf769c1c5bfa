"""The training process under torchrun: repeatable, alike in one process and two, loaded alike by three libraries."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.mining.groups import read_groups, write_groups
from embed_pipeline.training.finetune import LOG_FILE
from embed_pipeline.training.training_run import train as train_job
from embed_pipeline_tests.small_project import encoder_settings
from embed_pipeline_tests.training.conftest import Train, digest, write_job

TEXTS = ["我高压一百六，能买吗", "请问肝上有油怎么核保", "痛风"]
ONE_AND_TWO = (1, pytest.param(2, marks=pytest.mark.slow))
"""Processes of a training: this one, or two of torchrun."""


@pytest.fixture(scope="session")
def checkpoint(train: Train) -> Path:
    return train(epochs=1)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(train: Train, checkpoint: Path) -> None:
    assert digest(train(epochs=1)) == digest(checkpoint)


def test_only_safetensors_and_text_files_are_saved(checkpoint: Path) -> None:
    assert {path.suffix for path in checkpoint.rglob("*") if path.is_file()} == {".safetensors", ".json", ".jsonl"}


def test_every_logged_step_has_loss_and_learning_rate(checkpoint: Path) -> None:
    log = [json.loads(line) for line in (checkpoint / "training_log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    assert all(entry["loss"] > 0 and entry["learning_rate"] >= 0 and entry["gradient_norm"] > 0 for entry in log)
    assert json.loads((checkpoint / "training_summary.json").read_text())["weight_change"] > 0


@pytest.mark.slow
def test_two_processes_train_what_one_trains_on_the_whole_batch(train: Train, train_here: Train) -> None:
    settings = {"epochs": 2, "group_by_length": False, "vocabulary_extension": None}
    one = load_file(train_here(batch_size=16, **settings) / "model.safetensors")
    two = load_file(train(batch_size=8, processes=2, **settings) / "model.safetensors")
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


@pytest.mark.slow
def test_two_processes_train_on_one_query_to_the_end(train: Train, train_here: Train) -> None:
    settings = {"epochs": 5, "max_queries": 1, "vocabulary_extension": None, "candidates": "corpus"}
    one, two = train_here(**settings), train(processes=2, **settings)
    logs = [[json.loads(line) for line in (folder / LOG_FILE).open(encoding="utf-8")] for folder in (one, two)]
    assert [log[-1]["step"] for log in logs] == [5, 5]
    assert logs[1][0]["loss"] == pytest.approx(logs[0][0]["loss"], abs=1e-4)


@pytest.mark.parametrize("processes", ONE_AND_TWO)
def test_flagembeddings_own_loss_trains_with_every_setting_it_offers(
    train: Train, train_here: Train, processes: int
) -> None:
    folder = (train_here if processes == 1 else partial(train, processes=2))(
        candidates="flagembedding",
        train_group_size=4,
        batch_size=8,
        epochs=1,
        negatives_cross_device=processes > 1,
        knowledge_distillation="kl_div",
        gradient_checkpointing=True,
        sub_batch_size=4,
        precision="auto",
        encoder={"query_instruction": "找：", "pooling": "cls"},
    )
    assert (folder / "model.safetensors").is_file()
    prompts = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))["prompts"]
    assert prompts == {"query": "找："}


@pytest.mark.parametrize("processes", ONE_AND_TWO)
def test_every_setting_of_our_own_loss_trains_a_plain_encoder(
    train: Train, train_here: Train, small_model: Path, processes: int
) -> None:
    folder = (train_here if processes == 1 else partial(train, processes=2))(
        candidates="sample",
        sample_size=3,
        train_group_size=3,
        batch_size=8,
        epochs=1,
        gradient_accumulation_steps=2,
        knowledge_distillation="m3_kd_loss",
        teacher_temperature=0.1,
        gradient_checkpointing=True,
        gradient_cache=True,
        sub_batch_size=4,
        layer_learning_rate_decay=0.9,
        freeze_layers=1,
        lora={"rank": 4},
        matryoshka_dimensions=[16, 8],
        matryoshka_weights=[0.5, 0.25],
        precision="auto",
        vocabulary_extension=None,
    )
    weights, base = (load_file(path / "model.safetensors") for path in (folder, small_model))
    assert weights.keys() == base.keys()
    moved = {name for name in base if not torch.equal(weights[name], base[name])}
    assert moved and all(name.startswith("encoder.layer.1.") and name.endswith("weight") for name in moved)
    summary = json.loads((folder / "training_summary.json").read_text(encoding="utf-8"))
    assert summary["candidates"] == "sample" and summary["weight_change"] > 0


def test_the_summary_says_what_auto_came_to(checkpoint: Path, train_here: Train) -> None:
    folder = train_here(epochs=1, candidates="auto")
    assert json.loads((folder / "training_summary.json").read_text(encoding="utf-8"))["candidates"] == "corpus"
    assert digest(folder) == digest(checkpoint)


def test_a_query_that_every_passage_answers_is_warned_of_and_costs_no_training(
    small_model: Path, tmp_path: Path
) -> None:
    warnings: list[str] = []
    job = write_job(tmp_path, small_model, epochs=1, candidates="corpus")
    first, *others = read_groups(job.groups)
    everything = {"positive_ids": first.positive_ids + first.negative_ids}
    everything |= {"positives": first.positives + first.negatives, "negatives": (), "negative_ids": ()}
    everything |= {"positive_scores": (0.9,) * len(everything["positives"]), "negative_scores": ()}
    write_groups([replace(first, **everything), *others], job.groups)
    train_job(job, lambda _: None, warnings.append)
    assert [line.partition(": every")[0] for line in warnings] == ["training: left out 1 of 64 queries (q000)"]
    assert (job.output / "model.safetensors").is_file()


def test_float16_on_a_cpu_is_refused(train_here: Train) -> None:
    with pytest.raises(ValueError, match=r"training\.precision: float16 needs a GPU, found device cpu"):
        train_here(precision="float16")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_three_libraries_and_ours_give_the_same_vectors(checkpoint: Path, tmp_path: Path, pooling: str) -> None:
    from FlagEmbedding import FlagModel
    from sentence_transformers import SentenceTransformer

    from embed_pipeline.encoding.description import describe_encoder

    settings = EncoderSettings.model_validate(
        encoder_settings(Path("unused"), pooling=pooling, query_instruction="请问")
    )
    folder = tmp_path / "model"
    folder.mkdir()
    for path in checkpoint.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    describe_encoder(folder, settings)
    ours = load_local_encoder(settings, directory=folder).encode_queries(TEXTS)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, prompt_name="query")
    flag = FlagModel(
        str(folder),
        pooling_method=pooling,
        normalize_embeddings=True,
        query_instruction_for_retrieval="请问",
        query_max_length=48,
        use_fp16=False,
        devices="cpu",
    ).encode_queries(TEXTS)
    transformed = _with_transformers(folder, [f"请问{text}" for text in TEXTS], pooling)
    for other in (theirs, flag, transformed):
        cosines = (ours * other).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(other, axis=1)
        assert cosines.min() >= 0.9999


def _with_transformers(folder: Path, texts: list[str], pooling: str) -> np.ndarray:
    from transformers import AutoModel, AutoTokenizer

    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    if pooling == "cls":
        return hidden[:, 0].numpy()
    mask = batch["attention_mask"].unsqueeze(-1)
    return ((hidden * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
