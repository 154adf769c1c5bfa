"""Which mined negatives may be answers after all, and which groups are worth reading.

Belongs here: estimates over groups and the choice of examples. Does not belong here: choosing negatives.
"""

from collections.abc import Sequence

import numpy as np

from embed_pipeline.dataset.duplicate_passages import COMPARED_CHARACTERS, SIMILAR_FROM
from embed_pipeline.dataset.near_duplicates import shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.mining.groups import TrainingGroup

_GROUPS_AT_ONCE = 2048


def near_copies(groups: Sequence[TrainingGroup], *, threshold: float = SIMILAR_FROM) -> list[tuple[bool, ...]]:
    """Per group and negative: is its text a near duplicate of one of the query's positives?

    Compared are 3-grams of letters and digits of the first 300, by Jaccard similarity; exact.
    """
    found: list[tuple[bool, ...]] = []
    for start in range(0, len(groups), _GROUPS_AT_ONCE):
        portion = groups[start : start + _GROUPS_AT_ONCE]
        texts = list(dict.fromkeys(text for group in portion for text in (*group.positives, *group.negatives)))
        sets = shingle_texts([canonical_form(text)[:COMPARED_CHARACTERS] for text in texts])
        shingles = {text: sets[position] for position, text in enumerate(texts)}
        for group in portion:
            positives = [shingles[text] for text in group.positives]
            found.append(
                tuple(any(_jaccard(shingles[n], p, threshold) >= threshold for p in positives) for n in group.negatives)
            )
    return found


def above_weakest_positive(groups: Sequence[TrainingGroup]) -> list[tuple[bool, ...]]:
    """Per group and negative: does it score above the weakest positive of its query?"""
    return [tuple(score > min(g.positive_scores) for score in g.negative_scores) for g in groups]


def score_gaps(groups: Sequence[TrainingGroup]) -> list[float]:
    """Per negative the score of its query's weakest positive minus its own; a false negative has a small one."""
    return [min(group.positive_scores) - score for group in groups for score in group.negative_scores]


def choose_examples(groups: Sequence[TrainingGroup], count: int = 10) -> tuple[TrainingGroup, ...]:
    """At most `count` groups with negatives: half with the smallest gap, suspects first, the rest evenly spread."""
    with_negatives = sorted((g for g in groups if g.negatives), key=lambda group: group.query_id)
    by_gap = sorted(with_negatives, key=lambda g: (min(g.positive_scores) - max(g.negative_scores), g.query_id))
    suspects = by_gap[: (count + 1) // 2]
    taken = {group.query_id for group in suspects}
    others = [group for group in with_negatives if group.query_id not in taken]
    wanted = min(count - len(suspects), len(others))
    return (*suspects, *(others[at * len(others) // wanted] for at in range(wanted)))


def _jaccard(left: np.ndarray, right: np.ndarray, threshold: float) -> float:
    if min(len(left), len(right)) < threshold * max(len(left), len(right)):
        return 0.0
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)
