"""Which mixture of base and tuned weights users should take, and why: measured, chosen by a rule, written down.

Belongs here: measuring a mixture or a checkpoint for the choice (validation queries and general suite; test queries of
the data set never count), the rule, and the file of what a sweep measured. Does not belong here: its settings, mixing
weights (mixing.py), the figures of the table (evaluation/measuring.py).
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.sampling import sample_dataset
from embed_pipeline.encoding.encoder import Encoder, EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.evaluation.measuring import measure_split
from embed_pipeline.merging.mixing import merge_weights
from embed_pipeline.merging.settings import MergeSettings
from embed_pipeline.records import CHOSEN_ON, EVALUATED_SPLIT, Split
from embed_pipeline.retrieval.searching import Search

Promoted = Literal["base", "merged", "tuned"]

PROMOTION_FILE = "promotion.json"

GENERAL_MEASURE = Measure("ndcg", 10)

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class MergePoint:
    """One mixture, measured; values from 0 to 1, higher is better."""

    alpha: float
    target: float
    """On validation queries of the data set that was trained on."""
    suites: Mapping[str, float]
    """nDCG@10 by general suite."""

    @property
    def general(self) -> float:
        """The mean over the suites, 0 without any; for people: a suite's gain must not hide another's loss."""
        return fmean(self.suites.values()) if self.suites else 0.0

    def lost(self, base: "MergePoint") -> float:
        """By the general suite that lost most against the base; negative where every one gained, 0 without any."""
        return max((value - self.suites[suite] for suite, value in base.suites.items()), default=0.0)


@dataclass(frozen=True, slots=True)
class Promotion:
    """The mixture to take, what it keeps and what it costs."""

    alpha: float
    promoted: Promoted
    gain: float
    """Of the promoted mixture on the target, against the base."""
    kept_gain: float | None
    """As a share of the tuned model's gain; None where that gained nothing."""
    general_loss: float
    """Of the general suite that lost most against the base; negative where every one gained."""
    within_bounds: bool
    """Whether it keeps enough of a gain inside the allowed loss."""
    reason: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """The mixtures that were measured, ascending by alpha, and the one that was taken."""

    points: tuple[MergePoint, ...]
    promotion: Promotion


@dataclass(frozen=True)
class Trial:
    """What checkpoints are chosen by: the target and each general suite, with its language."""

    target: RetrievalDataset
    headline: Measure
    suites: Mapping[str, tuple[RetrievalDataset, str]]

    def measure(self, search: Search, alpha: float) -> MergePoint:
        """The headline on validation, and the mean nDCG@10 of each suite's queries."""
        general = {
            name: self._mean(search.in_language(language), suite, EVALUATED_SPLIT, GENERAL_MEASURE)
            for name, (suite, language) in self.suites.items()
        }
        return MergePoint(alpha, self._mean(search, self.target, CHOSEN_ON, self.headline), general)

    def sampled(self, settings: MergeSettings) -> "Trial":
        """The same at most as large as a sweep may be."""

        def sample(dataset: RetrievalDataset, split: Split) -> RetrievalDataset:
            limits = {"max_queries": settings.max_queries, "max_passages": settings.max_passages}
            return sample_dataset(dataset, split, **limits, seed=settings.seed)

        suites = {name: (sample(suite, EVALUATED_SPLIT), language) for name, (suite, language) in self.suites.items()}
        return replace(self, target=sample(self.target, CHOSEN_ON), suites=suites)

    @staticmethod
    def _mean(search: Search, dataset: RetrievalDataset, split: Split, measure: Measure) -> float:
        values = [found.value for found in measure_split(search, dataset, split) if found.measure == measure]
        if not values:
            raise ValueError(
                f"choosing a checkpoint needs {split} queries with a relevant passage and the measure {measure}, found "
                f"none. Give the {split} split a share."
            )
        return fmean(values)


def measure_mixtures(
    trial: Trial,
    search: Search,
    base: Path,
    tuned: Sequence[Path],
    settings: MergeSettings,
    encoder: EncoderSettings,
    cached: Callable[[Encoder], Encoder],
) -> tuple[MergePoint, ...]:
    """A point per alpha; one mixture lies on disk at a time. `search` searches with the base, which is the point at 0.

    `cached` puts the cache of vectors around an encoder: what is chosen is encoded with again when it is evaluated.
    """
    points, sampled = [], trial.sampled(settings)
    for alpha in settings.alphas:
        if alpha == 0:
            points.append(sampled.measure(search, alpha))
            continue
        with tempfile.TemporaryDirectory() as folder:
            alone = alpha == 1 and len(tuned) == 1
            mixture = tuned[0] if alone else mix(base, tuned, alpha, Path(folder) / "mixture", encoder)
            mixed = cached(load_local_encoder(encoder, device=search.device, directory=mixture))
            points.append(sampled.measure(replace(search, encoder=mixed), alpha))
    return tuple(points)


def mix(base: Path, tuned: Sequence[Path], alpha: float, output: Path, encoder: EncoderSettings) -> Path:
    """Base times 1 - alpha and the tuned models in equal shares, as a model directory."""
    share = alpha / len(tuned)
    return merge_weights((base, *tuned), (1 - alpha, *(share for _ in tuned)), output, encoder=encoder)


