"""Small task folders of every type, and a data set, whose texts are random but planted with an answer."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.records import Judgment, Passage, Query

TYPES = ("retrieval", "reranking", "classification", "clustering", "pair_classification", "sts")


def random_dataset(seed: int = 0, queries: int = 20, passages: int = 60) -> RetrievalDataset:
    """Queries with one to three graded passages each, one of them sharing words with the query; no two texts equal."""
    chance = random.Random(seed)
    texts = [_sentence(chance, "abcdefghij") + f" {number}" for number in range(passages)]
    judgments = [
        Judgment(f"q{query:03}", f"p{passage:03}", chance.choice([0, 1, 2, 3]) if at else chance.choice([1, 2, 3]))
        for query in range(queries)
        for at, passage in enumerate(chance.sample(range(passages), 3))
    ]
    first = {judgment.query_id: int(judgment.passage_id[1:]) for judgment in reversed(judgments)}
    return build_dataset(
        [Query(id, f"{texts[passage][:12]} {_sentence(chance, 'xyz')}", "test") for id, passage in first.items()],
        [Passage(f"p{number:03}", text) for number, text in enumerate(texts)],
        judgments,
    )


def write_task(folder: Path, type: str, *, seed: int = 0, **settings: object) -> Path:
    """A task folder of the type, named after it: labels follow the letters of a text, so vectors can tell them."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    task = {"name": f"small-{type}", "type": type, "language": "en", **settings}
    (folder / "task.yaml").write_text(json.dumps(task), encoding="utf-8")
    labelled = [(label, _sentence(chance, of)) for _ in range(12) for label, of in (("a", "abcd"), ("b", "wxyz"))]
    match type:
        case "classification":
            for split, rows in (("train", labelled[:12]), ("test", labelled[12:])):
                write_rows(folder / f"{split}.jsonl", [{"text": text, "label": label} for label, text in rows])
        case "clustering":
            write_rows(folder / "test.jsonl", [{"sentences": text, "labels": label} for label, text in labelled])
        case "pair_classification" | "sts":
            rows = []
            for number in range(24):
                kind = number % 3
                other = _sentence(chance, "abcdefgh" if kind else "stuvwxyz")
                answer = {"labels": int(kind > 0)} if type == "pair_classification" else {"score": kind + number / 100}
                rows.append({"sentence1": _sentence(chance, "abcdefgh"), "sentence2": other, **answer})
            write_rows(folder / "test.jsonl", rows)
        case "retrieval" | "reranking":
            dataset = random_dataset(seed)
            write_rows(folder / "queries.jsonl", [{"id": query.id, "text": query.text} for query in dataset.queries])
            write_rows(folder / "corpus.jsonl", [{"id": item.id, "text": item.text} for item in dataset.passages])
            grades = [{"query-id": j.query_id, "corpus-id": j.passage_id, "score": j.grade} for j in dataset.judgments]
            write_rows(folder / "qrels.jsonl", grades)
            if type == "reranking":
                ids = [passage.id for passage in dataset.passages]
                judged = dataset.relevant()
                lists = [
                    {"query-id": id, "corpus-ids": sorted({*judged[id], *chance.sample(ids, 10)})} for id in judged
                ]
                write_rows(folder / "top_ranked.jsonl", lists)
    return folder


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _sentence(chance: random.Random, letters: str) -> str:
    return " ".join("".join(chance.choices(letters, k=5)) for _ in range(4))
