"""Hard negatives: the passages nearest to a query that are not its answers.

Belongs here: choosing negatives from vectors. Does not belong here: encoding, the order of hits (retrieval), filling
short groups for a trainer (training).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.mining.candidates import Asked, CandidateSearch, Found, Scores, scores_of
from embed_pipeline.mining.choosing import CandidateTally, Judged, choose_negatives
from embed_pipeline.mining.corpus import MiningCorpus, text_key
from embed_pipeline.mining.groups import TrainingGroup, positives_of, read_groups, write_groups
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval.lexical import LexicalSettings

__all__ = ["MinedNegatives", "MiningSettings", "TrainingGroup", "mine", "mine_negatives", "read_groups", "write_groups"]


@dataclass(frozen=True, slots=True)
class MinedNegatives:
    """The groups, and what was there to choose from."""

    groups: tuple[TrainingGroup, ...]
    tally: CandidateTally


def mine_negatives(
    queries: Sequence[Query],
    query_vectors: np.ndarray,
    passages: Sequence[Passage],
    passage_vectors: np.ndarray,
    judgments: Iterable[Judgment],
    settings: MiningSettings,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
) -> tuple[TrainingGroup, ...]:
    """The groups of `mine`, for settings with vectors alone; vectors of the passages are float32 (passages, d)."""
    corpus = MiningCorpus.of(passages, passage_vectors)
    return mine(corpus, queries, query_vectors, judgments, settings, device=device).groups


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
    search = CandidateSearch(corpus, settings, lexical=lexical, device=device)
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