def choose_alpha(
    points: Sequence[MergePoint],
    *,
    allowed_loss: float,
    kept_gain: float = 0.8,
    otherwise: Literal["base", "tuned"] = "base",
) -> Promotion:
    """The mixture with the best target value of those that keep the gain and lose no more than allowed on any suite.

    Ties: the smaller loss, then the smaller alpha. Without such a mixture, `otherwise`; without a gain, base.

    Raises:
        ValueError: alphas repeat, or the points lack alpha 0 or 1.
    """
    ordered = sorted(points, key=lambda point: point.alpha)
    alphas = [point.alpha for point in ordered]
    if len(set(alphas)) < len(alphas) or not alphas or alphas[0] != 0 or alphas[-1] != 1:
        raise ValueError(f"promotion: expected points from alpha 0 to 1, each once, found {alphas}. Measure both ends.")
    base, tuned = ordered[0], ordered[-1]
    if tuned.target <= base.target:
        return _promote(
            base,
            base,
            tuned,
            within_bounds=False,
            reason=f"Base promoted: the tuned model scores {_points(tuned.target)} on the target, the base "
            f"{_points(base.target)}, so there is no gain to keep.",
        )
    wanted = base.target + kept_gain * (tuned.target - base.target) - _ROUNDING
    fitting = [point for point in ordered if point.target >= wanted and point.lost(base) <= allowed_loss + _ROUNDING]
    if not fitting:
        failed = _explain_failure(ordered, wanted=wanted, kept_gain=kept_gain, allowed_loss=allowed_loss)
        why = (
            "Base promoted, so that nothing that worked breaks: "
            if otherwise == "base"
            else "Tuned model promoted, because the settings put the target first: "
        )
        chosen = base if otherwise == "base" else tuned
        return _promote(chosen, base, tuned, within_bounds=False, reason=why + failed)
    best = max(fitting, key=lambda point: (point.target, -point.lost(base), -point.alpha))
    return _promote(best, base, tuned, within_bounds=True, reason=_explain_choice(best, base, tuned, allowed_loss))


def write_sweep(points: Sequence[MergePoint], promotion: Promotion, directory: Path) -> None:
    """Write promotion.json; equal sweeps give equal bytes."""
    ordered = sorted(points, key=lambda point: point.alpha)
    content = {"promotion": asdict(promotion), "points": [asdict(point) for point in ordered]}
    (directory / PROMOTION_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_sweep(directory: Path) -> Sweep:
    """The sweep of a merged checkpoint."""
    content = json.loads((directory / PROMOTION_FILE).read_text(encoding="utf-8"))
    # Sweeps of earlier versions hold the mean over the suites alone.
    points = tuple(
        MergePoint(one["alpha"], one["target"], one.get("suites") or {"general": one["general"]})
        for one in content["points"]
    )
    return Sweep(points, Promotion(**content["promotion"]))


def _promote(point: MergePoint, base: MergePoint, tuned: MergePoint, *, within_bounds: bool, reason: str) -> Promotion:
    return Promotion(
        alpha=point.alpha,
        promoted="base" if point is base else "tuned" if point is tuned else "merged",
        gain=point.target - base.target,
        kept_gain=_kept(point, base, tuned) if tuned.target > base.target else None,
        general_loss=point.lost(base),
        within_bounds=within_bounds,
        reason=reason,
    )


def _explain_choice(best: MergePoint, base: MergePoint, tuned: MergePoint, allowed_loss: float) -> str:
    name = "Tuned model" if best is tuned else f"Mixture alpha {best.alpha:g}"
    beside = "" if best is tuned else f" The tuned model alone: {_change(tuned, base)}."
    return (
        f"{name} promoted: it keeps {100 * _kept(best, base, tuned):.0f} % of the gain ({_change(best, base)}), and "
        f"{_points(allowed_loss)} points may be lost.{beside}"
    )


def _explain_failure(points: Sequence[MergePoint], *, wanted: float, kept_gain: float, allowed_loss: float) -> str:
    base, tuned = points[0], points[-1]
    gaining = [point for point in points if point.target >= wanted]
    safest = min(gaining, key=lambda point: (point.lost(base), point.alpha))
    keeping = [point for point in points if point.lost(base) <= allowed_loss + _ROUNDING]
    richest = max(keeping, key=lambda point: (point.target, -point.alpha))
    return (
        f"of {len(points)} mixtures none keeps {100 * kept_gain:.0f} % of the gain and loses at most "
        f"{_points(allowed_loss)} points. With the gain the least loss is at alpha {safest.alpha:g} "
        f"({_change(safest, base)}); within the loss the most gain is at alpha {richest.alpha:g}, "
        f"{100 * _kept(richest, base, tuned):.0f} % of it ({_change(richest, base)})."
    )


def _change(point: MergePoint, base: MergePoint) -> str:
    target, general = 100 * (point.target - base.target), 0 - 100 * point.lost(base)
    return f"target {target:+.1f}, general {general:+.1f} points"


def _kept(point: MergePoint, base: MergePoint, tuned: MergePoint) -> float:
    return (point.target - base.target) / (tuned.target - base.target)


def _points(value: float) -> str:
    return f"{100 * value:.1f}"
