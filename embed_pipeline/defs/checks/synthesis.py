"""Checks of the stage `synthesis`: do test and train come from different texts, and how much did the filters leave?"""

from collections import Counter
from collections.abc import Sequence

import dagster as dg

from embed_pipeline.dataset.ledger import LedgerEntry, summarise_ledger
from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.records import SPLITS
from embed_pipeline.synthesis.assembling import shared_sources
from embed_pipeline.synthesis.questions import SyntheticQuestion

# Below, the model or its prompt does not do the work, and what is left is a biased remainder.
KEPT_LIMIT = 0.3
# A corpus that is mostly without questions is trained and measured on a part of itself.
ASKED_LIMIT = 0.3
_EXAMPLES = 5

SPECS = [
    dg.AssetCheckSpec(
        "splits_share_no_source",
        asset="synthetic_qa",
        blocking=True,
        description="No passage of a validation or test question is the source of a training question.",
    ),
    dg.AssetCheckSpec(
        "every_split_has_questions", asset="synthetic_qa", blocking=True, description="No split is empty."
    ),
    dg.AssetCheckSpec(
        "every_answer_was_usable",
        asset="synthetic_qa",
        description="No answer of a chat model was paid for in which there is no question, and no call was lost.",
    ),
    dg.AssetCheckSpec(
        "filters_leave_enough",
        asset="synthetic_qa",
        description=f"At least {KEPT_LIMIT:.0%} of what was written passes the filters; the ledger has every reason.",
    ),
    dg.AssetCheckSpec(
        "most_passages_are_asked_about",
        asset="synthetic_qa",
        description=f"At least {ASKED_LIMIT:.0%} of the passages have a question.",
    ),
]


def check_questions(
    questions: Sequence[SyntheticQuestion], ledger: Sequence[LedgerEntry], *, passages: int, lost_usd: float = 0.0
) -> list[CheckOutcome]:
    """The outcomes on the questions that passed the filters, what did not, and how many passages there are.

    `lost_usd` is what the answers cost in which there was no question.
    """
    lost = [entry.detail for entry in ledger if entry.reason == "unanswered_call"]
    shared = shared_sources(questions)
    sizes = {split: sum(question.split == split for question in questions) for split in SPLITS}
    empty = [split for split, size in sizes.items() if not size]
    written = len(questions) + len(ledger)
    kept = len(questions) / written if written else 0.0
    asked = len({passage for question in questions for passage in question.passage_ids}) / max(passages, 1)
    dropped = {f"reason {reason}": count for reason, count in summarise_ledger(ledger).items()}
    return [
        CheckOutcome(
            name="splits_share_no_source",
            passed=not shared,
            blocking=True,
            figures={"shared": len(shared), "examples": "; ".join(source.passage_id for source in shared[:_EXAMPLES])},
            remedy="Report this as a defect of the splitting of sources; until then set another synthesis.split.seed.",
        ),
        CheckOutcome(
            name="every_split_has_questions",
            passed=not empty,
            blocking=True,
            figures={"empty_splits": ", ".join(empty) or "none", **{f"{s}_questions": n for s, n in sizes.items()}},
            remedy="Add documents, ask more questions per passage, or give the empty split a larger share.",
        ),
        CheckOutcome(
            name="every_answer_was_usable",
            passed=not lost,
            figures={"lost_answers": len(lost), "lost_usd": round(lost_usd, 4)},
            remedy=f"Most: {_most_common(lost)}. The ledger has each. Every answer is kept, so that running again asks "
            "for none: change the model, max_answer_tokens, structured or the seed.",
        ),
        CheckOutcome(
            name="filters_leave_enough",
            passed=kept >= KEPT_LIMIT,
            figures={"share_kept": round(kept, 4), "kept": len(questions), **dropped, "limit": KEPT_LIMIT},
            remedy="Read the ledger: change the templates or the model for malformed and unanswerable questions, raise "
            "round_trip.top_k for lost ones.",
        ),
        CheckOutcome(
            name="most_passages_are_asked_about",
            passed=asked >= ASKED_LIMIT,
            figures={"share_asked": round(asked, 4), "passages": passages, "limit": ASKED_LIMIT},
            remedy="Raise max_passages or questions_per_passage, or add styles.",
        ),
    ]


def _most_common(details: Sequence[str]) -> str:
    found = Counter(details).most_common(1)
    return f"{found[0][0][:200].rstrip('.')} ({found[0][1]} times)" if found else "none"
