import hashlib
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.dataset.settings import SplitSettings
from embed_pipeline.dataset.splitting import assign_splits, hash_split
from embed_pipeline.records import SPLITS

SHARES = SplitSettings(train=0.5, validation=0.25, test=0.25, seed=3)

BASES = ["甲状腺结节二级能不能买百万医疗险", "有点脂肪肝去年体检发现的可以投保吗", "乙肝小三阳肝功能正常想买重疾险"]


@st.composite
def questions(draw: st.DrawFn) -> str:
    """One of few long texts with a few characters changed, cut or put before: near duplicates, chains, conflicts."""
    base = draw(st.sampled_from(BASES)) * 2
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(base)))
        base = base[:at] + draw(st.sampled_from("一二三，？ ")) + base[at + draw(st.integers(0, 1)) :]
    return base


BATCHES = st.lists(questions(), max_size=12, unique=True)


def jaccard(a: str, b: str) -> float:
    first, second = ({t[i : i + 3] for i in range(max(1, len(t) - 2))} for t in (canonical_form(a), canonical_form(b)))
    return len(first & second) / len(first | second)


@settings(max_examples=200)
@given(old=BATCHES, new=BATCHES, threshold=st.sampled_from([0.6, 0.85]))
def test_appended_batch_never_moves_an_old_query(old: list[str], new: list[str], threshold: float) -> None:
    new = [text for text in new if text not in old]
    before = assign_splits(old, SHARES, near_duplicate_threshold=threshold)
    after = assign_splits(old + new, SHARES, near_duplicate_threshold=threshold)
    assert after.splits[: len(old)] == before.splits
    assert after.conflicts[: len(before.conflicts)] == before.conflicts


@settings(max_examples=200)
@given(texts=BATCHES, threshold=st.sampled_from([0.6, 0.85]))
def test_near_duplicates_are_never_in_two_splits(texts: list[str], threshold: float) -> None:
    splits = assign_splits(texts, SHARES, near_duplicate_threshold=threshold).splits
    for later in range(len(texts)):
        for earlier in range(later):
            if splits[earlier] and splits[later] and jaccard(texts[earlier], texts[later]) >= threshold:
                assert splits[earlier] == splits[later]


@settings(max_examples=200)
@given(texts=BATCHES)
def test_only_a_query_between_two_splits_is_left_out(texts: list[str]) -> None:
    assignment = assign_splits(texts, SHARES, near_duplicate_threshold=0.6)
    left_out = {conflict.position for conflict in assignment.conflicts}
    assert left_out == {position for position, split in enumerate(assignment.splits) if split is None}
    for position in range(len(texts)):
        near = [
            (assignment.splits[earlier], earlier)
            for earlier in range(position)
            if assignment.splits[earlier] and jaccard(texts[earlier], texts[position]) >= 0.6
        ]
        assert (len({split for split, _ in near}) > 1) == (position in left_out)
        if not near:
            assert assignment.splits[position] == hash_split(texts[position], SHARES)
    for conflict in assignment.conflicts:
        for neighbour in conflict.neighbours:
            assert assignment.splits[neighbour.position] == neighbour.split
            assert jaccard(texts[neighbour.position], texts[conflict.position]) == pytest.approx(neighbour.similarity)


def test_query_between_two_splits_names_both() -> None:
    """A query halfway between two that are not near to each other and hash to different splits."""
    left, right = "零一二三四五六七八九", "甲乙丙丁戊己庚辛壬癸"
    number = next(n for n in range(99) if len({hash_split(f"{n}{text}" * 2, SHARES) for text in (left, right)}) == 2)
    first, second = f"{number}{left}" * 2, f"{number}{right}" * 2
    assignment = assign_splits([first, second, first + second], SHARES, near_duplicate_threshold=0.4)
    assert assignment.splits[2] is None
    assert {neighbour.position for neighbour in assignment.conflicts[0].neighbours} == {0, 1}
    # It is no neighbour of later ones: the same again is a conflict for the same reason, not an entry of its own split.
    again = assign_splits([first, second, first + second, first + second + "。"], SHARES, near_duplicate_threshold=0.4)
    assert again.splits[3] is None


def test_hash_is_that_of_seed_and_canonical_form() -> None:
    for text in ("有点脂肪肝，能买吗？", "HBV 阳性"):
        digest = hashlib.sha256(b"3\n" + canonical_form(text).encode()).hexdigest()
        share = int(digest[:16], 16) / 16**16
        assert hash_split(text, SHARES) == ("train" if share < 0.5 else "validation" if share < 0.75 else "test")
    assert hash_split("hbv阳性", SHARES) == hash_split("HBV 阳性。", SHARES)


def test_shares_are_met_and_the_seed_changes_the_split() -> None:
    chance = random.Random(0)
    texts = ["".join(chance.choices("甲乙丙丁戊己庚辛壬癸子丑寅卯", k=30)) for _ in range(3000)]
    splits = assign_splits(texts, SHARES, near_duplicate_threshold=0.85).splits
    counts = Counter(splits)
    for split, share in zip(SPLITS, (0.5, 0.25, 0.25), strict=True):
        # Four standard deviations of a binomial: a false alarm in one of 10,000 choices of the texts, which are fixed.
        assert abs(counts[split] - 3000 * share) < 4 * (3000 * share * (1 - share)) ** 0.5
    other = assign_splits(texts, SHARES.model_copy(update={"seed": 4}), near_duplicate_threshold=0.85).splits
    assert sum(a != b for a, b in zip(splits, other, strict=True)) > 1000
