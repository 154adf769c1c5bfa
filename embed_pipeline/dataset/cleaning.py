"""From rows to the RAG data set: which rows and cells count, and an entry in the ledger for each that does not.

Belongs here: the rules, and what they tell the owner of the workbook. Does not belong here: how a cell is read
(workbook) and which split a query gets (splitting).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset, write_dataset
from embed_pipeline.dataset.label_list import LabelList, read_label_list
from embed_pipeline.dataset.ledger import (
    CELL_REASONS,
    LEDGER_FILE,
    LedgerEntry,
    Reason,
    shorten_value,
    write_ledger,
)
from embed_pipeline.dataset.normalisation import (
    fold_cell,
    normalise_text,
    passage_id,
    query_id,
    separator_pattern,
    split_cell,
)
from embed_pipeline.dataset.raw_files import workbook_paths
from embed_pipeline.dataset.settings import DatasetSettings, required
from embed_pipeline.dataset.splitting import SplitAssignment, SplitConflict, split_texts
from embed_pipeline.dataset.workbook import CellProblem, RawCell, RawRow, read_rows
from embed_pipeline.nearest import Nearest
from embed_pipeline.records import Judgment, Query

_PROGRESS_ROWS = 1000
# What stands between several labels in a cell, where the settings do not say.
_SEPARATORS = ("\n", "、", ";", ",", "|", "/")
_QUESTION_REASONS: Mapping[CellProblem, Reason] = {
    "not_text": "question_not_text",
    "formula_without_value": "question_formula_without_value",
    "error_value": "question_error_value",
}
_LABEL_REASONS: Mapping[CellProblem, Reason] = {
    "not_text": "label_not_text",
    "formula_without_value": "label_formula_without_value",
    "error_value": "label_error_value",
}
_PROBLEMS: Mapping[CellProblem, str] = {
    "not_text": "The cell holds a number, date or truth value. Format it as text and type it again.",
    "formula_without_value": "The formula has no stored value. Open the workbook in Excel and save it.",
    "error_value": "The formula or value is an Excel error. Correct it.",
}


@dataclass(frozen=True, slots=True)
class CleaningCounts:
    """Where the rows went: rows = queries + rows_united + rows_rejected.

    rows_united repeat an earlier question and gave it their labels; a cell is rejected without its row.
    """

    rows: int
    rows_united: int
    rows_rejected: int
    cells_rejected: int
    queries: int
    passages: int
    judgments: int


@dataclass(frozen=True, slots=True)
class CleanedData:
    """The data set, and everything that did not get into it, in reading order.

    `files` is the file that each query was first read from, by query id in reading order: the last file is the newest
    batch.
    """

    dataset: RetrievalDataset
    ledger: tuple[LedgerEntry, ...]
    counts: CleaningCounts
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Question:
    text: str
    first: RawRow
    labels: set[str] = field(default_factory=set)
    attributes: dict[str, str] = field(default_factory=dict)


def clean_workbooks(
    directory: Path, settings: DatasetSettings, *, progress: Callable[[int], None] | None = None
) -> CleanedData:
    """The cleaned content of a data set's workbooks, in the order of the settings; `progress` gets the rows so far.

    Raises:
        ValueError: a workbook or the label list cannot be read, or not one row is usable.
    """
    columns, label_list = required(settings.columns, "columns"), required(settings.label_list, "label_list")
    labels = read_label_list(directory / label_list)
    rows = chain.from_iterable(read_rows(path, columns, settings.sheet) for path in workbook_paths(directory, settings))
    return clean_rows(rows if progress is None else _report_progress(rows, progress), labels, settings)


def clean_rows(rows: Iterable[RawRow], labels: LabelList, settings: DatasetSettings) -> CleanedData:
    """The data set of the rows in reading order; its corpus is the whole label list.

    Rows with the same normalised question are united, with all their labels. Every other row or cell left out is in the
    ledger.

    Raises:
        ValueError: not one row is usable.
    """
    questions: dict[str, _Question] = {}
    ledger: list[LedgerEntry] = []
    order: dict[tuple[str, int], int] = {}
    separators = settings.columns.label_separators if settings.columns else ()
    parting = _Parting(labels, separators) if separators else None
    for row in rows:
        order[row.workbook, row.row_number] = len(order)
        _read_row(row, labels, parting, questions, ledger)
    found = list(questions.values())
    assignment = split_texts([question.text for question in found], settings)
    firsts, texts = [question.first for question in found], [question.text for question in found]
    ledger += [_reject_conflict(conflict, firsts, texts) for conflict in assignment.conflicts]
    ledger.sort(key=lambda entry: order[entry.workbook, entry.row])
    dataset = _make_dataset(found, assignment, labels)
    if not dataset.queries:
        raise ValueError(
            f"{', '.join(settings.workbooks)}: {len(order)} rows read and none usable; the first reasons: "
            f"{[entry.reason for entry in ledger[:3]]}. Fill the workbook or correct columns or label_list in "
            "dataset.yaml."
        )
    kept = {query.id for query in dataset.queries}
    files = {query_id(question.text): question.first.workbook for question in found}
    known = {query: file for query, file in files.items() if query in kept}
    return CleanedData(dataset, tuple(ledger), _count(len(order), dataset, ledger), known)


def write_cleaned(cleaned: CleanedData, directory: Path) -> None:
    """Write queries.jsonl, corpus.jsonl, judgments.jsonl and ledger.jsonl into an existing directory.

    The bytes depend on the content of the cells and the workbooks' names, not on the workbooks' bytes, times or place.
    """
    write_dataset(cleaned.dataset, directory)
    write_ledger(cleaned.ledger, directory / LEDGER_FILE)


def _read_row(
    row: RawRow,
    labels: LabelList,
    parting: "_Parting | None",
    questions: dict[str, _Question],
    ledger: list[LedgerEntry],
) -> None:
    if row.question.problem is not None:
        ledger.append(_reject_question_cell(row, row.question.problem))
        return
    text = normalise_text(row.question.text)
    if not text:
        ledger.append(_reject(row, "empty_question", detail="The row has no question."))
        return
    filled = [cell for cell in row.labels if cell.problem is not None or normalise_text(cell.text)]
    if not filled:
        ledger.append(_reject(row, "no_label", value=text, detail="No label column of the row is filled."))
        return
    single = [part for cell in filled for part in _single_labels(cell, labels, parting)]
    known = _known_labels(row, single, labels, ledger)
    if not known:
        ledger.append(_reject(row, "no_known_label", value=text, detail="None of the row's labels can be used."))
        return
    question = questions.setdefault(text, _Question(text, row))
    question.labels |= known
    question.attributes = _attributes(row) | question.attributes
    if question.first is not row:
        detail = f"Repeats {_format_place(question.first)}; its labels were added there."
        ledger.append(_reject(row, "duplicate_question", value=text, detail=detail))


def _attributes(row: RawRow) -> dict[str, str]:
    """What the slice columns say; a number is as good as a text, an Excel error says nothing."""
    usable = [cell for cell in row.slices if cell.problem in (None, "not_text")]
    return {cell.column: text for cell in usable if (text := normalise_text(cell.text))}


def _known_labels(row: RawRow, cells: Sequence[RawCell], labels: LabelList, ledger: list[LedgerEntry]) -> set[str]:
    known: dict[str, str] = {}
    for cell in cells:
        label = normalise_text(cell.text)
        if cell.problem is not None:
            ledger.append(_reject_label_cell(row, cell, cell.problem))
        elif label not in labels and (separator := _parted_by(cell, labels)):
            detail = f"It holds several labels of the list between {separator!r}. Name it in columns, label_separators."
            ledger.append(_reject(row, "several_labels", cell=cell, detail=detail))
        elif label not in labels:
            ledger.append(_reject_unknown_label(row, cell, label, labels))
        elif label in known:
            detail = f"The row has the label in column {known[label]} already."
            ledger.append(_reject(row, "duplicate_label", cell=cell, detail=detail))
        else:
            known[label] = cell.column
    return set(known)


class _Parting:
    """Parts a cell at the separators of labels, but for a label of the list that holds one: that stays whole."""

    def __init__(self, labels: LabelList, separators: Sequence[str]) -> None:
        self._labels = labels
        self._separator = re.compile(f"({separator_pattern(separators)})")
        self._most = max(len(self._pieces(label)) for label in labels.texts)

    def parts(self, text: str) -> list[str]:
        """The texts between separators in their order, each once; of several labels from one place on the longest."""
        pieces, found, at = self._pieces(text), [], 0
        while at < len(pieces):
            # Texts stand at even places, what parts them at odd ones.
            ends = range(at + self._most, at, -2)
            runs = {end: "".join(pieces[at:end]) for end in ends if end <= len(pieces)}
            end = next((end for end, run in runs.items() if normalise_text(run) in self._labels), at + 1)
            found.append(runs[end].strip())
            at = end + 1
        return list(dict.fromkeys(filter(None, found)))

    def _pieces(self, text: str) -> list[str]:
        return self._separator.split(fold_cell(text))


def _single_labels(cell: RawCell, labels: LabelList, parting: _Parting | None) -> list[RawCell]:
    """The cell, or one for each label in it where separators part it; a label that is in the list stays whole."""
    if cell.problem is not None or parting is None or normalise_text(cell.text) in labels:
        return [cell]
    return [RawCell(cell.column, part) for part in parting.parts(cell.text)] or [cell]


def _parted_by(cell: RawCell, labels: LabelList) -> str | None:
    """What parts the cell into labels of the list only."""
    for separator in _SEPARATORS:
        parts = split_cell(cell.text, (separator,))
        if len(parts) > 1 and all(normalise_text(part) in labels for part in parts):
            return separator
    return None


def _make_dataset(questions: Sequence[_Question], assignment: SplitAssignment, labels: LabelList) -> RetrievalDataset:
    queries, judgments = [], []
    for question, split in zip(questions, assignment.splits, strict=True):
        if split is None:
            continue
        query = Query(query_id(question.text), question.text, split, question.attributes)
        queries.append(query)
        judgments += [Judgment(query.id, passage_id(label)) for label in question.labels]
    return build_dataset(queries, [labels.passage(label) for label in labels.texts], judgments)


def _count(rows: int, dataset: RetrievalDataset, ledger: Sequence[LedgerEntry]) -> CleaningCounts:
    cells = sum(entry.reason in CELL_REASONS for entry in ledger)
    united = sum(entry.reason == "duplicate_question" for entry in ledger)
    return CleaningCounts(
        rows=rows,
        rows_united=united,
        rows_rejected=len(ledger) - cells - united,
        cells_rejected=cells,
        queries=len(dataset.queries),
        passages=len(dataset.passages),
        judgments=len(dataset.judgments),
    )


def _report_progress(rows: Iterable[RawRow], progress: Callable[[int], None]) -> Iterator[RawRow]:
    count = 0
    for count, row in enumerate(rows, start=1):
        if count % _PROGRESS_ROWS == 0:
            progress(count)
        yield row
    progress(count)


def _reject(
    row: RawRow,
    reason: Reason,
    *,
    detail: str,
    cell: RawCell | None = None,
    value: str = "",
    nearest: Nearest | None = None,
) -> LedgerEntry:
    """The entry for a row, or for one cell of it; the value is the cell's text, or `value` for a row."""
    return LedgerEntry(
        workbook=row.workbook,
        sheet=row.sheet,
        row=row.row_number,
        column=cell.column if cell else None,
        reason=reason,
        value=shorten_value(normalise_text(cell.text) if cell else value),
        nearest=nearest.text if nearest else None,
        nearest_score=nearest.score if nearest else None,
        detail=detail,
    )


