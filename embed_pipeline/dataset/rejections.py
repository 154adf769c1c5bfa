"""The entries of the ledger, one function per kind of rejection: what is told to the owner of the workbook.

Belongs here: the wording. Does not belong here: the decision (cleaning).
"""

from collections.abc import Mapping, Sequence

from embed_pipeline.dataset.ledger import LedgerEntry, Reason, shorten_value
from embed_pipeline.dataset.nearest import Nearest
from embed_pipeline.dataset.normalisation import normalise_text, query_id
from embed_pipeline.dataset.splitting import SplitConflict
from embed_pipeline.dataset.workbook import CellProblem, RawCell, RawRow

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


def reject(
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


def reject_question_cell(row: RawRow, problem: CellProblem) -> LedgerEntry:
    """The entry for a row whose question is no usable text."""
    return reject(row, _QUESTION_REASONS[problem], cell=row.question, detail=_PROBLEMS[problem])


def reject_label_cell(row: RawRow, cell: RawCell, problem: CellProblem) -> LedgerEntry:
    """The entry for a label cell that is no usable text."""
    return reject(row, _LABEL_REASONS[problem], cell=cell, detail=_PROBLEMS[problem])


def reject_unknown_label(row: RawRow, cell: RawCell, nearest: Nearest | None) -> LedgerEntry:
    """The entry for a label that the label list does not have."""
    hint = "nothing there resembles it" if nearest is None else f"nearest is {nearest.text!r}"
    detail = f"Not in the label list; {hint}. Correct the cell or add the label."
    return reject(row, "unknown_label", cell=cell, nearest=nearest, detail=detail)


def reject_conflict(conflict: SplitConflict, rows: Sequence[RawRow], texts: Sequence[str]) -> LedgerEntry:
    """The entry for a question near to earlier ones of different splits; `rows` and `texts` by position."""
    neighbours = [
        f"{format_place(rows[near.position])} ({near.split}, similarity {near.similarity:.2f}, "
        f"{query_id(texts[near.position])})"
        for near in conflict.neighbours
    ]
    detail = f"Nearly the same as {' and '.join(neighbours)}; in any split it would leak into another."
    row = rows[conflict.position]
    return reject(row, "near_duplicate_across_splits", value=texts[conflict.position], detail=detail)


def format_place(row: RawRow) -> str:
    """Workbook, sheet and row in words."""
    return f"{row.workbook}, sheet {row.sheet}, row {row.row_number}"
