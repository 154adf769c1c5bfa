"""Folders of queries.jsonl, corpus.jsonl and judgments: BEIR's qrels/*.tsv, or one qrels.jsonl.

Belongs here: both layouts. In BEIR a query's split is the file its judgments are in, so a query without judgments is
in none.
"""

import csv
import io
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.exchange.collecting import Collector, Line, read_lines, write_lines, write_text
from embed_pipeline.dataset.exchange.holding import Holding
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.pairs_file import SPLIT_NAMES, PairsContent, parse_grade
from embed_pipeline.dataset.raw_text import open_unpacked
from embed_pipeline.records import Attributes, Passage, Split

BEIR = Holding(queries="judged")
JSONL_QRELS = Holding()
TITLE = "title"
QRELS_HEADER = ["query-id", "corpus-id", "score"]
_SPLIT_FILES: dict[Split, str] = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}


def read_beir(folder: Path) -> PairsContent:
    """The content of corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv; queries in no qrels are left out.

    A passage's text is its title and its text, as BEIR searches it; the title alone is an attribute as well. Judgments
    of ids that the folder does not have are left out and counted, as public sets hold some.

    Raises:
        ValueError: a file is missing or malformed, an id is there twice, a query is in two splits, or no judgment names
            ids of the folder.
    """
    collector = Collector(folder)
    passages = _read_corpus(folder, collector, lambda line: "_id", "metadata")
    queries: dict[str, Line] = {}
    for line in read_lines(folder / "queries.jsonl"):
        queries[_new_id(line, "_id", queries)] = line
        line.text("text")
    files = sorted((folder / "qrels").glob("*.tsv"))
    if not files:
        raise ValueError(f"{folder / 'qrels'}: expected train.tsv, dev.tsv or test.tsv, found none. Put one there.")
    judged: dict[str, Split] = {}
    for file in files:
        if file.stem not in SPLIT_NAMES:
            raise ValueError(f"{file}: expected train.tsv, dev.tsv or test.tsv. Rename or remove the file.")
        for place, query, passage, found in _read_qrels(file):
            grade = _judgment(collector, place, (query, queries), (passage, passages), found)
            if grade is None:
                continue
            line = queries[query]
            collector.query(line.place, query, line.text("text"), line.attributes("metadata"))
            split = SPLIT_NAMES[file.stem]
            if judged.setdefault(query, split) != split:
                raise ValueError(
                    f"{place}: query {query} is in {judged[query]} and in {split}; expected one split. "
                    "Remove it from one."
                )
            collector.split(place, query, split)
            collector.judge(query, passage, grade)
    if not judged:
        raise ValueError(f"{folder / 'qrels'}: expected judgments of ids in this folder, found none. Correct the ids.")
    left = len(queries) - len(judged)
    return collector.content(*[f"{left} queries are in no qrels file and have no split"] if left else [])