def _reject_question_cell(row: RawRow, problem: CellProblem) -> LedgerEntry:
    """The entry for a row whose question is no usable text."""
    return _reject(row, _QUESTION_REASONS[problem], cell=row.question, detail=_PROBLEMS[problem])


def _reject_label_cell(row: RawRow, cell: RawCell, problem: CellProblem) -> LedgerEntry:
    """The entry for a label cell that is no usable text."""
    return _reject(row, _LABEL_REASONS[problem], cell=cell, detail=_PROBLEMS[problem])


def _reject_unknown_label(row: RawRow, cell: RawCell, label: str, labels: LabelList) -> LedgerEntry:
    """The entry for a label that the label list does not have."""
    detail = f"Not in the label list; {labels.hint(label)}. Correct the cell or add the label."
    return _reject(row, "unknown_label", cell=cell, nearest=labels.nearest(label), detail=detail)


def _reject_conflict(conflict: SplitConflict, rows: Sequence[RawRow], texts: Sequence[str]) -> LedgerEntry:
    """The entry for a question near to earlier ones of different splits; `rows` and `texts` by position."""
    neighbours = [
        f"{_format_place(rows[near.position])} ({near.split}, similarity {near.similarity:.2f}, "
        f"{query_id(texts[near.position])})"
        for near in conflict.neighbours
    ]
    detail = f"Nearly the same as {' and '.join(neighbours)}; in any split it would leak into another."
    row = rows[conflict.position]
    return _reject(row, "near_duplicate_across_splits", value=texts[conflict.position], detail=detail)


def _format_place(row: RawRow) -> str:
    """Workbook, sheet and row in words."""
    return f"{row.workbook}, sheet {row.sheet}, row {row.row_number}"
