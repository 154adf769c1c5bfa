"""What is known about a query before anything is searched: its positives, and groups of nothing else.

Belongs here: positives from judgments. Does not belong here: choosing negatives.
"""

from collections.abc import Container, Iterable, Sequence

from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.records import Judgment, Passage, Query

JUDGED = 1.0
"""The score of a positive that no encoder scored."""


def positives_of(
    queries: Sequence[Query], judgments: Iterable[Judgment], passage_ids: Container[str]
) -> dict[str, list[str]]:
    """The judged positives (grade 1 or more) per query id, sorted, united over all rows; maybe none.

    Raises:
        ValueError: query ids repeat, or a positive is not among the passages.
    """
    found: dict[str, set[str]] = {query.id: set() for query in queries}
    if len(found) < len(queries):
        raise ValueError(f"mining: {len(queries) - len(found)} query ids repeat. Unite queries of one id.")
    for judgment in judgments:
        if judgment.grade > 0 and judgment.query_id in found:
            if judgment.passage_id not in passage_ids:
                raise ValueError(
                    f"mining: query {judgment.query_id} is judged on passage {judgment.passage_id}, which is not in "
                    "the corpus. Add the passage or remove the judgment."
                )
            found[judgment.query_id].add(judgment.passage_id)
    return {query_id: sorted(ids) for query_id, ids in found.items()}


def positive_groups(
    queries: Sequence[Query], passages: Sequence[Passage], judgments: Iterable[Judgment]
) -> tuple[TrainingGroup, ...]:
    """A group without negatives per query that has a positive, in the order of `queries`; every score is 1.

    Raises:
        ValueError: as `positives_of`.
    """
    text_of = {passage.id: passage.text for passage in passages}
    positives = positives_of(queries, judgments, text_of)
    groups = []
    for query in queries:
        if ids := tuple(positives[query.id]):
            texts = tuple(text_of[one] for one in ids)
            groups.append(TrainingGroup(query.id, query.text, ids, texts, (JUDGED,) * len(ids), (), (), ()))
    return tuple(groups)
