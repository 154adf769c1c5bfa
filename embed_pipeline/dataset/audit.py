"""What is true of a written data set: leaks, contradictions, duplicate passages, labels, and shifts between queries.

Belongs here: finding and counting, in bounded memory, from the data set alone. Does not belong here: which groups are
compared and which figure fails a check (defs/assets/dataset_checks.py).
"""

import random
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Literal

import numpy as np

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts
from embed_pipeline.dataset.normalisation import canonical_form
from embed_pipeline.records import LANGUAGE, SPLITS, Passage, Query, Split


@dataclass(frozen=True, slots=True)
class Leak:
    """A validation or test query, and a training query that is (nearly) the same; 1 is exact."""

    query: Query
    train_query: Query
    similarity: float


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """How the passages of the corpus occur as positives; tuples are sorted by text.

    `never_in_train` are all that no training query has, `only_held_out` those of them that a validation or test query
    has, so that a trained encoder is asked for what it never saw. `shared` is the share of the passages with a query
    that have more than one: near 1 they are labels, near 0 texts of a corpus with a question each. 0 without judgments.
    """

    never_in_train: tuple[Passage, ...]
    only_held_out: tuple[Passage, ...]
    shared: float


def find_leaks(dataset: RetrievalDataset, threshold: float) -> tuple[Leak, ...]:
    """Every validation and test query with an exact or near duplicate in train, by query id.

    Each names its most similar training query, of equal ones the first by id. Recomputed from the texts, whatever the
    splitting did; the search is exact.
    """
    sets = shingle_texts([canonical_form(query.text) for query in dataset.queries])
    index = NearDuplicateIndex(sets, threshold)
    in_train = np.array([query.split == "train" for query in dataset.queries], dtype=bool)
    leaks = []
    for position, found in index.find_each(np.flatnonzero(~in_train), among=np.flatnonzero(in_train)):
        if found:
            near = min(found, key=lambda one: (-one.similarity, one.position))
            leaks.append(Leak(dataset.queries[position], dataset.queries[near.position], near.similarity))
    return tuple(sorted(leaks, key=lambda leak: leak.query.id))


def find_empty_splits(dataset: RetrievalDataset) -> tuple[Split, ...]:
    """The splits without a query, in the order of SPLITS."""
    return tuple(split for split in SPLITS if not dataset.queries_of(split))


def describe_labels(dataset: RetrievalDataset) -> LabelFigures:
    """How labels occur over the splits."""
    split_of = {query.id: query.split for query in dataset.queries}
    positives = [judgment for judgment in dataset.judgments if judgment.grade > 0]
    in_train = {judgment.passage_id for judgment in positives if split_of[judgment.query_id] == "train"}
    held_out = {judgment.passage_id for judgment in positives} - in_train
    passages = sorted(dataset.passages, key=lambda passage: passage.text)
    uses = Counter(judgment.passage_id for judgment in positives)
    return LabelFigures(
        never_in_train=tuple(passage for passage in passages if passage.id not in in_train),
        only_held_out=tuple(passage for passage in passages if passage.id in held_out),
        shared=sum(count > 1 for count in uses.values()) / len(uses) if uses else 0.0,
    )


