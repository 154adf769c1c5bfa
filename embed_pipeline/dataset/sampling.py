"""A smaller data set that asks the same kind of question: for sweeps that would take hours on the whole.

Belongs here: drawing. Does not belong here: splitting (splitting.py), what is measured on the draw.
"""

import random
from dataclasses import replace

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.records import Split


def sample_dataset(
    dataset: RetrievalDataset, split: Split, *, max_queries: int, max_passages: int, seed: int
) -> RetrievalDataset:
    """The queries of one split, at most so many, and the corpus, at most so large; their relevant passages all stay.

    Drawn with the seed, so that equal data give equal draws; below both limits nothing is left out.
    """
    chance = random.Random(f"{seed}:{split}")
    queries = sorted(dataset.queries_of(split), key=lambda query: query.id)
    if len(queries) > max_queries:
        queries = sorted(chance.sample(queries, max_queries), key=lambda query: query.id)
    asked = {query.id for query in queries}
    needed = {j.passage_id for j in dataset.judgments if j.query_id in asked and j.grade > 0}
    passages = dataset.passages
    if len(passages) > max_passages:
        others = sorted(passage.id for passage in passages if passage.id not in needed)
        drawn = set(chance.sample(others, min(len(others), max(0, max_passages - len(needed)))))
        passages = tuple(passage for passage in passages if passage.id in needed or passage.id in drawn)
    kept = {passage.id for passage in passages}
    return replace(
        dataset,
        queries=tuple(queries),
        passages=passages,
        judgments=tuple(j for j in dataset.judgments if j.query_id in asked and j.passage_id in kept),
    )
