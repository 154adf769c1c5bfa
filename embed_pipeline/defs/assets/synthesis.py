"""Assets and checks of the stage `synthesis`: the questions written for the passages.

Checked: do test and train come from different texts, and how much did the filters leave?
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.assembly.questioning import Questioning
from embed_pipeline.dataset.formats import CORPUS_FILE, read_passages
from embed_pipeline.dataset.ledger import LEDGER_FILE, LedgerEntry, read_ledger, summarise_ledger, write_ledger
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.records import SPLITS
from embed_pipeline.synthesis.assembling import shared_sources
from embed_pipeline.synthesis.questions import QUESTIONS_FILE, SyntheticQuestion, read_questions, write_questions

SAMPLE_ROWS = 20
LEDGER_ROWS = 200

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


def define_assets(partitions: Partitions) -> Assets:
    """The asset `synthetic_qa`."""
    options = partial(asset_options, partitions, group="synthesis")

    @dg.asset(**options("synthetic_qa", kinds={"openai"}, cost="may_be_paid", specs=SPECS))
    def synthetic_qa(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One row per question: its text, the passages that answer it, its split, and what wrote it with which seed.

        Questions of test come from other documents or sections than those of train. Without a chat model they are
        sentences and headings of the passages themselves, and say so.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _write_questions(step, out))
        folder = step.open(manifest)
        questions = read_questions(folder / QUESTIONS_FILE)
        entries = read_ledger(folder / LEDGER_FILE)
        metadata = {
            "samples": table(_samples(step, questions)),
            "dropped_by_reason": table([{"reason": r, "entries": n} for r, n in summarise_ledger(entries).items()]),
            "ledger": table([asdict(entry) for entry in entries[:LEDGER_ROWS]]),
        }
        rows, checked = len(questions), results(outcomes_of(manifest), SPECS)
        return materialized(manifest, rows=rows, folder=folder, metadata=metadata, checks=checked)

    return [synthetic_qa]


def _samples(step: Step, questions: Sequence[SyntheticQuestion]) -> list[dict[str, str]]:
    texts = {passage.id: passage.text for passage in read_passages(step.folder("passages") / CORPUS_FILE)}
    return [
        {
            "question": q.text,
            "style": q.style,
            "split": q.split,
            "passages": " ¶ ".join(texts[p] for p in q.passage_ids),
        }
        for q in questions[:SAMPLE_ROWS]
    ]


def _write_questions(step: Step, out: Path) -> dict[str, object]:
    passages = tuple(read_passages(step.folder("passages") / CORPUS_FILE))
    questioning = Questioning(step.project, step.dataset, step.encoder_of, report=step.context.log.warning)
    result = questioning.write(passages, progress=step.log_progress("answered", "calls"))
    write_questions(result.questions, out / QUESTIONS_FILE)
    write_ledger(result.ledger, out / LEDGER_FILE)
    lost_usd = result.counts.lost_usd
    outcomes = check_questions(result.questions, result.ledger, passages=len(passages), lost_usd=lost_usd)
    counts = {**asdict(result.counts), "sources": result.sources_description}
    return {**counts, "generator": step.project.synthesis[step.dataset].generator, **describe_outcomes(outcomes)}


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
