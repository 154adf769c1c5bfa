"""Which training groups are trained on, and the file in which FlagEmbedding's trainer reads them.

Its reader repeats negatives silently when a group has too few and divides by zero when it has none; here a short group
is filled with other passages of the corpus instead, drawn with a seed, never a positive.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from embed_pipeline.dataset.sampling import draw_by_hash
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.records import Passage


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
