"""What a sweep measured and what it led to, as a JSON file beside the weights.

Belongs here: the file. Does not belong here: the rule (promotion.py), measuring.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from embed_pipeline.merging.promotion import MergePoint, Promotion

PROMOTION_FILE = "promotion.json"


@dataclass(frozen=True, slots=True)
class Sweep:
    """The mixtures that were measured, ascending by alpha, and the one that was taken."""

    points: tuple[MergePoint, ...]
    promotion: Promotion


def write_sweep(points: Sequence[MergePoint], promotion: Promotion, directory: Path) -> None:
    """Write promotion.json; equal sweeps give equal bytes."""
    ordered = sorted(points, key=lambda point: point.alpha)
    content = {"promotion": asdict(promotion), "points": [asdict(point) for point in ordered]}
    (directory / PROMOTION_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_sweep(directory: Path) -> Sweep:
    """The sweep of a merged checkpoint."""
    content = json.loads((directory / PROMOTION_FILE).read_text(encoding="utf-8"))
    points = tuple(MergePoint(**point) for point in content["points"])
    return Sweep(points, Promotion(**content["promotion"]))
