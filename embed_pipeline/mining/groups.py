"""Training groups: a query with its positives and hard negatives, their file, and the one FlagEmbedding trains on.

Belongs here: the record and its JSON lines, groups of positives alone, pairs of another data set beside the mined ones,
the draw of those that are trained on. Does not belong here: choosing negatives.

FlagEmbedding's reader repeats negatives silently when a group has too few and divides by zero when it has none; in the
file for it a short group is filled with other passages of the corpus instead, drawn with a seed, never a positive.
"""

import json
import random
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embed_pipeline.dataset.formats import RetrievalDataset, read_lines
from embed_pipeline.dataset.sampling import draw_by_hash
from embed_pipeline.mining.settings import ReplaySettings
from embed_pipeline.records import Judgment, Passage, Query


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """A query, its positives sorted by id, its negatives best score first; ids, texts and scores run side by side.

    `negative_sources` says per negative which miners found it, as `dense+bm25`; empty where nobody kept it.
    """

    query_id: str
    query: str
    positive_ids: tuple[str, ...]
    positives: tuple[str, ...]
    positive_scores: tuple[float, ...]
    negative_ids: tuple[str, ...]
    negatives: tuple[str, ...]
    negative_scores: tuple[float, ...]
    negative_sources: tuple[str, ...] = ()


class _GroupLine(BaseModel):
    """FlagEmbedding's field names, and ids."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(min_length=1, description="Query id.")
    query: str = Field(min_length=1, description="Query text.")
    pos: list[str] = Field(min_length=1, description="Texts of the positives.")
    neg: list[str] = Field(description="Texts of the negatives; may be empty.")
    pos_scores: list[float] = Field(description="A score per positive.")
    neg_scores: list[float] = Field(description="A score per negative.")
    pos_ids: list[str] = Field(description="An id per positive.")
    neg_ids: list[str] = Field(description="An id per negative.")
    neg_sources: list[str] = Field([], description="The miners per negative, joined by +; may be left out.")

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        for name, texts, scores, ids in (
            ("pos", self.pos, self.pos_scores, self.pos_ids),
            ("neg", self.neg, self.neg_scores, self.neg_ids),
        ):
            if not len(texts) == len(scores) == len(ids):
                raise ValueError(
                    f"{name}, {name}_scores and {name}_ids must be equally long, found {len(texts)}, {len(scores)} and "
                    f"{len(ids)}"
                )
        if self.neg_sources and len(self.neg_sources) != len(self.neg):
            raise ValueError(
                f"neg_sources must be as long as neg or left out, found {len(self.neg_sources)} and {len(self.neg)}"
            )
        both = sorted(set(self.pos) & set(self.neg))
        if both:
            raise ValueError(f"a positive must not be a negative too, found {both[0]!r}")
        return self


def write_groups(groups: Iterable[TrainingGroup], path: Path) -> None:
    """Writes a JSON line per group, sorted by query id; equal groups give equal bytes. FlagEmbedding reads the file.

    Raises:
        ValueError: a score is not finite.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for group in sorted(groups, key=lambda group: group.query_id):
            line = {
                "id": group.query_id,
                "query": group.query,
                "pos": group.positives,
                "neg": group.negatives,
                "pos_scores": group.positive_scores,
                "neg_scores": group.negative_scores,
                "pos_ids": group.positive_ids,
                "neg_ids": group.negative_ids,
            }
            if group.negative_sources:
                line["neg_sources"] = group.negative_sources
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def read_groups(path: Path) -> tuple[TrainingGroup, ...]:
    """The groups of a file, in its order.

    Raises:
        ValueError: a line is no group; names line and field.
    """
    return tuple(map(_to_group, read_lines(path, _GroupLine, "mined_negatives")))


def _to_group(line: _GroupLine) -> TrainingGroup:
    return TrainingGroup(
        query_id=line.id,
        query=line.query,
        positive_ids=tuple(line.pos_ids),
        positives=tuple(line.pos),
        positive_scores=tuple(line.pos_scores),
        negative_ids=tuple(line.neg_ids),
        negatives=tuple(line.neg),
        negative_scores=tuple(line.neg_scores),
        negative_sources=tuple(line.neg_sources),
    )


JUDGED = 1.0
"""The score of a positive that no encoder scored."""


def positives_of(
    queries: Sequence[Query], judgments: Iterable[Judgment], passage_ids: Container[str]
) -> dict[str, list[str]]:
    """The judged positives (grade 1 or more) per query id, sorted, united over all rows; maybe none.

    Raises:
        ValueError: query ids repeat, or a positive is not among the passages.
    """
    found: dict[str, set[str]] = {query.id: set() for query in queries}
    if len(found) < len(queries):
        raise ValueError(f"mining: {len(queries) - len(found)} query ids repeat. Unite queries of one id.")
    for judgment in judgments:
        if judgment.grade > 0 and judgment.query_id in found:
            if judgment.passage_id not in passage_ids:
                raise ValueError(
                    f"mining: query {judgment.query_id} is judged on passage {judgment.passage_id}, which is not in "
                    "the corpus. Add the passage or remove the judgment."
                )
            found[judgment.query_id].add(judgment.passage_id)
    return {query_id: sorted(ids) for query_id, ids in found.items()}


