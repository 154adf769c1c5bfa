"""Checks of the stage `dataset`: is the split honest, how much was lost, and is the data consistent with itself?"""

from collections.abc import Mapping

import dagster as dg

from embed_pipeline.dataset.audit import (
    COMPARED_CHARACTERS,
    SIMILAR_FROM,
    Shift,
    compared_passages,
    describe_labels,
    find_contradictions,
    find_duplicate_passages,
    find_empty_splits,
    find_leaks,
    measure_shift,
    newest_batch,
)
from embed_pipeline.dataset.cleaning import CleanedData
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.ledger import CELL_REASONS, shorten_value, summarise_ledger
from embed_pipeline.dataset.settings import DatasetSettings
from embed_pipeline.defs.checks import CheckOutcome
from embed_pipeline.records import Query

# More than this is a column that was read wrongly rather than careless typing.
REJECTED_LIMIT = 0.10
# A label that was never trained is found by its name alone; more of them and the test measures something else.
UNSEEN_LIMIT = 0.02
# From here passages are labels that many questions share; below, texts that have a question each.
SHARED_FROM = 0.5
# Wrong or missing labels cap what can be measured: with one question in a hundred the cap is about one point.
CONTRADICTING_LIMIT = 0.01
# A copy takes the place of another passage among the hits and turns up as a false negative in mining.
DUPLICATE_PASSAGES_LIMIT = 0.05
# A shift is red where it is both large enough to move a result and no chance: large sets make any difference certain,
# small ones make any difference large.
SHIFT_LIMIT = 0.15
SHIFT_P_VALUE = 0.01
_EXAMPLES = 5

SPECS = [
    dg.AssetCheckSpec(
        "splits_share_no_query",
        asset="cleaned_qa",
        blocking=True,
        description="No validation or test query stands in train, exactly or nearly.",
    ),
    dg.AssetCheckSpec(
        "every_split_has_queries",
        asset="cleaned_qa",
        blocking=True,
        description="Every split that the data set is to have holds a query.",
    ),
    dg.AssetCheckSpec(
        "few_rows_are_rejected",
        asset="cleaned_qa",
        description=f"At most {REJECTED_LIMIT:.0%} of the rows are left out; the ledger says which and why.",
    ),
    dg.AssetCheckSpec(
        "held_out_labels_occur_in_train",
        asset="cleaned_qa",
        description=f"At most {UNSEEN_LIMIT:.0%} of the labels are positives of held-out queries only.",
    ),
    dg.AssetCheckSpec(
        "test_queries_are_like_train",
        asset="cleaned_qa",
        description=f"Length, language and labels of test and train are less than {SHIFT_LIMIT} apart, or by chance.",
    ),
    dg.AssetCheckSpec(
        "newest_queries_are_like_the_rest",
        asset="cleaned_qa",
        description=f"Length, language and labels of the newest file's queries are less than {SHIFT_LIMIT} from the "
        "other files', or by chance.",
    ),
    dg.AssetCheckSpec(
        "like_queries_have_like_judgments",
        asset="cleaned_qa",
        description=f"At most {CONTRADICTING_LIMIT:.0%} of the queries are judged against a nearly equal one.",
    ),
    dg.AssetCheckSpec(
        "passages_differ",
        asset="cleaned_qa",
        description=f"At most {DUPLICATE_PASSAGES_LIMIT:.0%} of the passages nearly repeat another one.",
    ),
]


_NEAR_REASONS = ("near_duplicate_of_held_out", "near_duplicate_across_splits")


def _costliest(cleaned: CleanedData) -> list[tuple[str, int]]:
    """What cost most rows, with the number of them, the most first."""
    found = summarise_ledger(cleaned.ledger)
    rows = [(reason, count) for reason, count in found.items() if reason not in CELL_REASONS | {"duplicate_question"}]
    return sorted(rows, key=lambda item: -item[1])[:_EXAMPLES]


def _fill_splits(cleaned: CleanedData) -> str:
    """What to do about an empty split: by what emptied it, as the ledger knows."""
    reason, count = next(iter(_costliest(cleaned)), ("", 0))
    if 2 * count < cleaned.counts.queries:
        return "Add rows, or give the empty split a larger share in dataset.yaml."
    if reason in _NEAR_REASONS:
        return (
            f"{count} questions were left out because they are nearly those of another split ({reason}). If they ask "
            "different things, raise near_duplicate_threshold in dataset.yaml; else add questions that differ more."
        )
    return f"{count} questions were left out as {reason}: read the ledger, correct what it says, and run again."


