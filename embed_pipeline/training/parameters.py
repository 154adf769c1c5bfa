"""Which weights are trained, and how fast each.

Belongs here: freezing, low-rank matrices, learning rates by layer. Does not belong here: the optimizer's steps
(trainer.py). Imported by the worker process alone, therefore torch stands at the top.
"""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn import Parameter
from transformers import PreTrainedModel

from embed_pipeline.training.settings import TrainingSettings

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


def prepare_parameters(
    network: PreTrainedModel, settings: TrainingSettings, *, vocabulary_grew: bool
) -> PreTrainedModel:
    """The network with what the settings freeze frozen, and wrapped in low-rank matrices if they ask for them.

    With low-rank matrices the word embeddings are trained too if the vocabulary grew: new tokens are noise otherwise.
    Raises:
        ValueError: more layers are to be frozen than there are, or nothing would be left to train.
    """
    if settings.gradient_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    trained = _with_lora(network, settings) if settings.lora else network
    layers = count_layers(trained)
    if settings.freeze_layers > layers:
        raise ValueError(
            f"recipe, training.freeze_layers: expected at most the encoder's {layers}, found {settings.freeze_layers}."
        )
    for name, parameter in trained.named_parameters():
        if settings.lora and vocabulary_grew and _is_word_embedding(name):
            parameter.requires_grad = True
        if _is_frozen(name, settings):
            parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in trained.parameters()):
        raise ValueError("recipe, training: everything is frozen, nothing is left to train. Lower freeze_layers.")
    return trained


def merged(network: Any) -> PreTrainedModel:
    """The network as it is used: low-rank matrices added into the weights they stand beside."""
    return network.merge_and_unload() if hasattr(network, "merge_and_unload") else network


def count_layers(network: nn.Module) -> int:
    """How many layers of the same kind lie on each other, the embeddings not counted."""
    return 1 + max((_layer_of(name) for name, _ in network.named_parameters()), default=-1)


def learning_rate_of(name: str, settings: TrainingSettings, layers: int) -> float:
    """The peak learning rate of a parameter: the recipe's in the last layer and above it, less in each layer below.

    Word embeddings, and they alone, have `embedding_learning_rate_factor` times that.
    """
    depth = _layer_of(name) if _LAYER.search(name) or _is_embedding(name) else layers - 1
    factor = settings.embedding_learning_rate_factor if _is_word_embedding(name) else 1.0
    return settings.learning_rate * factor * settings.layer_learning_rate_decay ** (layers - 1 - depth)


def parameter_groups(
    model: nn.Module, settings: TrainingSettings, decayed: frozenset[str]
) -> list[dict[str, float | list[Parameter]]]:
    """The trained parameters in groups of equal learning rate and weight decay; `decayed` are those that decay."""
    layers = count_layers(model)
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for name, parameter in _trained(model):
        decay = settings.weight_decay if name in decayed else 0.0
        groups.setdefault((learning_rate_of(name, settings, layers), decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def _trained(model: nn.Module) -> Iterator[tuple[str, Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _is_frozen(name: str, settings: TrainingSettings) -> bool:
    if ".pooler." in f".{name}":  # takes no part in the vectors; trained it would be a parameter without a gradient
        return True
    if _is_embedding(name):
        return settings.freeze_embeddings or (settings.freeze_position_embeddings and "position_embeddings" in name)
    return 0 <= _layer_of(name) < settings.freeze_layers


def _is_embedding(name: str) -> bool:
    return "embeddings." in name or ".wpe." in f".{name}" or _is_word_embedding(name)


def _is_word_embedding(name: str) -> bool:
    return any(part in f".{name}" for part in ("word_embeddings.", "embed_tokens.", ".wte."))


def _layer_of(name: str) -> int:
    found = _LAYER.search(name)
    return int(found.group(1)) if found else -1


def _with_lora(network: PreTrainedModel, settings: TrainingSettings) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    lora = settings.lora
    if lora is None:
        return network
    # Named outright: "all linear layers" would leave out the last one, taken for an output layer, or take the pooler.
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    targets = [name for name in linear if "pooler" not in name]
    wrapped: Any = get_peft_model(
        network,
        LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets),
    )
    return wrapped
