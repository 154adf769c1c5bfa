"""The retrieval task of validation: its file, its sample of the corpus, its measures.

Belongs here: everything without a model. Does not belong here: vectors and callbacks (validation.py), the measures that
are published (evaluation, which this stage must not import; a test holds these against them).
"""

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.dataset.sampling import draw_with
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.training.settings import ValidationSettings

VALIDATION_FILE = "validation.jsonl"


@dataclass(frozen=True, slots=True)
class ValidationQuery:
    """A validation query and the grades of its relevant passages, by passage id."""

    id: str
    text: str
    relevant: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ValidationTask:
    """Queries against texts; `relevant[i]` maps rows of `texts` to the grades of query i. No text stands twice."""

    queries: tuple[str, ...]
    texts: tuple[str, ...]
    relevant: tuple[Mapping[int, int], ...]


def write_validation(queries: Iterable[Query], judgments: Iterable[Judgment], path: Path) -> int:
    """Write the queries that have a relevant passage, by id; returns how many."""
    relevant: dict[str, dict[str, int]] = {}
    for judgment in judgments:
        if judgment.grade > 0:
            relevant.setdefault(judgment.query_id, {})[judgment.passage_id] = judgment.grade
    found = sorted((query for query in queries if query.id in relevant), key=lambda query: query.id)
    with path.open("w", encoding="utf-8") as file:
        for query in found:
            record = {"id": query.id, "text": query.text, "relevant": dict(sorted(relevant[query.id].items()))}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return len(found)


def read_validation(path: Path) -> tuple[ValidationQuery, ...]:
    """The queries of a file of write_validation, in its order."""
    return tuple(ValidationQuery(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())


def build_task(
    queries: Sequence[ValidationQuery], passages: Sequence[Passage], settings: ValidationSettings, *, seed: int
) -> ValidationTask:
    """The task over the whole corpus, or over a seeded sample of it and all relevant passages.

    Raises:
        ValueError: there is no validation query, or one of its passages is not in the corpus.
    """
    if not queries:
        raise ValueError(
            "recipe, training.validation: the data set has no validation query with a relevant passage. Raise the "
            "share of the validation split, or remove the section."
        )
    chance = random.Random(f"{seed}:validation")
    if len(queries) > settings.max_queries:
        queries = [queries[at] for at in sorted(chance.sample(range(len(queries)), settings.max_queries))]
    text_by_id = {passage.id: passage.text for passage in passages}
    try:
        graded = [{text_by_id[key]: grade for key, grade in query.relevant.items()} for query in queries]
    except KeyError as error:
        raise ValueError(
            f"validation: passage {error} is judged but not in the corpus. Run cleaned_qa again."
        ) from error
    texts = list(dict.fromkeys(text_by_id.values()))
    if len(texts) > settings.max_passages:
        drawn = draw_with({text for found in graded for text in found}, texts, settings.max_passages, chance)
        texts = [text for text in texts if text in drawn]
    row_by_text = {text: row for row, text in enumerate(texts)}
    relevant = tuple({row_by_text[text]: grade for text, grade in found.items()} for found in graded)
    return ValidationTask(tuple(query.text for query in queries), tuple(texts), relevant)


def measure_ranking(measure: str, ranked: Sequence[int], relevant: Mapping[int, int]) -> float:
    """One query's value of `measure` (as ndcg@10) for the rows of its first hits, best first."""
    name, _, cutoff = measure.partition("@")
    top = list(ranked)[: int(cutoff)]
    found = [rank for rank, row in enumerate(top) if row in relevant]
    if name == "precise":
        return float(len(found) == len(relevant))
    if name == "hit_rate":
        return float(bool(found))
    if name == "recall":
        return len(found) / len(relevant)
    if name == "mrr":
        return 1 / (found[0] + 1) if found else 0.0
    gain = sum(relevant[top[rank]] / math.log2(rank + 2) for rank in found)
    ideal = sorted(relevant.values(), reverse=True)[: int(cutoff)]
    return gain / sum(grade / math.log2(rank + 2) for rank, grade in enumerate(ideal))
