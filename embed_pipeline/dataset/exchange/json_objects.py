"""One JSON object a data set: the "RAG data set" and LlamaIndex's EmbeddingQAFinetuneDataset.

Belongs here: writing both, reading the second. The first is read by pairs_file.
"""

import json
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.exchange.collecting import write_text
from embed_pipeline.dataset.exchange.holding import Holding
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.pairs_file import REFERENCE_ANSWER, PairsContent, load_json_object, texts_by_id

RAG_JSON = Holding()
LLAMA_INDEX = Holding(splits=False, grades=False, negatives="none", query_attributes=(), passage_attributes=())


def write_rag_json(dataset: RetrievalDataset, path: Path) -> None:
    """Write queries, corpus, relevant_docs and, where there are any, the optional keys that `read_pairs_file` names."""
    judged = dataset.relevant()
    answers = {q.id: q.attributes[REFERENCE_ANSWER] for q in dataset.queries if REFERENCE_ANSWER in q.attributes}
    attributes = {
        q.id: {name: value for name, value in sorted(q.attributes.items()) if name != REFERENCE_ANSWER}
        for q in dataset.queries
    }
    optional = {
        "negative_docs": {query: [p for p, grade in grades.items() if grade == 0] for query, grades in judged.items()},
        "reference_answers": answers,
        "query_attributes": attributes,
        "passage_attributes": {p.id: dict(sorted(p.attributes.items())) for p in dataset.passages},
    }
    _write(
        path,
        {
            "queries": {q.id: q.text for q in dataset.queries},
            "corpus": {p.id: p.text for p in dataset.passages},
            "relevant_docs": {query: _positives(grades) for query, grades in judged.items()},
            "query_splits": {q.id: q.split for q in dataset.queries},
        }
        | {
            key: kept
            for key, values in optional.items()
            if (kept := {name: value for name, value in values.items() if value or key == "reference_answers"})
        },
    )


def write_llama_index(dataset: RetrievalDataset, path: Path) -> None:
    """Write queries, corpus, relevant_docs and mode."""
    _write(
        path,
        {
            "queries": {q.id: q.text for q in dataset.queries},
            "corpus": {p.id: p.text for p in dataset.passages},
            "relevant_docs": {query: list(grades) for query, grades in dataset.relevant().items()},
            "mode": "text",
        },
    )


def read_llama_index(path: Path) -> PairsContent:
    """The content of {"queries", "corpus", "relevant_docs": {query id: [passage id]}, "mode": "text"}.

    Raises:
        ValueError: a key is missing or of another shape, an id is unknown, or the mode is not text.
    """
    found = load_json_object(path)
    if found.get("mode", "text") != "text":
        raise ValueError(f"{path}, mode: expected text, found {found['mode']!r}. Other modes hold no texts.")
    for key in ("queries", "corpus", "relevant_docs"):
        if not isinstance(found.get(key), dict):
            raise ValueError(f"{path}, {key}: expected an object by id, found {found.get(key)!r:.80}. Add it.")
    queries, corpus = (texts_by_id(path, key, found[key]) for key in ("queries", "corpus"))
    for query, passages in found["relevant_docs"].items():
        place = f"{path}, relevant_docs, {query}"
        if query not in queries:
            raise ValueError(f"{place}: no query has this id. Add the query or correct the id.")
        if not isinstance(passages, list) or not all(isinstance(p, str) for p in passages):
            raise ValueError(f"{place}: expected a list of passage ids, found {passages!r:.80}. Correct the file.")
        unknown = next((p for p in passages if p not in corpus), None)
        if unknown is not None:
            raise ValueError(f"{place}: the corpus has no {unknown!r}. Add the passage or correct the id.")
    relevant = {query: dict.fromkeys(passages, 1) for query, passages in found["relevant_docs"].items()}
    return PairsContent(queries=queries, corpus=corpus, relevant=relevant, attributes={})


def _positives(grades: dict[str, int]) -> list[str] | dict[str, int]:
    positive = {passage: grade for passage, grade in grades.items() if grade > 0}
    return list(positive) if set(positive.values()) <= {1} else positive


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
