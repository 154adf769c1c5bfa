"""One process with the whole batch, two with half of it, four with a quarter: the same loss, gradients, validation."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.records import Passage
from embed_pipeline.training.candidates import StepBatch
from embed_pipeline.training.collator import StepCollator
from embed_pipeline.training.examples import build_examples
from embed_pipeline.training.model import ContrastiveModel
from embed_pipeline.training.parameters import prepare_parameters
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline.training.validation import NetworkMeasure
from embed_pipeline.training.validation_task import ValidationTask
from embed_pipeline_tests.small_project import LABELS, encoder_settings, make_rows, write_model

VARIANTS = (
    {"candidates": "in_batch"},
    {"candidates": "mined", "train_group_size": 3, "knowledge_distillation": "kl_div"},
    {"candidates": "mined", "knowledge_distillation": "m3_kd_loss", "gradient_cache": True, "sub_batch_size": 4},
    {"candidates": "sample", "sample_size": 5, "matryoshka_dimensions": [8, 4]},
    {"candidates": "corpus"},
)
QUERIES = (64, 3)  # with four processes one has no query of three
ROWS = [row for row in make_rows() if row[2]]


@dataclass(frozen=True)
class Step:
    """What a step found: its loss and the gradient of every trained parameter."""

    loss: float
    gradients: dict[str, torch.Tensor]


def make_groups(queries: int) -> list[TrainingGroup]:
    """Questions of one label and of two; every third has no mined negatives; one label stands in the corpus twice."""
    labels = list(LABELS)
    groups = []
    for number, row in enumerate((ROWS[-9:] + ROWS)[:queries]):
        positives = tuple(label for label in row[2:4] if label)
        others = tuple(label for label in labels if label not in positives)
        others = () if number % 3 == 0 else others[number % 4 :]
        groups.append(
            TrainingGroup(
                query_id=f"q{number}",
                query=f"{row[0]}",
                positive_ids=tuple(f"p{labels.index(label)}" for label in positives),
                positives=positives,
                positive_scores=(0.9,) * len(positives),
                negative_ids=tuple(f"p{labels.index(label)}" for label in others),
                negatives=others,
                negative_scores=tuple(0.1 * at for at in range(len(others))),
            )
        )
    return groups


def take_step(model_folder: Path, changes: dict, *, queries: int, dropout_seed: int | None = None) -> Step:
    """A forward and backward pass over all queries as this process takes part in it."""
    processes = dist.get_world_size() if dist.is_initialized() else 1
    process = dist.get_rank() if dist.is_initialized() else 0
    encoder = EncoderSettings.model_validate(encoder_settings(model_folder))
    settings = TrainingSettings.model_validate({"learning_rate": 1e-3, "epochs": 1, "temperature": 0.05, **changes})
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    passages = [Passage(f"p{at}", label) for at, label in enumerate(LABELS)]
    passages.append(Passage("copy", passages[0].text))
    examples = build_examples(make_groups(queries), passages, tokenizer=tokenizer, encoder=encoder, training=settings)
    collator = StepCollator(examples, settings, padding=0, process=process, processes=processes, chunk_tokens=256)
    network: PreTrainedModel = AutoModel.from_pretrained(model_folder)
    network = prepare_parameters(network, settings, vocabulary_grew=False)
    model = ContrastiveModel(network, encoder, settings, crosses_processes=collator.crosses_processes)
    model.train(dropout_seed is not None)
    if dropout_seed is not None:
        torch.manual_seed(dropout_seed)
    wrapped: nn.Module = DistributedDataParallel(model) if processes > 1 else model
    loss = wrapped(**collator([StepBatch(0, 0, tuple(range(queries)))]))["loss"]
    loss.backward()
    total = loss.detach().clone()
    if processes > 1:
        dist.all_reduce(total)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return Step(total.item() / processes, gradients)


def measure_network(model_folder: Path) -> tuple[float, int]:
    """The network's validation as every process takes part in it, and how many batches this one encoded."""
    encoder = EncoderSettings.model_validate(encoder_settings(model_folder))
    network = AutoModel.from_pretrained(model_folder)
    batches = []
    network.register_forward_hook(lambda *_: batches.append(1))
    labels = list(LABELS)
    task = ValidationTask(
        queries=tuple(str(row[0]) for row in ROWS),
        texts=tuple(labels),
        relevant=tuple({labels.index(label): 1 for label in row[2:4] if label} for row in ROWS),
    )
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    return NetworkMeasure(network, tokenizer, encoder, task, "ndcg@3", batch_tokens=64)(), len(batches)


