"""Checks of the stage `dataset`: is the split honest, and how much of the workbook was lost?"""

import dagster as dg

from embed_pipeline.dataset.audit import describe_labels, find_empty_splits, find_leaks
from embed_pipeline.dataset.cleaning import CleanedData
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.settings import DatasetSettings
from embed_pipeline.defs.checks.outcome import CheckOutcome

REJECTED_LIMIT = 0.10
UNSEEN_LIMIT = 0.02
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
]


def check_cleaned(dataset: RetrievalDataset, cleaned: CleanedData, settings: DatasetSettings) -> list[CheckOutcome]:
    """The outcomes on a written data set; leaks are searched anew, whatever the splitting did."""
    leaks = find_leaks(dataset, settings.near_duplicate_threshold)
    empty = [split for split in find_empty_splits(dataset) if split in settings.expected_splits]
    counts, labels = cleaned.counts, describe_labels(dataset)
    rejected = counts.rows_rejected / counts.rows
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
            figures={"empty_splits": ", ".join(empty) or "none", "queries": len(dataset.queries)},
            remedy="Add rows, or give the empty split a larger share in dataset.yaml.",
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
                "limit": REJECTED_LIMIT,
            },
            remedy="Read the ledger: each row has its reason, an unknown label its nearest known one.",
        ),
        CheckOutcome(
            name="held_out_labels_occur_in_train",
            passed=unseen <= UNSEEN_LIMIT,
            figures={
                "labels_only_held_out": len(labels.only_held_out),
                "labels_never_in_train": len(labels.never_in_train),
                "labels": len(dataset.passages),
                "limit": UNSEEN_LIMIT,
                "examples": ", ".join(label.text for label in labels.only_held_out[:_EXAMPLES]),
            },
            remedy="Collect questions for these labels, or read the table knowing that they were never trained.",
        ),
    ]
