"""Near duplicates: texts whose sets of character 3-grams have a Jaccard similarity of at least a threshold.

The search is exact. It uses prefix filtering: two sets that overlap enough share some of their rarest members, so only
those are indexed; the larger the sets, the more must be shared, which keeps texts of a small alphabet apart. MinHash
would miss some pairs by chance, and a missed pair is a leak between train and test.

Source: Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search, WWW 2007; Wang, Li, Feng: Can We Beat the Prefix
Filtering?, SIGMOD 2012 (prefixes of which several members must be shared).
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_CODE_POINT_BITS = 21
_MEMBERS_PER_COMMON = 3
_COUNTING_COST = 20
"""Sorting positions costs so much more than counting them all."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """The position of an indexed text and its similarity, threshold to 1."""

    position: int
    similarity: float


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """The 3-gram sets of many texts: text i has `ranks[offsets[i]:offsets[i + 1]]`, ascending, int64.

    A 3-gram's rank is its place among all, rarest first; those below `shared_from` occur in a single text.
    """

    offsets: np.ndarray
    ranks: np.ndarray
    shared_from: int

    def __getitem__(self, position: int) -> np.ndarray:
        return self.ranks[self.offsets[position] : self.offsets[position + 1]]


def shingle_texts(texts: Sequence[str]) -> ShingleSets:
    """The 3-gram sets of the texts, in their order; a text of fewer than three characters is one 3-gram.

    Texts are compared as they are: give their canonical forms.

    Raises:
        ValueError: a text is empty, which would be like every other empty one.
    """
    if not texts:
        return ShingleSets(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), 0)
    sets = [_distinct_shingles(text) for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(shingles) for shingles in sets])])
    _, inverse, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    rank_of = np.empty(len(counts), dtype=np.int64)
    rank_of[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    ranks = rank_of[inverse]
    for start, end in pairwise(offsets):
        ranks[start:end].sort()
    return ShingleSets(offsets, ranks, int(np.count_nonzero(counts == 1)))


class NearDuplicateIndex:
    """Finds the near duplicates of a text among those added so far."""

    def __init__(self, sets: ShingleSets, threshold: float) -> None:
        self._sets = sets
        self._threshold = threshold
        self._sizes = np.diff(sets.offsets)
        self._least = np.ceil(threshold * self._sizes - 1e-9).astype(np.int64)
        # One common member is enough to be compared where a set has few; of many it takes several, and chance goes.
        self._needed = 1 + (self._sizes - self._least) // _MEMBERS_PER_COMMON
        self._postings: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))

    def add(self, position: int) -> None:
        """Index the text at a position of the sets."""
        for rank in self._prefix(position):
            self._postings[rank].append(position)

    def find(self, position: int) -> Iterator[NearDuplicate]:
        """Every indexed text at or above the threshold, each once, in no order that means anything; not itself."""
        members = self._sets[position]
        for other in self._candidates(position).tolist():
            if other == position:
                continue
            own = self._sets[other]
            shared = len(np.intersect1d(members, own, assume_unique=True))
            similarity = shared / (len(members) + len(own) - shared)
            if similarity >= self._threshold:
                yield NearDuplicate(other, similarity)

    def _candidates(self, position: int) -> np.ndarray:
        """The indexed texts of fitting size that share enough of the rarest members, ascending."""
        found = [self._postings[rank] for rank in self._prefix(position) if rank in self._postings]
        if not found:
            return np.zeros(0, dtype=np.int64)
        positions = np.concatenate([np.frombuffer(posting, dtype=np.int64) for posting in found])
        if len(positions) * _COUNTING_COST < len(self._sizes):
            candidates, counts = np.unique(positions, return_counts=True)
        else:
            every = np.bincount(positions)
            candidates = np.flatnonzero(every)
            counts = every[candidates]
        sizes, size = self._sizes[candidates], self._sizes[position]
        enough = counts >= np.minimum(self._needed[candidates], self._needed[position])
        fits = np.minimum(sizes, size) >= self._threshold * np.maximum(sizes, size)
        return candidates[enough & fits]

    def _prefix(self, position: int) -> list[int]:
        ranks = self._sets[position]
        # A set at or above the threshold shares at least `least` members: so many that `needed` of them are among the
        # first size - least + needed of both.
        length = len(ranks) - int(self._least[position]) + int(self._needed[position])
        return [rank for rank in ranks[:length].tolist() if rank >= self._sets.shared_from]


def _distinct_shingles(text: str) -> np.ndarray:
    if not text:
        raise ValueError("a text to compare must not be empty. Leave it out before looking for near duplicates.")
    codes = np.frombuffer(text.ljust(3, "\0").encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    # Three code points fit in one number, so unequal 3-grams never collide.
    return np.unique((codes[:-2] << (2 * _CODE_POINT_BITS)) | (codes[1:-1] << _CODE_POINT_BITS) | codes[2:])
