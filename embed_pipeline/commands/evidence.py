"""Commands about figures: where one comes from, by which recipe, whether it can be made again, what a setting earned.

Belongs here: their arguments and what they print. Does not belong here: the work (graph.lineage, defs.reproduction,
assembly.mteb_scores).
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from embed_pipeline.commands.terminal import ProjectCommand, console
from embed_pipeline.project.loading import RECIPES_FOLDER


@click.command(cls=ProjectCommand)
@click.argument("variant")
@click.option("--measure", help="Which figure to name, as precise@5; left out: the data set's headline.")
def lineage(variant: str, measure: str | None) -> None:
    """Follow the newest figure of VARIANT back to the bytes of the raw files."""
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.graph.lineage import describe_lineage

    for line in describe_lineage(pipeline_from_environment().graph(), variant, measure):
        console.print(escape(line), soft_wrap=True)


@click.command(cls=ProjectCommand)
@click.argument("variant")
@click.option("--measure", help="Which figure, as precise@5; left out: the data set's headline.")
def reproduce(variant: str, measure: str | None) -> None:
    """Make the newest figure of VARIANT again from its recorded inputs, or name the first thing that differs."""
    from embed_pipeline.definitions import build_definitions
    from embed_pipeline.defs.reproduction import reproduce as make_again
    from embed_pipeline.defs.resources import pipeline_from_environment

    found = make_again(pipeline_from_environment(), variant, measure, build_definitions)
    for line in found.lines:
        console.print(escape(line), soft_wrap=True)
    sys.exit(0 if found.same else 1)


@click.command(cls=ProjectCommand)
@click.argument("name", metavar="VARIANT|DATASET")
@click.option("--explain", is_flag=True, help="What the data are like, and in a sentence each what auto chose and why.")
@click.option("--as", "own_name", metavar="NEW", help="Write it to data/recipes/NEW.yaml, to change a value there.")
def recipe(name: str, explain: bool, own_name: str | None) -> None:
    """Print the recipe of a variant as a file would state it; where it says auto, what that comes to and why.

    Of a data set: of those of its variants whose training is chosen by itself.
    """
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.project.automatic_training import format_recipe

    if own_name and explain:
        raise click.UsageError("--as writes why each value was chosen into the file; leave out --explain.")
    graph = pipeline_from_environment().graph()
    if own_name:
        variant = graph.project.variant_named(name)
        own = {"description": f"Copied from {variant.key}; say here what you changed."}
        lines = format_recipe(graph.resolved(variant).recipe.model_copy(update=own), graph.automatic_training(variant))
        _write_recipe(graph.project.data / RECIPES_FOLDER, own_name, [*lines, ""])
        return
    for asked in graph.project.trained_by_itself(name) or (graph.project.variant_named(name),):
        found = graph.automatic_training(asked)
        if explain and found:
            lines = (f"{asked.key}: {found.summary}. The data: {found.facts.in_words}.", *found.lines)
        else:
            lines = format_recipe(graph.resolved(asked).recipe, found)
        for line in lines:
            console.print(escape(line), soft_wrap=True)


def _write_recipe(folder: Path, name: str, lines: Sequence[str]) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise click.UsageError(f"--as {name}: expected small letters, digits and _. Choose such a name.")
    path = folder / f"{name}.yaml"
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write("\n".join(lines))
    except FileExistsError as error:
        raise click.ClickException(f"{path}: a recipe has this name already. Choose another one.") from error
    console.print(
        escape(f"Written: {path}. Change a value, and add {name} to variants in dataset.yaml."), soft_wrap=True
    )


@click.command(cls=ProjectCommand)
@click.argument("dataset")
def ladder(dataset: str) -> None:
    """Say what each setting earned: DATASET's variants, each against what it stands on or is most like."""
    from embed_pipeline.assembly.ladder import climb
    from embed_pipeline.defs.resources import pipeline_from_environment

    graph = pipeline_from_environment().graph()
    graph.project.check_dataset(dataset)
    table = Table(box=None, pad_edge=False)
    for header in (
        "variant",
        str(graph.project.headline(dataset)),
        "earned",
        "p",
        "against",
        "what changed",
        "trained",
    ):
        left = header in ("variant", "against", "what changed")
        table.add_column(header, justify="left" if left else "right", overflow="fold")
    for rung in climb(graph, dataset):
        found, seconds = rung.comparison, rung.training_seconds
        earned = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]" if found else "–"
        changes = escape("; ".join(rung.changes[:4])) + (f" and {len(rung.changes) - 4} more" * (len(rung.changes) > 4))
        p_value = f"{found.p_value:.3f}" if found else "–"
        trained = f"{seconds:.0f} s" if seconds is not None else "–"
        table.add_row(rung.variant, f"{100 * rung.value:.1f}", earned, p_value, rung.before or "–", changes, trained)
    console.print(table)


@click.command(cls=ProjectCommand)
@click.argument("variant")
@click.option(
    "--tasks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of local tasks, each a folder with task.yaml.",
)
def mteb(variant: str, tasks: Path | None) -> None:
    """Run mteb on VARIANT's data set and on local TASKS, offline; scores are cached by the weights' content."""
    from embed_pipeline.assembly.mteb_scores import score_variant
    from embed_pipeline.defs.resources import pipeline_from_environment

    graph = pipeline_from_environment().graph()
    table = Table(box=None, pad_edge=False)
    for header in ("task", "type", "split", "measure", "value"):
        table.add_column(header, justify="right" if header == "value" else "left")
    for score in score_variant(graph, graph.project.variant_named(variant), tasks):
        table.add_row(score.task, score.type, score.split, score.main_score_name, f"{score.value:.4f}")
    console.print(table)