Kind = Literal["disjoint", "opposite"]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two queries that are nearly the same; `first` has the smaller id.

    `disjoint`: both have relevant passages and share none. `opposite`: `passage_id` is relevant to one and judged
    irrelevant to the other, the first such passage by id.
    """

    first: Query
    second: Query
    similarity: float
    kind: Kind
    passage_id: str | None


def find_contradictions(dataset: RetrievalDataset, threshold: float) -> tuple[Contradiction, ...]:
    """One contradiction per query at most, with the most similar earlier query that contradicts it, by the ids.

    Two queries with different numbers in them ("article 12", "article 13") ask for different things and are never a
    contradiction. The search is exact.
    """
    sets = shingle_texts([canonical_form(query.text) for query in dataset.queries])
    index = NearDuplicateIndex(sets, threshold)
    grades = dataset.relevant()
    numbers = [_digits(query.text) for query in dataset.queries]
    worst: dict[int, Contradiction] = {}
    for position, earlier, similarity in index.find_all(earlier=True):
        if numbers[position] != numbers[earlier]:
            continue
        found = _contradiction(dataset.queries[earlier], dataset.queries[position], similarity, grades)
        if found is not None:
            known = worst.get(position, found)
            worst[position] = min(known, found, key=lambda item: (-item.similarity, item.first.id))
    return tuple(sorted(worst.values(), key=lambda item: (item.first.id, item.second.id)))


def _contradiction(
    first: Query, second: Query, similarity: float, grades: Mapping[str, Mapping[str, int]]
) -> Contradiction | None:
    one, other = grades[first.id], grades[second.id]
    opposite = sorted(passage for passage in one.keys() & other.keys() if (one[passage] > 0) != (other[passage] > 0))
    if opposite:
        return Contradiction(first, second, similarity, "opposite", opposite[0])
    relevant = [{passage for passage, grade in judged.items() if grade > 0} for judged in (one, other)]
    if all(relevant) and not relevant[0] & relevant[1]:
        return Contradiction(first, second, similarity, "disjoint", None)
    return None


def _digits(text: str) -> str:
    return " ".join("".join(c if c.isdigit() else " " for c in text).split())


COMPARED_CHARACTERS = 300
"""Letters and digits of a passage that are compared: memory grows with them, and copies agree from the start."""
SIMILAR_FROM = 0.85
"""Jaccard similarity of character 3-grams, the default for queries too: about one word in ten differs."""
ALL_COMPARED_UP_TO = 50_000
"""Passages up to which each is compared with all before it, at a cost that grows with the square."""
_DRAWN = 10_000
_COMPARED_AT_ONCE = 30_000


@dataclass(frozen=True, slots=True)
class DuplicatePassage:
    """A passage, and one with a smaller id that is nearly the same; 1 is equal but for case and punctuation."""

    passage: Passage
    earlier: Passage
    similarity: float


def compared_passages(passages: int) -> Sequence[int]:
    """The positions that are looked at for near duplicates: all, or of a large corpus a draw, ascending.

    The share of a draw of 10,000 is that of all within half a point in 19 of 20 draws, at the limit of the check.
    """
    if passages <= ALL_COMPARED_UP_TO:
        return range(passages)
    return sorted(random.Random(0).sample(range(passages), _DRAWN))


def find_duplicate_passages(
    passages: Sequence[Passage],
    *,
    threshold: float = SIMILAR_FROM,
    characters: int = COMPARED_CHARACTERS,
    compared: Sequence[int] | None = None,
) -> tuple[DuplicatePassage, ...]:
    """Every passage that has an earlier near duplicate, in the order given, with the first of them.

    With `compared`, positions in ascending order, every one of these: against all before it, in one pass, a portion of
    the passages in memory at a time. Passages of different numbers ("article 12") are near duplicates all the same: a
    reader or an encoder can hardly tell them apart. Exact on the compared characters. No pair is listed twice, so a
    group of n gives n - 1 entries.
    """
    if compared is not None and len(compared) < len(passages):
        return _duplicates_of(compared, passages, threshold, characters)
    sets = shingle_texts([canonical_form(passage.text)[:characters] for passage in passages])
    index = NearDuplicateIndex(sets, threshold)
    first = ((at, found[0]) for at, found in index.find_each(earlier=True) if found)
    return tuple(DuplicatePassage(passages[at], passages[near.position], near.similarity) for at, near in first)


def _duplicates_of(
    compared: Sequence[int], passages: Sequence[Passage], threshold: float, characters: int
) -> tuple[DuplicatePassage, ...]:
    own = [canonical_form(passages[at].text)[:characters] for at in compared]
    first: dict[int, DuplicatePassage] = {}
    for start in range(0, compared[-1] if compared else 0, _COMPARED_AT_ONCE):
        portion = passages[start : start + _COMPARED_AT_ONCE]
        sets = shingle_texts([*own, *(canonical_form(passage.text)[:characters] for passage in portion)])
        index = NearDuplicateIndex(sets, threshold)
        asked = np.arange(len(own), len(own) + len(portion))
        for at, one, similarity in index.find_all(asked, among=np.arange(len(own))):
            position = start + at - len(own)
            if position < compared[one]:
                first.setdefault(one, DuplicatePassage(passages[compared[one]], passages[position], similarity))
    return tuple(first[at] for at in sorted(first))


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
