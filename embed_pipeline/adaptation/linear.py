"""A matrix trained on frozen vectors, so that queries land nearer to their answers; also for hosted encoders.

Belongs here: training. Does not belong here: applying and keeping the matrix (adapter.py), measuring (ranks.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embed_pipeline.adaptation.adapter import LinearAdapter
from embed_pipeline.adaptation.ranks import RelevantRows, best_ranks, check_rows
from embed_pipeline.adaptation.settings import AdaptationSettings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries of one split as vectors, with the corpus rows of their relevant passages."""

    vectors: np.ndarray
    relevant: RelevantRows


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over the training queries came to; number 0 is the encoder alone."""

    number: int
    loss: float | None
    validation_mrr_at_10: float


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """The adapter of the best pass, and all passes in order."""

    adapter: LinearAdapter
    passes: tuple[Pass, ...]
    best_pass: int


def train_adapter(
    corpus: np.ndarray,
    *,
    train: Asked,
    validation: Asked,
    settings: AdaptationSettings,
    encoder_fingerprint: str,
    normalize: bool = True,
) -> TrainedAdapter:
    """The matrix that is best on validation (MRR@10 over the whole corpus); never worse there than changing nothing.

    It starts as the identity (with a shorter dimension: as the corpus's principal axes) and is pulled back to that
    start after each step of Adam. Loss: every true answer of a query against all its irrelevant candidates, seeded.

    Raises:
        ValueError: shapes do not fit, no validation queries, or a query has no relevant row or no irrelevant passage.
    """
    check_rows(train.vectors, corpus, train.relevant)
    check_rows(validation.vectors, corpus, validation.relevant)
    if not len(validation.vectors) or not len(train.vectors):
        raise ValueError(
            f"adapter: {len(train.vectors)} training and {len(validation.vectors)} validation queries. Both are needed."
        )
    run = _Run(corpus, train, settings, normalize=normalize, encoder_fingerprint=encoder_fingerprint)
    passes = [Pass(0, None, _measure(run.adapter(), corpus, validation))]
    best, adapter = 0, run.adapter()
    for number in range(1, settings.epochs + 1):
        loss = run.train_pass()
        passes.append(Pass(number, loss, _measure(run.adapter(), corpus, validation)))
        if passes[-1].validation_mrr_at_10 > passes[best].validation_mrr_at_10:
            best, adapter = number, run.adapter()
        if number - best >= settings.patience:
            break
    return TrainedAdapter(adapter=adapter, passes=tuple(passes), best_pass=best)


def start_matrix(corpus: np.ndarray, dimension: int | None) -> np.ndarray:
    """The identity, or for a shorter dimension the axes that keep most of the corpus's inner products; float32.

    Raises:
        ValueError: the dimension is longer than the vectors.
    """
    width = corpus.shape[1]
    if dimension is None or dimension == width:
        return np.eye(width, dtype=np.float32)
    if dimension > width:
        raise ValueError(f"adapter: dimension is {dimension}, the encoder's vectors have {width}. Set it to {width}.")
    _, axes = np.linalg.eigh((corpus.T @ corpus).astype(np.float64))  # ascending eigenvalues
    return np.ascontiguousarray(axes[:, ::-1][:, :dimension], dtype=np.float32)


class _Run:
    """The state between passes: matrices, optimiser, chance."""

    def __init__(
        self,
        corpus: np.ndarray,
        train: Asked,
        settings: AdaptationSettings,
        *,
        normalize: bool,
        encoder_fingerprint: str,
    ) -> None:
        import torch

        self.corpus, self.train, self.settings = corpus, train, settings
        self.normalize, self.encoder_fingerprint = normalize, encoder_fingerprint
        self.chance = np.random.default_rng(settings.seed)
        self.start = torch.from_numpy(start_matrix(corpus, settings.dimension))
        sides = 1 if settings.sides == "query" else 2
        self.matrices = [self.start.clone().requires_grad_() for _ in range(sides)]
        self.optimizer = torch.optim.Adam(self.matrices, lr=settings.learning_rate)

    def adapter(self) -> LinearAdapter:
        kept = [matrix.detach().numpy().copy() for matrix in self.matrices]
        return LinearAdapter(
            query=kept[0],
            passage=kept[1] if len(kept) > 1 else None,
            normalize=self.normalize,
            encoder_fingerprint=self.encoder_fingerprint,
        )

    def train_pass(self) -> float:
        """The mean loss of a pass over the training queries in a drawn order."""
        losses = [self._step(batch) for batch in self._batches()]
        return float(np.mean(losses))

    def _batches(self) -> Iterator[np.ndarray]:
        order = self.chance.permutation(len(self.train.vectors))
        for at in range(0, len(order), self.settings.batch_size):
            yield order[at : at + self.settings.batch_size]

    def _step(self, batch: np.ndarray) -> float:
        import torch

        from embed_pipeline.training.loss import contrastive_losses

        rows = self._candidates(batch)
        positives = torch.from_numpy(np.array([np.isin(rows, list(self.train.relevant[at])) for at in batch]))
        if bool(positives.all(dim=1).any()):
            raise ValueError(
                "adapter: every passage is relevant to a query, so nothing can be learnt from it. Remove it."
            )
        queries = self._map(torch.from_numpy(self.train.vectors[batch]), self.matrices[0])
        passages = torch.from_numpy(self.corpus[rows])
        if len(self.matrices) > 1:
            passages = self._map(passages, self.matrices[1])
        losses = contrastive_losses(queries @ passages.T / self.settings.temperature, positives, ~positives)
        loss = losses.mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._pull()
        return float(loss.detach())

    def _map(self, vectors: "Tensor", matrix: "Tensor") -> "Tensor":
        from torch.nn.functional import normalize

        mapped = vectors @ matrix
        return normalize(mapped, dim=1) if self.normalize else mapped

    def _pull(self) -> None:
        """The proximal step of an L2 penalty: exact for any strength, where Adam would rescale a gradient of it."""
        import torch

        share = 1 / (1 + self.settings.learning_rate * self.settings.identity_pull)
        with torch.no_grad():
            for matrix in self.matrices:
                matrix.copy_(self.start + share * (matrix - self.start))

    def _candidates(self, batch: np.ndarray) -> np.ndarray:
        if len(self.corpus) <= self.settings.candidates:
            return np.arange(len(self.corpus))
        answers = {row for at in batch for row in self.train.relevant[at]}
        drawn = self.chance.choice(len(self.corpus), self.settings.candidates, replace=False)
        return np.array(sorted(answers.union(drawn.tolist())))


def reciprocal_ranks(adapter: LinearAdapter, corpus: np.ndarray, asked: Asked, cutoff: int = 10) -> np.ndarray:
    """float64 (queries,): of each query with the adapter behind the vectors, 0 beyond the cutoff."""
    queries, passages = adapter.apply("query", asked.vectors), adapter.apply("passage", corpus)
    ranks = best_ranks(queries, passages, asked.relevant)
    return np.where(ranks <= cutoff, 1 / ranks, 0.0)


def _measure(adapter: LinearAdapter, corpus: np.ndarray, asked: Asked) -> float:
    return float(reciprocal_ranks(adapter, corpus, asked).mean())
