"""The command line: the same graph without the UI, on the same Dagster instance.

Belongs here: running, looking, cleaning up: arguments and what is printed. Does not belong here: deciding what is stale
(defs.freshness), running it (defs.running), commands about a single figure (evidence_commands).
"""

import os
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from embed_pipeline.commands.checkpoints import export, promoted
from embed_pipeline.commands.data import convert, estimate, init
from embed_pipeline.commands.doctor import doctor
from embed_pipeline.commands.evidence import ladder, lineage, mteb, reproduce
from embed_pipeline.commands.starting import new
from embed_pipeline.commands.terminal import CommandGroup, ProjectCommand, console
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.causes import Causes
from embed_pipeline.graph.freshness import assess, explain
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.node_settings import METRICS_FILE
from embed_pipeline.graph.selection import select_nodes
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.naming import UnknownNameError, near_names
from embed_pipeline.project.project import ENVIRONMENT

if TYPE_CHECKING:
    import dagster as dg

    from embed_pipeline.graph.work import Work

_COLOURS = {"fresh": "green", "stale": "yellow", "waiting": "yellow", "missing": "cyan", "failed": "red"}


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="embed-pipeline")
def main() -> None:
    """Materialise the embed-pipeline graph, ask what is stale and why, read the metrics."""


@main.command(cls=ProjectCommand)
@click.option("--dataset", help="Only this data set.")
@click.option("--variant", help="Only this variant: its key (disease/minilm) or its name.")
@click.option("--on-request", is_flag=True, help="With the variants that data sets name as variants_on_request.")
@click.option("--all", "everything", is_flag=True, help="Materialise fresh partitions too (served from the store).")
def run(dataset: str | None, variant: str | None, on_request: bool, everything: bool) -> None:
    """Run what is stale or missing, upstream first, then print the metrics table."""
    if on_request:
        os.environ[ENVIRONMENT["on_request"]] = "true"
    from embed_pipeline.defs.running import open_instance, prepare_environment

    prepare_environment()
    from embed_pipeline.definitions import defs
    from embed_pipeline.graph.work import all_work, ready_work, work_off

    started, wanted = time.monotonic(), select_nodes(_graph().project, dataset, variant)

    def find(given_up: Collection[Node]) -> "Sequence[Work]":
        return all_work(_graph(), wanted) if everything else ready_work(_graph(), wanted, given_up)

    with open_instance() as instance:
        attempts = work_off(find, lambda work: _execute(defs, work, instance))
    failures = sum(bool(attempt.errors) for attempt in attempts)
    unfinished = [a for a in assess(_graph(), wanted) if wanted(a.node) and a.state != "fresh"]
    if not attempts and not unfinished:
        console.print("Everything is fresh; nothing was run.")
    console.print(f"{len(attempts)} runs, {failures} failed, {time.monotonic() - started:.1f} s\n")
    if _metrics_file().exists():
        _print_metrics(dataset)
    for assessment in unfinished:
        label = escape(f"{assessment.node} is {assessment.state}")
        console.print(f"[red]{label}[/red]: {escape('; '.join(assessment.reasons))}", soft_wrap=True)
    if failures or unfinished:
        sys.exit(1)
    console.print("Look at the graph in the browser: embed-pipeline dev. Reports: " + str(_home() / "reports"))


@main.command(cls=ProjectCommand)
def status() -> None:
    """What is fresh, stale or missing, partition by partition."""
    table = Table(box=None, pad_edge=False)
    for header in ("asset", "partition", "state", "precision", "because"):
        table.add_column(header, overflow="fold")
    for item in assess(_graph()):
        colour = _COLOURS[item.state]
        state, because = f"[{colour}]{item.state}[/]", escape("; ".join(item.reasons))
        table.add_row(item.node.asset, item.node.partition, state, item.precision or "", because)
    console.print(table)


@main.command(cls=ProjectCommand)
@click.argument("asset")
@click.argument("partition", default=ALL)
def why(asset: str, partition: str) -> None:
    """Which input or setting makes ASSET [PARTITION] stale, or made it be built the last time.

    First the path from each thing that changed, then every difference.
    """
    graph, node = _graph(), Node(asset, partition)
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
def metrics(dataset: str | None) -> None:
    """Print the newest metrics."""
    if dataset is not None:
        _graph().project.check_dataset(dataset)
    if not _metrics_file().exists():
        raise click.ClickException(f"{_metrics_file()}: no metrics yet. Run `embed-pipeline run` first.")
    _print_metrics(dataset)


@main.command(cls=ProjectCommand)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def gc(dry_run: bool) -> None:
    """Remove artifacts and vectors that nothing refers to any more."""
    from embed_pipeline.assembly.cleanup import remove_unused
    from embed_pipeline.defs.resources import pipeline_from_environment

    # What a variant on request was trained to is in use, whether or not it takes part just now.
    graph = pipeline_from_environment().model_copy(update={"on_request": True}).graph()
    for line in remove_unused(graph, dry_run=dry_run):
        console.print(line)


@main.command(cls=ProjectCommand)
@click.option("--port", default=3000, show_default=True, help="Port on 127.0.0.1.")
def dev(port: int) -> None:
    """Start the Dagster UI and daemon on 127.0.0.1."""
    from embed_pipeline.defs.running import prepare_environment

    prepare_environment()
    command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    console.print(f"Dagster UI: http://127.0.0.1:{port} (stop with Ctrl-C)")
    os.execv(sys.executable, command)


def _graph() -> Graph:
    from embed_pipeline.defs.resources import pipeline_from_environment

    # Made anew each time: files, recipes and the store change while a command runs.
    return pipeline_from_environment().graph(lambda line: console.print(escape(line), soft_wrap=True))


def _home() -> Path:
    return _graph().project.home


def _execute(definitions: "dg.Definitions", work: "Work", instance: "dg.DagsterInstance") -> tuple[str, ...]:
    from embed_pipeline.defs.running import execute

    label = work.job.name if work.partition == ALL else f"{work.job.name} {work.partition}"
    console.print(f"[bold]{label}[/bold]  {escape('; '.join(work.reasons[:2]))}", soft_wrap=True)
    started = time.monotonic()
    errors = execute(definitions, work, instance)
    for error in errors:
        console.print(f"  [red]failed[/red]: {escape(error)}", soft_wrap=True)
    if not errors:
        console.print(f"  [green]done[/green] in {time.monotonic() - started:.1f} s")
    return errors


def _metrics_file() -> Path:
    return _home() / METRICS_FILE


def _print_metrics(dataset: str | None) -> None:
    from embed_pipeline.reporting.database import read_newest
    from embed_pipeline.reporting.terminal import print_metrics

    project = _graph().project
    headlines = {name: project.headline(name) for name in project.datasets}
    print_metrics(read_newest(_metrics_file(), dataset=dataset), headlines=headlines)


def _known(what: str, nodes: list[Node]) -> str:
    return f"{what}: {', '.join(dict.fromkeys(n.asset for n in nodes))}"


for command in (new, doctor, init, convert, estimate, lineage, reproduce, ladder, mteb, promoted, export):
    main.add_command(command)
