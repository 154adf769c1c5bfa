import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_pipeline.dataset import near_duplicates
from embed_pipeline.dataset.near_duplicates import (
    Keys,
    NearDuplicateIndex,
    ShingleSets,
    equal_parts,
    rarest_members,
    shingle_texts,
)


def jaccard(a: str, b: str) -> float:
    """The definition, with Python's own sets of substrings."""
    first, second = ({t[i : i + 3] for i in range(max(1, len(t) - 2))} for t in (a, b))
    return len(first & second) / len(first | second)


def found_pairs(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """Each pair, the lower position first; all ways to ask must agree."""
    index = NearDuplicateIndex(shingle_texts(texts), threshold)
    rows = list(index.find_all())
    pairs = {(asked, found): similarity for asked, found, similarity in rows}
    assert [asked for asked, _, _ in rows] == sorted(asked for asked, _, _ in rows) and len(pairs) == len(rows)
    assert all(pairs[found, asked] == similarity for (asked, found), similarity in pairs.items())
    earlier = {(found, asked): similarity for asked, found, similarity in index.find_all(earlier=True)}
    assert earlier == {pair: similarity for pair, similarity in pairs.items() if pair[0] < pair[1]}
    each = [(asked, [near.position for near in found]) for asked, found in index.find_each()]
    assert each == [(asked, [found for one, found, _ in rows if one == asked]) for asked in range(len(texts))]
    odd, even = np.arange(1, len(texts), 2), np.arange(0, len(texts), 2)
    assert list(index.find_all(odd, among=even)) == [row for row in rows if row[0] % 2 and not row[1] % 2]
    return earlier


# A small alphabet and joined pieces: overlaps around every threshold are common.
PIECES = st.sampled_from(["甲乙丙丁", "戊己庚辛壬癸", "子丑", "寅", "甲乙", "卯辰巳午未申酉戌", "a", "😀"])
TEXTS = st.lists(st.lists(PIECES, min_size=1, max_size=8).map("".join), max_size=12)


@settings(max_examples=150)
@given(texts=TEXTS, threshold=st.sampled_from([0.2, 0.5, 0.75, 0.85, 1.0]))
def test_search_finds_exactly_the_pairs_that_comparing_all_finds(texts: list[str], threshold: float) -> None:
    expected = {
        (i, j): jaccard(texts[i], texts[j])
        for j in range(len(texts))
        for i in range(j)
        if jaccard(texts[i], texts[j]) >= threshold
    }
    assert found_pairs(texts, threshold) == pytest.approx(expected)


def edited_texts(chance: random.Random, letters: str) -> list[str]:
    """Texts of one to 120 letters, most of them copies of an earlier one with a few letters changed, added or gone."""
    texts = ["".join(chance.choices(letters, k=chance.randint(1, 120))) for _ in range(4)]
    for _ in range(26):
        text = list(chance.choice(texts))
        for _ in range(chance.randint(0, 6)):
            at = chance.randrange(len(text))
            text[at : at + chance.randint(0, 1)] = chance.choices(letters, k=chance.randint(0, 2))
            text = text or ["x"]
        texts.append("".join(text))
    return texts


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    letters=st.sampled_from(["ab", "abcdefghij", "的一是不了人我在有他这为之大来以个中上们"]),
    threshold=st.sampled_from([0.3, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]),
)
@pytest.mark.parametrize("kind", [rarest_members, equal_parts])
def test_near_duplicates_share_the_keys_that_they_need(
    kind: Callable[[ShingleSets, float], Keys], seed: int, letters: str, threshold: float
) -> None:
    texts = edited_texts(random.Random(seed), letters)
    keys = kind(shingle_texts(texts), threshold)
    beside_key = np.split(keys.texts, keys.text_offsets[1:-1])
    keys_of = np.split(keys.own, keys.own_offsets[1:-1])
    assert keys.looked_at == sum(len(beside_key[key]) for own in keys_of for key in own)
    for at, text in enumerate(texts):
        beside = [other for key in keys_of[at] for other in beside_key[key].tolist()]
        for other in range(at):
            if jaccard(text, texts[other]) >= threshold:
                assert beside.count(other) >= min(keys.needed[at], keys.needed[other]), (texts[other], text)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.75, 0.85, 0.95]))
