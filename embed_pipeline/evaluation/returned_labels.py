"""How many of a query's hits to return, where queries have several right answers, as labels.

Belongs here: choosing the rule on validation queries and what it does on test queries. Does not belong here: whether
to answer at all (calibration.py), how hits are ranked (measures.py).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embed_pipeline.records import Hit
from embed_pipeline.significance import FloatArray, SignificanceSettings, bootstrap_intervals, sign_flip_p_values

SEVERAL_ANSWERS = 1.2
"""Relevant passages a query, from which on more than one hit may have to be returned."""
MOST_RETURNED = 10
_GAPS = 40


@dataclass(frozen=True, slots=True)
class ReturnRule:
    """The first hit is returned, and those after it whose score lies at most `gap` below its score; `at_most` in all.

    A gap of None: every query is given `at_most`.
    """

    gap: float | None
    at_most: int

    def count(self, scores: Sequence[float]) -> int:
        """How many of the hits to return; `scores` are theirs, the best first."""
        if self.gap is None:
            return min(len(scores), self.at_most)
        return sum(score >= scores[0] - self.gap for score in scores[: self.at_most])


@dataclass(frozen=True, slots=True)
class ReturnFigures:
    """Means over the test queries: hits returned, precision, recall and F1 of each query, with F1's interval.

    A query without a hit has 0 of everything.
    """

    returned: float
    precision: float
    recall: float
    f1: float
    f1_low: float
    f1_high: float


@dataclass(frozen=True, slots=True)
class ReturnChoice:
    """The rule, what it does on test, and the same for always returning the `fixed` first, the best such number.

    Both are chosen by the mean F1 of the validation queries. Where the better rule is no better than the fixed number
    with evidence there, it is the fixed number. `difference` is the rule's F1 on test less the fixed number's, with
    interval and p (sign flips); None where they are the same.
    """

    rule: ReturnRule
    fixed: int
    validation_queries: int
    test_queries: int
    test: ReturnFigures
    fixed_test: ReturnFigures
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_value: float | None


@dataclass(frozen=True)
class Ranked:
    """The first hits of each query, one row a query: scores (-inf where there is none), and whether each is relevant.

    `wanted` is how many relevant passages a query has, (queries,).
    """

    scores: FloatArray
    relevant: FloatArray
    wanted: FloatArray


def rank_hits(
    query_ids: Sequence[str],
    hits: Iterable[Hit],
    relevant: Mapping[str, Collection[str]],
    canonical: Mapping[str, str],
) -> Ranked:
    """The first MOST_RETURNED hits of each of the queries named; of passages with one text the first counts.

    relevant: canonical passage ids by query id; at least one each.
    """
    row_of = {query: row for row, query in enumerate(query_ids)}
    scores = np.full((len(query_ids), MOST_RETURNED), -np.inf)
    right = np.zeros_like(scores)
    seen: list[set[str]] = [set() for _ in query_ids]
    for hit in sorted((hit for hit in hits if hit.query_id in row_of), key=lambda hit: hit.rank):
        row, passage = row_of[hit.query_id], canonical.get(hit.passage_id, hit.passage_id)
        if len(seen[row]) < MOST_RETURNED and passage not in seen[row]:
            at = len(seen[row])
            seen[row].add(passage)
            scores[row, at], right[row, at] = hit.score, passage in relevant[hit.query_id]
    return Ranked(scores, right, np.array([len(relevant[query]) for query in query_ids], dtype=np.float64))


def choose_returned(
    validation: Ranked, test: Ranked, settings: SignificanceSettings | None = None
) -> ReturnChoice | None:
    """The rule that is best on validation, and what it does on test.

    None: there are no queries of one of them, or too few have several relevant passages (SEVERAL_ANSWERS).
    """
    settings = settings or SignificanceSettings()
    if not len(validation.wanted) or not len(test.wanted) or validation.wanted.mean() <= SEVERAL_ANSWERS:
        return None
    fixed = _best(validation, [ReturnRule(None, k) for k in range(1, MOST_RETURNED + 1)])
    rule = _best(validation, [ReturnRule(gap, k) for gap in _gaps(validation) for k in range(2, MOST_RETURNED + 1)])
    gained = _f1(validation, rule) - _f1(validation, fixed)
    if gained.mean() <= 0 or sign_flip_p_values(gained[:, None], settings)[0] > settings.alpha:
        rule = fixed
    difference = low = high = p_value = None
    if rule != fixed:
        differences = (_f1(test, rule) - _f1(test, fixed))[:, None]
        interval = bootstrap_intervals(differences, settings)
        difference, low, high = float(differences.mean()), float(interval.low[0]), float(interval.high[0])
        p_value = float(sign_flip_p_values(differences, settings)[0])
    return ReturnChoice(
        rule=rule,
        fixed=fixed.at_most,
        validation_queries=len(validation.wanted),
        test_queries=len(test.wanted),
        test=_figures(test, rule, settings),
        fixed_test=_figures(test, fixed, settings),
        difference=difference,
        difference_low=low,
        difference_high=high,
        p_value=p_value,
    )


def _gaps(ranked: Ranked) -> list[float]:
    """Distances from the first hit to the others, evenly spread over those that occur."""
    rows, places = np.nonzero(np.isfinite(ranked.scores[:, 1:]))
    found = ranked.scores[rows, 0] - ranked.scores[rows, 1 + places]
    return [float(gap) for gap in np.unique(np.quantile(found, np.linspace(0, 1, _GAPS)))] if len(found) else []


def _best(ranked: Ranked, rules: Sequence[ReturnRule]) -> ReturnRule:
    """The rule with the highest mean F1; of equal ones the first."""
    return max(rules, key=lambda rule: float(_f1(ranked, rule).mean())) if rules else ReturnRule(None, 1)


def _given(ranked: Ranked, rule: ReturnRule) -> np.ndarray:
    """Which of the hits the rule returns, (queries, MOST_RETURNED)."""
    given = np.isfinite(ranked.scores) & (np.arange(MOST_RETURNED) < rule.at_most)
    if rule.gap is not None:
        with np.errstate(invalid="ignore"):  # a query without a hit: -inf less -inf
            given &= ranked.scores >= ranked.scores[:, :1] - rule.gap
    return given


def _f1(ranked: Ranked, rule: ReturnRule) -> FloatArray:
    given = _given(ranked, rule)
    return 2 * (given * ranked.relevant).sum(axis=1) / (given.sum(axis=1) + ranked.wanted)


def _figures(ranked: Ranked, rule: ReturnRule, settings: SignificanceSettings) -> ReturnFigures:
    given, f1 = _given(ranked, rule), _f1(ranked, rule)
    number, right = given.sum(axis=1), (given * ranked.relevant).sum(axis=1)
    interval = bootstrap_intervals(f1[:, None], settings)
    return ReturnFigures(
        returned=float(number.mean()),
        precision=float((right / np.maximum(number, 1)).mean()),
        recall=float((right / ranked.wanted).mean()),
        f1=float(f1.mean()),
        f1_low=float(interval.low[0]),
        f1_high=float(interval.high[0]),
    )
