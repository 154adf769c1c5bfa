"""What the project folder holds (data sets, recipes) and where the work runs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from embed_pipeline.dataset.settings import DatasetSettings
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.encoding.bundled import models_folder
from embed_pipeline.evaluation.measures import Measure, parse_measure
from embed_pipeline.project.finding import NoProjectError, UnknownNameError, check_known
from embed_pipeline.project.loading import DataFolder, load_data_folder
from embed_pipeline.project.recipes import AUTO
from embed_pipeline.project.variants import Variant
from embed_pipeline.synthesis.settings import SynthesisSettings


@dataclass(frozen=True)
class Project:
    """The data folder, the folder that holds all state, and the folders that links in the data folder may lead to."""

    data: Path
    home: Path
    linked: tuple[Path, ...] = ()
    on_request: bool = False
    """Whether the variants that a data set names as on request take part."""

    @cached_property
    def loaded(self) -> DataFolder:
        """What the data folder holds, looked at once."""
        return load_data_folder(self.data, self.roots, on_request=self.on_request)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that whatever the data folder holds must lie in, wherever links lead."""
        return (self.data, *self.linked)

    @property
    def datasets(self) -> Mapping[str, DatasetSettings]:
        """Settings of every data set, by name in sorted order: each folder of `data` with a dataset.yaml is one."""
        return self.loaded.datasets

    @property
    def broken(self) -> Mapping[str, str]:
        """Why a data set, or one of its recipes, cannot be read, by the name of its folder."""
        return self.loaded.broken

    @property
    def documents(self) -> Mapping[str, DocumentSettings]:
        """How the documents of each data set that has some are cut."""
        return self.loaded.documents

    @property
    def synthesis(self) -> Mapping[str, SynthesisSettings]:
        """How the questions of each data set with documents are written."""
        return self.loaded.synthesis

    @property
    def variants(self) -> Mapping[str, Variant]:
        """Every variant by partition key, data sets sorted, variants in the order of their dataset.yaml."""
        return self.loaded.variants

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
        """Guarantees that there is such a data set.

        Raises:
            UnknownNameError: there is none.
            ValueError: there is one, and it cannot be read.
        """
        self._check_readable(name)
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
            self._check_readable(name.partition("/")[0])
            check_known(name, self.variants, what="variant", plural="Variants")
        return self.variants[keys[0]]

    def trained_by_itself(self, dataset: str) -> tuple[Variant, ...]:
        """The variants of a data set whose recipe says `training: auto`; none where no data set has that name.

        Raises:
            ValueError: the data set has no such variant, or cannot be read.
        """
        self._check_readable(dataset)
        if dataset not in self.datasets:
            return ()
        variants = [variant for variant in self.variants.values() if variant.dataset == dataset]
        found = tuple(variant for variant in variants if variant.recipe.training == AUTO)
        if not found:
            raise ValueError(
                f"data set {dataset!r}: expected a variant whose recipe says training: auto, found none among "
                f"{', '.join(variant.name for variant in variants)}. "
                f"Name one of them, as {dataset}/NAME."
            )
        return found

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

    def _check_readable(self, dataset: str) -> None:
        if dataset in self.broken:
            raise ValueError(self.broken[dataset])


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
    "linked_folders": "EMBED_PIPELINE_LINKED_FOLDERS",
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
    "ray_address": "EMBED_PIPELINE_RAY_ADDRESS",
    "ray_storage": "EMBED_PIPELINE_RAY_STORAGE",
}
"""The settings of where things lie and run, and the environment variable of each."""


DEBUG_VARIABLE = "EMBED_PIPELINE_DEBUG"
"""Changes what is printed, and nothing of the work."""


def environment_settings() -> dict[str, str]:
    """The settings of ENVIRONMENT that are set, by name."""
    return {name: os.environ[variable] for name, variable in ENVIRONMENT.items() if os.environ.get(variable)}


def is_debugging() -> bool:
    """Whether the traceback of an error is shown beside its message."""
    return os.environ.get(DEBUG_VARIABLE, "").lower() not in ("", "0", "false", "no")


def parse_linked_folders(text: str) -> tuple[Path, ...]:
    """The folders in EMBED_PIPELINE_LINKED_FOLDERS.

    Raises:
        ValueError: one is not absolute.
    """
    folders = tuple(Path(name) for name in text.split(os.pathsep) if name)
    if relative := [folder for folder in folders if not folder.is_absolute()]:
        variable = ENVIRONMENT["linked_folders"]
        raise ValueError(f"{variable}: expected absolute folders, found {str(relative[0])!r}. Write it from / on.")
    return folders
