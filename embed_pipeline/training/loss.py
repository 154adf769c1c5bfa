"""The losses: pure functions on similarities and on masks of what is positive and what is negative.

Belongs here: arithmetic, and the vectors of all processes with their gradients. Does not belong here: which passages
are candidates (candidates.py), encoding (model.py). All matrices are (queries, candidates); every function returns one
loss per query. Imported by
the worker process alone, therefore torch stands at the top.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_number() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_with_gradient(vectors: Tensor) -> Tensor:
    """The vectors of all processes, process by process; all must have the same shape.

    Backward, a process receives the sum of what all processes found for its vectors: the gradient of the sum of their
    losses. Every process must call it, forward and backward.
    """
    return vectors if processes() == 1 else _Gather.apply(vectors)  # pyright: ignore[reportReturnType]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        parts = [torch.empty_like(vectors) for _ in range(processes())]
        dist.all_gather(parts, vectors.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(processes())[process_number()]


_LEAST = torch.finfo(torch.float32).min  # stands for minus infinity: its exponential is 0 and its gradient no NaN


def contrastive_losses(scores: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Per query the mean over its positives of -log softmax(positive against all its negatives).

    scores: float, already divided by the temperature. positives, negatives: bool; a candidate that is neither takes no
    part. With one positive this is cross-entropy. A query without a negative, or without a positive, has loss 0.
    """
    scores = scores.float()
    against = torch.logsumexp(scores.masked_fill(~negatives, _LEAST), dim=1, keepdim=True)
    losses = torch.nn.functional.softplus(against - scores).masked_fill(~positives, 0.0)
    return losses.sum(dim=1) / positives.sum(dim=1).clamp(min=1)


def distillation_losses(scores: Tensor, teacher_scores: Tensor, teacher_temperature: float = 1.0) -> Tensor:
    """Per query the cross-entropy from the teacher's softmax to ours, over what the teacher scored (others: -inf).

    FlagEmbedding's kl_div. A query of which the teacher scored nothing has loss 0.
    """
    scored = torch.isfinite(teacher_scores)
    targets = _teacher_targets(teacher_scores, teacher_temperature)
    log_probabilities = torch.log_softmax(scores.float().masked_fill(~scored, _LEAST), dim=1)
    return -(targets * log_probabilities.masked_fill(~scored, 0.0)).sum(dim=1)


def ranked_distillation_losses(
    scores: Tensor,
    teacher_scores: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    teacher_temperature: float = 1.0,
) -> Tensor:
    """FlagEmbedding's m3_kd_loss: each passage the teacher scored is once the target, weighted by the teacher.

    Targets come positives first, then by falling teacher score; one that was the target is no candidate any more.
    Another positive of the query is never held against a target.
    """
    scores, scored = scores.float(), torch.isfinite(teacher_scores)
    targets = _teacher_targets(teacher_scores, teacher_temperature)
    rank = teacher_scores.masked_fill(~scored, -torch.inf) + torch.where(positives & scored, 1e6, 0.0)
    order = torch.argsort(rank, dim=1, descending=True, stable=True)
    open_candidates = negatives
    losses = scores.new_zeros(len(scores))
    for at in range(int(scored.sum(dim=1).max())):
        column = order[:, at : at + 1]
        target = torch.zeros_like(scored).scatter(1, column, scored.gather(1, column))
        open_candidates = open_candidates & ~target
        losses = losses + targets.gather(1, column).squeeze(1) * contrastive_losses(scores, target, open_candidates)
    return losses


def matryoshka_weights(dimensions: tuple[int, ...], weights: tuple[float, ...] | None, full: int) -> dict[int, float]:
    """The share of the loss per length of a vector, the full one included with weight 1; the shares sum to 1.

    Raises:
        ValueError: a length is not below the full one.
    """
    if any(dimension >= full for dimension in dimensions):
        raise ValueError(
            f"recipe, training.matryoshka_dimensions: expected lengths below the encoder's {full}, found "
            f"{max(dimensions)}. Leave it out; the full length is always trained."
        )
    shares = {full: 1.0, **dict(zip(dimensions, weights or (1.0,) * len(dimensions), strict=True))}
    total = sum(shares.values())
    return {dimension: share / total for dimension, share in shares.items()}


def cut_vectors(vectors: Tensor, dimension: int, *, normalize: bool) -> Tensor:
    """The first `dimension` numbers of each vector, brought to length 1 if asked for."""
    cut = vectors[:, :dimension]
    return torch.nn.functional.normalize(cut, dim=-1) if normalize else cut


def _teacher_targets(teacher_scores: Tensor, temperature: float) -> Tensor:
    scored = torch.isfinite(teacher_scores)
    return torch.softmax((teacher_scores.float() / temperature).masked_fill(~scored, _LEAST), dim=1) * scored
