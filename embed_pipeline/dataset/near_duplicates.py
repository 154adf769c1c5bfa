"""Near duplicates: texts whose sets of character 3-grams have a Jaccard similarity of at least a threshold.

The search is exact: MinHash would miss some pairs by chance, and a missed pair is a leak between train and test. Texts
are compared where they share keys, and either of two kinds of keys finds every pair. *Rarest members*: two sets that
overlap enough share some of their rarest 3-grams, the larger they are the more. *Equal parts*: 3-grams are dealt out to
one part more than there may be differences, so that near duplicates have a part that is the same. Where there are few
3-grams, as in short questions of one language, each stands in many texts, but five or six together in hardly any; texts
of one pattern have most parts in common, but not their rarest members. What looks at fewer texts is taken.

Source: Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search, WWW 2007; Wang, Li, Feng: Can We Beat the Prefix
Filtering?, SIGMOD 2012 (prefixes of which several members must be shared); Arasu, Ganti, Kaushik: Efficient Exact
Set-Similarity Joins, VLDB 2006 (parts, and sizes in steps).
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

_CODE_POINT_BITS = 21
_MEMBERS_PER_COMMON = 3
_PARTS_FROM = 0.75
"""Below this similarity a part has two or three members, and most texts are equal in one."""
_COUNTING_COST = 20
"""Sorting positions costs so much more than counting them all."""
_COMPARED_AT_ONCE = 128
_PAIRS_AT_ONCE = 1_000_000
_MARK_WORDS = 4
"""Of 64 bits each: of fewer, a text of a few hundred letters sets so many that all texts look alike."""
_ROUNDING = 1e-9


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

    def members_of(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ranks of these texts, one text after the other, and where each begins."""
        ranks, sizes = _runs(self.ranks, self.offsets, positions)
        return ranks, np.cumsum(sizes) - sizes


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
        kinds = (rarest_members, equal_parts) if threshold >= _PARTS_FROM else (rarest_members,)
        self._keys = min((keys(sets, threshold) for keys in kinds), key=lambda keys: keys.looked_at)
        self._marks = _marks(sets)
        self._added = np.zeros(len(self._sizes), dtype=bool)

    def add(self, positions: int | np.ndarray) -> None:
        """Index the text at a position of the sets, or those at several."""
        self._added[positions] = True

    def find(self, position: int) -> Iterator[NearDuplicate]:
        """Every indexed text at or above the threshold, each once, in no order that means anything; not itself."""
        candidates = self._candidates(position)
        for start in range(0, len(candidates), _COMPARED_AT_ONCE):
            portion = candidates[start : start + _COMPARED_AT_ONCE]
            similarities = self._similarities(np.full(len(portion), position), portion)
            near = similarities >= self._threshold
            yield from map(NearDuplicate, portion[near].tolist(), similarities[near].tolist())

    def find_all(self, positions: np.ndarray, *, earlier: bool = False) -> Iterator[tuple[int, int, float]]:
        """What `find` finds for many texts, ten times as fast: (position asked, position found, similarity), ascending.

        `positions` must ascend. `earlier`: found are only texts before the one asked.
        """
        keys, texts = self._keys, len(self._sizes)
        own, counts = _runs(keys.own, keys.own_offsets, positions)
        beside = np.diff(keys.text_offsets)[own]
        key_ends = np.concatenate([[0], np.cumsum(counts)])
        looked_at = np.concatenate([[0], np.cumsum(beside)])[key_ends]
        start = 0
        while start < len(positions):
            end = int(np.searchsorted(looked_at, looked_at[start] + _PAIRS_AT_ONCE, side="right")) - 1
            end = max(start + 1, end)
            here = slice(key_ends[start], key_ends[end])
            found, _ = _runs(keys.texts, keys.text_offsets, own[here])
            asked = np.repeat(np.repeat(positions[start:end], counts[start:end]), beside[here])
            possible = self._added[found] & ((found < asked) if earlier else (found != asked))
            asked, found = asked[possible], found[possible]
            for fit in (self._sizes_fit, self._marks_fit):
                possible = fit(asked, found)
                asked, found = asked[possible], found[possible]
            pairs, shared = np.unique(asked * texts + found, return_counts=True)
            asked, found = np.divmod(pairs, texts)
            possible = shared >= np.minimum(keys.needed[asked], keys.needed[found])
            asked, found = asked[possible], found[possible]
            for at in range(0, len(asked), _COMPARED_AT_ONCE):
                ones, others = asked[at : at + _COMPARED_AT_ONCE], found[at : at + _COMPARED_AT_ONCE]
                similarities = self._similarities(ones, others)
                near = similarities >= self._threshold
                yield from zip(ones[near].tolist(), others[near].tolist(), similarities[near].tolist(), strict=True)
            start = end

    def beside(self) -> "NearDuplicateIndex":
        """An index of the same texts with none added yet, for next to nothing."""
        other = copy(self)
        other._added = np.zeros_like(self._added)
        return other

    def _candidates(self, position: int) -> np.ndarray:
        """The indexed texts of fitting size that share enough keys, ascending."""
        found = self._keys.texts_beside(position)
        found = found[self._added[found]]
        if not len(found):
            return found
        if len(found) * _COUNTING_COST < len(self._sizes):
            candidates, counts = np.unique(found, return_counts=True)
        else:
            every = np.bincount(found)
            candidates = np.flatnonzero(every)
            counts = every[candidates]
        needed = self._keys.needed
        candidates = candidates[(counts >= np.minimum(needed[candidates], needed[position])) & (candidates != position)]
        return candidates[self._sizes_fit(position, candidates) & self._marks_fit(position, candidates)]

    def _sizes_fit(self, ones: Any, others: np.ndarray) -> np.ndarray:
        """bool (others,): texts of sizes that near duplicates can have."""
        size, sizes = self._sizes[ones], self._sizes[others]
        return np.minimum(sizes, size) >= self._threshold * np.maximum(sizes, size)

    def _marks_fit(self, ones: Any, others: np.ndarray) -> np.ndarray:
        """bool (others,): texts with marks that near duplicates can have."""
        differ = np.bitwise_count(self._marks[others] ^ self._marks[ones]).sum(axis=-1)
        return differ <= _most_differences(self._sizes[others] + self._sizes[ones], self._threshold)

    def _similarities(self, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The similarity of each pair."""
        step = int(self._sets.ranks.max()) + 1  # a pair's members are all below those of the next pair
        members, begins = self._sets.members_of(ones)
        members += np.repeat(np.arange(len(ones)) * step, self._sizes[ones])
        ranks, begins = self._sets.members_of(others)
        ranks += np.repeat(np.arange(len(others)) * step, self._sizes[others])
        at = np.minimum(np.searchsorted(members, ranks), len(members) - 1)
        shared = np.add.reduceat(members[at] == ranks, begins, dtype=np.int64)
        return shared / (self._sizes[ones] + self._sizes[others] - shared)


@dataclass(frozen=True, slots=True)
class Keys:
    """What texts are found by: of two near duplicates that share keys, one `needed` no more than they share.

    Text i has the keys `own[own_offsets[i] : own_offsets[i + 1]]`; key j is that of the texts
    `texts[text_offsets[j] : text_offsets[j + 1]]`. A key of one text alone is left out. So many texts are `looked_at`
    if each is looked for.
    """

    own_offsets: np.ndarray
    own: np.ndarray
    text_offsets: np.ndarray
    texts: np.ndarray
    needed: np.ndarray
    looked_at: int

    @classmethod
    def of(cls, texts: np.ndarray, keys: np.ndarray, needed: np.ndarray) -> "Keys":
        """Text `texts[i]` has key `keys[i]`, any number; `needed` (texts,)."""
        _, own, counts = np.unique(keys, return_inverse=True, return_counts=True)
        counts[counts == 1] = 0
        shared = counts[own] > 0
        texts, own = texts[shared], own[shared]
        by_text = np.argsort(texts, kind="stable")
        texts, own = texts[by_text], own[by_text]
        own_offsets = np.concatenate([[0], np.cumsum(np.bincount(texts, minlength=len(needed)))])
        by_key = texts[np.argsort(own, kind="stable")]
        return cls(own_offsets, own, np.concatenate([[0], np.cumsum(counts)]), by_key, needed, int(counts @ counts))

    def texts_beside(self, position: int) -> np.ndarray:
        """The texts with a key of this one, itself too, as often as they share one."""
        own = self.own[self.own_offsets[position] : self.own_offsets[position + 1]].tolist()
        found = [self.texts[self.text_offsets[key] : self.text_offsets[key + 1]] for key in own]
        return np.concatenate(found) if found else self.texts[:0]


def rarest_members(sets: ShingleSets, threshold: float) -> Keys:
    """A text's keys are its rarest 3-grams."""
    sizes = np.diff(sets.offsets)
    least = np.ceil(threshold * sizes - _ROUNDING).astype(np.int64)
    # One common member is enough to be compared where a set has few; of many it takes several, and chance goes.
    needed = 1 + (sizes - least) // _MEMBERS_PER_COMMON
    # A set at or above the threshold shares at least `least` members: so many that `needed` of them are among the
    # first size - least + needed of both.
    place = np.arange(len(sets.ranks)) - np.repeat(sets.offsets[:-1], sizes)
    taken = (place < np.repeat(sizes - least + needed, sizes)) & (sets.ranks >= sets.shared_from)
    return Keys.of(np.repeat(np.arange(len(sizes)), sizes)[taken], sets.ranks[taken], needed)


def equal_parts(sets: ShingleSets, threshold: float) -> Keys:
    """A text's keys are the parts of its 3-grams, of which near duplicates have one in common."""
    sizes = np.diff(sets.offsets)
    by_size = np.argsort(sizes, kind="stable")
    ascending = sizes[by_size]
    chance = np.random.default_rng(0)
    code_of = chance.integers(2**64, size=int(sets.ranks.max(initial=0)) + 1, dtype=np.uint64)
    texts, keys = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
    before = start = 0
    while start < len(sizes):
        # Sizes go in steps of 1 / threshold. The smaller of two near duplicates is in the step of the larger or in the
        # one before, so every text has parts for its own step and for the next.
        largest = min(int(ascending[start] / threshold + _ROUNDING), int(ascending[-1]))
        end = int(np.searchsorted(ascending, largest, side="right"))
        parts = 1 + int(_most_differences(2 * largest, threshold))
        here = by_size[before:end]
        ranks, _ = sets.members_of(here)
        part = np.repeat(np.arange(len(here)) * parts, sizes[here]) + ranks % parts
        # Equal parts have equal sums of their members' codes; that unequal ones have costs a comparison, no pair.
        sums = np.tile(chance.integers(2**64, size=parts, dtype=np.uint64), len(here))
        np.add.at(sums, part, code_of[ranks])
        texts.append(np.repeat(here, parts))
        keys.append(sums)
        before, start = start, end
    return Keys.of(np.concatenate(texts), np.concatenate(keys), np.ones(len(sizes), dtype=np.int64))


def _runs(values: np.ndarray, offsets: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`values[offsets[i] : offsets[i + 1]]` of every position i, one after the other, and how many each has."""
    sizes = offsets[positions + 1] - offsets[positions]
    begins = np.cumsum(sizes) - sizes
    return values[np.arange(sizes.sum()) + np.repeat(offsets[positions] - begins, sizes)], sizes


def _most_differences(sizes: Any, threshold: float) -> Any:
    """How many members one of two near duplicates has and the other has not, at most, by the sum of their sizes."""
    return sizes * (1 - threshold) / (1 + threshold) + _ROUNDING


def _marks(sets: ShingleSets) -> np.ndarray:
    """uint64 (texts, _MARK_WORDS): bits that a text's members set. Two texts differ in no more bits than members."""
    marks = np.zeros((len(sets.offsets) - 1, _MARK_WORDS), dtype=np.uint64)
    words, bits = sets.ranks // 64 % _MARK_WORDS, np.uint64(1) << (sets.ranks % 64).astype(np.uint64)
    for word in range(_MARK_WORDS if len(bits) else 0):
        marks[:, word] = np.bitwise_or.reduceat(np.where(words == word, bits, np.uint64(0)), sets.offsets[:-1])
    return marks


def _distinct_shingles(text: str) -> np.ndarray:
    if not text:
        raise ValueError("a text to compare must not be empty. Leave it out before looking for near duplicates.")
    codes = np.frombuffer(text.ljust(3, "\0").encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    # Three code points fit in one number, so unequal 3-grams never collide.
    shingles = (codes[:-2] << (2 * _CODE_POINT_BITS)) | (codes[1:-1] << _CODE_POINT_BITS) | codes[2:]
    shingles.sort()
    new = np.ones(len(shingles), dtype=bool)  # numpy.unique says the same in twice the time
    np.not_equal(shingles[1:], shingles[:-1], out=new[1:])
    return shingles[new]
