"""The order of training: batches over all processes, per epoch, from a seed.

Imported by the worker process alone, therefore torch stands at the top.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch.utils.data import DataLoader, Dataset, Sampler

from embed_pipeline.training.candidates import StepBatch
from embed_pipeline.training.collator import StepTensors

_SORTED_BATCHES = 50  # batches whose queries are sorted by length together: alike lengths, and chance enough


class StepSampler(Sampler[list[StepBatch]]):
    """Every query once per epoch, in batches of nearly equal size.

    Each process sees the batches of all and takes its share in the collator. The batches of an epoch depend on seed,
    epoch and batch size over all processes alone.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, group_by_length: bool, seed: int) -> None:
        self.lengths, self.batch_size = lengths, batch_size
        self.group_by_length, self.seed = group_by_length, seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[StepBatch]]:
        chance = random.Random(f"{self.seed}:order {self.epoch}")
        order = list(range(len(self.lengths)))
        chance.shuffle(order)
        if self.group_by_length:
            size = self.batch_size * _SORTED_BATCHES
            parts = [order[start : start + size] for start in range(0, len(order), size)]
            order = [at for part in parts for at in sorted(part, key=lambda at: -self.lengths[at])]
        # Of nearly equal sizes: a last batch of one query would have nothing to be contrasted with.
        ends = [len(order) * at // len(self) for at in range(len(self) + 1)]
        batches = [tuple(order[start:end]) for start, end in pairwise(ends)]
        if self.group_by_length:
            chance.shuffle(batches)
        for number, queries in enumerate(batches):
            yield [StepBatch(self.epoch, number, queries)]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is drawn next."""
        self.epoch = epoch


class StepDataset(Dataset[StepBatch]):
    """Hands a batch on; its length is the number of queries, which the trainer reports."""

    def __init__(self, queries: int) -> None:
        self.queries = queries

    def __len__(self) -> int:
        return self.queries

    def __getitem__(self, batch: StepBatch) -> StepBatch:
        return batch


class StepLoader(DataLoader[StepTensors]):
    """A loader that tells its sampler the epoch, as the trainer tells it."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is drawn next."""
        sampler = self.batch_sampler
        if isinstance(sampler, StepSampler):
            sampler.set_epoch(epoch)