def positive_groups(
    queries: Sequence[Query], passages: Sequence[Passage], judgments: Iterable[Judgment]
) -> tuple[TrainingGroup, ...]:
    """A group without negatives per query that has a positive, in the order of `queries`; every score is 1.

    Raises:
        ValueError: as `positives_of`.
    """
    text_of = {passage.id: passage.text for passage in passages}
    positives = positives_of(queries, judgments, text_of)
    groups = []
    for query in queries:
        if ids := tuple(positives[query.id]):
            texts = tuple(text_of[one] for one in ids)
            groups.append(TrainingGroup(query.id, query.text, ids, texts, (JUDGED,) * len(ids), (), (), ()))
    return tuple(groups)


PREFIX = "replay:"


@dataclass(frozen=True, slots=True)
class Replay:
    """Groups without negatives, and the passages that they bring into the corpus."""

    groups: tuple[TrainingGroup, ...]
    passages: tuple[Passage, ...]


def draw_replay(
    other: RetrievalDataset, settings: ReplaySettings, *, own_queries: int, own_passages: Sequence[Passage], seed: int
) -> Replay:
    """A seeded draw of the other data set's train queries with their positives; ids start with `replay:`.

    A passage whose text the own corpus holds already keeps its own id.

    Raises:
        ValueError: the other data set has no train query with a relevant passage.
    """
    text_of = {passage.id: passage.text for passage in other.passages}
    relevant = other.relevant()
    answered = [query for query in other.queries_of("train") if any(g > 0 for g in relevant.get(query.id, {}).values())]
    if not answered:
        raise ValueError(
            f"mining.replay: {settings.dataset} has no train query with a relevant passage. Name a data set that has a "
            "train split (evaluation_only data sets have none)."
        )
    wanted = min(len(answered), max(1, round(settings.share * own_queries)))
    drawn = random.Random(f"{seed}:{PREFIX}").sample(sorted(answered, key=lambda query: query.id), wanted)
    id_of = {passage.text: passage.id for passage in own_passages}
    added: dict[str, Passage] = {}
    groups = []
    for query in sorted(drawn, key=lambda query: query.id):
        answers = sorted(passage for passage, grade in relevant[query.id].items() if grade > 0)
        texts = tuple(dict.fromkeys(text_of[passage] for passage in answers))
        for passage, text in ((passage, text_of[passage]) for passage in answers):
            if text not in id_of:
                id_of[text] = PREFIX + passage
                added[text] = Passage(PREFIX + passage, text)
        ids = [id_of[text] for text in texts]
        groups.append(TrainingGroup(PREFIX + query.id, query.text, tuple(ids), texts, (JUDGED,) * len(ids), (), (), ()))
    return Replay(tuple(groups), tuple(sorted(added.values(), key=lambda passage: passage.id)))


def draw_groups(groups: Sequence[TrainingGroup], most: int | None, seed: int) -> list[TrainingGroup]:
    """At most so many of the groups, in their order; those whose query's id has the smallest hash under the seed."""
    return draw_by_hash(groups, most, lambda group: f"{seed}:{group.query_id}")


def write_flagembedding_groups(
    groups: Sequence[TrainingGroup],
    passages: Sequence[Passage],
    path: Path,
    *,
    group_size: int,
    seed: int,
    with_scores: bool,
) -> int:
    """Write a JSON line per group with at least `group_size - 1` negatives; returns how many were filled in.

    Raises:
        ValueError: the corpus has too few passages that are not positives of a query, or scores are asked for and a
            group had to be filled (a passage drawn at random has no teacher score).
    """
    filled = 0
    with path.open("w", encoding="utf-8") as file:
        for group in groups:
            negatives = list(group.negatives)
            missing = group_size - 1 - len(negatives)
            if missing > 0:
                if with_scores:
                    raise ValueError(
                        f"query {group.query_id}: {len(negatives)} mined negatives, distillation needs "
                        f"{group_size - 1} with scores. Widen the mining range or lower train_group_size."
                    )
                taken = {*group.positives, *negatives}
                free = [passage.text for passage in passages if passage.text not in taken]
                if len(free) < missing:
                    raise ValueError(
                        f"query {group.query_id}: needs {missing} more negatives, the corpus has {len(free)} left. "
                        "Lower train_group_size."
                    )
                negatives += random.Random(f"{seed}:{group.query_id}").sample(free, missing)
                filled += missing
            record: dict[str, object] = {"query": group.query, "pos": list(group.positives), "neg": negatives}
            if with_scores:
                record |= {"pos_scores": list(group.positive_scores), "neg_scores": list(group.negative_scores)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return filled
