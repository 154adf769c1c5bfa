"""Vectors of all processes, with gradients that find their way back.

Imported by the worker process alone, therefore torch stands at the top.
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
