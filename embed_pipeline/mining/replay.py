"""Pairs of another data set beside the mined groups, so that training does not forget them.

Belongs here: drawing them and giving them ids of their own. Does not belong here: mining.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.mining.positives import JUDGED
from embed_pipeline.mining.settings import ReplaySettings
from embed_pipeline.records import Passage

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
