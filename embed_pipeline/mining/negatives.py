"""Hard negatives: the passages nearest to a query that are not its answers, and which of them are chosen.

Belongs here: what may be a negative; margins, turns of the miners, the top or a draw. Does not belong here: searching
and scoring candidates (candidates), encoding, filling short groups for a trainer (training).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.mining.candidates import (
    Asked,
    CandidateSearch,
    Found,
    MiningCorpus,
    Scores,
    query_random,
    scores_of,
    text_key,
)
from embed_pipeline.mining.groups import TrainingGroup, positives_of
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Judgment, Query
from embed_pipeline.retrieval.blocks import EachBlock
from embed_pipeline.retrieval.lexical import LexicalSettings

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


@dataclass(frozen=True, slots=True)
class MinedNegatives:
    """The groups, and what was there to choose from."""

    groups: tuple[TrainingGroup, ...]
    tally: CandidateTally


def mine(
    corpus: MiningCorpus,
    queries: Sequence[Query],
    query_vectors: np.ndarray,
    judgments: Iterable[Judgment],
    settings: MiningSettings,
    *,
    reranker: PairScorer | None = None,
    lexical: LexicalSettings | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    elsewhere: EachBlock | None = None,
) -> MinedNegatives:
    """A group per query that has a positive, in the order of `queries`; the same input gives the same groups.

    query_vectors are float32 (queries, d), of the encoder that made the corpus's. Scores are inner products, or the
    reranker's, rounded to four decimals. Never a negative: a passage judged relevant (grade 1 or more) for any query of
    the same text, and a passage of the same text as one (texts compare without width, case and white space). Of
    passages with one text only the smallest id can be a negative. A query whose candidates run short has fewer
    negatives, maybe none. What a query gets does not depend on the other queries. The search is exact, and vectors
    mapped from a file are read block by block: memory grows with the corpus by its texts, ids and a number each, and by
    the words' index where bm25 mines.

    Raises:
        ValueError: vectors do not fit, ids repeat, a positive is not among the passages, or the settings name a
            reranker or bm25 and `reranker` or `lexical` is missing.
    """
    positives = positives_of(queries, judgments, corpus.rows)
    excluded = _excluded(queries, positives, corpus)
    rows = [row for row, query in enumerate(queries) if positives[query.id]]
    if not rows:
        return MinedNegatives((), CandidateTally())
    scores = scores_of(corpus, settings, reranker)
    search = CandidateSearch(corpus, settings, lexical=lexical, device=device, elsewhere=elsewhere)
    groups: list[TrainingGroup] = []
    tally = CandidateTally()
    for portion in search.find([queries[row] for row in rows], query_vectors[rows], excluded):
        for judged in _judge(portion, positives, scores, met_counts=reranker is None):
            chosen = choose_negatives(judged, corpus, settings)
            groups.append(chosen.group)
            tally = tally.plus(chosen.tally)
    return MinedNegatives(tuple(groups), tally)


def _excluded(queries: Sequence[Query], positives: dict[str, list[str]], corpus: MiningCorpus) -> dict[str, set[int]]:
    """The numbers of texts per query id that may not be negatives: positives of every query of the same text."""
    by_text: defaultdict[str, set[int]] = defaultdict(set)
    for query in queries:
        by_text[text_key(query.text)].update(corpus.text_number(passage_id) for passage_id in positives[query.id])
    return {query.id: by_text[text_key(query.text)] for query in queries}


def _judge(
    portion: Sequence[Found], positives: dict[str, list[str]], scores: Scores, *, met_counts: bool
) -> list[Judged]:
    """Every positive and candidate of the portion with its score; inner products that the search met are taken over."""
    asked = []
    for found in portion:
        met = found.products if met_counts else {}
        candidates = dict.fromkeys(passage_id for ids in found.by_miner.values() for passage_id in ids)
        unknown = [passage_id for passage_id in candidates if passage_id not in met]
        asked.append(Asked(found.query.text, found.vector, [*positives[found.query.id], *unknown]))
    judged = []
    for found, one, given in zip(portion, asked, scores.of(asked), strict=True):
        own = positives[found.query.id]
        known = dict(zip(one.passage_ids[len(own) :], given[len(own) :], strict=True))
        met = found.products if met_counts else {}
        judged.append(Judged(found, tuple(own), tuple(given[: len(own)]), {**met, **known}))
    return judged
