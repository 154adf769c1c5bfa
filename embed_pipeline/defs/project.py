"""What the project folder holds (data sets, recipes, the variants they make) and where the work runs.

No dagster here.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from embed_pipeline.dataset.settings import DatasetSettings, read_dataset_settings
from embed_pipeline.training.recipes import Recipe, read_recipe


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a data set and a recipe. Its partition key is `dataset/name`."""

    dataset: str
    name: str
    recipe: Recipe

    @property
    def key(self) -> str:
        return f"{self.dataset}/{self.name}"

    @property
    def trains(self) -> bool:
        return self.recipe.training is not None


@dataclass(frozen=True)
class Project:
    """The data folder and the folder that holds all state."""

    data: Path
    home: Path

    @cached_property
    def datasets(self) -> dict[str, DatasetSettings]:
        """Settings of every data set, by name in sorted order: each folder of `data` with a dataset.yaml is one."""
        folders = sorted(path.parent for path in self.data.glob("*/dataset.yaml"))
        return {folder.name: read_dataset_settings(folder) for folder in folders}

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """Every variant by partition key, data sets sorted, variants in the order of their dataset.yaml."""
        found = [
            Variant(dataset, name, read_recipe(self.data / "recipes" / f"{name}.yaml"))
            for dataset, settings in self.datasets.items()
            for name in settings.variants
        ]
        return {variant.key: variant for variant in found}

    def variants_of(self, dataset: str) -> tuple[Variant, ...]:
        """The variants of one data set, in the order of its dataset.yaml."""
        return tuple(variant for variant in self.variants.values() if variant.dataset == dataset)

    def folder(self, dataset: str) -> Path:
        """Where a data set's raw files lie."""
        return self.data / dataset


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
}
"""The settings of where things lie and run, and the environment variable of each."""


def environment_settings() -> dict[str, str]:
    """The settings of ENVIRONMENT that are set, by name."""
    return {name: os.environ[variable] for name, variable in ENVIRONMENT.items() if os.environ.get(variable)}
