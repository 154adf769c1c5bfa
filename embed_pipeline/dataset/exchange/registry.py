"""Every format by its name: what it holds, how to recognise, read and write it.

Belongs here: the table and the recognition. Does not belong here: any format's layout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.exchange.collecting import kind_of, read_lines
from embed_pipeline.dataset.exchange.delimited_text import is_tab_delimited
from embed_pipeline.dataset.exchange.flagembedding import HOLDING as FLAGEMBEDDING
from embed_pipeline.dataset.exchange.flagembedding import read_flagembedding, write_flagembedding
from embed_pipeline.dataset.exchange.holding import Holding
from embed_pipeline.dataset.exchange.json_objects import (
    LLAMA_INDEX,
    RAG_JSON,
    read_llama_index,
    write_llama_index,
    write_rag_json,
)
from embed_pipeline.dataset.exchange.qrels_folders import (
    BEIR,
    JSONL_QRELS,
    read_beir,
    read_jsonl_qrels,
    write_beir,
    write_jsonl_qrels,
)
from embed_pipeline.dataset.exchange.table import HOLDING as TABLE
from embed_pipeline.dataset.exchange.table import read_question_table, write_question_table
from embed_pipeline.dataset.exchange.table_files import (
    OTHER_SPREADSHEETS,
    TABLE_SUFFIXES,
    WRITTEN_SUFFIXES,
    Table,
    read_table,
    some,
)
from embed_pipeline.dataset.exchange.tuples import HOLDING as TUPLES
from embed_pipeline.dataset.exchange.tuples import read_tuples, write_tuples
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.pairs_file import PairsContent, read_pairs_file
from embed_pipeline.dataset.raw_text import NotOneJsonValue, parse_json, read_bytes
from embed_pipeline.dataset.settings import TableColumns
from embed_pipeline.nearest import nearest_text

_PROBED_LINES = 100


@dataclass(frozen=True, slots=True)
class Format:
    """One format. `folder`: it is a folder of files. `suffixes`: the names a file of it may have, .gz taken off."""

    name: str
    what: str
    holding: Holding
    suffixes: tuple[str, ...]
    folder: bool
    read: Callable[[Path, TableColumns | None], PairsContent]
    write: Callable[[RetrievalDataset, Path, bool], int | None]
    """The third: whether cells that a spreadsheet would take for formulas are guarded; gives how many there are."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The format that a file looks like, how sure (0 to 1), and what was found that says so.

    `table` is what was read to see it, where that was the whole table.
    """

    format: Format
    score: float
    reason: str
    table: Table | None = None


FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        Format(
            "flagembedding",
            "JSON lines: query, pos, neg",
            FLAGEMBEDDING,
            (".jsonl", ".json"),
            False,
            lambda path, _: read_flagembedding(path),
            lambda dataset, path, _: write_flagembedding(dataset, path),
        ),
        Format(
            "rag_json",
            "a JSON object: queries, corpus, relevant_docs, negative_docs, reference_answers",
            RAG_JSON,
            (".json",),
            False,
            lambda path, _: read_pairs_file(path),
            lambda dataset, path, _: write_rag_json(dataset, path),
        ),
        Format(
            "llama_index",
            "LlamaIndex's EmbeddingQAFinetuneDataset",
            LLAMA_INDEX,
            (".json",),
            False,
            lambda path, _: read_llama_index(path),
            lambda dataset, path, _: write_llama_index(dataset, path),
        ),
        Format(
            "beir",
            "a folder: corpus.jsonl, queries.jsonl, qrels/*.tsv",
            BEIR,
            (),
            True,
            lambda path, _: read_beir(path),
            lambda dataset, path, _: write_beir(dataset, path),
        ),
        Format(
            "sentence_transformers",
            "rows of anchor, positive, negative",
            TUPLES,
            (".jsonl", ".parquet"),
            False,
            read_tuples,
            lambda dataset, path, guard: write_tuples(dataset, path, guard=guard),
        ),
        Format(
            "autotrain",
            "a CSV of anchor, positive, negative",
            TUPLES,
            (".csv",),
            False,
            read_tuples,
            lambda dataset, path, guard: write_tuples(dataset, path, guard=guard),
        ),
        Format(
            "jsonl_qrels",
            "a folder: queries.jsonl, corpus.jsonl, qrels.jsonl",
            JSONL_QRELS,
            (),
            True,
            lambda path, _: read_jsonl_qrels(path),
            lambda dataset, path, _: write_jsonl_qrels(dataset, path),
        ),
        Format(
            "table",
            "a table of questions and passages",
            TABLE,
            (*WRITTEN_SUFFIXES, ".jsonl"),
            False,
            read_question_table,
            lambda dataset, path, guard: write_question_table(dataset, path, guard=guard),
        ),
    )
}


def format_of(name: str) -> Format:
    """The format of that name. Raises ValueError, with the nearest name, where there is none."""
    if name not in FORMATS:
        nearest = nearest_text(name, list(FORMATS))
        hint = f" Nearest: {nearest.text!r}." if nearest else ""
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, found {name!r}.{hint} Correct the name.")
    return FORMATS[name]


def detect_format(path: Path, columns: TableColumns | None = None) -> Detection:
    """The format that a file or folder looks like, by its name and its first record; `columns` as for `read_table`.

    Raises:
        ValueError: there is no such file, or it looks like none of the formats; says what was found.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder. Correct the path.")
    if path.is_dir():
        return _detect_folder(path)
    kind = kind_of(path)
    if kind == ".jsonl":
        return _detect_fields(path, *_first_fields(path))
    if kind == ".json":
        try:
            found = parse_json(read_bytes(path), str(path))
        except NotOneJsonValue:  # JSON lines in a file called .json, as FlagEmbedding's examples are
            return _detect_fields(path, *_first_fields(path))
        return _detect_object(path, found) if isinstance(found, dict) else _detect_fields(path, *_first_fields(path))
    if kind in (*TABLE_SUFFIXES, *OTHER_SPREADSHEETS) or is_tab_delimited(path):
        table = read_table(path, columns)
        headers = table.headers
        if {"anchor", "positive"} <= set(headers):
            name = "autotrain" if kind == ".csv" else "sentence_transformers"
            return Detection(FORMATS[name], 0.95, f"columns {some(headers)}", table)
        return Detection(FORMATS["table"], 0.6, f"a {kind} table with columns {some(headers)}", table)
    raise _unknown(path, f"a file called *{kind}")


