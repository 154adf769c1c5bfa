"""What the data folder holds, data set by data set: one that cannot be read does not stop the others.

Belongs here: reading every data set with its recipes and the sections of later stages, and saying which are broken.
Does not belong here: what the rest of the project asks about them (project).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from embed_pipeline.dataset.settings import SETTINGS_FILE, DatasetSettings, read_dataset_settings
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.evaluation.measures import CUTOFFS, MEASURES, parse_measure
from embed_pipeline.paths import plain_file
from embed_pipeline.project.recipes import Recipe, read_recipe
from embed_pipeline.project.variants import Variant, join_variants
from embed_pipeline.records import StoreKind
from embed_pipeline.settings_file import describe_problems, join_problems
from embed_pipeline.synthesis.settings import SynthesisSettings

Section = TypeVar("Section", bound=BaseModel)


def read_section(model: type[Section], content: Mapping[str, Any], place: str) -> Section:
    """The settings in a section; `place` is file and field, as `data/a/dataset.yaml, documents`.

    Raises:
        ValueError: a field is unknown, missing or out of range; a line for each.
    """
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        lines = [f"{place}.{line}" for line in describe_problems(error, model)]
        raise ValueError(join_problems(lines) + "\ndocs/documents.md has all fields.") from error


RECIPES_FOLDER = "recipes"


@dataclass(frozen=True)
class DataFolder:
    """Every data set that can be read, by name in sorted order, and the sentence on each that cannot, by folder name.

    One whose recipes are broken has no variants, and is there as a data set: others may be measured on it.
    """

    datasets: Mapping[str, DatasetSettings]
    documents: Mapping[str, DocumentSettings]
    synthesis: Mapping[str, SynthesisSettings]
    variants: Mapping[str, Variant]
    broken: Mapping[str, str]


def load_data_folder(data: Path, roots: tuple[Path, ...], *, on_request: bool = False) -> DataFolder:
    """Each folder of `data` with a dataset.yaml; links in it may lead into the folders `roots`.

    on_request: whether the variants that a data set names as on request take part.
    """
    settings: dict[str, DatasetSettings] = {}
    broken: dict[str, str] = {}
    for folder in sorted(path.parent for path in data.glob(f"*/{SETTINGS_FILE}")):
        try:
            plain_file(folder / SETTINGS_FILE, roots)
            settings[folder.name] = read_dataset_settings(folder)
            _check_headline(data, folder.name, settings[folder.name])
            _read_sections(data, folder.name, settings[folder.name])
        except (ValueError, OSError) as error:
            settings.pop(folder.name, None)
            broken[folder.name] = str(error)
    while lost := _without_suite(data, settings, broken):
        broken |= lost
        settings = {name: found for name, found in settings.items() if name not in lost}
    sections = {
        name: _read_sections(data, name, found) for name, found in settings.items() if found.documents is not None
    }
    variants: dict[str, Variant] = {}
    for name in settings:
        try:
            names = settings[name].all_variants(on_request=on_request)
            variants |= _read_variants(data, name, names, settings, roots)
        except (ValueError, OSError) as error:
            broken[name] = str(error)
    return DataFolder(
        datasets=MappingProxyType(settings),
        documents=MappingProxyType({name: documents for name, (documents, _) in sections.items()}),
        synthesis=MappingProxyType({name: synthesis for name, (_, synthesis) in sections.items()}),
        variants=MappingProxyType(variants),
        broken=MappingProxyType(dict(sorted(broken.items()))),
    )


def _check_headline(data: Path, name: str, settings: DatasetSettings) -> None:
    place = f"{data / name / SETTINGS_FILE}, headline"
    try:
        headline = parse_measure(settings.headline)
    except ValueError as error:
        raise ValueError(f"{place}: {error}. Correct it.") from error
    if headline not in MEASURES:
        raise ValueError(
            f"{place}: expected a cutoff that is measured ({', '.join(map(str, CUTOFFS))}), found "
            f"{settings.headline!r}. Name one of these, as {headline.name}@{CUTOFFS[-1]}."
        )


def _read_sections(data: Path, name: str, settings: DatasetSettings) -> tuple[DocumentSettings, SynthesisSettings]:
    """How documents are cut and questions written; nobody asks for those of a data set without documents."""
    place = data / name / SETTINGS_FILE
    documents = settings.documents or {"files": ["*"]}
    return (
        read_section(DocumentSettings, documents, f"{place}, documents"),
        read_section(SynthesisSettings, settings.synthesis or {}, f"{place}, synthesis"),
    )


def _without_suite(data: Path, settings: Mapping[str, DatasetSettings], broken: Mapping[str, str]) -> dict[str, str]:
    """The data sets whose general suite cannot be read or does not exist, with the sentence."""
    lost: dict[str, str] = {}
    for name, found in settings.items():
        place = f"{data / name / SETTINGS_FILE}, general_suite"
        for suite in found.general_suite:
            if suite in broken:
                lost[name] = f"{place}: {suite} cannot be read: {broken[suite]}"
            elif suite not in settings or suite == name:
                others = ", ".join(other for other in settings if other != name) or "none"
                lost[name] = (
                    f"{place}: expected names of other data sets ({others}), found {suite!r}. Correct the name or add "
                    "the data set's folder."
                )
    return lost


def _read_variants(
    data: Path, dataset: str, names: tuple[str, ...], settings: Mapping[str, DatasetSettings], roots: tuple[Path, ...]
) -> dict[str, Variant]:
    folder = data / RECIPES_FOLDER
    read = {name: _read_recipe(folder / f"{name}.yaml", roots) for name in names}
    recipes = {name: _stored_in(settings[dataset].store, recipe) for name, recipe in read.items()}
    for name, recipe in recipes.items():
        _check_fit(data, dataset, name, recipe, settings)
    return {variant.key: variant for variant in join_variants(dataset, recipes, folder).values()}


def _read_recipe(path: Path, roots: tuple[Path, ...]) -> Recipe:
    if path.exists():
        plain_file(path, roots)
    return read_recipe(path)


def _stored_in(store: StoreKind | None, recipe: Recipe) -> Recipe:
    """The recipe with the data set's vector store, where it has vectors of its own and names none."""
    if store is None or recipe.retriever != "dense" or recipe.index.store:
        return recipe
    return recipe.model_copy(update={"index": recipe.index.model_copy(update={"store": store})})


