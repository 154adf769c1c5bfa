"""Whether two groups of queries of one data set differ: in length, in language, in what is relevant to them.

Belongs here: the statistics. Does not belong here: which groups are compared and which figure fails (defs/checks).
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from statistics import median

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.records import LANGUAGE, Query

LEAST_EXPECTED = 5
"""A value expected less often than this in either group is merged with the other rare ones: below it the chi-square
approximation does not hold (Cochran, Biometrics 10, 1954), and every value that occurs once would look like a shift."""
RARE = "(rare)"
OTHER_SCRIPT = "none"
_EXACT_PRODUCT = 1_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two distributions are apart, 0 to 1, and how likely chance alone sets them as far apart."""

    distance: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Shift:
    """Two groups of queries compared.

    `length` has the Kolmogorov-Smirnov statistic; `language` and `labels` the total variation distance with the p of
    a chi-square test. The most shifted labels come first, by passage id where equal.
    """

    length: Difference
    language: Difference
    labels: Difference
    first_median: float
    second_median: float
    first_languages: Mapping[str, float]
    second_languages: Mapping[str, float]
    most_shifted_labels: tuple[str, ...]


def measure_shift(dataset: RetrievalDataset, first: Sequence[Query], second: Sequence[Query]) -> Shift:
    """The shift from the first group to the second, lengths in characters.

    A query with several labels counts with each, which makes the p of the labels too small rather than too large.

    Raises:
        ValueError: a group is empty.
    """
    from scipy.stats import ks_2samp

    if not first or not second:
        raise ValueError(f"expected queries in both groups, found {len(first)} and {len(second)}. Skip the comparison.")
    lengths = [[len(query.text) for query in group] for group in (first, second)]
    # The asymptotic p of a handful of queries is far too small (2 against 1: zero); the exact one of many is slow.
    method = "exact" if len(first) * len(second) <= _EXACT_PRODUCT else "asymp"
    found = ks_2samp(lengths[0], lengths[1], method=method)
    length = Difference(float(found.statistic), float(found.pvalue))  # pyright: ignore[reportAttributeAccessIssue]
    languages = [Counter(language_of(query) for query in group) for group in (first, second)]
    labels = [_count_labels(dataset, {query.id for query in group}) for group in (first, second)]
    return Shift(
        length=length,
        language=compare_counts(*languages),
        labels=compare_counts(*labels),
        first_median=median(lengths[0]),
        second_median=median(lengths[1]),
        first_languages=_shares(languages[0]),
        second_languages=_shares(languages[1]),
        most_shifted_labels=_most_shifted(*labels),
    )


def newest_batch(files: Mapping[str, str]) -> frozenset[str]:
    """The ids of the queries from the newest file; `files` has the file of each query id, in reading order.

    Empty where there are fewer than two files: nothing is newer than the rest.
    """
    newest = next(reversed(list(files.values())), None)
    return (
        frozenset(query for query, file in files.items() if file == newest)
        if len(set(files.values())) > 1
        else frozenset()
    )


def compare_counts(first: Mapping[str, int], second: Mapping[str, int]) -> Difference:
    """Total variation distance of two counts of values, and p of the chi-square test of equal shares.

    Values expected less than LEAST_EXPECTED times in a group are one value; with a single value left nothing differs.
    """
    from scipy.stats import chi2_contingency

    counts = _merge_rare(first, second)
    sums = [sum(group.values()) for group in counts]
    values = sorted(set(counts[0]) | set(counts[1]))
    if len(values) < 2 or not all(sums):
        return Difference(0.0, 1.0)
    distance = sum(abs(counts[0][value] / sums[0] - counts[1][value] / sums[1]) for value in values) / 2
    table = [[group[value] for value in values] for group in counts]
    p_value = chi2_contingency(table, correction=False).pvalue  # pyright: ignore[reportAttributeAccessIssue]
    return Difference(distance, float(p_value))


def language_of(query: Query) -> str:
    """The language attribute, else the script that most of the letters are written in, of equal ones the first by
    name; OTHER_SCRIPT for a text without letters. Japanese kana count as their own script."""
    language = query.attributes.get(LANGUAGE)
    if language:
        return language
    scripts = Counter(script for character in query.text if (script := _script_of(character)))
    return min(scripts, key=lambda script: (-scripts[script], script), default=OTHER_SCRIPT)


@cache
def _script_of(character: str) -> str:
    # The first word of a letter's name is its script: CJK UNIFIED IDEOGRAPH-4E00, LATIN SMALL LETTER A.
    return unicodedata.name(character, "").partition(" ")[0].lower() if character.isalpha() else ""


def _count_labels(dataset: RetrievalDataset, query_ids: Set[str]) -> Counter[str]:
    return Counter(j.passage_id for j in dataset.judgments if j.grade > 0 and j.query_id in query_ids)


def _merge_rare(first: Mapping[str, int], second: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    together = Counter(first) + Counter(second)
    total, smaller = sum(together.values()), min(sum(first.values()), sum(second.values()))
    merged: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for value, count in together.items():
        name = value if count * smaller / total >= LEAST_EXPECTED else RARE
        merged[0][name] += first.get(value, 0)
        merged[1][name] += second.get(value, 0)
    return merged


def _most_shifted(first: Mapping[str, int], second: Mapping[str, int]) -> tuple[str, ...]:
    counts = _merge_rare(first, second)
    sums = [max(1, sum(group.values())) for group in counts]
    values = (set(counts[0]) | set(counts[1])) - {RARE}
    change = {value: abs(counts[0][value] / sums[0] - counts[1][value] / sums[1]) for value in values}
    return tuple(sorted(values, key=lambda value: (-change[value], value)))


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {value: counts[value] / total for value in sorted(counts, key=lambda value: (-counts[value], value))}