def read_content(path: Path, name: str | None = None, columns: TableColumns | None = None) -> PairsContent:
    """The content of a file or folder of the named format, or of the one it looks like.

    Raises:
        ValueError: as `format_of`, `detect_format` and the format's reader.
    """
    return (detect_format(path, columns).format if name is None else format_of(name)).read(path, columns)


def _detect_folder(path: Path) -> Detection:
    names = sorted(entry.name for entry in path.iterdir())
    if {"corpus.jsonl", "queries.jsonl", "qrels"} <= set(names):
        return Detection(FORMATS["beir"], 1.0, "corpus.jsonl, queries.jsonl and qrels/")
    if {"corpus.jsonl", "queries.jsonl"} <= set(names) and {"qrels.jsonl", "judgments.jsonl"} & set(names):
        return Detection(FORMATS["jsonl_qrels"], 1.0, "corpus.jsonl, queries.jsonl and their judgments")
    raise _unknown(path, f"a folder of {names[:10]}")


def _detect_object(path: Path, found: dict[str, Any]) -> Detection:
    keys = set(found)
    if not {"queries", "corpus", "relevant_docs"} <= keys:
        if {"query", "pos"} <= keys:  # one line
            return _detect_fields(path, sorted(keys), "one JSON line")
        raise _unknown(path, f"a JSON object of {sorted(keys)[:10]}")
    name = "llama_index" if "mode" in keys else "rag_json"
    return Detection(FORMATS[name], 1.0, f"a JSON object of {', '.join(sorted(keys))}")


def _first_fields(path: Path) -> tuple[list[str], str]:
    # A field that is null may be left out of a line.
    first = [line.found for line in islice(read_lines(path), _PROBED_LINES)]
    fields = sorted({name for found in first for name in found})
    return fields, "JSON lines" if first else "no lines"


def _detect_fields(path: Path, fields: list[str], what: str) -> Detection:
    reason = f"{what} with {some(fields)}"
    if {"query", "pos"} <= set(fields):
        return Detection(FORMATS["flagembedding"], 1.0, reason)
    if {"anchor", "positive"} <= set(fields):
        return Detection(FORMATS["sentence_transformers"], 1.0, reason)
    if len(fields) >= 2:
        return Detection(FORMATS["table"], 0.5, reason)
    raise _unknown(path, reason)


def _unknown(path: Path, found: str) -> ValueError:
    return ValueError(
        f"{path}: expected one of the formats {', '.join(FORMATS)}, found {found}. Name the format, or "
        "convert the file."
    )
