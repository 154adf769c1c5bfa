"""The layers that are not trained, run once per text: what they compute is the same in every step and epoch.

Belongs here: splitting a network into its frozen and its trained part, keeping what the frozen part computes. Does not
belong here: which parameters are frozen (parameters.py). Imported by the worker process alone, therefore torch stands
at the top.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from embed_pipeline.encoding.encoder import Role
from embed_pipeline.encoding.tokens import batches_of
from embed_pipeline.training.collator import pad_tokens
from embed_pipeline.training.examples import TokenTable
from embed_pipeline.training.settings import TrainingSettings

KEPT_BYTES = 2 * 1024**3
"""Kept outputs take at most so much memory per process; a larger data set's are computed anew in every step."""

_BLOCK_TOKENS = 4096
_LARGEST_DIFFERENCE = 1e-3  # of hidden states, whose size is about 1, between two ways to compute the same


class FrozenLayers:
    """Gives the last hidden state of texts, its frozen part from memory where that fits.

    A text's frozen output is computed together with the others of its block, and blocks are the same in every run:
    a resumed training goes on from the same bits. No dropout acts in the frozen part.
    """

    def __init__(
        self, lower: PreTrainedModel, upper: PreTrainedModel, tables: Mapping[Role, TokenTable], *, padding: int
    ) -> None:
        self.lower, self.upper, self.tables, self.padding = lower, upper, tables, padding
        size: int = lower.config.hidden_size
        self.keeps = sum(table.tokens.size for table in tables.values()) * size * 4 <= KEPT_BYTES
        self.blocks: dict[Role, list[Sequence[int]]] = {
            role: list(batches_of(table.lengths.tolist(), _BLOCK_TOKENS)) for role, table in tables.items()
        }
        self.block_of = {role: _places(self.blocks[role], len(table)) for role, table in tables.items()}
        self.kept: dict[Role, dict[int, Tensor]] = {role: {} for role in tables}

    def eval(self) -> None:
        """Turn the frozen part's dropout off; to be called after every `train()` of the whole."""
        self.lower.eval()

    def last_hidden_state(self, role: Role, rows: Sequence[int], input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(texts, tokens, hidden size) as the whole network gives it, zero gradients for the frozen part."""
        return _hidden(self.upper, self._frozen(role, rows, input_ids, attention_mask), attention_mask)

    @torch.no_grad()
    def _frozen(self, role: Role, rows: Sequence[int], input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if not self.keeps:
            return self.lower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = self.kept[role]
        for block in sorted({int(self.block_of[role][row]) for row in rows if row not in kept}):
            self._compute(role, self.blocks[role][block], input_ids.device)
        outputs = [kept[row] for row in rows]
        found = outputs[0].new_zeros((len(rows), input_ids.shape[1], outputs[0].shape[1]))
        for at, output in enumerate(outputs):
            found[at, : len(output)] = output
        return found

    def _compute(self, role: Role, rows: Sequence[int], device: torch.device) -> None:
        sequences = [self.tables[role].row(row) for row in rows]
        ids, mask = pad_tokens(sequences, self.padding, max(map(len, sequences)))
        hidden = self.lower(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        for at, (row, sequence) in enumerate(zip(rows, sequences, strict=True)):
            self.kept[role][row] = hidden[at, : len(sequence)].clone()


def split_frozen_layers(
    network: Any, settings: TrainingSettings, tables: Mapping[Role, TokenTable], *, padding: int
) -> FrozenLayers | None:
    """The network in two parts that share its weights; None where the settings or the architecture do not allow it.

    All embeddings and the first layers must be frozen, and no weight that they share with the rest be trained. An
    architecture is believed once both parts together have been seen to compute what the whole does.
    """
    if not (settings.freeze_layers and settings.freeze_embeddings):
        return None
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    stack = getattr(getattr(base, "encoder", None), "layer", None)
    if not isinstance(stack, nn.ModuleList) or not isinstance(getattr(base, "embeddings", None), nn.Module):
        return None
    lower, upper = (_view(base) for _ in range(2))
    lower.encoder.layer, upper.encoder.layer = stack[: settings.freeze_layers], stack[settings.freeze_layers :]
    if any(weight.requires_grad for weight in lower.parameters()):  # as MPNet's positions, which all layers share
        return None
    upper.embeddings = _Handed()
    found = FrozenLayers(lower, upper, tables, padding=padding)
    return found if _compute_the_same(base, found) else None


class _Handed(nn.Module):
    """Stands in the place of the embeddings and hands on what it is given."""

    def forward(self, *, inputs_embeds: Tensor, **_: object) -> Tensor:
        return inputs_embeds


def _view(network: PreTrainedModel) -> Any:
    """The same modules under a second network whose own parts can be exchanged."""
    view: Any = copy.copy(network)
    view._modules = dict(network._modules)
    view.encoder = copy.copy(view.encoder)
    view.encoder._modules = dict(view.encoder._modules)
    if "pooler" in view._modules:
        view.pooler = None  # takes no part in the vectors
    return view


def _hidden(upper: Any, hidden: Tensor, attention_mask: Tensor) -> Tensor:
    return upper(inputs_embeds=hidden, attention_mask=attention_mask).last_hidden_state


@torch.no_grad()
def _compute_the_same(network: Any, parts: FrozenLayers) -> bool:
    table = parts.tables["query"]
    device = next(network.parameters()).device
    sequences = [table.row(row) for row in range(min(2, len(table)))]
    ids, mask = (part.to(device) for part in pad_tokens(sequences, parts.padding, max(map(len, sequences))))
    trains = network.training
    network.eval()
    try:
        whole = network(input_ids=ids, attention_mask=mask).last_hidden_state
        lower = parts.lower(input_ids=ids, attention_mask=mask).last_hidden_state
        both = _hidden(parts.upper, lower, mask)
    except (TypeError, AttributeError, ValueError, RuntimeError):  # an architecture that does not take hidden states
        return False
    finally:
        network.train(trains)
    return bool(((whole - both).abs() * mask.unsqueeze(-1)).max() <= _LARGEST_DIFFERENCE)


def _places(blocks: Sequence[Sequence[int]], rows: int) -> np.ndarray:
    """The block of every row."""
    found = np.empty(rows, dtype=np.int64)
    for number, block in enumerate(blocks):
        found[list(block)] = number
    return found
