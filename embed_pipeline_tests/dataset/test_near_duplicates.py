from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts


def jaccard(a: str, b: str) -> float:
    """The definition, with Python's own sets of substrings."""
    first, second = ({t[i : i + 3] for i in range(max(1, len(t) - 2))} for t in (a, b))
    return len(first & second) / len(first | second)


def found_pairs(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    index = NearDuplicateIndex(shingle_texts(texts), threshold)
    pairs = {}
    for position in range(len(texts)):
        for near in index.find(position):
            assert (near.position, position) not in pairs, "each neighbour once"
            pairs[near.position, position] = near.similarity
        index.add(position)
    return pairs


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
