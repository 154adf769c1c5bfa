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
_COMPARED_AT_ONCE = 128
_PAIRS_AT_ONCE = 1_000_000
_MARK_WORDS = 4
"""Of 64 bits each: of fewer, a text of a few hundred letters sets so many that all texts look alike."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """The position of a text and its similarity, threshold to 1."""

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
    """Finds the near duplicates of texts among each other."""

    def __init__(self, sets: ShingleSets, threshold: float) -> None:
        self._sets = sets
        self._threshold = threshold
        self._sizes = np.diff(sets.offsets)
        kinds = (rarest_members, equal_parts) if threshold >= _PARTS_FROM else (rarest_members,)
        self._keys = min((keys(sets, threshold) for keys in kinds), key=lambda keys: keys.looked_at)
        self._marks = _marks(sets)

    def find_all(
        self, asked: np.ndarray | None = None, *, among: np.ndarray | None = None, earlier: bool = False
    ) -> Iterator[tuple[int, int, float]]:
        """(position asked, position found, similarity), ascending, of every pair at or above the threshold.

        `asked` are positions in the sets, ascending, and `among` those that may be found; left out: all. No text is
        found for itself; `earlier`: only those before it are.
        """
        texts = len(self._sizes)
        asked = np.arange(texts) if asked is None else asked
        findable = np.full(texts, among is None)
        if among is not None:
            findable[among] = True
        for ones, others in self._sharing_a_key(asked):
            possible = findable[others] & ((others < ones) if earlier else (others != ones))
            ones, others = ones[possible], others[possible]
            for fit in (self._sizes_fit, self._marks_fit):
                possible = fit(ones, others)
                ones, others = ones[possible], others[possible]
            pairs, shared = np.unique(ones * texts + others, return_counts=True)
            ones, others = np.divmod(pairs, texts)
            possible = shared >= np.minimum(self._keys.needed[ones], self._keys.needed[others])
            ones, others = ones[possible], others[possible]
            for start in range(0, len(ones), _COMPARED_AT_ONCE):
                portion = slice(start, start + _COMPARED_AT_ONCE)
                similarities = self._similarities(ones[portion], others[portion])
                near = similarities >= self._threshold
                pair = ones[portion][near].tolist(), others[portion][near].tolist()
                yield from zip(*pair, similarities[near].tolist(), strict=True)

    def find_each(
        self, asked: np.ndarray | None = None, *, among: np.ndarray | None = None, earlier: bool = False
    ) -> Iterator[tuple[int, list[NearDuplicate]]]:
        """What `find_all` finds, text by text: (position asked, its near duplicates by position), none left out."""
        groups = groupby(self.find_all(asked, among=among, earlier=earlier), key=itemgetter(0))
        at, rows = next(groups, (None, ()))
        for position in range(len(self._sizes)) if asked is None else asked.tolist():
            if position != at:
                yield position, []
                continue
            yield position, [NearDuplicate(found, similarity) for _, found, similarity in rows]
            at, rows = next(groups, (None, ()))

    def _sharing_a_key(self, asked: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each text asked beside each text with a key of it, itself too, once for each such key; in portions."""
        keys = self._keys
        own, counts = _runs(keys.own, keys.own_offsets, asked)
        beside = np.diff(keys.text_offsets)[own]
        key_ends = np.concatenate([[0], np.cumsum(counts)])
        looked_at = np.concatenate([[0], np.cumsum(beside)])[key_ends]
        start = 0
        while start < len(asked):
            end = int(np.searchsorted(looked_at, looked_at[start] + _PAIRS_AT_ONCE, side="right")) - 1
            end = max(start + 1, end)
            here = slice(key_ends[start], key_ends[end])
            others, _ = _runs(keys.texts, keys.text_offsets, own[here])
            yield np.repeat(np.repeat(asked[start:end], counts[start:end]), beside[here]), others
            start = end

    def _sizes_fit(self, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
        """bool (pairs,): of sizes that near duplicates can have."""
        size, sizes = self._sizes[ones], self._sizes[others]
        return np.minimum(sizes, size) >= self._threshold * np.maximum(sizes, size)

    def _marks_fit(self, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
        """bool (pairs,): with marks that near duplicates can have."""
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
