"""Which of a data set's checkpoints users should take, why, and the files that say so.

Belongs here: the rule over whole variants, its record and the model card. Does not belong here: the rule over mixtures
of one variant and measuring (promotion.py).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROMOTED_FILE = "promoted.json"
CARD_FILE = "README.md"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One checkpoint: its value on validation, its mean over the general suites, those of its base, 0 to 1."""

    variant: str
    trained: bool
    target: float
    general: float
    base_target: float
    base_general: float
    lost: float | None = None
    """By the general suite that lost most against the base; None: earlier versions kept the means alone."""

    @property
    def gain(self) -> float:
        """On the target, against its base."""
        return self.target - self.base_target

    @property
    def general_loss(self) -> float:
        """Of the general suite that lost most against the base; negative where every one gained."""
        return self.base_general - self.general if self.lost is None else self.lost

    @property
    def general_points(self) -> str:
        """The same as a change in points, for people."""
        return f"{0 - 100 * self.general_loss:+.1f}"  # 0 minus 0 has no sign


@dataclass(frozen=True, slots=True)
class Promoted:
    """The checkpoint to take, why, and what it was chosen from."""

    chosen: str
    reason: str
    kept_gain: float | None
    """Of the largest gain of any trained candidate; None where none gained."""
    candidates: tuple[Candidate, ...]


def promote(candidates: Sequence[Candidate], *, loss_limit: float) -> Promoted:
    """The best on the target of those that lose at most `loss_limit` on every general suite against their base.

    Ties: the higher general value, then the name. An untrained candidate loses nothing. Where every candidate was
    trained and loses more, the one that loses least, and the reason says so.

    Raises:
        ValueError: there is no candidate.
    """
    if not candidates:
        raise ValueError("promotion: expected at least one checkpoint, found none. Add a variant with a local encoder.")
    fitting = [one for one in candidates if one.general_loss <= loss_limit + 1e-9]
    if fitting:
        best = min(fitting, key=lambda one: (-one.target, -one.general, one.variant))
    else:
        best = min(candidates, key=lambda one: (one.general_loss, -one.target, one.variant))
    gains = [one.gain for one in candidates if one.trained and one.gain > 0]
    kept = best.gain / max(gains) if gains else None
    refused = sorted((one for one in candidates if one not in fitting), key=lambda one: -one.target)
    return Promoted(
        best.variant, _explain(best, refused, loss_limit, kept, within=bool(fitting)), kept, tuple(candidates)
    )


def write_promoted(promoted: Promoted, directory: Path, *, dataset: str, recipe: str, headline: str) -> None:
    """Write promoted.json and the model card; equal content gives equal bytes."""
    content = json.dumps(asdict(promoted), indent=1)
    (directory / PROMOTED_FILE).write_text(content + "\n", encoding="utf-8")
    rows = "\n".join(
        f"| {one.variant} | {100 * one.target:.1f} | {100 * one.gain:+.1f} | {100 * one.general:.1f} "
        f"| {one.general_points} |"
        for one in sorted(promoted.candidates, key=lambda one: -one.target)
    )
    card = f"""# {promoted.chosen}, the checkpoint to take for {dataset}

{recipe}

{promoted.reason}

| variant | {headline} on validation, % | against its base | general suites, nDCG@10, % | the one that lost most |
|---|---|---|---|---|
{rows}

Chosen on validation queries and the general suites; the test queries of {dataset} did not count. The folder `model`
loads with sentence-transformers (`SentenceTransformer("model")`), FlagEmbedding and transformers.
"""
    (directory / CARD_FILE).write_text(card, encoding="utf-8")


def read_promoted(directory: Path) -> Promoted:
    """The choice of a promoted checkpoint."""
    content = json.loads((directory / PROMOTED_FILE).read_text(encoding="utf-8"))
    return Promoted(**{**content, "candidates": tuple(Candidate(**one) for one in content["candidates"])})


def _explain(
    best: Candidate, refused: Sequence[Candidate], loss_limit: float, kept: float | None, *, within: bool
) -> str:
    told = f"target {100 * best.gain:+.1f}, general {best.general_points} points against its base"
    share = f", {100 * kept:.0f} % of the largest gain" if kept is not None and best.trained else ""
    limit = f"{100 * loss_limit:.1f} points"
    if not within:
        return f"{best.variant}: every checkpoint loses more than {limit} on a general suite, this one least ({told})."
    first = (
        f"{best.variant}: best on validation of those that lose at most {limit} on every general suite ({told}{share})."
    )
    if not refused or refused[0].target <= best.target:
        return first
    return (
        f"{first} {refused[0].variant} scores {100 * (refused[0].target - best.target):+.1f} more, but loses "
        f"{100 * refused[0].general_loss:.1f}."
    )
