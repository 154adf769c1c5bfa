"""What the report says of suspects: near copies of positives, small gaps, the groups to read first."""

import pytest

from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.mining.report import above_weakest_positive, choose_examples, near_copies, score_gaps

SENTENCE = "the quick brown fox jumps over the lazy dog and then it sleeps under the old tree"


def _group(name: str, negatives: dict[str, float], *, positives: tuple[str, ...] = (SENTENCE,)) -> TrainingGroup:
    scores = tuple(negatives.values())
    ids = tuple(f"n{at}" for at in range(len(negatives)))
    weak = tuple(0.8 + 0.1 * at for at in range(len(positives)))
    return TrainingGroup(name, name, tuple(f"p{i}" for i in range(len(positives))), positives, weak,
                         ids, tuple(negatives), scores)  # fmt: skip


def _shingles(text: str) -> set[str]:
    letters = "".join(c for c in text.casefold() if c.isalnum())
    return {letters[at : at + 3] for at in range(len(letters) - 2)}


def test_near_copies_are_those_of_the_definition() -> None:
    negatives = {SENTENCE + "s": 0.7, SENTENCE.upper() + "!": 0.6, "a slow red cat": 0.5, SENTENCE[:40]: 0.4}
    group = _group("q", negatives, positives=("something else entirely", SENTENCE))
    own = _shingles(SENTENCE)
    expected = tuple(len(own & _shingles(n)) / len(own | _shingles(n)) >= 0.85 for n in negatives)
    assert near_copies([group]) == [expected] == [(True, True, False, False)]
    assert near_copies([]) == []


def test_gaps_and_suspects_are_measured_against_the_weakest_positive() -> None:
    group = _group("q", {"x": 0.85, "y": 0.3}, positives=("one", "two"))
    assert score_gaps([group]) == [pytest.approx(-0.05), pytest.approx(0.5)]
    assert above_weakest_positive([group]) == [(True, False)]


def test_examples_are_the_suspects_first_and_each_group_once() -> None:
    groups = [_group(f"q{at:02}", {"x": at / 40}) for at in range(30)] + [_group("q99", {})]
    chosen = [group.query_id for group in choose_examples(groups)]
    assert chosen[:5] == ["q29", "q28", "q27", "q26", "q25"]
    assert len(set(chosen)) == 10 and set(chosen) <= {f"q{at:02}" for at in range(30)}
    assert [group.query_id for group in choose_examples(groups[::-1])] == chosen
    assert len(choose_examples(groups[:3])) == 3 and choose_examples([]) == ()
