"""The ledger: every row and cell that did not become part of the data set, with its reason.

Belongs here: what an entry is, and the file of them. Does not belong here: the rules that reject (cleaning).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from embed_pipeline.paths import shorten

Reason = Literal[
    "empty_question",
    "question_not_text",
    "question_formula_without_value",
    "question_error_value",
    "no_label",
    "no_known_label",
    "duplicate_question",
    "near_duplicate_across_splits",
    "label_not_text",
    "label_formula_without_value",
    "label_error_value",
    "unknown_label",
    "duplicate_label",
    "no_judgment",
    "near_duplicate_of_held_out",
    "empty_passage",
    "unknown_passage",
    "no_plain_file",
    "unsupported_file",
    "broken_file",
    "encrypted_file",
    "file_too_large",
    "wrong_encoding",
    "no_text",
    "page_without_text",
    "unreadable_characters",
    "hidden_text",
    "running_lines",
    "outside_content",
    "embedded_content",
    "duplicate_passage",
    "unanswered_call",
    "malformed_question",
    "copied_question",
    "near_duplicate_question",
    "not_answerable",
    "lost_in_round_trip",
    "several_labels",
    "noted",
]

REASONS: tuple[Reason, ...] = get_args(Reason)

# These cost a single cell; every other reason costs the whole row, and a row has at most one of those.
CELL_REASONS: frozenset[Reason] = frozenset(
    {
        "label_not_text",
        "label_formula_without_value",
        "label_error_value",
        "unknown_label",
        "duplicate_label",
        "empty_passage",
        "unknown_passage",
        "page_without_text",
        "several_labels",
        "noted",
        "unreadable_characters",
        "hidden_text",
        "running_lines",
        "outside_content",
        "embedded_content",
    }
)

LEDGER_FILE = "ledger.jsonl"
VALUE_LENGTH = 80


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One rejected row, or one rejected cell when `column` names a label column.

    For a file of pairs `workbook` is the file, `sheet` its section and `row` the position there, from 1; 0 is the file
    as a whole. `value` is
    what stood there, shortened; `nearest` the known label nearest to an unknown one, with its similarity 0 to 100 in
    `nearest_score`; `detail` a sentence for the owner of the file.
    """

    workbook: str
    sheet: str
    row: int
    column: str | None
    reason: Reason
    value: str
    nearest: str | None
    nearest_score: float | None
    detail: str


def shorten_value(text: str) -> str:
    """The text as an entry shows it, of VALUE_LENGTH characters at most."""
    return shorten(text, VALUE_LENGTH)


def summarise_ledger(ledger: Iterable[LedgerEntry]) -> Mapping[Reason, int]:
    """How often each reason occurs, in the order of REASONS, without those that never do."""
    counts = Counter(entry.reason for entry in ledger)
    return MappingProxyType({reason: counts[reason] for reason in REASONS if counts[reason]})


def write_ledger(ledger: Iterable[LedgerEntry], path: Path) -> None:
    """Write one JSON object a line, in the order given."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for entry in ledger:
            file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


def read_ledger(path: Path) -> tuple[LedgerEntry, ...]:
    """The entries of a file that `write_ledger` wrote, in its order."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return tuple(LedgerEntry(**json.loads(line)) for line in file)
