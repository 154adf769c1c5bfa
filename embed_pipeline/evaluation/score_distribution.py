"""How far the scores of relevant passages lie from those of the hardest irrelevant ones.

Belongs here: counting scores into bins. Does not belong here: drawing them (reporting).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from embed_pipeline.records import Hit

BINS = 40


@dataclass(frozen=True, slots=True)
class ScoreDistribution:
    """Counts per bin: `positives` are relevant passages among the hits, `negatives` each query's best irrelevant hit.

    Bin i is from edges[i] to edges[i + 1]; edges are one longer than the counts.
    """

    edges: tuple[float, ...]
    positives: tuple[int, ...]
    negatives: tuple[int, ...]


def distribute_scores(
    hits: Iterable[Hit], relevant: Mapping[str, Collection[str]], *, bins: int = BINS
) -> ScoreDistribution | None:
    """The scores of the hits in bins of equal width; None without a hit. `relevant` is passage ids by query id."""
    positives: list[float] = []
    hardest: dict[str, float] = {}
    for hit in hits:
        if hit.passage_id in relevant[hit.query_id]:
            positives.append(hit.score)
        else:
            hardest[hit.query_id] = max(hit.score, hardest.get(hit.query_id, hit.score))
    scores = [*positives, *hardest.values()]
    if not scores:
        return None
    edges = np.histogram_bin_edges(scores, bins=bins)
    return ScoreDistribution(
        edges=tuple(edges.tolist()),
        positives=tuple(np.histogram(positives, edges)[0].tolist()),
        negatives=tuple(np.histogram(list(hardest.values()), edges)[0].tolist()),
    )