def check_cleaned(
    dataset: RetrievalDataset,
    cleaned: CleanedData,
    settings: DatasetSettings,
    *,
    files: Mapping[str, str] | None = None,
) -> list[CheckOutcome]:
    """The outcomes on a written data set; leaks are searched anew, whatever the splitting did.

    `files` has the file of each query id in reading order; without it the newest batch is not known and passes. Where
    fewer than SHARED_FROM of the passages have more than one query, every question has its own text: a held-out one is
    unseen by design, and held_out_labels_occur_in_train passes and says so.
    """
    leaks = find_leaks(dataset, settings.near_duplicate_threshold)
    empty = [split for split in find_empty_splits(dataset) if split in settings.expected_splits]
    counts, labels = cleaned.counts, describe_labels(dataset)
    rejected = counts.rows_rejected / counts.rows
    own_passages = labels.shared < SHARED_FROM
    unseen = 0.0 if settings.evaluation_only else len(labels.only_held_out) / len(dataset.passages)
    pairs = "; ".join(f"{leak.query.id} ~ {leak.train_query.id}" for leak in leaks[:_EXAMPLES])
    return [
        CheckOutcome(
            name="splits_share_no_query",
            passed=not leaks,
            blocking=True,
            figures={"leaks": len(leaks), "similarity_from": settings.near_duplicate_threshold, "examples": pairs},
            remedy="Report this as a defect of the splitting; until then remove the named queries from the workbook.",
        ),
        CheckOutcome(
            name="every_split_has_queries",
            passed=not empty,
            blocking=True,
            figures={
                "empty_splits": ", ".join(empty) or "none",
                "queries": len(dataset.queries),
                **{f"left out, {reason}": count for reason, count in _costliest(cleaned)},
            },
            remedy=_fill_splits(cleaned),
        ),
        CheckOutcome(
            name="few_rows_are_rejected",
            passed=rejected <= REJECTED_LIMIT,
            figures={
                "share_rejected": round(rejected, 4),
                "rows_rejected": counts.rows_rejected,
                "rows_united": counts.rows_united,
                "cells_rejected": counts.cells_rejected,
                "rows": counts.rows,
                **{f"reason {reason}": count for reason, count in summarise_ledger(cleaned.ledger).items()},
                "limit": REJECTED_LIMIT,
            },
            remedy="Read the ledger: each row has its reason, an unknown label its nearest known one.",
        ),
        CheckOutcome(
            name="held_out_labels_occur_in_train",
            passed=own_passages or unseen <= UNSEEN_LIMIT,
            figures={
                **(
                    {"note": "most passages have a single question, so unseen ones are expected"}
                    if own_passages
                    else {}
                ),
                "share_of_passages_with_more_queries": round(labels.shared, 4),
                "labels_only_held_out": len(labels.only_held_out),
                "labels_never_in_train": len(labels.never_in_train),
                "labels": len(dataset.passages),
                "limit": UNSEEN_LIMIT,
                "examples": ", ".join(label.text for label in labels.only_held_out[:_EXAMPLES]),
            },
            remedy="Collect questions for these labels, or read the table knowing that they were never trained.",
        ),
        check_train_and_test(dataset),
        check_newest(dataset, files),
        _check_contradictions(dataset, settings.near_duplicate_threshold),
        _check_passages(dataset),
    ]


def _check_contradictions(dataset: RetrievalDataset, threshold: float) -> CheckOutcome:
    found = find_contradictions(dataset, threshold)
    share = len(found) / len(dataset.queries) if dataset.queries else 0.0
    examples = [f"{c.first.id} ~ {c.second.id} ({c.kind}): {shorten_value(c.second.text)}" for c in found[:_EXAMPLES]]
    return CheckOutcome(
        name="like_queries_have_like_judgments",
        passed=share <= CONTRADICTING_LIMIT,
        figures={
            "share_contradicting": round(share, 4),
            "no_label_in_common": sum(c.kind == "disjoint" for c in found),
            "relevant_to_one_irrelevant_to_the_other": sum(c.kind == "opposite" for c in found),
            "queries": len(dataset.queries),
            "similarity_from": threshold,
            "limit": CONTRADICTING_LIMIT,
            "examples": "; ".join(examples),
        },
        remedy="Read the pairs: give both questions the labels that are right, in the raw file.",
    )


