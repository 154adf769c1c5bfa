"""Folders of queries.jsonl, corpus.jsonl and judgments: BEIR's qrels/*.tsv, or one qrels.jsonl.

Belongs here: both layouts. In BEIR a query's split is the file its judgments are in, so a query without judgments is
in none; a passage's title is its attribute `title`.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.exchange.collecting import Collector, Line, read_lines, write_lines, write_text
from embed_pipeline.dataset.exchange.holding import Holding
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.pairs_file import SPLIT_NAMES, PairsContent
from embed_pipeline.records import Attributes, Split

BEIR = Holding(queries="judged")
JSONL_QRELS = Holding()
TITLE = "title"
QRELS_HEADER = ["query-id", "corpus-id", "score"]
_SPLIT_FILES: dict[Split, str] = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}


def read_beir(folder: Path) -> PairsContent:
    """The content of corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv; queries in no qrels are left out.

    Raises:
        ValueError: a file is missing or malformed, an id is there twice or unknown, a query is in two splits.
    """
    collector = Collector()
    passages: set[str] = set()
    for line in read_lines(folder / "corpus.jsonl"):
        title = line.optional_text(TITLE)
        attributes = line.attributes("metadata") | ({TITLE: title} if title else {})
        passages.add(collector.passage(line.place, _new_id(line, "_id", passages), line.text("text"), attributes))
    queries: dict[str, Line] = {}
    for line in read_lines(folder / "queries.jsonl"):
        queries[_new_id(line, "_id", queries)] = line
        line.text("text")
    files = sorted((folder / "qrels").glob("*.tsv"))
    if not files:
        raise ValueError(f"{folder / 'qrels'}: expected train.tsv, dev.tsv or test.tsv, found none. Put one there.")
    judged: set[str] = set()
    for file in files:
        if file.stem not in SPLIT_NAMES:
            raise ValueError(f"{file}: expected train.tsv, dev.tsv or test.tsv. Rename or remove the file.")
        for place, query, passage, grade in _read_qrels(file):
            _check_known(place, "query-id", query, queries)
            _check_known(place, "corpus-id", passage, passages)
            line = queries[query]
            collector.query(line.place, query, line.text("text"), line.attributes("metadata"))
            collector.split(place, query, file.stem)
            collector.judge(query, passage, grade)
            judged.add(query)
    left = len(queries) - len(judged)
    return collector.content(*[f"{left} queries are in no qrels file and have no split"] if left else [])


def write_beir(dataset: RetrievalDataset, folder: Path) -> None:
    """Write the three parts into a new folder; attributes other than the title go to metadata."""
    (folder / "qrels").mkdir(parents=True)
    write_lines(
        folder / "corpus.jsonl",
        (
            {"_id": p.id, TITLE: p.attributes.get(TITLE, ""), "text": p.text, "metadata": _beir_metadata(p.attributes)}
            for p in dataset.passages
        ),
    )
    write_lines(
        folder / "queries.jsonl",
        ({"_id": q.id, "text": q.text, "metadata": dict(sorted(q.attributes.items()))} for q in dataset.queries),
    )
    for split, name in _SPLIT_FILES.items():
        ids = {query.id for query in dataset.queries_of(split)}
        rows = [[j.query_id, j.passage_id, j.grade] for j in dataset.judgments if j.query_id in ids]
        if rows:
            buffer = io.StringIO(newline="")
            csv.writer(buffer, delimiter="\t", lineterminator="\n").writerows([QRELS_HEADER, *rows])
            write_text(folder / "qrels" / name, buffer.getvalue())


def read_jsonl_qrels(folder: Path) -> PairsContent:
    """The content of queries.jsonl, corpus.jsonl and qrels.jsonl (or judgments.jsonl).

    Ids may be called id or _id, query_id, passage_id or corpus_id; grade or score, 1 where it is missing; split and
    attributes are optional.

    Raises:
        ValueError: a file is missing or malformed, an id is there twice or unknown.
    """
    collector = Collector()
    passages: set[str] = set()
    for line in read_lines(folder / "corpus.jsonl"):
        identifier = _new_id(line, _either(line, "id", "_id"), passages)
        passages.add(collector.passage(line.place, identifier, line.text("text"), line.attributes("attributes")))
    queries: set[str] = set()
    for line in read_lines(folder / "queries.jsonl"):
        identifier = _new_id(line, _either(line, "id", "_id"), queries)
        queries.add(collector.query(line.place, identifier, line.text("text"), line.attributes("attributes")))
        split = line.optional_text("split")
        if split is not None:
            collector.split(line.place, identifier, split)
    own = folder / "judgments.jsonl"
    for line in read_lines(own if own.is_file() else folder / "qrels.jsonl"):
        query, passage = line.text("query_id"), line.text(_either(line, "passage_id", "corpus_id"))
        _check_known(line.place, "query_id", query, queries)
        _check_known(line.place, "passage_id", passage, passages)
        name = _either(line, "grade", "score")
        grade = line.found.get(name, 1)
        if type(grade) is not int or grade < 0:
            raise line.wrong(name, "a whole number from 0", grade)
        collector.judge(query, passage, grade)
    return collector.content()


def write_jsonl_qrels(dataset: RetrievalDataset, folder: Path) -> None:
    """Write the three files into a new folder."""
    folder.mkdir(parents=True)
    write_lines(
        folder / "queries.jsonl",
        ({"id": q.id, "text": q.text, "split": q.split} | _attributes(q.attributes) for q in dataset.queries),
    )
    write_lines(
        folder / "corpus.jsonl", ({"id": p.id, "text": p.text} | _attributes(p.attributes) for p in dataset.passages)
    )
    write_lines(
        folder / "qrels.jsonl",
        ({"query_id": j.query_id, "passage_id": j.passage_id, "grade": j.grade} for j in dataset.judgments),
    )


def _read_qrels(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """(place, query id, passage id, grade) of every line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t", strict=True)
            header = next(reader, [])
            if header != QRELS_HEADER:
                raise ValueError(f"{path}, line 1: expected the header {QRELS_HEADER}, found {header}. Correct it.")
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if len(row) != len(QRELS_HEADER):
                    raise ValueError(f"{place}: expected {len(QRELS_HEADER)} columns, found {len(row)}. Correct it.")
                if not row[2].isascii() or not row[2].isdigit():
                    raise ValueError(f"{place}, score: expected a whole number from 0, found {row[2]!r}. Correct it.")
                yield place, row[0], row[1], int(row[2])
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected tab-separated UTF-8: {error}. Correct the file.") from error


def _new_id(line: Line, name: str, known: Any) -> str:
    identifier = line.text(name)
    if not identifier or identifier in known:
        raise line.wrong(name, "an id that no earlier line has", identifier)
    return identifier


def _either(line: Line, name: str, other: str) -> str:
    return other if name not in line.found and other in line.found else name


def _check_known(place: str, field: str, identifier: str, known: Any) -> None:
    if identifier not in known:
        raise ValueError(f"{place}, {field}: no record has the id {identifier!r}. Add it or correct the id.")


def _beir_metadata(attributes: Attributes) -> dict[str, str]:
    # An empty title cannot be told from none in its own field.
    return {name: value for name, value in sorted(attributes.items()) if name != TITLE or not value}


def _attributes(attributes: Attributes) -> dict[str, dict[str, str]]:
    return {"attributes": dict(sorted(attributes.items()))} if attributes else {}