def _run_process(process: int, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    store = Path(folder) / f"meeting-{processes}"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=process, world_size=processes)
    torch.save(measure_network(Path(folder) / "model"), Path(folder) / f"measured-{processes}-{process}.pt")
    for queries in QUERIES:
        found = [take_step(Path(folder) / "model", dict(changes), queries=queries) for changes in VARIANTS]
        if process == processes - 1:
            tensors = [{"loss": torch.tensor(step.loss, dtype=torch.float64), **step.gradients} for step in found]
            torch.save(tensors, Path(folder) / f"steps-{processes}-{queries}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    write_model(root / "model", dropout=0.0)
    write_model(root / "dropping", dropout=0.3)
    return root


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_find_the_loss_and_gradients_of_one(folder: Path, processes: int) -> None:
    spawn(_run_process, args=(processes, str(folder)), nprocs=processes)
    measured, batches = measure_network(folder / "model")
    assert batches > 8 * processes
    for process in range(processes):
        value, encoded = torch.load(folder / f"measured-{processes}-{process}.pt")
        assert value == measured, "a validation by several processes is that of one"
        assert encoded <= batches / processes + 2, "none waits for another that encodes everything"
    for queries, (at, changes) in itertools.product(QUERIES, enumerate(VARIANTS)):
        step = torch.load(folder / f"steps-{processes}-{queries}.pt")[at]
        alone = take_step(folder / "model", dict(changes), queries=queries)
        assert step.pop("loss").item() == pytest.approx(alone.loss, abs=1e-5), changes
        assert step.keys() == alone.gradients.keys()
        for name, gradient in step.items():
            assert (gradient - alone.gradients[name]).abs().max() < 1e-5, (changes, name)
        assert any(gradient.abs().max() > 1e-3 for gradient in step.values())


def test_a_gradient_cache_changes_no_gradient_even_with_dropout(folder: Path) -> None:
    plain, cached = (
        take_step(
            folder / "dropping",
            {"candidates": "mined", "sub_batch_size": 4, "gradient_cache": cache},
            queries=24,
            dropout_seed=7,
        )
        for cache in (False, True)
    )
    assert cached.loss == pytest.approx(plain.loss, abs=1e-6)
    for name, gradient in plain.gradients.items():
        assert torch.allclose(gradient, cached.gradients[name], atol=1e-6)
    other = take_step(folder / "dropping", {"candidates": "mined", "sub_batch_size": 4}, queries=24, dropout_seed=8)
    assert other.loss != pytest.approx(plain.loss, abs=1e-4)


def test_a_gradient_cache_keeps_a_fraction_of_what_a_plain_step_keeps(folder: Path) -> None:
    def kept_bytes(cache: bool) -> int:
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            changes = {"candidates": "mined", "sub_batch_size": 4, "gradient_cache": cache}
            take_step(folder / "dropping", changes, queries=24, dropout_seed=7)
        return sum(kept.values())

    assert kept_bytes(True) < 0.1 * kept_bytes(False)


def test_sub_batches_change_no_gradient(folder: Path) -> None:
    whole, parts = (
        take_step(folder / "model", {"candidates": "mined", "sub_batch_size": size}, queries=24) for size in (None, 3)
    )
    assert parts.loss == pytest.approx(whole.loss, abs=1e-5)
    assert all(torch.allclose(whole.gradients[name], parts.gradients[name], atol=1e-5) for name in whole.gradients)


def test_the_loss_of_a_shorter_length_is_that_of_cut_vectors_weighted_as_the_recipe_says(folder: Path) -> None:
    def loss(**changes: object) -> float:
        return take_step(folder / "model", {"candidates": "corpus", **changes}, queries=24).loss

    full, both, mostly = (
        loss(matryoshka_dimensions=dimensions, matryoshka_weights=weights)
        for dimensions, weights in (((), None), ((8,), None), ((8,), (3.0,)))
    )
    short = 2 * both - full
    assert short != pytest.approx(full, abs=1e-3)
    assert mostly == pytest.approx((full + 3 * short) / 4, abs=1e-5)


def test_without_the_other_processes_passages_a_process_contrasts_with_its_own(folder: Path) -> None:
    settings = TrainingSettings.model_validate(
        {"learning_rate": 1e-3, "epochs": 1, "candidates": "in_batch", "negatives_cross_device": False}
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    encoder = EncoderSettings.model_validate(encoder_settings(folder / "model"))
    passages = [Passage(f"p{at}", label) for at, label in enumerate(LABELS)]
    examples = build_examples(make_groups(4), passages, tokenizer=tokenizer, encoder=encoder, training=settings)
    collator = StepCollator(examples, settings, padding=0, process=1, processes=2, chunk_tokens=256)
    tensors = collator([StepBatch(0, 0, (0, 1, 2, 3))])
    assert not collator.crosses_processes
    assert tensors["positives"].shape[1] == sum(len(chunk["input_ids"]) for chunk in tensors["passages"])
    assert tensors["positives"].any(dim=1).all()
