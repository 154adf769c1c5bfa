"""Assets of the stage `synthesis`: the questions written for the passages."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.assembly.questioning import Questioning
from embed_pipeline.dataset.formats import CORPUS_FILE, read_passages
from embed_pipeline.dataset.ledger import LEDGER_FILE, read_ledger, summarise_ledger, write_ledger
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, table
from embed_pipeline.defs.checks import synthesis as checks
from embed_pipeline.defs.checks.outcome import describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.synthesis.questions import QUESTIONS_FILE, SyntheticQuestion, read_questions, write_questions

SAMPLE_ROWS = 20
LEDGER_ROWS = 200


def define_assets(partitions: Partitions) -> Assets:
    """The asset `synthetic_qa`."""
    options = partial(asset_options, partitions, group="synthesis")

    @dg.asset(**options("synthetic_qa", kinds={"openai"}, cost="may_be_paid", specs=checks.SPECS))
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
        rows, checked = len(questions), results(outcomes_of(manifest), checks.SPECS)
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
    outcomes = checks.check_questions(result.questions, result.ledger, passages=len(passages), lost_usd=lost_usd)
    counts = {**asdict(result.counts), "sources": result.sources_description}
    return {**counts, "generator": step.project.synthesis[step.dataset].generator, **describe_outcomes(outcomes)}
