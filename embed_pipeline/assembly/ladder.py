"""What each setting earned: the measured variants of a data set, each held against what it stands on or is most like.

Belongs here: which variants are neighbours, what their recipes differ in, the paired comparison. Does not belong here:
printing it (commands.evidence).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from embed_pipeline.evaluation.comparison import Comparison, compare
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.evaluation.measuring import METRICS_FILE
from embed_pipeline.evaluation.query_metrics import read_query_metrics
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.lineage import measured_recipe
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.project.recipes import AUTO
from embed_pipeline.project.variants import Variant


@dataclass(frozen=True, slots=True)
class Rung:
    """One measured variant: its value, 0 to 1, and what it earned over the earlier variant that is most like it."""

    variant: str
    value: float
    before: str | None
    """The name of that earlier variant; None for the first."""
    changes: tuple[str, ...]
    """The settings that differ, as `training.temperature: 0.02 → 0.03`."""
    comparison: Comparison | None
    training_seconds: float | None


@dataclass(frozen=True, slots=True)
class _Measured:
    """A variant with the recipe that decided its figures, the digest of the data, and its value by query."""

    variant: Variant
    recipe: Mapping[str, Any]
    cleaned: str | None
    values: Mapping[str, float]


def climb(graph: Graph, dataset: str) -> tuple[Rung, ...]:
    """The measured variants in the data set's order, on its headline; each compared query by query.

    Variants that were measured on other cleaned data than the neighbour are not compared: what the data changed would
    look like what the settings earned.

    Raises:
        ValueError: nothing of the data set has been measured.
    """
    headline, rungs = graph.project.headline(dataset), []
    earlier: list[_Measured] = []
    for variant in graph.project.variants_of(dataset):
        one = _measured(graph, variant, headline)
        if one is None:
            continue
        neighbour = min(earlier, key=partial(_distance, one), default=None)
        alike = neighbour and neighbour.cleaned == one.cleaned and neighbour.values.keys() == one.values.keys()
        rungs.append(
            Rung(
                variant.name,
                fmean(one.values.values()),
                neighbour.variant.name if neighbour else None,
                _recipe_changes(neighbour, one) if neighbour else (),
                compare(headline, neighbour.values, one.values) if neighbour and alike else None,
                training_seconds(graph, variant),
            )
        )
        earlier.append(one)
    if not rungs:
        raise ValueError(f"{dataset}: nothing has been measured yet. Run `embed-pipeline run --dataset {dataset}`.")
    return tuple(rungs)


def _distance(one: _Measured, other: _Measured) -> tuple[bool, int, int]:
    """What a variant stands on is nearest; else the fewer sections only one has, then the fewer settings differ."""
    own, others = ({name for name, value in side.recipe.items() if value is not None} for side in (one, other))
    return other.variant not in one.variant.stands_on, len(own ^ others), len(_recipe_changes(other, one))


def _recipe_changes(before: _Measured, after: _Measured) -> tuple[str, ...]:
    """The fields of two recipes that differ, by name; a section that only one has is one change.

    A variant that stands on the other keeps what that one has: only what it adds is a change.
    """
    sides = [{name: value for name, value in one.recipe.items() if name != "description"} for one in (before, after)]
    if before.variant in after.variant.stands_on:
        kept = [name for name, value in sides[1].items() if value is not None]
        sides = [{name: side[name] for name in kept} for side in sides]
    return tuple(_changes(sides[0], sides[1], ""))


def _changes(before: Mapping[str, object], after: Mapping[str, object], place: str) -> Iterator[str]:
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{place}{name}.")
        else:
            yield f"{place}{name}: {_short(old)} → {_short(new)}"


_TELLING = ("method", "candidates", "model")
"""What says most about a section that one recipe has and the other has not."""


def _short(value: object) -> str:
    if isinstance(value, dict):
        return next((f"{name} {value[name]}" for name in _TELLING if value.get(name)), "set")
    return "none" if value is None else json.dumps(value, ensure_ascii=False).strip('"')


def _measured(graph: Graph, variant: Variant, measure: Measure) -> _Measured | None:
    """What was measured of a variant; None where nothing was."""
    manifest = graph.store.read("query_metrics", variant.key)
    if manifest is None:
        return None
    found = read_query_metrics(graph.store.open(manifest) / METRICS_FILE)
    values = {one.query_id: one.value for one in found if one.measure == measure}
    cleaned = manifest.inputs.get(f"cleaned_qa[{variant.dataset}]")
    recipe = measured_recipe(graph, variant, manifest)
    if variant.recipe.training == AUTO and recipe["training"] != AUTO:
        # Records state what the work needed, and the precision of the processor.
        recipe["mining"] = MiningSettings().model_dump(mode="json") | dict(recipe["mining"])
        recipe["training"] = {**recipe["training"], "precision": "auto"}
    return _Measured(variant, recipe, cleaned, values) if values else None


def training_seconds(graph: Graph, variant: Variant) -> float | None:
    """What the training that a variant ends in took, as its record says; None where nothing was trained."""
    node = graph.topology.trained(variant)
    manifest = graph.store.read(node.asset, node.partition) if node else None
    return manifest.seconds if manifest else None
