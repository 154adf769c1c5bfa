"""A cross-encoder trained by FlagEmbedding: it learns, it scores alike in two libraries, nothing is pickled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, HfArgumentParser, TrainingArguments

from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.records import Passage
from embed_pipeline.reranking.reranker import (
    BASE_FOLDER,
    RerankerJob,
    RerankerSettings,
    finish_reranker,
    prepare_reranker,
    reranker_command,
)
from embed_pipeline.training.finetune import run_process_group, worker_environment
from embed_pipeline_tests.small_project import LABELS, make_rows
from embed_pipeline_tests.tiny_cross_encoder import write_cross_encoder

PASSAGES = [Passage(label, label) for label in LABELS]
SETTINGS = RerankerSettings(
    learning_rate=1e-3, epochs=30, batch_size=16, train_group_size=4, query_max_length=32, passage_max_length=8
)


def _groups() -> list[TrainingGroup]:
    rows = [row for row in make_rows() if row[3] is None][:64]
    return [
        TrainingGroup(f"q{at:03}", str(row[0]), (str(row[2]),), (str(row[2]),), (0.9,), (), (), ())
        for at, row in enumerate(rows)
    ]


def _job(root: Path, base: Path, **changes: object) -> RerankerJob:
    for name in ("work", "output"):
        (root / name).mkdir()
    settings = SETTINGS.model_copy(update=changes)
    return RerankerJob(base=base, work=root / "work", output=root / "output", settings=settings, device="cpu")


def _transformers_scores(directory: Path, pairs: list[tuple[str, str]]) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    queries, passages = zip(*pairs, strict=True)
    inputs = tokenizer(list(queries), list(passages), padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model(**inputs).logits.view(-1).numpy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> RerankerJob:
    job = _job(tmp_path_factory.mktemp("reranker"), small_model)
    assert prepare_reranker(job, _groups(), PASSAGES) == 64 * 3
    run_process_group(reranker_command(job, processes=1), environment=worker_environment(threads=1))
    finish_reranker(job)
    return job


def test_scores_are_equal_in_flag_reranker_and_in_transformers(trained: RerankerJob) -> None:
    from FlagEmbedding import FlagReranker

    pairs = [(group.query, label) for group in _groups()[:4] for label in LABELS]
    reranker = FlagReranker(str(trained.output), use_fp16=False, devices="cpu", max_length=40, query_max_length=30)
    found = reranker.compute_score(pairs)
    np.testing.assert_allclose(found, _transformers_scores(trained.output, pairs), atol=1e-4)


def test_a_trained_reranker_puts_true_labels_above_more_wrong_ones_than_its_base(trained: RerankerJob) -> None:
    groups, labels = _groups(), list(LABELS)
    pairs = [(group.query, label) for group in groups for label in labels]
    shares = []
    for directory in (trained.work / BASE_FOLDER, trained.output):
        scores = _transformers_scores(directory, pairs).reshape(len(groups), -1)
        true = scores[range(len(groups)), [labels.index(group.positives[0]) for group in groups]]
        shares.append((scores < true[:, None]).sum() / (len(groups) * (len(labels) - 1)))
    assert shares[0] < 0.65  # a fresh head: a coin
    assert shares[1] > shares[0] + 0.1


def test_the_checkpoint_holds_no_pickle(trained: RerankerJob) -> None:
    assert not list(trained.output.rglob("*.bin"))


def test_the_fresh_head_comes_from_the_seed(tmp_path: Path, small_model: Path) -> None:
    heads = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        job = _job(tmp_path / name, small_model, seed=seed)
        prepare_reranker(job, _groups(), PASSAGES)
        heads.append(load_file(job.work / BASE_FOLDER / "model.safetensors")["classifier.weight"])
    assert heads[0].shape == (1, 32)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_the_learning_rate_rises_over_the_warm_up_share(tmp_path: Path, small_model: Path) -> None:
    command = reranker_command(_job(tmp_path, small_model, warmup_share=0.25), processes=1)
    given = command[command.index("--warmup_steps") + 1]
    (arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(  # pyright: ignore[reportArgumentType]
        ["--output_dir", str(tmp_path), "--warmup_steps", given]
    )
    assert arguments.get_warmup_steps(200) == 50


def test_less_than_a_batch_is_refused_before_anything_is_written(tmp_path: Path, small_model: Path) -> None:
    job = _job(tmp_path, small_model)
    with pytest.raises(ValueError, match="Lower batch_size"):
        prepare_reranker(job, _groups()[:15], PASSAGES)
    assert not list(job.work.iterdir())


def test_a_run_without_weights_is_no_checkpoint(tmp_path: Path, small_model: Path) -> None:
    with pytest.raises(ValueError, match=r"expected model\.safetensors"):
        finish_reranker(_job(tmp_path, small_model))


def test_a_pretrained_cross_encoder_keeps_its_head_and_one_of_two_outputs_is_refused(tmp_path: Path) -> None:
    base = write_cross_encoder(tmp_path / "pretrained")
    (tmp_path / "kept").mkdir()
    job = _job(tmp_path / "kept", base)
    prepare_reranker(job, _groups(), PASSAGES)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, job.work / BASE_FOLDER))
    assert all(torch.equal(before[name], after[name]) for name in before)
    half = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float16)
    half.save_pretrained(base)
    (tmp_path / "half").mkdir()
    job = _job(tmp_path / "half", base)
    prepare_reranker(job, _groups(), PASSAGES)  # Adam in half precision would wreck the weights
    assert {w.dtype for w in load_file(job.work / BASE_FOLDER / "model.safetensors").values()} == {torch.float32}
    (tmp_path / "refused").mkdir()
    refused = _job(tmp_path / "refused", write_cross_encoder(tmp_path / "two", outputs=2))
    with pytest.raises(ValueError, match="cross-encoder with one output, found 2 outputs"):
        prepare_reranker(refused, _groups(), PASSAGES)
    assert not list(refused.work.iterdir())


def test_an_encoder_is_refused_where_a_pretrained_cross_encoder_is_meant(tmp_path: Path, small_model: Path) -> None:
    job = _job(tmp_path, small_model).model_copy(update={"needs_head": True})
    with pytest.raises(ValueError, match="found an encoder without a head"):
        prepare_reranker(job, _groups(), PASSAGES)
    assert not list(job.work.iterdir())
