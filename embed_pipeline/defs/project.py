"""What the project folder holds (data sets, recipes, the variants they make) and where the work runs.

No dagster here.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from embed_pipeline.dataset.settings import DatasetSettings, read_dataset_settings
from embed_pipeline.defs.sections import read_section
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.evaluation.measures import Measure, parse_measure
from embed_pipeline.recipes import Recipe, read_recipe
from embed_pipeline.synthesis.settings import SynthesisSettings


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a data set and a recipe. Its partition key is `dataset/name`."""

    dataset: str
    name: str
    recipe: Recipe
    dense_part: "Variant | None" = None
    """fused: the variant whose encoder and weights it uses."""
    mining_source: "Variant | None" = None
    """mining.weights: the variant whose fine-tuned weights mine the negatives."""

    @property
    def key(self) -> str:
        return f"{self.dataset}/{self.name}"

    @property
    def trains(self) -> bool:
        return self.recipe.training is not None

    @property
    def encoding_variant(self) -> "Variant":
        """The variant whose encoder this one searches with: itself, or its dense part."""
        return self.dense_part or self


@dataclass(frozen=True)
class Project:
    """The data folder and the folder that holds all state."""

    data: Path
    home: Path

    @cached_property
    def datasets(self) -> dict[str, DatasetSettings]:
        """Settings of every data set, by name in sorted order: each folder of `data` with a dataset.yaml is one.

        Raises:
            ValueError: a dataset.yaml is malformed, or names a measure or general suite that does not exist.
        """
        folders = sorted(path.parent for path in self.data.glob("*/dataset.yaml"))
        found = {folder.name: read_dataset_settings(folder) for folder in folders}
        for name, settings in found.items():
            place = f"{self.data / name / 'dataset.yaml'}"
            try:
                parse_measure(settings.headline)
            except ValueError as error:
                raise ValueError(f"{place}, headline: {error}. Correct it.") from error
            unknown = [suite for suite in settings.general_suite if suite not in found or suite == name]
            if unknown:
                others = ", ".join(other for other in found if other != name) or "none"
                raise ValueError(
                    f"{place}, general_suite: expected names of other data sets ({others}), found {unknown[0]!r}. "
                    "Correct the name or add the data set's folder."
                )
        return found

    @cached_property
    def documents(self) -> dict[str, DocumentSettings]:
        """How the documents of each data set that has some are cut.

        Raises:
            ValueError: a section `documents` is malformed.
        """
        return {
            name: read_section(DocumentSettings, settings.documents, self._place(name, "documents"))
            for name, settings in self.datasets.items()
            if settings.documents is not None
        }

    @cached_property
    def synthesis(self) -> dict[str, SynthesisSettings]:
        """How the questions of each data set with documents are written.

        Raises:
            ValueError: a section `synthesis` is malformed.
        """
        return {
            name: read_section(SynthesisSettings, self.datasets[name].synthesis or {}, self._place(name, "synthesis"))
            for name in self.documents
        }

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """Every variant by partition key, data sets sorted, variants in the order of their dataset.yaml.

        Raises:
            ValueError: a recipe is missing, malformed, or does not fit the data set.
        """
        found: dict[str, Variant] = {}
        for dataset, settings in self.datasets.items():
            own = {
                name: Variant(dataset, name, read_recipe(self.data / "recipes" / f"{name}.yaml"))
                for name in settings.variants
            }
            for name, variant in own.items():
                self._check(variant, settings)
                dense_part, mining_source = self._dense_part(variant, own), self._mining_source(variant, own)
                found[variant.key] = Variant(dataset, name, variant.recipe, dense_part, mining_source)
        return found

    def variants_of(self, dataset: str) -> tuple[Variant, ...]:
        """The variants of one data set, in the order of its dataset.yaml."""
        return tuple(variant for variant in self.variants.values() if variant.dataset == dataset)

    def stands_on(self, variant: Variant) -> tuple[str, ...]:
        """The keys of the variant and of all whose weights it searches or mines with, directly or through others."""
        found, following = dict.fromkeys([variant.key]), [variant]
        for one in following:
            for other in (one.encoding_variant, one.mining_source):
                if other is not None and other.key not in found:
                    found[other.key] = None
                    following.append(self.variants[other.key])
        return tuple(found)

    def headline(self, dataset: str) -> Measure:
        """The measure that a data set's verdicts are read on."""
        return parse_measure(self.datasets[dataset].headline)

    def folder(self, dataset: str) -> Path:
        """Where a data set's raw files lie."""
        return self.data / dataset

    def _place(self, dataset: str, field: str) -> str:
        return f"{self.data / dataset / 'dataset.yaml'}, {field}"

    def _check(self, variant: Variant, settings: DatasetSettings) -> None:
        if variant.trains and settings.evaluation_only:
            raise ValueError(
                f"{self.data / variant.dataset / 'dataset.yaml'}, variants: {variant.name} trains, but the data set is "
                "for evaluation only. Remove the variant or evaluation_only."
            )

    def _dense_part(self, variant: Variant, others: dict[str, Variant]) -> Variant | None:
        if variant.recipe.fusion is None:
            return None
        part = others.get(variant.recipe.fusion.dense)
        if part is None or part.recipe.retriever != "dense":
            dense = ", ".join(name for name, other in others.items() if other.recipe.retriever == "dense") or "none"
            raise ValueError(
                f"{self.data / 'recipes' / variant.name}.yaml, fusion.dense: expected a dense variant of "
                f"{variant.dataset} ({dense}), found {variant.recipe.fusion.dense!r}. Add it or correct the name."
            )
        return part

    def _mining_source(self, variant: Variant, others: dict[str, Variant]) -> Variant | None:
        wanted = _mining_weights(variant)
        if wanted is None:
            return None
        place = f"{self.data / 'recipes' / variant.name}.yaml, mining.weights"
        source = others.get(wanted)
        if source is None or not source.trains:
            trained = ", ".join(name for name, o in others.items() if o.trains and name != variant.name) or "none"
            raise ValueError(
                f"{place}: expected a fine-tuned variant of {variant.dataset} ({trained}), found {wanted!r}. Add it to "
                "the data set's variants or correct the name."
            )
        chain = [variant.name]
        following: str | None = wanted
        while following in others:
            chain.append(following)
            if following in chain[:-1]:
                raise ValueError(
                    f"{place}: each variant would wait for the other's weights: {' → '.join(chain)}. Let the first "
                    "round mine with its base: remove weights there."
                )
            following = _mining_weights(others[following])
        return source


