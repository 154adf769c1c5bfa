"""FlagEmbedding's training lines: {"query", "pos", "neg", "pos_scores", "neg_scores", "prompt", "id"}.

Belongs here: that layout. Scores that are whole numbers above 0 are grades; a teacher's scores (0.87) are not, and are
noted. `neg` is judged irrelevant: grade 0.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embed_pipeline.dataset.exchange.collecting import Collector, Line, read_lines, write_lines
from embed_pipeline.dataset.exchange.holding import Holding
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.pairs_file import PairsContent

PROMPT = "prompt"
HOLDING = Holding(
    passage_ids=False,
    splits=False,
    queries="answered",
    unjudged_passages=False,
    blank_passages=False,
    query_attributes=(PROMPT,),
    passage_attributes=(),
)


def read_flagembedding(path: Path) -> PairsContent:
    """The queries, ids from `id` or the text, and their passages, ids from the texts.

    Raises:
        ValueError: a line is no object, a field of another type (a text where a list belongs), or scores do not fit.

    A query without a passage stays, without a judgment: cleaning leaves it out with the reason.
    """
    collector, teacher_scores = Collector(path.parent), 0
    for line in read_lines(path):
        identifier = None if line.found.get("id") is None else line.identifier("id")
        prompt = line.optional_text(PROMPT)
        query = collector.query(line.place, identifier, line.text("query"), {} if prompt is None else {PROMPT: prompt})
        positives = line.texts("pos")
        if not any(text.strip() for text in positives):
            collector.note("queries have no text in pos and no judgment", line.place)
        scores = _scores(line, "pos_scores", len(positives))
        graded = all(float(score).is_integer() and score >= 1 for score in scores)
        teacher_scores += len(scores) * (not graded)
        negatives = line.texts("neg")
        teacher_scores += sum(score != 0 for score in _scores(line, "neg_scores", len(negatives)))
        grades = [int(score) for score in scores] if graded and scores else [1] * len(positives)
        for text, grade in zip([*positives, *negatives], [*grades, *[0] * len(negatives)], strict=True):
            if not text.strip():
                collector.note("texts of pos or neg are empty and left out", line.place)
                continue
            collector.judge(query, collector.passage(line.place, None, text, {}), grade)
    notes = [f"{teacher_scores} scores of a teacher model are not kept"] if teacher_scores else []
    return collector.content(*notes)


def write_flagembedding(dataset: RetrievalDataset, path: Path) -> None:
    """Write one line a query, in the order of the ids; pos_scores and neg_scores only where a grade is above 1."""
    write_lines(path, _lines(dataset))


def _lines(dataset: RetrievalDataset) -> Iterator[dict[str, Any]]:
    texts = {passage.id: passage.text for passage in dataset.passages}
    relevant = dataset.relevant()
    graded = any(judgment.grade > 1 for judgment in dataset.judgments)
    for query in dataset.queries:
        judged = relevant[query.id]
        positives = [passage for passage, grade in judged.items() if grade > 0]
        negatives = [passage for passage, grade in judged.items() if grade == 0]
        record: dict[str, Any] = {
            "id": query.id,
            "query": query.text,
            "pos": [texts[passage] for passage in positives],
            "neg": [texts[passage] for passage in negatives],
        }
        if graded:
            record |= {"pos_scores": [judged[passage] for passage in positives], "neg_scores": [0] * len(negatives)}
        yield record | {name: query.attributes[name] for name in (PROMPT,) if name in query.attributes}


def _scores(line: Line, name: str, count: int) -> list[float]:
    value = line.found.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(type(item) in (int, float) for item in value):
        raise line.wrong(name, "a list of numbers", value)
    if len(value) != count:
        raise line.wrong(name, f"{count} numbers, one a text", value)
    return value
