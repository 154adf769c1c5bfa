"""What the project folder holds (data sets, recipes) and where the work runs."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from embed_pipeline.dataset.settings import DatasetSettings, read_dataset_settings
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.encoding.bundled import models_folder
from embed_pipeline.evaluation.measures import Measure, parse_measure
from embed_pipeline.project.finding import NoProjectError
from embed_pipeline.project.joining import join_variants
from embed_pipeline.project.naming import UnknownNameError, check_known
from embed_pipeline.project.recipes import Recipe, read_recipe
from embed_pipeline.project.sections import read_section
from embed_pipeline.project.variants import Variant
from embed_pipeline.synthesis.settings import SynthesisSettings


@dataclass(frozen=True)
class Project:
    """The data folder and the folder that holds all state."""

    data: Path
    home: Path
    on_request: bool = False
    """Whether the variants that a data set names as on request take part."""

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
            names = settings.all_variants(on_request=self.on_request)
            recipes = {name: read_recipe(self._recipes / f"{name}.yaml") for name in names}
            for name, recipe in recipes.items():
                self._check(dataset, name, recipe, settings)
            found |= {variant.key: variant for variant in join_variants(dataset, recipes, self._recipes).values()}
        return found

    def variants_of(self, dataset: str) -> tuple[Variant, ...]:
        """The variants of one data set, in the order of its dataset.yaml."""
        return tuple(variant for variant in self.variants.values() if variant.dataset == dataset)

    def check_data_folder(self) -> None:
        """Guarantees that there is a folder of data sets; raises NoProjectError otherwise."""
        if not self.data.is_dir():
            raise NoProjectError(
                f"{self.data}: expected the folder of the data sets, found none. Correct EMBED_PIPELINE_DATA or make "
                "the folder."
            )

    def check_dataset(self, name: str) -> None:
        """Guarantees that there is such a data set; raises UnknownNameError otherwise."""
        check_known(name, self.datasets, what="data set", plural="Data sets")

    def variant_named(self, name: str) -> Variant:
        """The variant of a key (disease/minilm), or of a name (minilm) that one data set alone has.

        Raises:
            UnknownNameError: there is none, or several data sets have one.
        """
        keys = [variant.key for variant in self.variants.values() if name in (variant.key, variant.name)]
        if len(keys) > 1:
            raise UnknownNameError(f"variant {name!r}: expected one, found {', '.join(keys)}. Name one of them.")
        if not keys:
            check_known(name, self.variants, what="variant", plural="Variants")
        return self.variants[keys[0]]

    def stands_on(self, variant: Variant) -> tuple[str, ...]:
        """The keys of the variant and of all whose weights it searches or mines with, directly or through others."""
        return tuple(dict.fromkeys([variant.key, *(key for one in variant.stands_on for key in self.stands_on(one))]))

    def headline(self, dataset: str) -> Measure:
        """The measure that a data set's verdicts are read on."""
        return parse_measure(self.datasets[dataset].headline)

    def folder(self, dataset: str) -> Path:
        """Where a data set's raw files lie."""
        return self.data / dataset

    @property
    def models(self) -> Path:
        """Where packed models are unpacked."""
        return models_folder(self.home)

    def _place(self, dataset: str, field: str) -> str:
        return f"{self.data / dataset / 'dataset.yaml'}, {field}"

    @property
    def _recipes(self) -> Path:
        return self.data / "recipes"

    def _check(self, dataset: str, name: str, recipe: Recipe, settings: DatasetSettings) -> None:
        replay = recipe.mining.replay if recipe.mining else None
        if replay and (replay.dataset not in self.datasets or replay.dataset in (dataset, *settings.general_suite)):
            raise ValueError(
                f"{self._recipes / name}.yaml, mining.replay.dataset: expected another data set that is not in the "
                f"general_suite of {dataset}, found {replay.dataset!r}. What is trained on measures no forgetting."
            )
        chosen = bool(settings.general_suite) and "validation" in settings.expected_splits
        if recipe.merge and not chosen:
            raise ValueError(
                f"{self.data / dataset / 'dataset.yaml'}, variants: {name} chooses a mixture on a validation split and "
                "a general_suite, one of them is missing. Add it, or remove the variant."
            )
        if recipe.hybrid and "validation" not in settings.expected_splits:
            raise ValueError(
                f"{self.data / dataset / 'dataset.yaml'}, variants: {name} chooses weights on a validation split, it "
                "is missing. Add it, or fuse by rank (retriever: fused), which chooses nothing."
            )
        if settings.evaluation_only and (
            recipe.training or recipe.adaptation or (recipe.rerank and recipe.rerank.training)
        ):
            raise ValueError(
                f"{self.data / dataset / 'dataset.yaml'}, variants: {name} trains, but the data set is "
                "for evaluation only. Remove the variant or evaluation_only."
            )


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
    "team": "EMBED_PIPELINE_TEAM",
    "ui_path": "EMBED_PIPELINE_UI_PATH",
    "on_request": "EMBED_PIPELINE_ON_REQUEST",
}
"""The settings of where things lie and run, and the environment variable of each."""


def environment_settings() -> dict[str, str]:
    """The settings of ENVIRONMENT that are set, by name."""
    return {name: os.environ[variable] for name, variable in ENVIRONMENT.items() if os.environ.get(variable)}
