"""The files of the asset `passages`: corpus.jsonl, ledger.jsonl, documents.jsonl.

Belongs here: writing them as a stream, so that memory holds ids and no texts. Does not belong here: cutting (cutting).
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from embed_pipeline.dataset.formats import CORPUS_FILE, write_passage_line
from embed_pipeline.dataset.ledger import LEDGER_FILE, LedgerEntry, shorten_value, write_ledger
from embed_pipeline.documents.cutting import TokenCounter, cut_document
from embed_pipeline.documents.document import Document, DocumentProblem
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.records import Passage

DOCUMENTS_FILE = "documents.jsonl"
_COUNTED = 256


@dataclass(frozen=True, slots=True)
class DocumentSummary:
    """What one file gave; pages is None for formats without pages."""

    file: str
    characters: int
    pages: int | None
    passages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class PassageCounts:
    """What came out of all files; `unreadable` files gave no passage, `duplicates` stand in an earlier place too."""

    documents: int
    unreadable: int
    passages: int
    duplicates: int
    tokens: int


def write_passages(
    documents: Iterable[Document],
    settings: DocumentSettings,
    count_tokens: TokenCounter,
    directory: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> PassageCounts:
    """Write the passages of the documents into an existing directory, in reading order; the same input, the same bytes.

    A text that was there before is left out with an entry in the ledger that names its first place. `progress` gets the
    passages so far, after each.

    Raises:
        ValueError: not one passage came out.
    """
    places: dict[str, str] = {}
    ledger: list[LedgerEntry] = []
    summaries: list[DocumentSummary] = []
    with (directory / CORPUS_FILE).open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            ledger += [_reject_problem(problem) for problem in document.problems]
            own: list[Passage] = []
            for position, passage in enumerate(cut_document(document, settings, count_tokens), start=1):
                if passage.id in places:
                    ledger.append(_reject_duplicate(passage, position, places[passage.id]))
                    continue
                places[passage.id] = f"{document.file}, passage {position}"
                own.append(passage)
                write_passage_line(passage, file)
                if progress:
                    progress(len(places))
            summaries.append(_summarise(document, own, count_tokens))
    if not places:
        raise ValueError(
            f"{len(summaries)} documents read and no passage found; the first reasons: "
            f"{' '.join(f'{one.workbook}: {one.reason}: {one.detail}' for one in ledger[:3]) or 'none'} "
            "Correct documents.files, or the files."
        )
    write_ledger(ledger, directory / LEDGER_FILE)
    with (directory / DOCUMENTS_FILE).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(asdict(summary), ensure_ascii=False) + "\n" for summary in summaries)
    return PassageCounts(
        documents=len(summaries),
        unreadable=sum(not summary.characters for summary in summaries),
        passages=len(places),
        duplicates=sum(entry.reason == "duplicate_passage" for entry in ledger),
        tokens=sum(summary.tokens for summary in summaries),
    )


def read_documents_summary(directory: Path) -> tuple[DocumentSummary, ...]:
    """What `write_passages` wrote about each document, in reading order."""
    with (directory / DOCUMENTS_FILE).open(encoding="utf-8") as file:
        return tuple(DocumentSummary(**json.loads(line)) for line in file)


def _summarise(document: Document, passages: list[Passage], count_tokens: TokenCounter) -> DocumentSummary:
    pages = {block.page for block in document.blocks if block.page is not None}
    texts = [passage.text for passage in passages]
    return DocumentSummary(
        file=document.file,
        characters=len(document.text),
        pages=max(pages) if pages else None,
        passages=len(passages),
        tokens=sum(sum(count_tokens(texts[at : at + _COUNTED])) for at in range(0, len(texts), _COUNTED)),
    )


def _reject_problem(problem: DocumentProblem) -> LedgerEntry:
    return LedgerEntry(
        workbook=problem.file,
        sheet=problem.place,
        row=0,
        column=None,
        reason=problem.reason,
        value="",
        nearest=None,
        nearest_score=None,
        detail=problem.detail,
    )


def _reject_duplicate(passage: Passage, position: int, place: str) -> LedgerEntry:
    return LedgerEntry(
        workbook=passage.attributes["file"],
        sheet=passage.attributes.get("heading", ""),
        row=position,
        column=None,
        reason="duplicate_passage",
        value=shorten_value(passage.text),
        nearest=None,
        nearest_score=None,
        detail=f"The same text as {place}.",
    )
