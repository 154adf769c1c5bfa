"""The heads of a model, run: pooled vectors in, the model's vectors out.

Belongs here: arithmetic of Dense, LayerNorm and Normalize, in float32. Does not belong here: reading their
configuration (layout.py). Source: sentence-transformers, the modules of these names.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from embed_pipeline.encoding.layout import Head

if TYPE_CHECKING:
    import torch

    Transform = Callable[[torch.Tensor], torch.Tensor]


def load_heads(heads: Sequence[Head], *, device: str) -> "Transform":
    """A function from pooled vectors (rows, width) to vectors (rows, dimension); without heads it changes nothing."""
    steps = [_load_head(head, device) for head in heads]

    def transform(vectors: "torch.Tensor") -> "torch.Tensor":
        for step in steps:
            vectors = step(vectors)
        return vectors

    return transform


def pool(hidden: "torch.Tensor", mask: "torch.Tensor", pooling: str) -> "torch.Tensor":
    """(rows, width of all modes): token vectors (rows, tokens, width) under a mask (rows, tokens), padding last."""
    import torch

    return torch.cat([_pool_mode(hidden, mask, mode) for mode in pooling.split("+")], dim=-1)


def whole_model(network: "torch.nn.Module", heads: "Transform", pooling: str, *, normalize: bool) -> "torch.nn.Module":
    """Token ids and mask (rows, tokens) in, vectors (rows, dimension) out, in float32: what is run, and traced."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
            pooled = heads(pool(hidden, attention_mask, pooling))
            return torch.nn.functional.normalize(pooled, dim=-1) if normalize else pooled

    return Whole().eval()


def _pool_mode(hidden: "torch.Tensor", mask: "torch.Tensor", mode: str) -> "torch.Tensor":
    import torch

    lengths = mask.sum(dim=1)
    if mode == "cls":
        return hidden[:, 0]
    if mode == "last_token":
        return hidden[
            torch.arange(hidden.shape[0], device=hidden.device), lengths - 1
        ]  # of any number of rows, traced too
    if mode == "max":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).max(dim=1).values
    weights = mask.to(hidden.dtype)
    if mode == "weighted_mean":
        weights = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)
    total = (hidden * weights.unsqueeze(-1)).sum(dim=1)
    if mode == "mean_sqrt_len":
        return total / lengths.unsqueeze(-1).sqrt()
    return total / weights.sum(dim=1, keepdim=True)


def _load_head(head: Head, device: str) -> "Transform":
    import torch
    from safetensors.torch import load_file

    if head.kind == "normalize":
        return lambda vectors: torch.nn.functional.normalize(vectors, dim=-1)
    weights = {name: tensor.float() for name, tensor in load_file(head.files[1], device=device).items()}
    names = {"norm.weight", "norm.bias"} if head.kind == "layer_norm" else {"linear.weight"}
    if not names <= weights.keys():
        raise ValueError(
            f"{head.files[1]}: expected {', '.join(sorted(names))}, found {', '.join(sorted(weights))}. Save the model "
            "again with sentence-transformers."
        )
    if head.kind == "layer_norm":
        size = tuple(weights["norm.weight"].shape)
        return lambda v: torch.nn.functional.layer_norm(v, size, weights["norm.weight"], weights["norm.bias"])
    activation = getattr(torch.nn, head.activation)()

    def dense(vectors: "torch.Tensor") -> "torch.Tensor":
        projected = activation(
            torch.nn.functional.linear(vectors, weights["linear.weight"], weights.get("linear.bias"))
        )
        if not head.residual:
            return projected
        kept = weights.get("residual.weight")
        return projected + (vectors if kept is None else torch.nn.functional.linear(vectors, kept))

    return dense