def write_beir(dataset: RetrievalDataset, folder: Path) -> None:
    """Write the three parts into a new folder; attributes other than the title go to metadata."""
    (folder / "qrels").mkdir(parents=True)
    write_lines(folder / "corpus.jsonl", map(_beir_passage, dataset.passages))
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

    Ids may be called id or _id, query_id, passage_id or corpus_id; grade or score, 1 where it is missing; split, title
    (which goes before the text, as in `read_beir`) and attributes are optional. Judgments of unknown ids are counted.

    Raises:
        ValueError: a file is missing or malformed, or an id is there twice.
    """
    collector = Collector(folder)
    passages = _read_corpus(folder, collector, lambda line: _either(line, "id", "_id"), "attributes")
    queries: set[str] = set()
    for line in read_lines(folder / "queries.jsonl"):
        identifier = _new_id(line, _either(line, "id", "_id"), queries)
        queries.add(collector.query(line.place, identifier, line.text("text"), line.attributes("attributes")))
        split = line.optional_text("split")
        if split is not None:
            collector.split(line.place, identifier, split)
    own = folder / "judgments.jsonl"
    for line in read_lines(own if own.is_file() else folder / "qrels.jsonl"):
        query = line.identifier("query_id")
        passage = line.identifier(_either(line, "passage_id", "corpus_id"))
        name = _either(line, "grade", "score")
        found = line.found.get(name, 1)
        grade = None if isinstance(found, str) else parse_grade(found)
        if grade is None:
            raise line.wrong(name, "a whole number", found)
        grade = _judgment(collector, line.place, (query, queries), (passage, passages), grade)
        if grade is not None:
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


def _read_corpus(
    folder: Path, collector: Collector, id_field: Callable[[Line], str], attributes_field: str
) -> set[str]:
    """Collect the passages of corpus.jsonl; their ids."""
    passages: set[str] = set()
    for line in read_lines(folder / "corpus.jsonl"):
        title, text = line.optional_text(TITLE), line.text("text")
        attributes = line.attributes(attributes_field) | ({TITLE: title} if title else {})
        # Where somebody has put the title in front already, it does not come twice.
        whole = f"{title} {text}" if title and text and not text.startswith(title) else text or title or ""
        passages.add(collector.passage(line.place, _new_id(line, id_field(line), passages), whole, attributes))
    return passages


def _judgment(
    collector: Collector, place: str, query: tuple[str, Container[str]], passage: tuple[str, Container[str]], grade: int
) -> int | None:
    """The grade from 0, None where an id is not known; the collector notes both."""
    for what, (identifier, known) in (("query", query), ("passage", passage)):
        if identifier not in known:
            collector.note(f"judgments of a {what} that is not there are left out", f"{place}, {identifier!r}")
            return None
    if grade < 0:
        collector.note("judgments below 0 are read as 0, judged and not relevant", place)
    return max(grade, 0)


def _read_qrels(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """(place, query id, passage id, grade) of every line: BEIR's three columns with a header, or TREC's four."""
    with open_unpacked(path) as file:
        for number, raw in enumerate(file, start=1):
            place = f"{path}, line {number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{place}: expected tab-separated UTF-8: {error}. Correct the line.") from error
            row = line.split("\t") if "\t" in line else line.split()
            if number == 1 and parse_grade(row[-1] if row else "") is None:
                if row != QRELS_HEADER:
                    raise ValueError(f"{place}: expected the header {QRELS_HEADER}, found {row}. Correct it.")
                continue
            if not row:
                continue
            if len(row) not in (3, 4):
                raise ValueError(f"{place}: expected {len(QRELS_HEADER)} columns, found {len(row)}. Correct it.")
            grade = parse_grade(row[-1])
            if grade is None:
                raise ValueError(f"{place}, score: expected a whole number, found {row[-1]!r}. Correct it.")
            yield place, _unquoted(row[0]), _unquoted(row[-2]), grade


def _unquoted(cell: str) -> str:
    """An id as our own writer quotes it, where it holds a delimiter or a quotation mark."""
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _new_id(line: Line, name: str, known: Container[str]) -> str:
    identifier = line.identifier(name)
    if not identifier or identifier in known:
        raise line.wrong(name, "an id that no earlier line has", identifier)
    return identifier


def _either(line: Line, name: str, other: str) -> str:
    return other if name not in line.found and other in line.found else name


def _beir_passage(passage: Passage) -> dict[str, Any]:
    """The passage as it is read back: the title in its own field where the text begins with it, else in metadata."""
    attributes, text = dict(sorted(passage.attributes.items())), passage.text
    title = attributes.get(TITLE, "")
    rest = text.removeprefix(f"{title} ")
    if not title or rest == text or not rest or rest.startswith(title):
        return {"_id": passage.id, TITLE: "", "text": text, "metadata": attributes}
    del attributes[TITLE]
    return {"_id": passage.id, TITLE: title, "text": rest, "metadata": attributes}


def _attributes(attributes: Attributes) -> dict[str, dict[str, str]]:
    return {"attributes": dict(sorted(attributes.items()))} if attributes else {}
