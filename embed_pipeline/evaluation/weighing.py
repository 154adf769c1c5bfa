"""What the scores of a hybrid variant weigh: the weights that are best on the data set's validation queries.

Belongs here: the sweep. Does not belong here: the scores (retrieval/hybrid.py), the rule among equals and the file
(retrieval/hybrid.py).
"""

import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.evaluation.measures import Measure, canonical_passages, measure_queries
from embed_pipeline.evaluation.measuring import HITS_PER_QUERY
from embed_pipeline.records import CHOSEN_ON
from embed_pipeline.retrieval.hybrid import (
    VECTORS_ALONE,
    CandidateScores,
    HybridSettings,
    HybridWeights,
    WeighedPoint,
    Weighing,
    rank_candidates,
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
        scored = list(open_hybrid(search, Path(folder), VECTORS_ALONE).score(queries, depth, needed))
    return weigh(scored, dataset, headline, settings)


def weigh(
    scored: Sequence[CandidateScores], dataset: RetrievalDataset, headline: Measure, settings: HybridSettings
) -> Weighing:
    """Measure all weights on queries whose candidates are scored; those of a score that says nothing are left out."""
    says = any(one.classifier.any() for one in scored)
    tried = (settings.part_weights, settings.lexical_weights, settings.classifier_weights if says else (0.0,))
    query_ids, canonical = [one.query_id for one in scored], canonical_passages(dataset.passages)

    def mean(weights: HybridWeights) -> float:
        hits = rank_candidates(scored, weights, HITS_PER_QUERY).hits()
        found = measure_queries(hits, dataset.judgments, query_ids, measures=[headline], canonical=canonical)
        return fmean(one.value for one in found)

    points = [WeighedPoint(*weights, mean(HybridWeights(*weights))) for weights in product(*tried)]
    return Weighing.of(str(headline), points)
