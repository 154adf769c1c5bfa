"""Queries won and lost: where a variant answers otherwise than the baseline, with what each returned.

Belongs here: choosing those queries. Does not belong here: drawing them (page), testing the difference (evaluation).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.records import Hit, Judgment, Passage, Query, Split


@dataclass(frozen=True, slots=True)
class Returned:
    """A passage that was returned, and whether it is relevant."""

    text: str
    relevant: bool


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """One query under baseline and variant; returned passages best first, up to the cutoff of the measure."""

    query_id: str
    query: str
    relevant: tuple[str, ...]
    baseline_value: float
    variant_value: float
    baseline_returned: tuple[Returned, ...]
    variant_returned: tuple[Returned, ...]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How often a variant won, lost and tied against the baseline on a measure, with examples of the first two."""

    dataset: str
    split: Split
    variant: str
    baseline: str
    measure: Measure
    won: int
    lost: int
    tied: int
    won_examples: tuple[QueryOutcome, ...]
    lost_examples: tuple[QueryOutcome, ...]


@dataclass(frozen=True, slots=True)
class VariantResult:
    """What one variant returned and scored on a split."""

    variant: str
    query_measures: Sequence[QueryMeasure]
    hits: Sequence[Hit]


def collect_outcomes(
    baseline: VariantResult,
    variant: VariantResult,
    *,
    dataset: str,
    split: Split,
    queries: Iterable[Query],
    passages: Iterable[Passage],
    judgments: Iterable[Judgment],
    measure: Measure,
    limit: int = 20,
) -> Outcomes:
    """The outcomes on `measure`; at most `limit` examples each, largest difference first, then by query id.

    Raises:
        ValueError: the two were not measured on the same queries.
    """
    base, other = _values(baseline, measure), _values(variant, measure)
    if base.keys() != other.keys():
        raise ValueError(
            f"{dataset}: {variant.variant} and {baseline.variant} share {len(base.keys() & other.keys())} of "
            f"{len(base.keys() | other.keys())} queries on {measure}. Evaluate both on the same split."
        )
    changes = {query_id: other[query_id] - base[query_id] for query_id in sorted(base)}
    won = sorted((query_id for query_id, change in changes.items() if change > 0), key=lambda q: (-changes[q], q))
    lost = sorted((query_id for query_id, change in changes.items() if change < 0), key=lambda q: (changes[q], q))
    wanted = {*won[:limit], *lost[:limit]}
    texts = {passage.id: passage.text for passage in passages}
    asked = {query.id: query.text for query in queries if query.id in wanted}
    relevant: defaultdict[str, set[str]] = defaultdict(set)
    for judgment in judgments:
        if judgment.grade > 0:
            relevant[judgment.query_id].add(judgment.passage_id)
    tops = [_top_hits(result, wanted, measure.cutoff) for result in (baseline, variant)]

    def outcome(query_id: str) -> QueryOutcome:
        # Texts: a hit on a copy of what was judged is right.
        answers = tuple(dict.fromkeys(texts[passage_id] for passage_id in sorted(relevant[query_id])))
        returned = [
            tuple(Returned(text, text in answers) for text in (texts[hit.passage_id] for hit in top[query_id]))
            for top in tops
        ]
        return QueryOutcome(
            query_id=query_id,
            query=asked[query_id],
            relevant=answers,
            baseline_value=base[query_id],
            variant_value=other[query_id],
            baseline_returned=returned[0],
            variant_returned=returned[1],
        )

    return Outcomes(
        dataset=dataset,
        split=split,
        variant=variant.variant,
        baseline=baseline.variant,
        measure=measure,
        won=len(won),
        lost=len(lost),
        tied=len(changes) - len(won) - len(lost),
        won_examples=tuple(outcome(query_id) for query_id in won[:limit]),
        lost_examples=tuple(outcome(query_id) for query_id in lost[:limit]),
    )


def _values(result: VariantResult, measure: Measure) -> Mapping[str, float]:
    return {found.query_id: found.value for found in result.query_measures if found.measure == measure}


def _top_hits(result: VariantResult, query_ids: set[str], cutoff: int) -> Mapping[str, list[Hit]]:
    by_query: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in result.hits:
        if hit.query_id in query_ids:
            by_query[hit.query_id].append(hit)
    return defaultdict(
        list, {query_id: sorted(hits, key=lambda hit: hit.rank)[:cutoff] for query_id, hits in by_query.items()}
    )
