"""Hard negatives: the passages nearest to a query that are not its answers.

Belongs here: choosing negatives from vectors. Does not belong here: encoding, the order of hits (retrieval), filling
short groups for a trainer (training).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from embed_pipeline.mining.corpus import MiningCorpus, query_random, text_key
from embed_pipeline.mining.groups import TrainingGroup, read_groups, write_groups
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval.index import build_index
from embed_pipeline.retrieval.ranking import RankedQuery
from embed_pipeline.retrieval.search import top_k

__all__ = ["MiningSettings", "TrainingGroup", "mine_negatives", "read_groups", "write_groups"]

SCORE_DECIMALS = 4


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
    """A group per query that has a positive, in the order of `queries`; the same input gives the same groups.

    Vectors are float32 (queries, d) and (passages, d); scores are inner products, rounded to four decimals. Never a
    negative: a passage judged relevant (grade 1 or more) for any query of the same text, and a passage of the same text
    as one (texts compare without width, case and white space). Of passages with one text only the smallest id can be a
    negative. A query whose candidates run short has fewer negatives, maybe none. What a query gets does not depend on
    the other queries (as long as the index is exact).

    Raises:
        ValueError: vectors do not fit, ids repeat, or a positive is not among the passages.
    """
    corpus = MiningCorpus.of(passages, passage_vectors)
    positives = _positives(queries, judgments, corpus)
    excluded = _excluded(queries, positives, corpus)
    rows = [row for row, query in enumerate(queries) if positives[query.id]]
    if not rows:
        return ()
    ranks = settings.ranks(len(corpus.unique))
    index = build_index(
        [passages[row].id for row in corpus.unique],
        passage_vectors[corpus.unique],
        encoder_fingerprint="only within this call",
    )
    most_excluded = max(len(excluded[queries[row].id]) for row in rows)
    ranking = top_k(
        index,
        [queries[row].id for row in rows],
        np.ascontiguousarray(query_vectors[rows], dtype=np.float32),
        min(len(corpus.unique), ranks.stop + most_excluded),
        device=device,
    )
    return tuple(
        _group(
            queries[row],
            query_vectors[row],
            ranked,
            positive_ids=positives[queries[row].id],
            excluded=excluded[queries[row].id],
            corpus=corpus,
            ranks=ranks,
            settings=settings,
        )
        for row, ranked in zip(rows, ranking.queries, strict=True)
    )


def _positives(queries: Sequence[Query], judgments: Iterable[Judgment], corpus: MiningCorpus) -> dict[str, list[str]]:
    """The judged positives per query id, sorted, united over all rows."""
    found: dict[str, set[str]] = {query.id: set() for query in queries}
    if len(found) < len(queries):
        raise ValueError(f"mining: {len(queries) - len(found)} query ids repeat. Unite queries of one id.")
    for judgment in judgments:
        if judgment.grade > 0 and judgment.query_id in found:
            if judgment.passage_id not in corpus.rows:
                raise ValueError(
                    f"mining: query {judgment.query_id} is judged on passage {judgment.passage_id}, which is not in "
                    "the corpus. Add the passage or remove the judgment."
                )
            found[judgment.query_id].add(judgment.passage_id)
    return {query_id: sorted(passage_ids) for query_id, passage_ids in found.items()}


def _excluded(queries: Sequence[Query], positives: dict[str, list[str]], corpus: MiningCorpus) -> dict[str, set[str]]:
    """The text keys per query id that may not be negatives: positives of every query of the same text."""
    by_text: defaultdict[str, set[str]] = defaultdict(set)
    for query in queries:
        by_text[text_key(query.text)].update(corpus.keys[passage_id] for passage_id in positives[query.id])
    return {query.id: by_text[text_key(query.text)] for query in queries}


def _group(
    query: Query,
    query_vector: np.ndarray,
    ranked: RankedQuery,
    *,
    positive_ids: Sequence[str],
    excluded: set[str],
    corpus: MiningCorpus,
    ranks: range,
    settings: MiningSettings,
) -> TrainingGroup:
    positive_scores = [corpus.score(query_vector, passage_id) for passage_id in positive_ids]
    others = [
        (passage_id, score)
        for passage_id, score in zip(ranked.passage_ids, ranked.scores, strict=True)
        if corpus.keys[passage_id] not in excluded
    ]
    highest = settings.highest_score(min(positive_scores))
    candidates = [(passage_id, score) for passage_id, score in others[ranks.start : ranks.stop] if score <= highest]
    if settings.sampling == "random" and len(candidates) > settings.number:
        drawn = query_random(settings, query.id, "negatives").sample(range(len(candidates)), settings.number)
        candidates = [candidates[at] for at in sorted(drawn)]
    chosen = candidates[: settings.number]
    return TrainingGroup(
        query_id=query.id,
        query=query.text,
        positive_ids=tuple(positive_ids),
        positives=tuple(corpus.text(passage_id) for passage_id in positive_ids),
        positive_scores=tuple(round(score, SCORE_DECIMALS) for score in positive_scores),
        negative_ids=tuple(passage_id for passage_id, _ in chosen),
        negatives=tuple(corpus.text(passage_id) for passage_id, _ in chosen),
        negative_scores=tuple(round(score, SCORE_DECIMALS) for _, score in chosen),
    )
