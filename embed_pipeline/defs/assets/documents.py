"""Assets of the stage `documents`: the files as they lie, and the passages cut from them."""

from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import CORPUS_FILE, read_passages
from embed_pipeline.dataset.ledger import LEDGER_FILE, read_ledger, summarise_ledger
from embed_pipeline.defs.assets.dataset import copy_raw_files, raw_materialized
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, table
from embed_pipeline.defs.checks import documents as checks
from embed_pipeline.defs.checks.outcome import describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.documents.passages import read_documents_summary, write_passages
from embed_pipeline.documents.reading import document_left_out, read_document
from embed_pipeline.encoding.tokens import token_counter
from embed_pipeline.graph.source_settings import counting_encoder, planned_left_out

SAMPLE_ROWS = 10
LEDGER_ROWS = 200
LOGGED_PASSAGES = 1000


def define_assets(partitions: Partitions) -> Assets:
    """The assets `raw_documents` and `passages`."""
    options = partial(asset_options, partitions, group="documents")

    @dg.asset(**options("raw_documents", kinds={"file"}))
    def raw_documents(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """The documents of a data set, byte for byte as they lie in its folder: pdf, docx, html, md, txt."""
        step = pipeline.step(context)
        manifest = step.build(lambda out: copy_raw_files(step, out))
        return raw_materialized(step, manifest)

    @dg.asset(**options("passages", kinds={"python"}, specs=checks.SPECS))
    def passages(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One row per passage: its text, and the file, page, headings and characters where it stands.

        A passage ends where a heading, an article or the token limit ends it, never inside a sentence that fits. What
        could not be read is in the ledger with its reason.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _cut(step, out))
        folder = step.open(manifest)
        samples = [
            {"passage": p.text, **p.attributes} for p in islice(read_passages(folder / CORPUS_FILE), SAMPLE_ROWS)
        ]
        entries = read_ledger(folder / LEDGER_FILE)
        metadata = {
            "samples": table(samples),
            "documents": table([asdict(document) for document in read_documents_summary(folder)]),
            "left_out_by_reason": table([{"reason": r, "entries": n} for r, n in summarise_ledger(entries).items()]),
            "ledger": table([asdict(entry) for entry in entries[:LEDGER_ROWS]]),
        }
        rows, checked = (
            sum(1 for _ in read_passages(folder / CORPUS_FILE)),
            results(outcomes_of(manifest), checks.SPECS),
        )
        return materialized(manifest, rows=rows, folder=folder, metadata=metadata, checks=checked)

    return [raw_documents, passages]


def _cut(step: Step, out: Path) -> dict[str, object]:
    raw, settings = step.folder("raw_documents"), step.project.documents[step.dataset]
    files = sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())
    count_tokens = token_counter(step.graph.model_directory(counting_encoder(step.project, step.dataset)))
    documents = chain(
        (read_document(raw / file, file, settings.limits) for file in files),
        (document_left_out(file, why) for file, why in planned_left_out(step.plan).items()),
    )
    counts = write_passages(
        documents, settings, count_tokens, out, progress=step.log_tally("cut", "passages", LOGGED_PASSAGES)
    )
    outcomes = checks.check_passages(read_documents_summary(out), read_ledger(out / LEDGER_FILE))
    return {**asdict(counts), **describe_outcomes(outcomes)}
