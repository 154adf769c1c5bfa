"""A step's tensors for one process: its share of the queries and passages, and the masks over all passages.

Imported by the worker process alone, therefore torch stands at the top.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from embed_pipeline.encoding.encoder import Role
from embed_pipeline.encoding.tokens import batches_of, pad_ids
from embed_pipeline.training.candidates import StepBatch, draw_rows, positive_mask, share_of
from embed_pipeline.training.examples import Examples, TokenTable, TrainingQuery
from embed_pipeline.training.settings import TrainingSettings

_PAD_TO = 4  # few different shapes: memory of one step is reused by the next instead of fragmenting; labels are short


class TextChunk(TypedDict):
    """Texts of alike length that are encoded together."""

    role: Role
    rows: list[int]
    """Of the role's table of tokens."""
    input_ids: Tensor
    attention_mask: Tensor


class StepTensors(TypedDict):
    """What the model is called with. Candidates are in the order in which the processes' passages are gathered."""

    queries: list[TextChunk]
    """This process's queries, longest first."""
    passages: list[TextChunk]
    """This process's share of the candidates, longest first; equally many on every process."""
    positives: Tensor
    """bool (own queries, candidates)."""
    negatives: Tensor
    """bool (own queries, candidates); fillers are neither."""
    weights: Tensor
    """float (own queries): what each query's loss counts, so that the mean over processes is the mean over queries."""
    teacher_scores: Tensor | None
    """float (own queries, candidates), -inf where the teacher scored nothing."""


class StepCollator:
    """Makes a batch's tensors; the masks of all processes together are those of one process with the whole batch."""

    def __init__(
        self,
        examples: Examples,
        settings: TrainingSettings,
        *,
        padding: int,
        process: int,
        processes: int,
        chunk_tokens: int,
    ) -> None:
        self.examples, self.settings, self.padding = examples, settings, padding
        self.process, self.processes, self.chunk_tokens = process, processes, chunk_tokens

    @property
    def crosses_processes(self) -> bool:
        """Whether the candidates of all processes are gathered."""
        return self.processes > 1 and self.settings.negatives_cross_device is not False

    def __call__(self, items: Sequence[StepBatch]) -> StepTensors:
        (batch,) = items
        lengths = self.examples.query_tokens.lengths
        ordered = sorted(batch.queries, key=lambda at: (-lengths[self.examples.queries[at].row], at))
        own = [ordered[at] for at in share_of(len(ordered), self.process, self.processes)]
        weight = self.processes / len(ordered) if own else 0.0
        own = own or ordered[:1]  # a process without a query takes part with one that counts nothing
        seen = StepBatch(batch.epoch, batch.number, batch.queries if self.crosses_processes else tuple(own))
        columns, share, fillers = self._columns(seen)
        queries = [self.examples.queries[at] for at in own]
        mask = positive_mask(queries, columns)
        mask[:, fillers] = False
        negatives = ~mask
        negatives[:, fillers] = False
        return StepTensors(
            queries=self._chunks("query", [query.row for query in queries]),
            passages=self._chunks("passage", share),
            positives=torch.from_numpy(mask),
            negatives=torch.from_numpy(negatives),
            weights=torch.full((len(own),), weight),
            teacher_scores=self._teacher_scores(queries, columns, fillers),
        )

    def _columns(self, batch: StepBatch) -> tuple[np.ndarray, list[int], list[int]]:
        """Candidate rows in gathered order, this process's share of them, and the columns that only fill up shares."""
        examples = self.examples
        rows = draw_rows(
            batch, examples.queries, examples.candidates, self.settings, corpus_size=len(examples.passage_tokens)
        )
        rows = rows[np.argsort(-examples.passage_tokens.lengths[rows], kind="stable")]
        processes = self.processes if self.crosses_processes else 1
        each = -(-len(rows) // processes)
        shares, fillers = [], []
        for process in range(processes):
            places = list(share_of(len(rows), process, processes))
            missing = each - len(places)
            fillers += range((process + 1) * each - missing, (process + 1) * each)
            shares.append(rows[[*places, *[len(rows) - 1] * missing]])  # filled with the shortest passage
        columns = np.concatenate(shares)
        return columns, shares[self.process if processes > 1 else 0].tolist(), fillers

    def _chunks(self, role: Role, rows: Sequence[int]) -> list[TextChunk]:
        """The rows, longest first as they come, padded in chunks of few tokens and at most sub_batch_size texts."""
        table = self.examples.tables[role]
        lengths = table.lengths[np.asarray(rows)].tolist()
        most = self.settings.sub_batch_size or len(rows)
        parts = [
            part[start : start + most]
            for part in batches_of(lengths, self.chunk_tokens)
            for start in range(0, len(part), most)
        ]
        longest = int(table.lengths.max())  # padding must not go beyond what the encoder has positions for
        return [self._chunk(role, table, [rows[at] for at in part], longest) for part in parts]

    def _chunk(self, role: Role, table: TokenTable, rows: list[int], most: int) -> TextChunk:
        sequences = [table.row(row) for row in rows]
        length = min(most, -(-max(map(len, sequences)) // _PAD_TO) * _PAD_TO)
        ids, mask = pad_tokens(sequences, self.padding, length)
        return TextChunk(role=role, rows=rows, input_ids=ids, attention_mask=mask)

    def _teacher_scores(
        self, queries: Sequence[TrainingQuery], columns: np.ndarray, fillers: Sequence[int]
    ) -> Tensor | None:
        if self.settings.knowledge_distillation is None:
            return None
        scores = np.full((len(queries), len(columns)), -np.inf, dtype=np.float32)
        for at, query in enumerate(queries):
            scores[at] = [query.teacher_scores.get(row, -np.inf) for row in columns.tolist()]
        scores[:, fillers] = -np.inf
        return torch.from_numpy(scores)


def pad_tokens(sequences: Sequence[np.ndarray | list[int]], padding: int, length: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, int64 (sequences, length), filled up on the right."""
    ids, mask = pad_ids(sequences, padding, length)
    return torch.from_numpy(ids), torch.from_numpy(mask)
