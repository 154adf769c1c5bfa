"""Checks of the stage `mining`: are the negatives negative, and are they hard?"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.mining.report import MiningReport
from embed_pipeline.records import Judgment

HARDNESS_LIMIT = 0.1
FULL_GROUPS_LIMIT = 0.5

SPECS = [
    dg.AssetCheckSpec(
        "no_negative_is_a_positive",
        asset="mined_negatives",
        blocking=True,
        description="No passage judged relevant for a query is among its negatives.",
    ),
    dg.AssetCheckSpec(
        "negatives_are_harder_than_random",
        asset="mined_negatives",
        description=f"Negatives lie at least {HARDNESS_LIMIT:.0%} of the way from random passages to the positives.",
    ),
    dg.AssetCheckSpec(
        "most_groups_have_all_their_negatives",
        asset="mined_negatives",
        description=f"At least {FULL_GROUPS_LIMIT:.0%} of the groups hold as many negatives as asked for.",
    ),
]


def check_negatives(
    groups: Sequence[TrainingGroup], judgments: Iterable[Judgment], report: MiningReport, *, asked: int
) -> list[CheckOutcome]:
    """Positives among the negatives, counted from the judgments; hardness and full groups from the report.

    `asked` is how many negatives a query was to get; where it is 0, their hardness is no question.
    """
    relevant: defaultdict[str, set[str]] = defaultdict(set)
    for judgment in judgments:
        if judgment.grade > 0:
            relevant[judgment.query_id].add(judgment.passage_id)
    wrong = sum(len(relevant[group.query_id] & set(group.negative_ids)) for group in groups)
    hardness = report.hardness_against_random
    full = (report.groups - report.short_groups) / report.groups if report.groups else 0.0
    return [
        CheckOutcome(
            name="no_negative_is_a_positive",
            passed=wrong == 0,
            blocking=True,
            figures={"positives_among_negatives": wrong, "groups": len(groups)},
            remedy="Report this as a defect of the miner; train with another range until it is mended.",
        ),
        CheckOutcome(
            name="negatives_are_harder_than_random",
            passed=asked == 0 or (hardness is not None and hardness >= HARDNESS_LIMIT),
            figures={
                "hardness_against_random": _hardness(hardness, asked),
                "limit": HARDNESS_LIMIT,
            },
            remedy="Narrow the mining range (range_end), or use a stronger base encoder.",
        ),
        CheckOutcome(
            name="most_groups_have_all_their_negatives",
            passed=full >= FULL_GROUPS_LIMIT,
            figures={
                "share_of_full_groups": round(full, 4),
                "short_groups": report.short_groups,
                "groups": report.groups,
                "limit": FULL_GROUPS_LIMIT,
            },
            remedy="With candidates: corpus negatives are not needed. Otherwise the base scores positives too low: "
            "use a stronger base encoder, or loosen margin_relative.",
        ),
    ]


def _hardness(found: float | None, asked: int) -> float | str:
    if asked == 0:
        return "no negatives asked for"
    return "unknown" if found is None else found
