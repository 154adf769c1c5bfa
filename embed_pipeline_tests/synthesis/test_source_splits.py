import random
from collections import defaultdict

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from embed_pipeline.dataset.settings import SplitSettings
from embed_pipeline.records import SPLITS, Passage
from embed_pipeline.synthesis.sources import SourceGroup, group_sources, hash_share, split_sources
from embed_pipeline_tests.synthesis.written_passages import documents, passage

SHARES = SplitSettings(train=0.5, validation=0.25, test=0.25, seed=1)

HEADINGS = st.lists(st.sampled_from("ABC"), max_size=3).map(" › ".join)


@st.composite
def corpora(draw: st.DrawFn, prefix: str = "f") -> list[Passage]:
    files = draw(st.integers(3, 14))
    return [
        passage(f"{prefix}{file} {at}", f"{prefix}{file}.md", draw(HEADINGS), at)
        for file in range(files)
        for at in range(draw(st.integers(1, 4)))
    ]


@settings(max_examples=100, deadline=None)
@given(old=corpora(), new=corpora("g"), split_by=st.sampled_from(["document", "section", "auto"]), data=st.data())
def test_appended_documents_move_no_old_passage_while_groups_mean_the_same_and_no_split_was_empty(
    old: list[Passage], new: list[Passage], split_by, data
) -> None:
    before = split_sources(old, SHARES, split_by)
    after = split_sources(data.draw(st.permutations(old + new)), SHARES, split_by)
    assume(not before.moved)
    assume(all(after.groups[key] == group for key, group in before.groups.items()))
    assert not after.moved
    assert {key: after.splits[key] for key in before.splits} == dict(before.splits)


@settings(max_examples=100, deadline=None)
@given(passages=corpora(), split_by=st.sampled_from(["document", "section", "auto"]), seed=st.integers(0, 99))
def test_every_split_has_passages_and_no_group_is_in_two(passages: list[Passage], split_by, seed: int) -> None:
    found = split_sources(passages, SHARES.model_copy(update={"seed": seed}), split_by)
    assert set(found.splits) == {one.id for one in passages}
    assert set(found.splits.values()) == set(SPLITS)
    splits_of = defaultdict(set)
    for key, split in found.splits.items():
        splits_of[found.groups[key]].add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())


@settings(max_examples=100, deadline=None)
@given(passages=corpora(), seed=st.integers(0, 99))
def test_only_the_nearest_groups_leave_the_split_of_their_hash(passages: list[Passage], seed: int) -> None:
    shares = SHARES.model_copy(update={"seed": seed})
    found = split_sources(passages, shares, "document")
    ranges = {"train": (0.0, 0.5), "validation": (0.5, 0.75), "test": (0.75, 1.0)}
    for group in set(found.groups.values()):
        share = hash_share(group, seed)
        split = next(found.splits[key] for key, own in found.groups.items() if own == group)
        assert (ranges[split][0] <= share < ranges[split][1]) == (group not in found.moved)
    # A split that got a group holds that one alone: it was empty.
    for group in found.moved:
        split = next(found.splits[key] for key, own in found.groups.items() if own == group)
        assert {found.groups[key] for key, its in found.splits.items() if its == split} == {group}


def test_an_empty_split_gets_the_group_nearest_to_its_range() -> None:
    """Seeds are tried until all documents hash into train; nearest is then the one with the highest share."""
    passages = documents(4, 1)
    groups = [SourceGroup(f"doc{file:02}.md", "") for file in range(4)]
    shares = SplitSettings(train=0.9, validation=0.05, test=0.05, seed=0)
    seed = next(seed for seed in range(100) if all(hash_share(group, seed) < 0.9 for group in groups))
    found = split_sources(passages, shares.model_copy(update={"seed": seed}), "document")
    highest, second = sorted(groups, key=lambda group: -hash_share(group, seed))[:2]
    of_group = {found.groups[key]: split for key, split in found.splits.items()}
    assert of_group[highest] == "validation"
    assert of_group[second] == "test"
    assert found.moved == (highest, second)


def test_the_shares_are_those_of_many_groups() -> None:
    found = split_sources(documents(400, 1), SHARES, "auto")
    sizes = [sum(split == name for split in found.splits.values()) / 400 for name in SPLITS]
    assert sizes == pytest.approx([0.5, 0.25, 0.25], abs=0.08)


def test_ten_documents_are_split_by_document_and_nine_by_section() -> None:
    assert len(set(group_sources(documents(10, 4), "auto").groups.values())) == 10
    found = group_sources(documents(9, 4), "auto")
    assert set(found.groups.values()) == {
        SourceGroup(f"doc{file:02}.md", f"Manual {file} › Part {part}") for file in range(9) for part in range(2)
    }
    assert found.description == "18 sections (headings to depth 2)"


def test_sections_are_cut_at_the_shallowest_depth_that_gives_ten() -> None:
    passages = [
        passage(f"{a} {b} {c}", heading=f"{a} › {b} › {c}", start=a * 100 + b * 10 + c)
        for a in range(3)
        for b in range(4)
        for c in range(5)
    ]
    assert len(set(group_sources(passages, "section").groups.values())) == 12


def test_without_headings_five_passages_in_a_row_stay_together() -> None:
    passages = [passage(f"text {at}", start=at) for at in range(17)]
    shuffled = random.Random(0).sample(passages, len(passages))
    found = group_sources(shuffled, "auto")
    assert [found.groups[one.id].section for one in passages] == [f"run {at // 5 + 1}" for at in range(17)]
    assert found.description == "4 runs of 5 passages"


def test_few_headings_win_over_fewer_runs() -> None:
    passages = [passage(f"text {at}", heading=f"Part {at // 2}", start=at) for at in range(8)]
    assert len(set(group_sources(passages, "auto").groups.values())) == 4


def test_fewer_groups_than_splits_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"at least 3 documents or sections.*found 2 in 8 passages.*Add documents"):
        split_sources(documents(2, 4), SHARES, "document")
    with pytest.raises(ValueError, match="found 0 in 0 passages"):
        split_sources([], SHARES, "auto")


def test_another_seed_gives_another_split() -> None:
    passages = documents(30, 1)
    first = split_sources(passages, SHARES, "auto").splits
    assert first != split_sources(passages, SHARES.model_copy(update={"seed": 2}), "auto").splits


def test_a_passage_without_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the attribute file, found none"):
        split_sources([Passage("p-1", "text")], SHARES, "auto")
