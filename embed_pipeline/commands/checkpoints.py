"""Commands about weights: which checkpoint to take, and a copy of it, or of the vectors it gives, for others.

Belongs here: their arguments and what they print. Does not belong here: the choice (merging.candidates).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from embed_pipeline.commands.terminal import Place, ProjectCommand, console
from embed_pipeline.records import STORES, StoreKind
from embed_pipeline.replacing import new_folder

if TYPE_CHECKING:
    from embed_pipeline.graph.graph import Graph
    from embed_pipeline.graph.topology import Node
    from embed_pipeline.project.variants import Variant

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command(cls=ProjectCommand)
@click.argument("dataset")
@click.option("--export", "export_to", type=FOLDER, help="Copy the model and its model card into this new folder.")
def promoted(dataset: str, export_to: Path | None) -> None:
    """Say which checkpoint of DATASET users should take, and why."""
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.graph.topology import Node
    from embed_pipeline.merging.candidates import read_promoted

    graph, node = pipeline_from_environment().graph(), Node("promoted_checkpoint", dataset)
    graph.project.check_dataset(dataset)
    if node not in graph.nodes():
        known = ", ".join(found.partition for found in graph.nodes() if found.asset == node.asset) or "none"
        raise click.ClickException(
            f"{dataset}: no checkpoint is chosen here; that takes a trained variant and a validation split. Data sets "
            f"that have both: {known}. Name one of those, or add what is missing."
        )
    folder = _folder(graph, node)
    found = read_promoted(folder)
    console.print(escape(found.reason), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for header in ("checkpoint", "validation", "against its base", "general suites", "lost most"):
        table.add_column(header, justify="left" if header == "checkpoint" else "right")
    for one in sorted(found.candidates, key=lambda one: -one.target):
        values = (f"{100 * one.target:.1f}", f"{100 * one.gain:+.1f}", f"{100 * one.general:.1f}")
        table.add_row(one.variant, *values, one.general_points)
    console.print(table)
    if export_to is not None:
        with _new_copy(folder, export_to):
            pass


@click.command(cls=ProjectCommand)
@click.argument("variant")
@click.argument("folder", type=FOLDER)
@click.option("--format", "form", help="A format of the recipe's section export, or best: the one to deploy.")
def export(variant: str, folder: Path, form: str | None) -> None:
    """Copy what was trained for VARIANT into the new FOLDER: a model, a mixture, an adapter or a cross-encoder.

    Of a hybrid variant the weights of its scores lie beside it. Of an adaptation behind a trained model FOLDER holds
    that model, and the adaptation in `adapter` below it. With --format FOLDER holds its model in a format
    of its recipe.
    """
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.graph.topology import Node
    from embed_pipeline.retrieval.hybrid import WEIGHTS_FILE

    graph = pipeline_from_environment().graph()
    chosen = graph.project.variant_named(variant)
    if form is not None:
        with _new_copy(_exported(graph, chosen, form), folder):
            return
    node = graph.topology.trained(chosen)
    if node is None:
        raise click.ClickException(f"{variant}: nothing was trained for it. Name a variant that is.")
    trained, below = _folder(graph, node), chosen.encoding_variant.adapted
    model = _folder_below(graph, node, below) if below and node.asset == "adapter" else None
    weights = Node("hybrid_weights", chosen.hybrid_variant.key) if chosen.hybrid_variant else None
    weighed = _folder(graph, weights) / WEIGHTS_FILE if weights else None
    with _new_copy(model or trained, folder) as made:
        if model:  # not among its files: *.safetensors there are the model's weights
            shutil.copytree(trained, made / "adapter")
        if weighed:
            shutil.copyfile(weighed, made / WEIGHTS_FILE)
    if chosen.recipe.rerank and not chosen.trains_reranker:
        model_name = escape(str(chosen.recipe.rerank.model))
        console.print(f"the second stage is {model_name} as it is; it was not copied", soft_wrap=True)


@click.command(cls=ProjectCommand)
@click.argument("variant")
@click.option(
    "--to",
    "target",
    required=True,
    type=Place("hf:", "s3://"),
    help="A new folder, hf:organisation/name, or s3://bucket/name with nothing below it.",
)
@click.option("--public", is_flag=True, help="Hub: let everybody see it, once all is there. Else a new one is private.")
@click.option("--dry-run", is_flag=True, help="Only show the files and the card; nothing is written or sent.")
def push(variant: str, target: str | Path, public: bool, dry_run: bool) -> None:
    """Hand out the model of VARIANT with a card: figures with intervals, where it comes from, how to use it.

    To a folder, to a model repository of the Hugging Face Hub in one commit, or to a bucket. The card is README.md. The
    page of the weights in the browser says where they were sent.
    """
    from embed_pipeline.assembly.publication import (
        CARD_FILE,
        published_files,
        push_to_bucket,
        push_to_hub,
        write_publication,
    )
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.defs.running import observe
    from embed_pipeline.graph.topology import Node

    graph, to_hub = pipeline_from_environment().graph(), str(target).startswith("hf:")
    chosen = graph.project.variant_named(variant)
    if public and not to_hub:
        raise click.UsageError("--public goes with --to hf:organisation/name.")
    if isinstance(target, Path) and not dry_run:
        with new_folder(target) as made:
            write_publication(graph, chosen, made)
        console.print(f"written to {escape(str(target))}", soft_wrap=True)
        return
    with TemporaryDirectory(dir=graph.project.home, prefix="push-") as place:
        folder = Path(place)
        write_publication(graph, chosen, folder)
        if dry_run:
            for name, size in published_files(folder):
                console.print(f"{size:>13,}  {escape(name)}")
            console.print(escape("\n" + (folder / CARD_FILE).read_text(encoding="utf-8")), soft_wrap=True)
            return
        if to_hub:
            repository, message = str(target).removeprefix("hf:"), f"{chosen.key} by embed-pipeline"
            say = lambda line: console.print(escape(line), soft_wrap=True)  # noqa: E731
            address = push_to_hub(folder, repository, public=public, message=message, say=say)
        else:
            address = push_to_bucket(folder, str(target))
    console.print(f"pushed: {escape(address)}", soft_wrap=True)
    observe(graph.topology.weights(chosen) or Node("faiss_index", chosen.key), {"pushed_to": address})


@click.command(cls=ProjectCommand)
@click.argument("name", metavar="VARIANT|DATASET")
@click.option(
    "--to", "kind", type=click.Choice(STORES), help="The kind of store; left out: as the recipe or the data set says."
)
def publish(name: str, kind: StoreKind | None) -> None:
    """Put the vectors and passages of VARIANT into a vector store, in place of what was published before.

    Of DATASET those of the promoted checkpoint, under an alias of their own, DATASET-promoted. The new collection is
    built beside the old one and held against our own scores; then the alias is turned to it. Where the store is, and
    its key, the environment says: EMBED_PIPELINE_QDRANT_URL and so on (docs/stores.md). What stands there already is
    not sent again.
    """
    from embed_pipeline.assembly.publication import publish_to_store
    from embed_pipeline.assembly.variant_encoder import find_standing
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
    from embed_pipeline.graph.graph import VECTORS_FOLDER
    from embed_pipeline.stores.publishing import alias_of

    pipeline = pipeline_from_environment()
    graph = pipeline.graph()
    is_dataset, promoted_key = name in graph.project.datasets, f"{name}/promoted"
    if is_dataset and promoted_key in graph.project.variants:
        raise click.ClickException(f"{promoted_key}: a variant has the name of the alias. Rename its recipe.")
    chosen = find_standing(graph, name).variant if is_dataset else graph.project.variant_named(name)
    kind = kind or chosen.recipe.index.store
    if kind is None:
        known = ", ".join(STORES)
        raise click.UsageError(
            f"{chosen.key}: its recipe names no index.store, its data set no store. Say --to with one of {known}."
        )
    cache = VectorCache(graph.project.home / VECTORS_FOLDER)
    publish_to_store(
        graph,
        graph.resolved(chosen),
        kind,
        lambda encoder: CachedEncoder(encoder, cache),
        alias=alias_of(promoted_key if is_dataset else chosen.key, pipeline.team),
        say=lambda line: console.print(escape(line), soft_wrap=True),
    )


def _folder(graph: "Graph", node: "Node") -> Path:
    from embed_pipeline.graph.graph import MissingInputError

    try:
        return graph.store.open(graph.input(node))
    except MissingInputError as error:
        raise click.ClickException(f"{error} Run `embed-pipeline run`.") from error


def _exported(graph: "Graph", variant: "Variant", form: str) -> Path:
    """The folder of one format of a variant's exported model, `best` for the one to deploy."""
    from embed_pipeline.exporting.parity import read_parity
    from embed_pipeline.graph.topology import Node

    node = Node("exported_model", variant.key)
    if variant.recipe.export is None:
        raise click.ClickException(f"{variant.key}: its recipe has no section export. Add it and run again.")
    manifest = graph.stored(node)
    if manifest is None:
        raise click.ClickException(f"{node} does not exist yet. Run `embed-pipeline run`.")
    folder = graph.store.open(manifest)
    found = {one.format: one for one in read_parity(folder)}
    name = str(manifest.details["deploy"]) if form == "best" else form
    if name not in found:
        told = "; ".join(f"{one.format}: {one.refused or 'handed out'}" for one in found.values())
        raise click.ClickException(f"{variant.key}: no format {name}. {told}.")
    if refused := found[name].refused:
        raise click.ClickException(f"{variant.key}: {name} is not handed out: {refused}.")
    return folder / name


def _folder_below(graph: "Graph", adapter: "Node", below: "Variant") -> Path | None:
    """The model that an adapter was made for, by its digest: another one may stand there by now."""
    model = graph.topology.weights(below)
    return graph.store.open(graph.input(adapter).inputs[str(model)]) if model else None


@contextmanager
def _new_copy(source: Path, target: Path) -> Iterator[Path]:
    """A copy to add to that appears as `target` when all is there."""
    with new_folder(target) as made:
        shutil.copytree(source, made, dirs_exist_ok=True)
        yield made
    console.print(f"copied to {escape(str(target))}")
