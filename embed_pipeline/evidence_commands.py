"""Commands about a single figure: where it comes from, whether it can be made again, what mteb says.

Belongs here: their arguments and what they print. Does not belong here: the work (defs.lineage, defs.reproduction,
defs.mteb_scores).
"""

import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from embed_pipeline.terminal import console


@click.command()
@click.argument("variant")
@click.option("--measure", help="Which figure to name, as precise@5; left out: the data set's headline.")
def lineage(variant: str, measure: str | None) -> None:
    """Follow the newest figure of VARIANT back to the bytes of the raw files."""
    from embed_pipeline.defs.lineage import describe_lineage
    from embed_pipeline.defs.resources import pipeline_from_environment

    for line in describe_lineage(pipeline_from_environment().graph(), variant, measure):
        console.print(escape(line), soft_wrap=True)


@click.command()
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


@click.command()
@click.argument("variant")
@click.option(
    "--tasks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of local tasks, each a folder with task.yaml.",
)
def mteb(variant: str, tasks: Path | None) -> None:
    """Run mteb on VARIANT's data set and on local TASKS, offline; scores are cached by the weights' content."""
    from embed_pipeline.defs.mteb_scores import score_variant
    from embed_pipeline.defs.resources import pipeline_from_environment

    graph = pipeline_from_environment().graph()
    if variant not in graph.project.variants:
        raise click.ClickException(f"no variant {variant!r}. Variants: {', '.join(graph.project.variants)}.")
    table = Table(box=None, pad_edge=False)
    for header in ("task", "type", "split", "measure", "value"):
        table.add_column(header, justify="right" if header == "value" else "left")
    for score in score_variant(graph, graph.project.variants[variant], tasks):
        table.add_row(score.task, score.type, score.split, score.main_score_name, f"{score.value:.4f}")
    console.print(table)
