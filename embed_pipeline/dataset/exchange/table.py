"""Question/context tables: csv, xlsx, parquet or jsonl, one row a question and a passage that answers it.

Belongs here: what the columns mean. Does not belong here: encodings, delimiters and cells (table_files).
"""

from pathlib import Path

from embed_pipeline.dataset.exchange.collecting import Collector
from embed_pipeline.dataset.exchange.holding import Holding
from embed_pipeline.dataset.exchange.table_files import Row, Table, read_table
from embed_pipeline.dataset.exchange.table_writing import write_table
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.normalisation import split_cell
from embed_pipeline.dataset.pairs_file import PairsContent, parse_grade_cell
from embed_pipeline.dataset.settings import TableColumns
from embed_pipeline.nearest import nearest_text

OWN = TableColumns(id="id", passage_id="context_id", split="split", grade="grade")
"""The headers that are written, and read where none are named; every further column is then an attribute."""

_FIXED = (OWN.query, OWN.passage, "id", "context_id", "split", "grade")
HOLDING = Holding(
    queries="judged",
    unjudged_passages=False,
    passage_attributes=(),
    refused_attributes=_FIXED,
    empty_attributes=False,
)


def read_question_table(path: Path, columns: TableColumns | None = None) -> PairsContent:
    """The questions and passages of the named columns; ids from the texts where no column is named for them.

    Without names the columns of `OWN` are read as far as they are there, and the others are attributes.
    A row without a passage gives a query without a judgment, a row without a question a query without a text: cleaning
    leaves both out with the reason. A cell may hold several passages, where `passage_separators` says what parts them.

    Raises:
        ValueError: the file is malformed, a named column is missing or there twice, an id, split or grade is empty or
            none; names file, row and column.
    """
    return content_of(path, read_table(path, columns), columns)


def content_of(path: Path, table: Table, columns: TableColumns | None) -> PairsContent:
    """As `read_question_table`, of a table that was read."""
    # What was written here has every column of OWN, and its words are words.
    written_here = columns is None and set(_FIXED) <= set(table.headers)
    columns = columns or _own_columns(table)
    table = table if written_here else table.without(columns.null_values)
    named = (columns.query, columns.passage, columns.id, columns.passage_id, columns.split, columns.grade)
    for name in (*named, *columns.attributes):
        if name is not None:
            nearest = nearest_text(name, list(table.headers))
            table.check_header(path, name, f" Nearest: {nearest.text!r}." if nearest else "")
    if columns.passage_id and columns.passage_separators:
        raise ValueError(f"{path}: a cell of several passages has no one id. Remove passage_id or passage_separators.")
    collector, empty = Collector(path.parent), 0
    for number, row in enumerate(table.rows, start=1):
        text, passages = row.text(columns.query), _passages(row, columns)
        if text is None or not passages:
            empty += 1
        if text is None:
            collector.empty_query(f"row {number}")
            continue
        attributes = {name: value for name in columns.attributes if (value := row.value(name)) is not None}
        identifier = None if columns.id is None else _filled(row, columns.id)
        query = collector.query(f"{row.place}, {columns.query}", identifier, text, attributes)
        counts = columns.split is None or collector.split(row.place, query, _filled(row, columns.split))
        if not passages:
            continue
        identifier = None if columns.passage_id is None else _filled(row, columns.passage_id)
        grade = 1 if columns.grade is None else _grade(row, columns.grade, collector)
        for text in passages:
            passage = collector.passage(row.place, identifier, text, {})
            if counts:
                collector.judge(query, passage, grade)
    return collector.content(*table.notes, *[f"{empty} rows lack the question or the passage"] if empty else [])


def write_question_table(dataset: RetrievalDataset, path: Path, *, guard: bool = True) -> int:
    """Write one row a judgment with the headers of `OWN`, then the attributes by name. Returns as `write_table`."""
    queries = {query.id: query for query in dataset.queries}
    texts = {passage.id: passage.text for passage in dataset.passages}
    names = sorted({name for query in dataset.queries for name in query.attributes})
    rows: list[list[str | None]] = []
    for judgment in dataset.judgments:
        query = queries[judgment.query_id]
        fixed = (
            query.text,
            texts[judgment.passage_id],
            query.id,
            judgment.passage_id,
            query.split,
            str(judgment.grade),
        )
        rows.append([*fixed, *(query.attributes.get(name) for name in names)])
    return write_table(path, [*_FIXED, *names], rows, guard=guard)


def _own_columns(table: Table) -> TableColumns:
    def there(name: str | None) -> str | None:
        return name if name in table.headers else None

    return TableColumns(
        id=there(OWN.id),
        passage_id=there(OWN.passage_id),
        split=there(OWN.split),
        grade=there(OWN.grade),
        attributes=tuple(header for header in table.headers if header not in _FIXED),
    )


def _passages(row: Row, columns: TableColumns) -> list[str]:
    text = row.text(columns.passage)
    return [] if text is None else split_cell(text, columns.passage_separators)


def _filled(row: Row, header: str) -> str:
    text = row.text(header)
    if text is None:
        raise ValueError(f"{row.place}, {header}: expected text, found an empty cell. Fill it in or remove the row.")
    return text


def _grade(row: Row, header: str, collector: Collector) -> int:
    value = row.value(header) or _filled(row, header)
    grade = parse_grade_cell(value)
    if grade is None:
        raise ValueError(f"{row.place}, {header}: expected a whole number from 0, found {value!r}. Correct the cell.")
    if grade < 0:
        collector.note("grades below 0 are read as 0, judged and not relevant", row.place)
    return max(grade, 0)
