"""The settings that change the bytes of a data set's assets: raw files, passages, questions, cleaned data.

Belongs here: which setting concerns which asset, and which files and models a data set names. Does not belong here: the
settings of variants (node_settings).
"""

from collections.abc import Callable
from pathlib import Path

from embed_pipeline.artifacts import Plan
from embed_pipeline.dataset.raw_files import raw_paths
from embed_pipeline.documents.reading import DocumentPaths, document_paths
from embed_pipeline.encoding.encoder import BUNDLED, Encoder, EncoderSettings
from embed_pipeline.graph.topology import Node
from embed_pipeline.paths import digest_of
from embed_pipeline.project.project import Project
from embed_pipeline.project.recipes import AnyEncoderSettings, Recipe, read_recipe
from embed_pipeline.synthesis.templates import template_digests

# What says how to compare and to present concerns the table; documents and synthesis concern what lies upstream.
_NOT_CLEANING = {
    *("description", "language", "documents", "synthesis", "automation"),
    *("variants", "variants_on_request", "baseline", "headline", "store"),
    *("answer_precision", "general_suite", "general_loss_limit", "promotion_loss_limit"),
}
# What changes how calls are made, and not what is asked.
_NOT_ASKED = {
    *("base_url", "api_key_variable", "parallel", "requests_per_minute", "timeout_seconds", "max_retries"),
    *("spend_limit_usd", "call_limit", "usd_per_million_prompt_tokens", "usd_per_million_answer_tokens"),
}


def dataset_settings(
    project: Project,
    node: Node,
    base_encoder: Callable[[AnyEncoderSettings], Encoder],
    model_directory: Callable[[EncoderSettings], Path],
) -> dict:
    """The settings of an asset of a data set; the functions give the encoder and the folder that settings name.

    Raises:
        ValueError: a raw file, a template or a recipe is missing, or a model cannot be read.
    """
    asset, dataset = node.asset, node.partition
    if asset == "cleaned_qa":
        return project.datasets[dataset].model_dump(mode="json", exclude=_NOT_CLEANING)
    if asset == "passages":
        digest = digest_of(model_directory(counting_encoder(project, dataset)) / "tokenizer.json")
        cut = project.documents[dataset].model_dump(mode="json", exclude={"files", "encoder"})
        left_out = _documents_of(project, dataset).left_out
        return {"documents": cut, "tokenizer": digest, **({"left_out": dict(left_out)} if left_out else {})}
    if asset == "synthetic_qa":
        return _synthesis_settings(project, dataset, base_encoder)
    return {"files": {name: digest_of(path) for name, path in source_files(project, dataset).items()}}


def source_files(project: Project, dataset: str) -> dict[str, Path]:
    """The raw files of a data set by their path below its folder, in reading order.

    Raises:
        ValueError: a file that the settings name is missing.
    """
    folder, settings = project.folder(dataset), project.datasets[dataset]
    if settings.source == "documents":
        paths = _documents_of(project, dataset).paths
    else:
        paths = raw_paths(folder, settings, project.roots)
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _documents_of(project: Project, dataset: str) -> DocumentPaths:
    return document_paths(project.folder(dataset), project.documents[dataset], project.roots)


def planned_files(plan: Plan) -> dict[str, str]:
    """The sha256 of each raw file by its path, as the plan of a raw asset saw it."""
    return _texts_of(plan, "files")


def planned_left_out(plan: Plan) -> dict[str, str]:
    """Why each path among the documents that is no plain file is left out, as the plan of the passages saw it."""
    return _texts_of(plan, "left_out")


def _texts_of(plan: Plan, name: str) -> dict[str, str]:
    found = plan.settings.get(name)
    return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def counting_encoder(project: Project, dataset: str) -> EncoderSettings:
    """The encoder whose tokens a passage is measured in.

    Raises:
        ValueError: documents.encoder names no variant of the data set with a local encoder.
    """
    local = {
        variant.name: variant.recipe.encoder
        for variant in project.variants_of(dataset)
        if isinstance(variant.recipe.encoder, EncoderSettings)
    }
    name = project.documents[dataset].encoder
    if name is None:
        return next(iter(local.values()), EncoderSettings(model=BUNDLED))
    if name not in local:
        raise ValueError(
            f"{project.folder(dataset) / 'dataset.yaml'}, documents.encoder: expected a variant with a local encoder "
            f"({', '.join(local) or 'none here'}), found {name!r}. Correct the name."
        )
    return local[name]


def round_trip_recipe(project: Project, dataset: str) -> Recipe | None:
    """The recipe whose search must find a question's own passage; None where nothing is asked.

    Raises:
        ValueError: the recipe is missing or malformed, or must be trained first.
    """
    wanted = project.synthesis[dataset].round_trip
    if wanted is None:
        return None
    recipe = read_recipe(project.data / "recipes" / f"{wanted.recipe}.yaml")
    learnt = recipe.training or recipe.merge or recipe.adaptation
    if learnt or recipe.retriever not in ("dense", "bm25", "tfidf"):
        raise ValueError(
            f"{project.folder(dataset) / 'dataset.yaml'}, synthesis.round_trip.recipe: {wanted.recipe} is trained on "
            "the questions that it would judge. Name bm25, tfidf or a recipe without training."
        )
    return recipe


def _synthesis_settings(project: Project, dataset: str, base_encoder: Callable[[AnyEncoderSettings], Encoder]) -> dict:
    settings, recipe = project.synthesis[dataset], round_trip_recipe(project, dataset)
    asked = settings.model_dump(mode="json", exclude={"chat": _NOT_ASKED, "judge": _NOT_ASKED})
    found: dict[str, object] = {"synthesis": asked, "language": project.datasets[dataset].language}
    templates = template_digests(settings, project.datasets[dataset].language, project.folder(dataset))
    if templates:
        found["templates"] = dict(templates)
    if recipe is not None:
        found["round_trip"] = recipe.retriever
        found |= {"base_encoder": base_encoder(recipe.encoder).fingerprint} if recipe.encoder else {}
    return found
