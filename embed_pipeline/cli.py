"""The command line: the same graph without the UI, on the same Dagster instance.

Belongs here: running, looking, cleaning up: arguments and what is printed. Does not belong here: deciding what is stale
(graph.freshness), running it (commands.run), commands about a single figure (commands.evidence).
"""

import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from embed_pipeline.commands.checkpoints import export, promoted, publish, push
from embed_pipeline.commands.data import convert, estimate, init, new
from embed_pipeline.commands.dev import dev
from embed_pipeline.commands.doctor import doctor
from embed_pipeline.commands.evidence import ladder, lineage, mteb, recipe, reproduce
from embed_pipeline.commands.run import open_graph, print_broken, print_metrics_table, run
from embed_pipeline.commands.serve import serve
from embed_pipeline.commands.terminal import CommandGroup, Place, ProjectCommand, console
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.freshness import Causes, assess, chosen_training, explain
from embed_pipeline.graph.node_settings import METRICS_FILE
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.finding import UnknownNameError, near_names

_COLOURS = {"fresh": "green", "stale": "yellow", "waiting": "yellow", "missing": "cyan", "failed": "red"}


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="embed-pipeline")
def main() -> None:
    """Materialise the embed-pipeline graph, ask what is stale and why, read the metrics."""


@main.command(cls=ProjectCommand)
def status() -> None:
    """What is fresh, stale or missing, partition by partition; which data sets cannot be read, and why."""
    table = Table(box=None, pad_edge=False)
    for header in ("asset", "partition", "state", "precision", "because"):
        table.add_column(header, overflow="fold")
    graph = open_graph()
    for item in assess(graph):
        colour = _COLOURS[item.state]
        chosen = chosen_training(graph, item.node)
        told = (*item.reasons, *([f"auto: {chosen.summary}"] if chosen else ()))
        state, because = f"[{colour}]{item.state}[/]", escape("; ".join(told))
        table.add_row(item.node.asset, item.node.partition, state, item.precision or "", because)
    console.print(table)
    if print_broken(graph.project):
        sys.exit(1)


@main.command(cls=ProjectCommand)
@click.argument("asset")
@click.argument("partition", default=ALL)
def why(asset: str, partition: str) -> None:
    """Which input or setting makes ASSET [PARTITION] stale, or made it be built the last time.

    First the path from each thing that changed, then every difference.
    """
    graph, node = open_graph(), Node(asset, partition)
    nodes = list(graph.nodes())
    if node not in nodes:
        partitions = [n.partition for n in nodes if n.asset == asset]
        known = f"partitions of {asset}: {', '.join(partitions)}" if partitions else _known("assets", nodes)
        near = near_names(partition, partitions) if partitions else near_names(asset, [n.asset for n in nodes])
        hint = f" Near: {', '.join(dict.fromkeys(near))}." if near else ""
        raise UnknownNameError(f"{node}: no such partition.{hint} {known}.")
    assessments = {assessment.node: assessment for assessment in assess(graph)}
    for line in (*Causes(graph).of_node(node, assessments), *explain(graph, node, assessments)):
        console.print(escape(line), soft_wrap=True)


@main.command(cls=ProjectCommand)
@click.option("--dataset", help="Only this data set.")
@click.option(
    "--to",
    "target",
    type=Place("s3://"),
    help="Write all their columns as Parquet to this file or s3://bucket/name.parquet, in place of what is there.",
)
def metrics(dataset: str | None, target: str | Path | None) -> None:
    """Print the newest metrics, or write them where others read them."""
    project = open_graph().project
    if dataset is not None:
        project.check_dataset(dataset)
    if not (project.home / METRICS_FILE).exists():
        raise click.ClickException(f"{project.home / METRICS_FILE}: no metrics yet. Run `embed-pipeline run` first.")
    if target is not None:
        from embed_pipeline.reporting.database import write_newest

        count = write_newest(project.home / METRICS_FILE, target, dataset=dataset)
        console.print(f"{count:,} rows written to {escape(str(target))}", soft_wrap=True)
        return
    print_metrics_table(project, dataset)
    print_broken(project, dataset)


@main.command(cls=ProjectCommand)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--recheck", is_flag=True, help="Look at every kept vector too: zeros and the like are removed.")
def gc(dry_run: bool, recheck: bool) -> None:
    """Remove artifacts and vectors that nothing refers to any more.

    With --recheck also kept vectors that are none of a text (zeros, not finite, one for many texts, not of length 1),
    which an older version took from a service, and the indexes that hold some.
    """
    from embed_pipeline.assembly.cleanup import recheck_vectors, remove_unused
    from embed_pipeline.defs.resources import pipeline_from_environment

    # What a variant on request was trained to is in use, whether or not it takes part just now.
    graph = pipeline_from_environment().model_copy(update={"on_request": True}).graph()
    for line in remove_unused(graph, dry_run=dry_run):
        console.print(line)
    for line in recheck_vectors(graph, dry_run=dry_run) if recheck else ():
        console.print(escape(line), soft_wrap=True)


def _known(what: str, nodes: list[Node]) -> str:
    return f"{what}: {', '.join(dict.fromkeys(n.asset for n in nodes))}"


for command in (
    new,
    run,
    dev,
    doctor,
    init,
    convert,
    estimate,
    lineage,
    reproduce,
    recipe,
    ladder,
    mteb,
    promoted,
    export,
    push,
    publish,
    serve,
):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="embed-pipeline")
