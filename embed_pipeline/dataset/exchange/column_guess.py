"""Which column of an unknown table is the question, which the passage, and what the others are.

Belongs here: a guess with its reasons, for a person to correct. Does not belong here: reading the table.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from embed_pipeline.dataset.settings import TableColumns
from embed_pipeline.dataset.exchange.table_files import Table
from embed_pipeline.dataset.pairs_file import SPLIT_NAMES

_QUERY = (
    "question query questions queries anchor ask 问题 提问 問題 質問 질문 вопрос سؤال frage pregunta pergunta domanda "
    "vraag"
)
_PASSAGE = (
    "context answer passage answers positive document response reply content text label intent category 答案 回答 答复 "
    "段落 标签 答え 回答文 답변 ответ контекст جواب antwort kontext réponse reponse contexte respuesta contexto "
    "resposta risposta contesto antwoord"
)
_IDS = "id _id qid query_id question_id uuid"
_SPLITS = "split subset partition set"
_GRADES = "grade score relevance"
_MOST_VALUES = 20


@dataclass(frozen=True, slots=True)
class ColumnGuess:
    """The columns and why each was taken, one sentence each."""

    columns: TableColumns
    reasons: tuple[str, ...]


def guess_columns(table: Table) -> ColumnGuess:
    """The columns of a table, by name first, then by length and question marks.

    Raises:
        ValueError: no two columns hold texts.
    """
    values = {header: [row.cells[header] for row in table.rows if header in row.cells] for header in table.headers}
    values = {header: cells for header, cells in values.items() if cells}
    reasons: list[str] = []
    identifier = _by_name(values, _IDS, lambda cells: len(set(cells)) == len(cells) == len(table.rows))
    split = _by_name(values, _SPLITS, lambda cells: len(cells) == len(table.rows) and _are_splits(cells))
    grade = _by_name(values, _GRADES, lambda cells: len(cells) == len(table.rows) and all(map(_is_grade, cells)))
    for header, what in ((identifier, "differs in every row"), (split, "names splits"), (grade, "whole numbers")):
        if header is not None:
            reasons.append(f"{header}: its name, and it {what}.")
    left = {header: cells for header, cells in values.items() if header not in (identifier, split, grade)}
    query = _by_name(left, _QUERY)
    passage = _by_name({header: cells for header, cells in left.items() if header != query}, _PASSAGE)
    lengths = {header: statistics.median(map(len, cells)) for header, cells in left.items()}
    if query is not None:
        reasons.append(f"{query} is the question: its name.")
    elif len(left) > 1:
        asked = {header: sum(c.rstrip().endswith(("?", "？", "؟")) for c in left[header]) for header in left}
        others = [header for header in left if header != passage]
        query = min(others, key=lambda header: (-asked[header] / len(left[header]), -lengths[header]))
        reasons.append(f"{query} is the question: {asked[query]} of {len(left[query])} cells end in a question mark.")
    if passage is not None:
        reasons.append(f"{passage} is the passage: its name.")
    elif len(left) > 1:
        passage = max((header for header in left if header != query), key=lambda header: lengths[header])
        reasons.append(f"{passage} is the passage: the longest texts (median {lengths[passage]:.0f} characters).")
    if query is None or passage is None:
        raise ValueError(f"expected a column of questions and one of passages, found {list(table.headers)}. Add one.")
    attributes = [header for header, cells in left.items() if header not in (query, passage) and _is_slice(cells)]
    reasons.extend(f"{header}: few values that repeat, so results are sliced by it." for header in attributes)
    ignored = [header for header in left if header not in (query, passage, *attributes)]
    reasons.extend(f"{header}: not read." for header in ignored)
    columns = TableColumns(
        query=query, passage=passage, id=identifier, split=split, grade=grade, attributes=tuple(attributes)
    )
    return ColumnGuess(columns, tuple(reasons))


def _by_name(values: dict[str, list[str]], names: str, fits: Callable[[list[str]], bool] | None = None) -> str | None:
    for name in names.split():
        for header, cells in values.items():
            if header.casefold() == name and (fits is None or fits(cells)):
                return header
    return None


def _are_splits(cells: list[str]) -> bool:
    return all(cell.strip().lower() in SPLIT_NAMES for cell in cells)


def _is_grade(cell: str) -> bool:
    return cell.isascii() and cell.isdigit()


def _is_slice(cells: list[str]) -> bool:
    different = len(set(cells))
    return 2 <= different <= min(_MOST_VALUES, len(cells) // 2) and max(map(len, cells)) <= 60