def _check_fit(data: Path, dataset: str, name: str, recipe: Recipe, settings: Mapping[str, DatasetSettings]) -> None:
    own, place = settings[dataset], data / dataset / SETTINGS_FILE
    replay = recipe.mining.replay if recipe.mining else None
    if replay and (replay.dataset not in settings or replay.dataset in (dataset, *own.general_suite)):
        raise ValueError(
            f"{data / RECIPES_FOLDER / name}.yaml, mining.replay.dataset: expected another data set that is not in the "
            f"general_suite of {dataset}, found {replay.dataset!r}. What is trained on measures no forgetting."
        )
    chosen = bool(own.general_suite) and "validation" in own.expected_splits
    if recipe.merge and not chosen:
        raise ValueError(
            f"{place}, variants: {name} chooses a mixture on a validation split and a general_suite, one of them is "
            "missing. Add it, or remove the variant."
        )
    if recipe.hybrid and "validation" not in own.expected_splits:
        raise ValueError(
            f"{place}, variants: {name} chooses weights on a validation split, it is missing. Add it, or fuse by rank "
            "(retriever: fused), which chooses nothing."
        )
    if own.evaluation_only and (recipe.training or recipe.adaptation or (recipe.rerank and recipe.rerank.training)):
        raise ValueError(
            f"{place}, variants: {name} trains, but the data set is for evaluation only. Remove the variant or "
            "evaluation_only."
        )
