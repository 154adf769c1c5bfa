"""The network with its loss: texts of a step in, one number out.

Belongs here: encoding in chunks, scores, the sum of the losses. Does not belong here: which parameters are trained
(parameters.py), batches (collator.py). Imported by the worker process alone, therefore torch stands at the top.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.heads import pool
from embed_pipeline.training.collator import TextChunk
from embed_pipeline.training.frozen_layers import FrozenLayers
from embed_pipeline.training.loss import (
    contrastive_losses,
    cut_vectors,
    distillation_losses,
    gather_with_gradient,
    matryoshka_weights,
    ranked_distillation_losses,
)
from embed_pipeline.training.settings import TrainingSettings


class ContrastiveModel(nn.Module):
    """An encoder that is called with StepTensors and returns this process's share of the loss.

    The mean of what the processes return is the mean loss over the queries of all of them, and so is the mean of their
    gradients: what DistributedDataParallel computes.
    """

    _keys_to_ignore_on_save = None  # the trainer asks every model for it when it loads a checkpoint

    def __init__(
        self,
        network: PreTrainedModel,
        encoder: EncoderSettings,
        settings: TrainingSettings,
        *,
        crosses_processes: bool,
        frozen: FrozenLayers | None = None,
    ) -> None:
        super().__init__()
        self.network, self.frozen = network, frozen
        self.encoder, self.settings, self.crosses_processes = encoder, settings, crosses_processes
        self.shares = matryoshka_weights(
            settings.matryoshka_dimensions, settings.matryoshka_weights, int(network.config.hidden_size)
        )

    def train(self, mode: bool = True) -> Self:
        """See torch; layers that are kept as they are stay without dropout."""
        super().train(mode)
        if self.frozen:
            self.frozen.eval()
        return self

    def forward(
        self,
        *,
        queries: Sequence[TextChunk],
        passages: Sequence[TextChunk],
        positives: Tensor,
        negatives: Tensor,
        weights: Tensor,
        teacher_scores: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """{"loss": a number}; the arguments are StepTensors."""
        own, found = self.encode(queries), self.encode(passages)
        if self.crosses_processes:
            found = gather_with_gradient(found)
        # In half precision the similarities of good candidates would be equal.
        with torch.autocast(own.device.type, enabled=False):
            losses = own.new_zeros(len(own))
            for dimension, share in self.shares.items():
                cut = [cut_vectors(v, dimension, normalize=self.encoder.normalize) for v in (own, found)]
                scores = cut[0] @ cut[1].T / self.settings.temperature
                losses = losses + share * self._losses(scores, positives, negatives, teacher_scores)
        return {"loss": (losses * weights).sum()}

    def encode(self, chunks: Sequence[TextChunk]) -> Tensor:
        """Float32 vectors, one per text in order, neither cut nor normalised.

        With a gradient cache the activations of a chunk are not kept; the backward pass encodes it again, with the same
        dropout, once the gradient of its vectors is known.
        """
        vectors = [
            checkpoint(self._encode, chunk, use_reentrant=False)
            if self.settings.gradient_cache
            else self._encode(chunk)
            for chunk in chunks
        ]
        return torch.cat(vectors)

    def _encode(self, chunk: TextChunk) -> Tensor:
        ids, mask = chunk["input_ids"], chunk["attention_mask"]
        if self.frozen:
            hidden = self.frozen.last_hidden_state(chunk["role"], chunk["rows"], ids, mask)
        else:
            hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        return pool(hidden.float(), mask, self.encoder.pooling or "")

    def _losses(self, scores: Tensor, positives: Tensor, negatives: Tensor, teacher_scores: Tensor | None) -> Tensor:
        kind, temperature = self.settings.knowledge_distillation, self.settings.teacher_temperature
        if teacher_scores is None or kind is None:
            return contrastive_losses(scores, positives, negatives)
        if kind == "m3_kd_loss":
            return ranked_distillation_losses(
                scores, teacher_scores, positives, negatives, teacher_temperature=temperature
            )
        return contrastive_losses(scores, positives, negatives) + distillation_losses(
            scores, teacher_scores, temperature
        )
