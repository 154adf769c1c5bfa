"""Checks of the stage `documents`: could the files be read, and are the passages of a useful size?"""

from collections.abc import Sequence

import dagster as dg

from embed_pipeline.dataset.ledger import LedgerEntry
from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.documents.passages import DocumentSummary

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
