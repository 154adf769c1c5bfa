"""The choice among one query's candidates: margins, turns of the miners, the top or a draw.

Belongs here: from scored candidates to a group. Does not belong here: searching and scoring (candidates.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embed_pipeline.mining.candidates import Found
from embed_pipeline.mining.corpus import MiningCorpus, query_random
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.mining.settings import MiningSettings

SCORE_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class CandidateTally:
    """Counts over the candidates before any margin: all, and those that score above the weakest positive."""

    candidates: int = 0
    above_positive: int = 0

    def plus(self, other: "CandidateTally") -> "CandidateTally":
        """Both together."""
        return CandidateTally(self.candidates + other.candidates, self.above_positive + other.above_positive)


@dataclass(frozen=True, slots=True)
class Judged:
    """The candidates of one query with the scores that count, and its positives, ids sorted, with theirs."""

    found: Found
    positive_ids: tuple[str, ...]
    positive_scores: tuple[float, ...]
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A query's group and the tally of its candidates."""

    group: TrainingGroup
    tally: CandidateTally


def choose_negatives(judged: Judged, corpus: MiningCorpus, settings: MiningSettings) -> Chosen:
    """The group of one query: its negatives best score first, then by id.

    A reranker's scores order what each miner found; without one a miner's own order stands. Several miners take turns,
    each with its best candidate that is not yet taken, until there are as many as asked for.
    """
    found, scores = judged.found, judged.scores
    weakest = min(judged.positive_scores)
    highest = settings.highest_score(weakest)
    queues = []
    for ids in found.by_miner.values():
        queue = [passage_id for passage_id in ids if scores[passage_id] <= highest]
        queues.append(sorted(queue, key=lambda i: (-scores[i], i)) if settings.reranker else queue)
    chosen = _draw(_take_turns(queues), found.query.id, settings)
    chosen.sort(key=lambda passage_id: (-scores[passage_id], passage_id))
    group = TrainingGroup(
        query_id=found.query.id,
        query=found.query.text,
        positive_ids=judged.positive_ids,
        positives=tuple(corpus.text(passage_id) for passage_id in judged.positive_ids),
        positive_scores=tuple(round(score, SCORE_DECIMALS) for score in judged.positive_scores),
        negative_ids=tuple(chosen),
        negatives=tuple(corpus.text(passage_id) for passage_id in chosen),
        negative_scores=tuple(round(scores[passage_id], SCORE_DECIMALS) for passage_id in chosen),
        negative_sources=_sources(chosen, found),
    )
    candidates = {passage_id for ids in found.by_miner.values() for passage_id in ids}
    above = sum(scores[passage_id] > weakest for passage_id in candidates)
    return Chosen(group, CandidateTally(len(candidates), above))


def _take_turns(queues: Sequence[Sequence[str]]) -> list[str]:
    """Every candidate once: the first of each queue, then each one's next that is not yet taken, and so on."""
    if len(queues) == 1:
        return list(queues[0])
    taken: dict[str, None] = {}
    waiting = [iter(queue) for queue in queues]
    while waiting:
        still = []
        for queue in waiting:
            following = next((passage_id for passage_id in queue if passage_id not in taken), None)
            if following is not None:
                taken[following] = None
                still.append(queue)
        waiting = still
    return list(taken)


def _draw(candidates: list[str], query_id: str, settings: MiningSettings) -> list[str]:
    if settings.sampling == "random" and len(candidates) > settings.number:
        drawn = query_random(settings, query_id, "negatives").sample(range(len(candidates)), settings.number)
        return [candidates[at] for at in sorted(drawn)]
    return candidates[: settings.number]


def _sources(chosen: Sequence[str], found: Found) -> tuple[str, ...]:
    """Which miners found each negative, joined by +."""
    by_miner = {miner: set(ids) for miner, ids in found.by_miner.items()}
    return tuple("+".join(miner for miner, ids in by_miner.items() if i in ids) for i in chosen)
