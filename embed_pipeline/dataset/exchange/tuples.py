"""Rows of anchor, positive and negatives: sentence-transformers' pairs, triplets and n-tuples, and AutoTrain's CSV.

Belongs here: that layout. There are no ids: they come from the texts. One row a positive; a query with more negatives
than positives repeats its positives.
"""

import re
from pathlib import Path

from embed_pipeline.dataset.exchange.collecting import Collector
from embed_pipeline.dataset.exchange.holding import Holding
from embed_pipeline.dataset.exchange.table_files import read_table
from embed_pipeline.dataset.exchange.table_writing import write_table
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.pairs_file import PairsContent
from embed_pipeline.dataset.settings import NULL_VALUES, TableColumns

COLUMNS = TableColumns(query="anchor", passage="positive", negative="negative")
HOLDING = Holding(
    query_ids=False,
    passage_ids=False,
    splits=False,
    grades=False,
    negatives="all_or_none",
    queries="answered",
    unjudged_passages=False,
    query_attributes=(),
    passage_attributes=(),
)
_SCORES = ("label", "labels", "score", "scores", "similarity")


def read_tuples(path: Path, columns: TableColumns | None = None) -> PairsContent:
    """The pairs of a file; columns named as the negative with a number (negative_1) are negatives too.

    Raises:
        ValueError: the file is malformed, a column is missing or unknown, a label column is there, or a cell is empty
            that must not be.
    """
    columns = columns or COLUMNS
    table = read_table(path, columns)
    labels = [header for header in table.headers if header.lower() in _SCORES]
    if labels:
        raise ValueError(
            f"{path}, {labels[0]}: expected anchor, positive and negatives, found a column of labels or scores, "
            "which say how similar two texts are and not which one answers. Remove the column "
            "and the rows that are no pairs."
        )
    for name in (columns.query, columns.passage):
        table.check_header(path, name)
    base = re.escape(columns.negative or "negative")
    negatives = [header for header in table.headers if re.fullmatch(rf"{base}(_\d+)?", header)]
    unknown = sorted(set(table.headers) - {columns.query, columns.passage, *negatives})
    if unknown:
        raise ValueError(
            f"{path}, {unknown[0]}: expected {columns.query}, {columns.passage} and negatives only. "
            "Remove the column, or read the file as a table."
        )
    collector = Collector(path.parent)
    for row in table.rows:
        texts = {header: row.text(header) or "" for header in (columns.query, columns.passage, *negatives)}
        for text in texts.values():
            if text in NULL_VALUES:
                collector.note(f"texts {text!r} are read as they stand, not as empty", row.place)
        query = collector.query(f"{row.place}, {columns.query}", None, texts[columns.query], {})
        place = f"{row.place}, {columns.passage}"
        collector.judge(query, collector.passage(place, None, texts[columns.passage], {}), 1)
        for header in negatives:
            if texts[header]:
                collector.judge(query, collector.passage(row.place, None, texts[header], {}), 0)
    return collector.content(*table.notes)


def write_tuples(dataset: RetrievalDataset, path: Path, *, guard: bool = True) -> int:
    """Write pairs, or triplets where the data set has negatives (then every query must have one).

    Returns as `write_table`.
    """
    texts = {passage.id: passage.text for passage in dataset.passages}
    relevant = dataset.relevant()
    with_negatives = any(judgment.grade == 0 for judgment in dataset.judgments)
    headers = [COLUMNS.query, COLUMNS.passage, *([COLUMNS.negative or "negative"] if with_negatives else [])]
    rows: list[list[str | None]] = []
    for query in dataset.queries:
        positive = [texts[passage] for passage, grade in relevant[query.id].items() if grade > 0]
        negative = [texts[passage] for passage, grade in relevant[query.id].items() if grade == 0]
        for at in range(max(len(positive), len(negative))):
            row: list[str | None] = [query.text, positive[at % len(positive)]]
            rows.append([*row, negative[at % len(negative)]] if with_negatives else row)
    return write_table(path, headers, rows, guard=guard)