def test_search_finds_all_pairs_of_long_texts(seed: int, threshold: float) -> None:
    texts = edited_texts(random.Random(seed), "abcdefghij")
    expected = {
        (i, j): jaccard(texts[i], texts[j])
        for j in range(len(texts))
        for i in range(j)
        if jaccard(texts[i], texts[j]) >= threshold
    }
    assert found_pairs(texts, threshold) == pytest.approx(expected)


def made_of_few_shingles(count: int) -> list[str]:
    chance = random.Random(0)
    syllables = [first + second for first in "bcdfghlmnprstv" for second in "aeiou"]
    return [" ".join("".join(chance.choices(syllables, k=3)) for _ in range(8)) for _ in range(count)]


def test_where_every_shingle_is_common_a_text_is_compared_with_hardly_any() -> None:
    texts = made_of_few_shingles(3000)
    sets = shingle_texts(texts)
    assert rarest_members(sets, 0.85).looked_at > 100 * len(texts)
    assert equal_parts(sets, 0.85).looked_at < 10 * len(texts)


def test_where_texts_follow_a_pattern_the_rarest_shingles_keep_them_apart() -> None:
    chance = random.Random(0)
    names = ["".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(40)) for _ in range(500)]
    sets = shingle_texts([f"what is the recommended treatment for {name} in older people" for name in names])
    assert rarest_members(sets, 0.85).looked_at < equal_parts(sets, 0.85).looked_at


def test_portions_of_any_size_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = edited_texts(random.Random(1), "abcdefghij")
    expected = found_pairs(texts, 0.5)
    for pairs in (1, 7, 100):
        monkeypatch.setattr(near_duplicates, "_PAIRS_AT_ONCE", pairs)
        monkeypatch.setattr(near_duplicates, "_COMPARED_AT_ONCE", pairs)
        assert found_pairs(texts, 0.5) == expected and len(expected) > 20


@pytest.mark.parametrize(("texts_at_once", "number_bits"), [(1, 64), (7, 64), (4096, 14), (7, 13)])
def test_texts_shingled_in_portions_are_as_in_one(
    texts_at_once: int, number_bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 11 letters, a 3-gram takes 12 bits: two leave room for four texts at once.
    texts = edited_texts(random.Random(2), "abcdefghij")
    expected = shingle_texts(texts)
    monkeypatch.setattr(near_duplicates, "_TEXTS_AT_ONCE", texts_at_once)
    monkeypatch.setattr(near_duplicates, "_NUMBER_BITS", number_bits)
    sets = shingle_texts(texts)
    assert np.array_equal(sets.offsets, expected.offsets) and np.array_equal(sets.ranks, expected.ranks)
    assert sets.shared_from == expected.shared_from > 0
    assert [len(sets[at]) for at in range(len(texts))] == [
        len({text[i : i + 3] for i in range(max(1, len(text) - 2))}) for text in texts
    ]


def test_similarity_equal_to_the_threshold_counts() -> None:
    # 3 shared 3-grams of 4: 0.75
    assert found_pairs(["abcde", "abcdef"], 0.75) == {(0, 1): 0.75}
    assert found_pairs(["abcde", "abcdef"], 0.7500001) == {}


def test_short_texts_are_one_shingle() -> None:
    assert found_pairs(["甲", "甲", "乙", "甲乙", "甲乙丙"], 0.5) == {(0, 1): 1.0}


def test_empty_input_and_empty_text() -> None:
    assert found_pairs([], 0.85) == {}
    with pytest.raises(ValueError, match="must not be empty"):
        shingle_texts(["a", ""])


def test_ranks_are_rarest_first_and_single_ones_are_counted() -> None:
    sets = shingle_texts(["abcd", "bcde", "bcd"])
    assert [len(sets[position]) for position in range(3)] == [2, 2, 1]
    assert all(earlier < later for position in range(3) for earlier, later in pairwise(sets[position].tolist()))
    assert sets.shared_from == 2  # abc and cde occur once, bcd three times
    assert sets[2].tolist() == [2]
