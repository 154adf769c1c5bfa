"""Assets and checks of the stage `documents`: the files as they lie, and the passages cut from them.

Checked: could the files be read, and are the passages of a useful size?
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import CORPUS_FILE, read_passages
from embed_pipeline.dataset.ledger import LEDGER_FILE, LedgerEntry, read_ledger, summarise_ledger
from embed_pipeline.defs.assets.dataset import copy_raw_files, raw_materialized
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized, table
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.documents.passages import DocumentSummary, read_documents_summary, write_passages
from embed_pipeline.documents.reading import document_left_out, read_document
from embed_pipeline.encoding.tokens import token_counter
from embed_pipeline.graph.source_settings import counting_encoder, planned_left_out

SAMPLE_ROWS = 10
LEDGER_ROWS = 200
LOGGED_PASSAGES = 1000

# One scanned annex among many files is normal; more and the corpus is not what its owner thinks.
UNREADABLE_LIMIT = 0.05
# Copied boilerplate (imprints, notices): a passage that stands in several files is one passage.
REPEATED_LIMIT = 0.25
_UNREADABLE = {
    *("no_plain_file", "unsupported_file", "broken_file", "encrypted_file", "file_too_large", "wrong_encoding"),
    "no_text",
}
_LOST_PAGE = {"page_without_text", "unreadable_characters"}
_EXAMPLES = 5

SPECS = [
    dg.AssetCheckSpec(
        "documents_were_read",
        asset="passages",
        description=f"At most {UNREADABLE_LIMIT:.0%} of the files and pages gave no text; the ledger has the reasons.",
    ),
    dg.AssetCheckSpec(
        "few_passages_repeat",
        asset="passages",
        description=f"At most {REPEATED_LIMIT:.0%} of the passages stand elsewhere word for word.",
    ),
]


def define_assets(partitions: Partitions) -> Assets:
    """The assets `raw_documents` and `passages`."""
    options = partial(asset_options, partitions, group="documents")

    @dg.asset(**options("raw_documents", kinds={"file"}))
    def raw_documents(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """The documents of a data set, byte for byte as they lie in its folder: pdf, docx, html, md, txt."""
        step = pipeline.step(context)
        manifest = step.build(lambda out: copy_raw_files(step, out))
        return raw_materialized(step, manifest)

    @dg.asset(**options("passages", kinds={"python"}, specs=SPECS))
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
            results(outcomes_of(manifest), SPECS),
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
    outcomes = check_passages(read_documents_summary(out), read_ledger(out / LEDGER_FILE))
    return {**asdict(counts), **describe_outcomes(outcomes)}


def check_passages(documents: Sequence[DocumentSummary], ledger: Sequence[LedgerEntry]) -> list[CheckOutcome]:
    """The outcomes on the cut documents and what was left out of them."""
    lost = [entry for entry in ledger if entry.reason in _UNREADABLE]
    empty = [document.file for document in documents if not document.passages]
    blank_pages = sum(entry.reason in _LOST_PAGE for entry in ledger)
    pages = sum(document.pages or 0 for document in documents)
    repeated = sum(entry.reason == "duplicate_passage" for entry in ledger)
    passages = sum(document.passages for document in documents)
    share = max(len(empty) / len(documents) if documents else 0.0, blank_pages / pages if pages else 0.0)
    return [
        CheckOutcome(
            name="documents_were_read",
            passed=share <= UNREADABLE_LIMIT,
            figures={
                "share_without_text": round(share, 4),
                "files": len(documents),
                "files_without_passages": len(empty),
                "pages": pages,
                "pages_without_text": blank_pages,
                "limit": UNREADABLE_LIMIT,
                "examples": "; ".join(f"{entry.workbook}: {entry.detail}" for entry in lost[:_EXAMPLES]),
            },
            remedy="Run OCR over scanned files, remove passwords, save texts as UTF-8; the ledger names each file.",
        ),
        CheckOutcome(
            name="few_passages_repeat",
            passed=repeated <= REPEATED_LIMIT * (passages + repeated),
            figures={"repeated": repeated, "passages": passages, "limit": REPEATED_LIMIT},
            remedy="Take out copies of files and repeated headers, or leave it: each text is one passage.",
        ),
    ]
