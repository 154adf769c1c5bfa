"""What the scores of a hybrid variant weigh: the weights that are best on the data set's validation queries.

Belongs here: the sweep. Does not belong here: the scores (retrieval/hybrid.py), the rule among equals and the file
(retrieval/hybrid.py).
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.evaluation.measures import Measure, canonical_passages, measure_queries
from embed_pipeline.evaluation.measuring import HITS_PER_QUERY
from embed_pipeline.records import CHOSEN_ON, Hit, Judgment
from embed_pipeline.retrieval.hybrid import (
    VECTORS_ALONE,
    CandidateScores,
    HybridSettings,
    HybridWeights,
    WeighedPoint,
    Weighing,
)
from embed_pipeline.retrieval.searching import Search, open_hybrid, write_search_index


def weigh_scores(search: Search, dataset: RetrievalDataset, headline: Measure) -> Weighing:
    """Measure all of the recipe's weights on the validation queries; the index is not kept, test never counts.

    Every text is encoded once for all of them.

    Raises:
        ValueError: the data set has no validation queries.
    """
    settings, queries = search.hybrid_settings, dataset.queries_of(CHOSEN_ON)
    if not queries:
        raise ValueError(
            "recipe, hybrid: weights are chosen on validation queries, found none. Give the validation split of the "
            "data set a share, or fuse by rank (retriever: fused), which chooses nothing."
        )
    with tempfile.TemporaryDirectory() as folder:
        write_search_index(search, dataset.passages, Path(folder), questions=dataset)
        needed = HybridWeights(max(settings.part_weights), 1.0, 1.0)
        depth = max(settings.depth, HITS_PER_QUERY)
        retriever = replace(
            open_hybrid(search, Path(folder), VECTORS_ALONE), canonical=canonical_passages(dataset.passages)
        )
        scored = list(retriever.score(queries, depth, needed))
    return weigh(scored, dataset, headline, settings)


def weigh(
    scored: Sequence[CandidateScores], dataset: RetrievalDataset, headline: Measure, settings: HybridSettings
) -> Weighing:
    """Measure all weights on queries whose candidates are scored; those of a score that says nothing are left out."""
    tried = (
        settings.part_weights,
        settings.lexical_weights,
        settings.classifier_weights if any(one.classifier.any() for one in scored) else (0.0,),
        settings.hubness_weights if any(one.hubness.any() for one in scored) else (0.0,),
    )
    weights, canonical = list(product(*tried)), canonical_passages(dataset.passages)
    judged = dataset.relevant()
    # Most weights lead to the same few rankings of a query, so each of those is measured once, as a query of its own.
    hits, judgments, rankings_of = [], [], list[list[str]]()
    for one in scored:
        depth = headline.cutoff + sum(passage_id in canonical for passage_id in one.passage_ids)
        rankings, numbers = one.rank_under_all(np.array(weights), depth)
        texts = [tuple(dict.fromkeys(canonical.get(id_, id_) for id_ in ids))[: headline.cutoff] for ids in rankings]
        ids_of = {ranking: f"{one.query_id} {number:06}" for number, ranking in enumerate(dict.fromkeys(texts))}
        rankings_of.append([ids_of[texts[number]] for number in numbers.tolist()])
        for ranking, ranking_id in ids_of.items():
            hits += [Hit(ranking_id, passage_id, rank, 0.0) for rank, passage_id in enumerate(ranking, start=1)]
            judgments += [Judgment(ranking_id, *judged_one) for judged_one in judged[one.query_id].items()]
    ranking_ids = [ranking_id for ids in rankings_of for ranking_id in dict.fromkeys(ids)]
    found = measure_queries(hits, judgments, ranking_ids, measures=[headline], canonical=canonical)
    value_of = {one.query_id: one.value for one in found}
    values = [[value_of[ranking_id] for ranking_id in ids] for ids in rankings_of]
    points = [WeighedPoint(*each, fmean(of)) for each, of in zip(weights, zip(*values, strict=True), strict=True)]
    return Weighing.of(str(headline), points)
