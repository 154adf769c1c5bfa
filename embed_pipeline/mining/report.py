"""How hard the mined negatives are, and how many of them may be answers after all.

Belongs here: figures about groups. Does not belong here: choosing negatives.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from embed_pipeline.mining.corpus import MiningCorpus, query_random, text_key
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Passage, Query


@dataclass(frozen=True, slots=True)
class MiningReport:
    """Figures over all groups; a mean over nothing is None.

    `groups_by_negatives`: pairs (negatives in a group, groups with as many), ascending. `short_groups` have fewer
    negatives than asked for. `hardness_against_random`: 0 if the negatives are no nearer than passages drawn at random,
    1 if they are as near as the positives. `above_positive_share`: the share of the negatives that score above the
    weakest positive of their query, an estimate of the false negatives among them; 0 by construction under a margin.
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

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; `groups_by_negatives` becomes an object with text keys."""
        return {**asdict(self), "groups_by_negatives": {str(size): groups for size, groups in self.groups_by_negatives}}


def report_mining(
    groups: Sequence[TrainingGroup],
    queries: Sequence[Query],
    query_vectors: np.ndarray,
    passages: Sequence[Passage],
    passage_vectors: np.ndarray,
    settings: MiningSettings,
) -> MiningReport:
    """The report on the groups that mine_negatives made from the same queries, passages and settings.

    Random passages are drawn per query, as many as negatives were asked for, never a positive; their seed is the
    settings' own.
    """
    corpus = MiningCorpus.of(passages, passage_vectors)
    vectors = {query.id: query_vectors[row] for row, query in enumerate(queries)}
    positive = [score for group in groups for score in group.positive_scores]
    negative = [score for group in groups for score in group.negative_scores]
    drawn = [score for group in groups for score in _random_scores(group, vectors[group.query_id], corpus, settings)]
    above = [score > min(group.positive_scores) for group in groups for score in group.negative_scores]
    sizes = Counter(len(group.negatives) for group in groups)
    means = [_mean(scores) for scores in (positive, negative, drawn)]
    return MiningReport(
        queries=len(queries),
        groups=len(groups),
        negatives=len(negative),
        groups_by_negatives=tuple(sorted(sizes.items())),
        short_groups=sum(count for size, count in sizes.items() if size < settings.number),
        mean_positive_score=means[0],
        mean_negative_score=means[1],
        mean_random_score=means[2],
        hardness_against_random=_hardness(means[0], means[1], means[2]),
        above_positive_share=_mean([float(value) for value in above]),
    )


def _random_scores(
    group: TrainingGroup, query_vector: np.ndarray, corpus: MiningCorpus, settings: MiningSettings
) -> list[float]:
    positives = {text_key(text) for text in group.positives}
    chance = query_random(settings, group.query_id, "random passages")
    wanted = min(len(corpus.unique), settings.number + len(positives))
    ids = [corpus.passages[row].id for row in chance.sample(corpus.unique, wanted)]
    free = [passage_id for passage_id in ids if corpus.keys[passage_id] not in positives]
    return [corpus.score(query_vector, passage_id) for passage_id in free[: settings.number]]


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 4) if values else None


def _hardness(positive: float | None, negative: float | None, drawn: float | None) -> float | None:
    if positive is None or negative is None or drawn is None or positive == drawn:
        return None
    return round((negative - drawn) / (positive - drawn), 4)
