"""Near duplicates: texts whose sets of character 3-grams have a Jaccard similarity of at least a threshold.

The search is exact: MinHash would miss some pairs by chance, and a missed pair is a leak between train and test. Texts
are compared where they share keys, and either of two kinds of keys finds every pair. *Rarest members*: two sets that
overlap enough share some of their rarest 3-grams, the larger they are the more. *Equal parts*: 3-grams are dealt out to
parts, and these to groups. Of near duplicates more parts stay the same than there are groups, so two of one group do.
Where there are few 3-grams, as in short questions of one language, each stands in many texts, but seven or eight
together in hardly any; texts of one pattern have most parts in common, but not their rarest members. What looks at
fewer texts is taken.

Source: Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search, WWW 2007; Wang, Li, Feng: Can We Beat the Prefix
Filtering?, SIGMOD 2012 (prefixes of which several members must be shared); Arasu, Ganti, Kaushik: Efficient Exact
Set-Similarity Joins, VLDB 2006 (parts, and sizes in steps).
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import combinations, groupby
from operator import itemgetter
from typing import Any

import numpy as np

_CODE_POINT_BITS = 21
_NUMBER_BITS = 64
_TEXTS_AT_ONCE = 4096
"""So many have their 3-grams sorted together: of more, the sort leaves the processor's cache."""
_MEMBERS_PER_COMMON = 3
_PARTS_FROM = 0.75
"""Below this similarity a part has two or three members, and many texts are equal in two."""
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
    starts = range(0, len(texts), _TEXTS_AT_ONCE)
    portions = [one for start in starts for one in _shingle_portion(texts[start : start + _TEXTS_AT_ONCE])]
    each = np.concatenate([portion.shingles for portion in portions])
    every, number = np.unique(each, return_inverse=True)
    counts = np.zeros(len(every), dtype=np.int64)
    np.add.at(counts, number, np.concatenate([portion.counts for portion in portions]))
    rank_of = np.empty(len(every), dtype=np.int64)
    rank_of[np.argsort(counts, kind="stable")] = np.arange(len(every))
    ends = np.cumsum([len(portion.shingles) for portion in portions])[:-1]
    sizes, ranks = [np.zeros(1, dtype=np.int64)], []
    for portion, ranked in zip(portions, np.split(rank_of[number], ends), strict=True):
        of_text, rank = _sorted_pairs(portion.texts, np.repeat(ranked, portion.counts))
        sizes.append(np.bincount(of_text))
        ranks.append(rank)
    return ShingleSets(np.cumsum(np.concatenate(sizes)), np.concatenate(ranks), int(np.count_nonzero(counts == 1)))


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

    def find_each(self, positions: np.ndarray, *, earlier: bool = False) -> Iterator[tuple[int, list[NearDuplicate]]]:
        """What `find_all` finds, text by text: (position asked, its near duplicates by position), none left out."""
        groups = groupby(self.find_all(positions, earlier=earlier), key=itemgetter(0))
        asked, rows = next(groups, (None, ()))
        for position in positions.tolist():
            if position != asked:
                yield position, []
                continue
            yield position, [NearDuplicate(found, similarity) for _, found, similarity in rows]
            asked, rows = next(groups, (None, ()))

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
        """Text `texts[i]` has key `keys[i]`, any number; `needed` (texts,).

        Of a key as many bits count as the texts leave: that others are equal in these costs a comparison, no pair.
        """
        keys, texts = _sorted_pairs(keys, texts)
        starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        counts = np.diff(starts, append=len(keys))
        texts = texts[np.repeat(counts > 1, counts)]
        counts = counts[counts > 1]
        of_text, own = _sorted_pairs(texts, np.repeat(np.arange(len(counts)), counts))
        own_offsets = np.concatenate([[0], np.cumsum(np.bincount(of_text, minlength=len(needed)))])
        return cls(own_offsets, own, np.concatenate([[0], np.cumsum(counts)]), texts, needed, int(counts @ counts))

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
    """A text's keys are pairs of parts of its 3-grams, of which near duplicates have one in common."""
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
        # However `most` members differ, groups + 1 parts are equal, and two of them are of one group. Of groups larger
        # than three or so, fewer texts are looked at under many more keys.
        most = int(_most_differences(2 * largest, threshold))
        groups = max(1, (most + 1) // 2)
        parts = most + groups + 1
        pairs = np.array([pair for pair in combinations(range(parts), 2) if pair[0] % groups == pair[1] % groups]).T
        here = by_size[before:end]
        ranks, _ = sets.members_of(here)
        part = np.repeat(np.arange(len(here)) * parts, sizes[here]) + ranks % parts
        # Equal parts have equal sums of their members' codes; unequal ones that have too are compared in vain.
        sums = np.tile(chance.integers(2**64, size=parts, dtype=np.uint64), len(here))
        np.add.at(sums, part, code_of[ranks])
        texts.append(np.repeat(here, pairs.shape[1]))
        keys.append(sums.reshape(-1, parts)[:, pairs].sum(axis=1).ravel())
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


@dataclass(frozen=True, slots=True)
class _Portion:
    """The distinct 3-grams of some texts, ascending; 3-gram i is in `counts[i]` texts, which follow one another."""

    shingles: np.ndarray
    counts: np.ndarray
    texts: np.ndarray


def _shingle_portion(texts: Sequence[str]) -> Iterator[_Portion]:
    if not all(texts):
        raise ValueError("a text to compare must not be empty. Leave it out before looking for near duplicates.")
    padded = [text.ljust(3, "\0") for text in texts]
    code_points = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32)
    alphabet = np.flatnonzero(np.bincount(code_points))
    letter_bits = (len(alphabet) - 1).bit_length()
    if 3 * letter_bits + (len(texts) - 1).bit_length() > _NUMBER_BITS:
        half = len(texts) // 2
        yield from _shingle_portion(texts[:half])
        yield from _shingle_portion(texts[half:])
        return
    letter_of = np.zeros(int(alphabet[-1]) + 1, dtype=np.int64)
    letter_of[alphabet] = np.arange(len(alphabet))
    letters = letter_of[code_points]
    lengths = np.array([len(text) for text in padded])
    of_text = np.repeat(np.arange(len(texts)), lengths)
    whole = of_text[2:] == of_text[:-2]
    shingles = (letters[:-2] << (2 * letter_bits)) | (letters[1:-1] << letter_bits) | letters[2:]
    shingles, of_text = _sorted_pairs(shingles[whole], of_text[2:][whole], distinct=True)
    starts = np.flatnonzero(np.diff(shingles, prepend=-1))
    first, mask = shingles[starts], (1 << letter_bits) - 1
    # Three code points fit in one number, so unequal 3-grams never collide.
    told = np.zeros_like(first)
    for place in (2, 1, 0):
        told = (told << _CODE_POINT_BITS) | alphabet[(first >> (place * letter_bits)) & mask]
    yield _Portion(told, np.diff(starts, append=len(shingles)), of_text)


def _sorted_pairs(ones: np.ndarray, others: np.ndarray, *, distinct: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of numbers in order, as one sort of numbers that hold both: argsort takes ten times as long.

    What a first number has beyond the bits that the second leaves is cut off.
    """
    bits = int(others.max(initial=0)).bit_length()
    pairs = (ones.astype(np.uint64) << np.uint64(bits)) | others.astype(np.uint64)
    pairs.sort()
    if distinct:
        pairs = pairs[np.diff(pairs, prepend=~pairs[:1]) != 0]
    return (pairs >> np.uint64(bits)).astype(np.int64), (pairs & np.uint64((1 << bits) - 1)).astype(np.int64)
