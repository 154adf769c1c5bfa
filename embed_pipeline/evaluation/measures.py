"""Measures of a ranking, query by query, each with its denominator and its ceiling.

Belongs here: rankings and judgments, refused where they would give a number that means nothing; what a measure is and
its value for one query. Does not belong here: intervals and tests (significance,
comparison), files (query_metrics), searching.

Every measure has one denominator: all query ids that were asked for. A query without hits scores 0. A passage is
relevant from grade 1 on; nDCG has linear gain over the grades.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from embed_pipeline.records import Hit, Judgment, Passage

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


def canonical_passages(passages: Iterable[Passage]) -> dict[str, str]:
    """Passage id → smallest id of the same text, for passages that are not the smallest themselves."""
    first: dict[str, str] = {}
    ordered = sorted(passages, key=lambda passage: passage.id)
    for passage in ordered:
        first.setdefault(passage.text, passage.id)
    return {passage.id: first[passage.text] for passage in ordered if first[passage.text] != passage.id}


MeasureName = Literal["precise", "hit_rate", "recall", "precision", "map", "mrr", "ndcg"]

MEASURE_NAMES: tuple[MeasureName, ...] = get_args(MeasureName)

MEASURE_WORDS: Mapping[MeasureName, str] = {
    "precise": "share of questions with every relevant passage among the first {k}",
    "hit_rate": "share of questions with a relevant passage among the first {k}",
    "recall": "share of a question's relevant passages that is among the first {k}",
    "precision": "share of the first {k} passages that is relevant",
    "map": "average precision over the first {k} passages",
    "mrr": "one divided by the rank of the first relevant passage, 0 if it is not among the first {k}",
    "ndcg": "discounted gain of the first {k} passages, divided by that of the ideal order",
}
"""What each means to a reader."""

_BY_NAME: dict[str, MeasureName] = {name: name for name in MEASURE_NAMES}

CUTOFFS = (1, 2, 3, 5, 10)


@dataclass(frozen=True, slots=True, order=True)
class Measure:
    """A measure at a cutoff; `str` gives `precise@5`.

    precise: 1 if all relevant passages are inside the top k, else 0.
    hit_rate: 1 if one of them is (trec_eval's success).
    recall: the share of the relevant passages that is inside the top k (divided by all of them, not by k).
    precision: the share of the top k that is relevant (divided by k, also when fewer were returned).
    map: average precision over the top k (divided by all relevant passages).
    mrr: 1 / rank of the first relevant passage inside the top k, else 0.
    ndcg: discounted gain over the top k, divided by that of the ideal order.
    """

    name: MeasureName
    cutoff: int

    def __str__(self) -> str:
        return f"{self.name}@{self.cutoff}"


MEASURES: tuple[Measure, ...] = tuple(Measure(name, cutoff) for name in MEASURE_NAMES for cutoff in CUTOFFS)


@dataclass(frozen=True, slots=True)
class QueryMeasure:
    """What one query scored on one measure, 0 to 1."""

    query_id: str
    measure: Measure
    value: float


def parse_measure(text: str) -> Measure:
    """The measure that `str` wrote, as `precise@5`.

    Raises:
        ValueError: the name is unknown or the cutoff is no positive whole number.
    """
    name, _, cutoff = text.partition("@")
    known = _BY_NAME.get(name)
    if known is None or not cutoff.isascii() or not cutoff.isdigit() or int(cutoff) < 1:
        raise ValueError(
            f"measure must be one of {', '.join(MEASURE_NAMES)} with a cutoff, as precise@5; found {text!r}"
        )
    return Measure(known, int(cutoff))


def measure_queries(
    hits: Iterable[Hit],
    judgments: Iterable[Judgment],
    query_ids: Sequence[str],
    *,
    measures: Sequence[Measure] = MEASURES,
    canonical: Mapping[str, str] | None = None,
) -> tuple[QueryMeasure, ...]:
    """One value per query and measure, ordered by query id, then as `measures`.

    Hits count in the order of their rank; scores are not looked at. Hits and judgments of other queries are ignored.
    `canonical` maps a passage id to the id that stands for all passages of equal text (ids not in it stand for
    themselves): a hit on any of them counts, and the second one in a ranking is skipped, as if not in the corpus.

    Raises:
        ValueError: a query id is given twice or has no relevant passage, or two of its hits share a rank or passage.
    """
    judged = collect_judged(judgments, query_ids, canonical or {})
    rankings = collect_rankings(hits, judged.query_ids, canonical or {})
    trec = _trec_values(rankings, judged, measures)
    return tuple(
        QueryMeasure(
            query_id,
            measure,
            _OWN[measure.name](rankings[query_id], judged.relevant(query_id), measure.cutoff)
            if measure.name in _OWN
            else trec[query_id, measure],
        )
        for query_id in judged.query_ids
        for measure in measures
    )


def measure_ideal(
    judgments: Iterable[Judgment],
    query_ids: Sequence[str],
    *,
    measures: Sequence[Measure] = MEASURES,
    canonical: Mapping[str, str] | None = None,
) -> tuple[QueryMeasure, ...]:
    """What the best possible ranking scores, query by query: the ideal order lists high grades first.

    Raises:
        ValueError: as measure_queries.
    """
    judgments = tuple(judgments)
    judged = collect_judged(judgments, query_ids, canonical or {})
    ideal = (
        Hit(query_id, passage_id, rank, -float(rank))
        for query_id in judged.query_ids
        for rank, passage_id in enumerate(judged.ideal(query_id), start=1)
    )
    return measure_queries(ideal, judgments, query_ids, measures=measures, canonical=canonical)


def ceilings(
    judgments: Iterable[Judgment],
    query_ids: Sequence[str],
    *,
    measures: Sequence[Measure] = MEASURES,
    canonical: Mapping[str, str] | None = None,
) -> dict[Measure, float]:
    """The best mean that any ranking could reach, measure by measure.

    Raises:
        ValueError: as measure_queries; also for no queries at all.
    """
    if not query_ids:
        raise ValueError("a ceiling needs at least one judged query, found none")
    values: dict[Measure, list[float]] = {measure: [] for measure in measures}
    for result in measure_ideal(judgments, query_ids, measures=measures, canonical=canonical):
        values[result.measure].append(result.value)
    return {measure: sum(found) / len(found) for measure, found in values.items()}


def ceiling(measure: Measure, judgments: Iterable[Judgment], query_ids: Sequence[str]) -> float:
    """The best mean of one measure that any ranking could reach; see ceilings."""
    return ceilings(judgments, query_ids, measures=(measure,))[measure]


def _precise(ranking: Ranking, relevant: frozenset[str], cutoff: int) -> float:
    return float(relevant <= set(ranking[:cutoff]))


_OWN: Mapping[str, Callable[[Ranking, frozenset[str], int], float]] = {"precise": _precise}
"""What is computed here, from a ranking, the relevant passages and the cutoff."""


def _trec_values(
    rankings: Mapping[str, Ranking], judged: JudgedQueries, measures: Sequence[Measure]
) -> dict[tuple[str, Measure], float]:
    """All other measures, from trec_eval. Its ties would reorder equal scores, so ranks become the scores."""
    import ir_measures as ir

    at_cutoff = {"hit_rate": ir.Success, "recall": ir.R, "precision": ir.P, "map": ir.AP, "ndcg": ir.nDCG}
    # trec_eval has no cutoff for the reciprocal rank; 1 / rank is exact, so the cutoff can follow
    asked = {m: ir.RR if m.name == "mrr" else at_cutoff[m.name] @ m.cutoff for m in measures if m.name not in _OWN}
    if not asked or not judged.query_ids:
        return {}
    run = {
        query_id: {passage_id: -float(rank) for rank, passage_id in enumerate(ranking)}
        for query_id, ranking in rankings.items()
    }
    found = {
        (metric.query_id, metric.measure): float(metric.value)
        for metric in ir.pytrec_eval.iter_calc(list(dict.fromkeys(asked.values())), judged.grades, run)
    }
    values = {}
    for query_id in judged.query_ids:
        for measure, trec in asked.items():
            value = found[query_id, trec]
            values[query_id, measure] = 0.0 if measure.name == "mrr" and value < 1 / measure.cutoff else value
    return values