def _mining_weights(variant: Variant) -> str | None:
    return variant.recipe.mining.weights if variant.recipe.mining else None


@dataclass(frozen=True)
class Runtime:
    """Where the work runs: the device, and how many training processes of how many CPU threads each."""

    device: Literal["cpu", "cuda"] = "cpu"
    processes: int = 1
    threads: int = 1


ENVIRONMENT = {
    "data": "EMBED_PIPELINE_DATA",
    "home": "EMBED_PIPELINE_HOME",
    "artifacts": "EMBED_PIPELINE_ARTIFACTS",
    "device": "EMBED_PIPELINE_DEVICE",
    "training_processes": "EMBED_PIPELINE_PROCESSES",
    "training_threads": "EMBED_PIPELINE_THREADS",
    "save_steps": "EMBED_PIPELINE_SAVE_STEPS",
    "tensorboard": "EMBED_PIPELINE_TENSORBOARD",
    "nightly_cron": "EMBED_PIPELINE_NIGHTLY_CRON",
    "time_zone": "EMBED_PIPELINE_TIME_ZONE",
}
"""The settings of where things lie and run, and the environment variable of each."""


def environment_settings() -> dict[str, str]:
    """The settings of ENVIRONMENT that are set, by name."""
    return {name: os.environ[variable] for name, variable in ENVIRONMENT.items() if os.environ.get(variable)}
