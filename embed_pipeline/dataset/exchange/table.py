"""Question/context tables: csv, xlsx, parquet or jsonl, one row a question and a passage that answers it.

Belongs here: what the columns mean. Does not belong here: encodings, delimiters and cells (table_files).
"""

from pathlib import Path

from embed_pipeline.dataset.exchange.collecting import Collector
from embed_pipeline.dataset.settings import TableColumns
from embed_pipeline.dataset.exchange.holding import Holding
from embed_pipeline.dataset.exchange.table_files import Row, Table, read_table, write_table
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.nearest import nearest_text
from embed_pipeline.dataset.pairs_file import PairsContent

OWN = TableColumns(id="id", passage_id="context_id", split="split", grade="grade")
"""The headers that are written, and read where none are named; every further column is then an attribute."""

HOLDING = Holding(
    queries="judged",
    unjudged_passages=False,
    passage_attributes=(),
    refused_attributes=("question", "context", "id", "context_id", "split", "grade"),
    empty_attributes=False,
)


def read_question_table(path: Path, columns: TableColumns | None = None) -> PairsContent:
    """The questions and passages of the named columns; ids from the texts where no column is named for them.

    Without names the columns of `OWN` are read as far as they are there, and the others are attributes.
    A row without a passage gives a query without a judgment, a row without a question a query without a text: cleaning
    leaves both out with the reason.

    Raises:
        ValueError: the file is malformed, a named column is missing, an id, split or grade is empty or none; names
            file, row and column.
    """
    table = read_table(path)
    columns = columns or _own_columns(table)
    named = (columns.query, columns.passage, columns.id, columns.passage_id, columns.split, columns.grade)
    for name in (*named, *columns.attributes):
        if name is not None and name not in table.headers:
            nearest = nearest_text(name, list(table.headers))
            hint = f" Nearest: {nearest.text!r}." if nearest else ""
            raise ValueError(f"{path}: expected a column {name!r}, found {list(table.headers)}.{hint} Rename it.")
    collector, empty = Collector(), 0
    for number, row in enumerate(table.rows, start=1):
        if columns.query not in row.cells or columns.passage not in row.cells:
            empty += 1
        if columns.query not in row.cells:
            collector.empty_query(f"row {number}")
            continue
        attributes = {name: row.cells[name] for name in columns.attributes if name in row.cells}
        text = _filled(row, columns.query)
        identifier = None if columns.id is None else _filled(row, columns.id)
        query = collector.query(f"{row.place}, {columns.query}", identifier, text, attributes)
        if columns.split is not None:
            collector.split(row.place, query, _filled(row, columns.split))
        if columns.passage not in row.cells:
            continue
        identifier = None if columns.passage_id is None else _filled(row, columns.passage_id)
        passage = collector.passage(row.place, identifier, _filled(row, columns.passage), {})
        collector.judge(query, passage, 1 if columns.grade is None else _grade(row, columns.grade))
    return collector.content(*[f"{empty} rows lack the question or the passage"] if empty else [])


def write_question_table(dataset: RetrievalDataset, path: Path) -> None:
    """Write one row a judgment with the headers of `OWN`, then the attributes by name."""
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
    write_table(path, ["question", "context", "id", "context_id", "split", "grade", *names], rows)


def _own_columns(table: Table) -> TableColumns:
    def there(name: str | None) -> str | None:
        return name if name in table.headers else None

    known = {OWN.query, OWN.passage, OWN.id, OWN.passage_id, OWN.split, OWN.grade}
    return TableColumns(
        id=there(OWN.id),
        passage_id=there(OWN.passage_id),
        split=there(OWN.split),
        grade=there(OWN.grade),
        attributes=tuple(header for header in table.headers if header not in known),
    )


def _filled(row: Row, header: str) -> str:
    if header not in row.cells:
        raise ValueError(f"{row.place}, {header}: expected text, found an empty cell. Fill it in or remove the row.")
    return row.cells[header]


def _grade(row: Row, header: str) -> int:
    value = _filled(row, header)
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"{row.place}, {header}: expected a whole number from 0, found {value!r}. Correct the cell.")
    return int(value)
