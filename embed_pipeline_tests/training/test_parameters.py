"""What is trained and how fast: each setting moves what it names and nothing else."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, PreTrainedModel

from embed_pipeline.training.parameters import (
    count_layers,
    learning_rate_of,
    merged,
    parameter_groups,
    prepare_parameters,
)
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline_tests.small_project import write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), dropout=0.0)


def _settings(**changes: object) -> TrainingSettings:
    return TrainingSettings.model_validate({"learning_rate": 1.0, "epochs": 1, "candidates": "mined", **changes})


def _prepared(folder: Path, *, vocabulary_grew: bool = False, **changes: object) -> PreTrainedModel:
    network: PreTrainedModel = AutoModel.from_pretrained(folder)
    return prepare_parameters(network, _settings(**changes), vocabulary_grew=vocabulary_grew)


def _trained(network: torch.nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_without_settings_everything_but_the_pooler_is_trained(folder: Path) -> None:
    network = _prepared(folder)
    assert {name for name, _ in network.named_parameters()} - _trained(network) == {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }


@pytest.mark.parametrize(
    ("changes", "frozen"),
    [
        ({"freeze_embeddings": True}, ("embeddings.",)),
        ({"freeze_position_embeddings": True}, ("embeddings.position_embeddings.",)),
        ({"freeze_layers": 1}, ("encoder.layer.0.",)),
        ({"freeze_layers": 1, "freeze_embeddings": True}, ("embeddings.", "encoder.layer.0.")),
    ],
)
def test_what_is_frozen_is_what_the_setting_names(folder: Path, changes: dict, frozen: tuple[str, ...]) -> None:
    expected = {name for name in _trained(_prepared(folder)) if not name.startswith(frozen)}
    assert _trained(_prepared(folder, **changes)) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze_layers": 3}, "freeze_layers: expected at most the encoder's 2, found 3"),
        ({"freeze_layers": 2, "freeze_embeddings": True}, "nothing is left to train"),
    ],
)
def test_freezing_more_than_there_is_is_refused(folder: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _prepared(folder, **changes)


def test_the_learning_rate_decays_from_the_last_layer_to_the_embeddings(folder: Path) -> None:
    network, settings = _prepared(folder), _settings(layer_learning_rate_decay=0.5)
    assert count_layers(network) == 2
    names = ("encoder.layer.1.output.dense.weight", "encoder.layer.0.output.dense.weight", "embeddings.LayerNorm.bias")
    assert [learning_rate_of(name, settings, 2) for name in names] == [1.0, 0.5, 0.25]


def test_the_factor_of_the_embeddings_changes_the_rate_of_the_word_embeddings_alone(folder: Path) -> None:
    network = _prepared(folder)
    rates = {False: _settings(), True: _settings(embedding_learning_rate_factor=5.0, layer_learning_rate_decay=1.0)}
    faster = {
        name: learning_rate_of(name, rates[True], 2) / learning_rate_of(name, rates[False], 2)
        for name in _trained(network)
    }
    assert {name for name, ratio in faster.items() if ratio != 1} == {"embeddings.word_embeddings.weight"}
    assert faster["embeddings.word_embeddings.weight"] == 5
    decayed = _settings(embedding_learning_rate_factor=5.0, layer_learning_rate_decay=0.5)
    assert learning_rate_of("embeddings.word_embeddings.weight", decayed, 2) == 5 * 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze_embeddings": True}, "no effect with freeze_embeddings"),
        ({"candidates": "flagembedding"}, "embedding_learning_rate_factor: not known to candidates: flagembedding"),
    ],
)
def test_a_factor_without_effect_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _settings(embedding_learning_rate_factor=5.0, **changes)


def test_every_trained_parameter_is_in_one_group(folder: Path) -> None:
    network = _prepared(folder, freeze_layers=1)
    decayed = frozenset(name for name in _trained(network) if name.endswith("weight"))
    groups = parameter_groups(network, _settings(layer_learning_rate_decay=0.5, weight_decay=0.1), decayed)
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (1.0, 0.1),
        (1.0, 0.0),
        (0.25, 0.1),
        (0.25, 0.0),
    }
    parameters = [parameter for group in groups for parameter in group["params"]]  # type: ignore[union-attr]
    assert len(parameters) == len(_trained(network)) == len({id(parameter) for parameter in parameters})


@pytest.mark.parametrize("grew", [False, True])
def test_low_rank_matrices_are_trained_alone_or_with_the_embeddings_of_new_tokens(folder: Path, grew: bool) -> None:
    trained = _trained(_prepared(folder, lora={"rank": 2}, vocabulary_grew=grew))
    others = {name for name in trained if "lora_" not in name}
    assert len(trained) - len(others) == 2 * 6 * 2  # two matrices beside six linear layers in two layers
    assert {name.split("base_model.model.")[1] for name in others} == (
        {"embeddings.word_embeddings.weight"} if grew else set()
    )


def test_merged_low_rank_matrices_give_the_same_vectors_in_a_plain_encoder(folder: Path) -> None:
    network = _prepared(folder, lora={"rank": 2, "alpha": 4}).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[2, 7, 9, 3]])
    before = network(input_ids=ids).last_hidden_state
    plain = merged(network)
    base = AutoModel.from_pretrained(folder).eval()
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in base.named_parameters()]
    assert torch.allclose(plain(input_ids=ids).last_hidden_state, before, atol=1e-5)
    assert not torch.allclose(base(input_ids=ids).last_hidden_state, before, atol=1e-2)
