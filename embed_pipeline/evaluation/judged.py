"""What is measured: rankings and judgments, query by query, refused where they would give a number that means nothing.

Belongs here: grouping and validation before the measures. Does not belong here: any measure.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from embed_pipeline.records import Hit, Judgment

Ranking = tuple[str, ...]  # passage ids, best first


@dataclass(frozen=True, slots=True)
class JudgedQueries:
    """The queries of an evaluation, sorted by id, with the grade of every judged passage."""

    grades: Mapping[str, Mapping[str, int]]

    @property
    def query_ids(self) -> tuple[str, ...]:
        return tuple(self.grades)

    def relevant(self, query_id: str) -> frozenset[str]:
        """The passages of grade 1 and more; never empty."""
        return frozenset(passage_id for passage_id, grade in self.grades[query_id].items() if grade > 0)

    def ideal(self, query_id: str) -> Ranking:
        """The relevant passages, highest grade first, ties by id."""
        grades = self.grades[query_id]
        return tuple(sorted(self.relevant(query_id), key=lambda passage_id: (-grades[passage_id], passage_id)))


def collect_judged(
    judgments: Iterable[Judgment], query_ids: Sequence[str], canonical: Mapping[str, str]
) -> JudgedQueries:
    """The judgments of `query_ids`; passages of equal text share their highest grade.

    Raises:
        ValueError: a query id is given twice, or a query has no relevant passage.
    """
    grades: dict[str, dict[str, int]] = {query_id: {} for query_id in sorted(query_ids)}
    if len(grades) < len(query_ids):
        raise ValueError(f"query ids must be unique, found {len(query_ids) - len(grades)} repeated. Give each once.")
    for judgment in judgments:
        if judgment.query_id in grades:
            passages = grades[judgment.query_id]
            passage_id = canonical.get(judgment.passage_id, judgment.passage_id)
            passages[passage_id] = max(judgment.grade, passages.get(passage_id, judgment.grade))
    unjudged = [query_id for query_id, passages in grades.items() if max(passages.values(), default=0) < 1]
    if unjudged:
        raise ValueError(
            f"every evaluated query needs a relevant passage (grade 1 or more); {len(unjudged)} of {len(grades)} have "
            f"none, first {unjudged[0]}. Leave them out of query_ids or judge them."
        )
    return JudgedQueries(grades)


def collect_rankings(hits: Iterable[Hit], query_ids: Sequence[str], canonical: Mapping[str, str]) -> dict[str, Ranking]:
    """A ranking per query id, empty without hits; of passages with equal text only the first stays.

    Raises:
        ValueError: two hits of a query share a rank or a passage.
    """
    by_query: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        by_query[hit.query_id].append(hit)
    rankings = {}
    for query_id in query_ids:
        found = sorted(by_query[query_id], key=lambda hit: hit.rank)
        if len({hit.rank for hit in found}) < len(found) or len({hit.passage_id for hit in found}) < len(found):
            raise ValueError(f"query {query_id}: hits must differ in rank and passage, found one twice. Search again.")
        rankings[query_id] = tuple(dict.fromkeys(canonical.get(hit.passage_id, hit.passage_id) for hit in found))
    return rankings
