"""How hard the mined negatives are, and how many of them may be answers after all.

Belongs here: figures about groups. Does not belong here: choosing negatives.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from embed_pipeline.dataset.audit import COMPARED_CHARACTERS, SIMILAR_FROM
from embed_pipeline.dataset.near_duplicates import shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.mining.candidates import Asked, MiningCorpus, query_random, scores_of
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.mining.negatives import MinedNegatives
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Query

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


_GROUPS_READ_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class MiningReport:
    """Figures over all groups; a mean over nothing is None.

    `groups_by_negatives`: pairs (negatives in a group, groups with as many), ascending. `negatives_by_source`: pairs
    (miners, negatives that they found). `short_groups` have fewer negatives than asked for. `hardness_against_random`:
    0 if the negatives are no nearer than passages drawn at random, 1 if they are as near as the positives.

    Estimates of false negatives: `above_positive_share`, the negatives that score above the weakest positive of their
    query (0 by construction under a margin); `near_copy_share`, those that are nearly a copy of a positive;
    `false_negative_share`, either. `candidates_above_positive_share` is what margins had to keep out: the share of all
    candidates in the range that score above the weakest positive. Where a reranker is set, the scores are its own.
    """

    queries: int
    groups: int
    negatives: int
    groups_by_negatives: tuple[tuple[int, int], ...]
    short_groups: int
    mean_positive_score: float | None
    mean_negative_score: float | None
    mean_random_score: float | None
    hardness_against_random: float | None
    above_positive_share: float | None
    near_copy_share: float | None = None
    false_negative_share: float | None = None
    median_score_gap: float | None = None
    smallest_score_gap: float | None = None
    negatives_by_source: tuple[tuple[str, int], ...] = ()
    candidates: int = 0
    candidates_above_positive_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; pairs become an object with text keys."""
        pairs = {
            "groups_by_negatives": {str(size): groups for size, groups in self.groups_by_negatives},
            "negatives_by_source": dict(self.negatives_by_source),
        }
        return {**asdict(self), **pairs}


def report_unmined(groups: Sequence[TrainingGroup], queries: Sequence[Query]) -> MiningReport:
    """The report where no negative was asked for: how many groups there are, and no figure about negatives."""
    return MiningReport(
        queries=len(queries),
        groups=len(groups),
        negatives=0,
        groups_by_negatives=((0, len(groups)),) if groups else (),
        short_groups=0,
        mean_positive_score=None,
        mean_negative_score=None,
        mean_random_score=None,
        hardness_against_random=None,
        above_positive_share=None,
    )


def report_mined(
    mined: MinedNegatives,
    corpus: MiningCorpus,
    queries: Sequence[Query],
    query_vectors: np.ndarray,
    settings: MiningSettings,
    *,
    reranker: PairScorer | None = None,
) -> MiningReport:
    """The report on what `mine` made from the same corpus, queries and settings.

    Random passages are drawn per query, as many as negatives were asked for, never a positive; their seed is the
    settings' own, their scores are the reranker's where there is one.
    """
    groups, tally = mined.groups, mined.tally
    drawn = _random_scores(groups, corpus, queries, query_vectors, settings=settings, reranker=reranker)
    positive = [score for group in groups for score in group.positive_scores]
    negative = [score for group in groups for score in group.negative_scores]
    sizes = Counter(len(group.negatives) for group in groups)
    sources = Counter(source for group in groups for source in group.negative_sources)
    above, copies = _flat(above_weakest_positive(groups)), _flat(near_copies(groups))
    means = [_mean(scores) for scores in (positive, negative, drawn)]
    gaps = score_gaps(groups)
    return MiningReport(
        queries=len(queries),
        groups=len(groups),
        negatives=len(negative),
        groups_by_negatives=tuple(sorted(sizes.items())),
        negatives_by_source=tuple(sorted(sources.items())),
        short_groups=sum(count for size, count in sizes.items() if size < settings.number),
        mean_positive_score=means[0],
        mean_negative_score=means[1],
        mean_random_score=means[2],
        hardness_against_random=_hardness(means[0], means[1], means[2]),
        median_score_gap=round(median(gaps), 4) if gaps else None,
        smallest_score_gap=round(min(gaps), 4) if gaps else None,
        above_positive_share=_mean(above),
        near_copy_share=_mean(copies),
        false_negative_share=_mean([max(pair) for pair in zip(above, copies, strict=True)]),
        candidates=tally.candidates,
        candidates_above_positive_share=(
            round(tally.above_positive / tally.candidates, 4) if tally.candidates else None
        ),
    )


def _random_scores(
    groups: Sequence[TrainingGroup],
    corpus: MiningCorpus,
    queries: Sequence[Query],
    query_vectors: np.ndarray,
    *,
    settings: MiningSettings,
    reranker: PairScorer | None,
) -> list[float]:
    scores, row_of = scores_of(corpus, settings, reranker), {query.id: row for row, query in enumerate(queries)}
    found: list[float] = []
    for start in range(0, len(groups), _GROUPS_READ_AT_ONCE):
        asked = [
            Asked(group.query, query_vectors[row_of[group.query_id]], _random_ids(group, corpus, settings))
            for group in groups[start : start + _GROUPS_READ_AT_ONCE]
        ]
        found += [score for of_one in scores.of(asked) for score in of_one]
    return found


def _random_ids(group: TrainingGroup, corpus: MiningCorpus, settings: MiningSettings) -> list[str]:
    positives = {corpus.text_number(passage_id) for passage_id in group.positive_ids}
    chance = query_random(settings, group.query_id, "random passages")
    wanted = min(len(corpus.unique), settings.number + len(positives))
    drawn = chance.sample(range(len(corpus.unique)), wanted)
    ids = [corpus.passages[corpus.unique[at]].id for at in drawn]
    return [passage_id for passage_id in ids if corpus.text_number(passage_id) not in positives][: settings.number]


def _flat(flags: Iterable[Iterable[bool]]) -> list[float]:
    return [float(flag) for of_group in flags for flag in of_group]


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 4) if values else None


def _hardness(positive: float | None, negative: float | None, drawn: float | None) -> float | None:
    if positive is None or negative is None or drawn is None or positive == drawn:
        return None
    return round((negative - drawn) / (positive - drawn), 4)