def _check_passages(dataset: RetrievalDataset) -> CheckOutcome:
    compared = compared_passages(len(dataset.passages))
    found = find_duplicate_passages(dataset.passages, compared=compared)
    share = len(found) / len(compared) if compared else 0.0
    examples = [f"{d.passage.id} ~ {d.earlier.id}: {shorten_value(d.passage.text)}" for d in found[:_EXAMPLES]]
    return CheckOutcome(
        name="passages_differ",
        passed=share <= DUPLICATE_PASSAGES_LIMIT,
        figures={
            "share_repeating": round(share, 4),
            "repeating": len(found),
            "compared": len(compared),
            "passages": len(dataset.passages),
            "similarity_from": SIMILAR_FROM,
            "characters_compared": COMPARED_CHARACTERS,
            "limit": DUPLICATE_PASSAGES_LIMIT,
            "examples": "; ".join(examples),
        },
        remedy="Remove the copies from the raw files, or judge each copy relevant where the other one is.",
    )


def check_train_and_test(dataset: RetrievalDataset) -> CheckOutcome:
    """Train against test; passes where one of them is empty."""
    return _compare(
        "test_queries_are_like_train",
        dataset,
        {"train": dataset.queries_of("train"), "test": dataset.queries_of("test")},
        remedy="Where the files name the splits: measure on questions like those to come, or say in the description "
        "how test differs. Where the hash splits: add rows, or take another seed before anything was measured.",
    )


def check_newest(dataset: RetrievalDataset, files: Mapping[str, str] | None) -> CheckOutcome:
    """The queries of the last file against those of the others; passes where there is one file or none is known."""
    newest = newest_batch(files or {})
    groups = {
        "rest": tuple(query for query in dataset.queries if query.id not in newest),
        "newest": tuple(query for query in dataset.queries if query.id in newest),
    }
    return _compare(
        "newest_queries_are_like_the_rest",
        dataset,
        groups,
        remedy="Ask where the newest file comes from. If such questions are to come, collect more and train again; "
        "else give it a data set of its own.",
    )


def _compare(
    name: str, dataset: RetrievalDataset, groups: Mapping[str, tuple[Query, ...]], *, remedy: str
) -> CheckOutcome:
    empty = [group for group, queries in groups.items() if not queries]
    if empty:
        return CheckOutcome(
            name=name, passed=True, figures={"note": f"no {empty[0]} queries to compare"}, remedy="none needed"
        )
    (first, one), (second, other) = groups.items()
    shift = measure_shift(dataset, one, other)
    differences = {"length": shift.length, "language": shift.language, "labels": shift.labels}
    shifted = [what for what, d in differences.items() if d.distance >= SHIFT_LIMIT and d.p_value < SHIFT_P_VALUE]
    figures: dict[str, float | int | str] = {"shifted": ", ".join(shifted) or "nothing"}
    for what, difference in differences.items():
        figures[f"{what}_distance"] = round(difference.distance, 4)
        figures[f"{what}_p"] = float(f"{difference.p_value:.3g}")
    figures |= {
        f"queries_{first}": len(one),
        f"queries_{second}": len(other),
        f"median_characters_{first}": shift.first_median,
        f"median_characters_{second}": shift.second_median,
        "languages": _tell_languages(shift, first, second),
        "examples": _tell_labels(dataset, shift),
        "limit": SHIFT_LIMIT,
        "p_below": SHIFT_P_VALUE,
    }
    return CheckOutcome(name=name, passed=not shifted, figures=figures, remedy=remedy)


def _tell_languages(shift: Shift, first: str, second: str) -> str:
    names = list(dict.fromkeys([*shift.first_languages, *shift.second_languages]))[:_EXAMPLES]
    return "; ".join(
        f"{name}: {first} {shift.first_languages.get(name, 0.0):.1%}, {second} "
        f"{shift.second_languages.get(name, 0.0):.1%}"
        for name in names
    )


def _tell_labels(dataset: RetrievalDataset, shift: Shift) -> str:
    texts = {passage.id: passage.text for passage in dataset.passages}
    return "; ".join(shorten_value(texts[label]) for label in shift.most_shifted_labels[:_EXAMPLES])
