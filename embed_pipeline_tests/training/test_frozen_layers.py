"""Frozen layers are run once per text; what a step computes is what the whole network computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, MPNetConfig, MPNetModel

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.model_directory import resolve_settings
from embed_pipeline.training.examples import TokenTable, tokenise
from embed_pipeline.training.frozen_layers import KEPT_BYTES, FrozenLayers, pad_tokens, split_frozen_layers
from embed_pipeline.training.parameters import prepare_parameters
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline_tests.small_project import LABELS, encoder_settings, make_rows, write_model

QUESTIONS = [row[0] or "" for row in make_rows()][:12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), dropout=0.5)


def _split(folder: Path, **changes: object) -> tuple[Any, FrozenLayers | None, TokenTable]:
    settings = TrainingSettings.model_validate({"learning_rate": 1.0, "epochs": 1, **changes})
    encoder = resolve_settings(EncoderSettings.model_validate(encoder_settings(folder)), folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tables = {
        "query": tokenise(QUESTIONS, "query", tokenizer, encoder).table,
        "passage": tokenise(list(LABELS), "passage", tokenizer, encoder).table,
    }
    network = prepare_parameters(AutoModel.from_pretrained(folder), settings, vocabulary_grew=False)
    return network, split_frozen_layers(network, settings, tables, padding=0), tables["query"]


def _step(table: TokenTable, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    sequences = [table.row(row) for row in rows]
    return pad_tokens(sequences, 0, max(map(len, sequences)) + 3)


def _gradients(network: Any, hidden: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    (hidden * mask.unsqueeze(-1)).square().sum().backward()
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_output_and_gradients_are_those_of_the_whole_network(folder: Path, lora: dict | None) -> None:
    network, frozen, table = _split(folder, freeze_layers=1, freeze_embeddings=True, lora=lora)
    assert frozen is not None
    network.eval()
    rows = [3, 0, 7]
    ids, mask = _step(table, rows)
    whole = network(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = _gradients(network, whole, mask)
    kept = frozen.last_hidden_state("query", rows, ids, mask)
    found = _gradients(network, kept, mask)
    shown = mask.unsqueeze(-1)
    torch.testing.assert_close(kept * shown, whole * shown, atol=1e-5, rtol=1e-5)
    assert found.keys() == expected.keys() and found
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-4)


def test_a_text_is_run_through_the_frozen_layers_once(folder: Path) -> None:
    network, frozen, table = _split(folder, freeze_layers=1, freeze_embeddings=True)
    assert frozen is not None
    runs: list[int] = []
    network.encoder.layer[0].register_forward_hook(lambda *_: runs.append(1))
    for rows in ([0, 1, 2], [2, 3], list(range(len(table)))):
        ids, mask = _step(table, rows)
        frozen.last_hidden_state("query", rows, ids, mask)
    assert len(runs) == len(frozen.blocks["query"])


def test_what_is_kept_does_not_depend_on_which_step_asks_first(folder: Path) -> None:
    """A resumed training begins with other texts than the killed one did, and must see the same bits."""
    outputs = []
    for order in ([0, 1, 2, 3], [3, 1], [2, 0, 3]):
        _, frozen, table = _split(folder, freeze_layers=1, freeze_embeddings=True)
        assert frozen is not None
        ids, mask = _step(table, order)
        frozen.last_hidden_state("query", order, ids, mask)
        outputs.append(frozen.kept["query"][3])
    assert all(torch.equal(outputs[0], output) for output in outputs[1:])


def test_without_room_nothing_is_kept_and_the_output_is_the_same(folder: Path) -> None:
    network, frozen, table = _split(folder, freeze_layers=1, freeze_embeddings=True)
    assert frozen is not None
    network.eval()
    rows = [1, 5]
    ids, mask = _step(table, rows)
    kept = frozen.last_hidden_state("query", rows, ids, mask)
    endless = TokenTable(np.broadcast_to(np.int32(1), (KEPT_BYTES,)), table.starts)
    large = FrozenLayers(frozen.lower, frozen.upper, {"query": endless}, padding=0)
    assert not large.keeps
    torch.testing.assert_close(
        large.last_hidden_state("query", rows, ids, mask) * mask.unsqueeze(-1), kept * mask.unsqueeze(-1)
    )
    assert not large.kept["query"]


@pytest.mark.parametrize("changes", [{}, {"freeze_layers": 1}, {"freeze_embeddings": True}])
def test_nothing_is_split_where_something_below_is_trained(folder: Path, changes: dict) -> None:
    assert _split(folder, **changes)[1] is None


def test_nothing_is_split_where_all_layers_share_a_weight_that_is_trained() -> None:
    """MPNet adds one table of relative positions in every layer; what is kept would be of the table as it was."""
    settings = TrainingSettings.model_validate(
        {"learning_rate": 1.0, "epochs": 1, "freeze_layers": 1, "freeze_embeddings": True}
    )
    small: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    network: Any = MPNetModel(MPNetConfig(vocab_size=30, hidden_size=8, **small))
    prepared: Any = prepare_parameters(network, settings, vocabulary_grew=False)
    table = TokenTable(np.array([0, 5, 6, 2], dtype=np.int32), np.array([0, 4]))
    shared = network.encoder.relative_attention_bias.weight
    assert shared.requires_grad
    assert split_frozen_layers(prepared, settings, {"query": table, "passage": table}, padding=1) is None
    shared.requires_grad = False
    assert split_frozen_layers(prepared, settings, {"query": table, "passage": table}, padding=1) is not None
