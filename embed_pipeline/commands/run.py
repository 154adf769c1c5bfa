"""`embed-pipeline run`: what is stale or missing is built, then the table is printed."""

import os
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from embed_pipeline.commands.live import RunScreen
from embed_pipeline.commands.terminal import ProjectCommand, console, pass_interruption
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.freshness import assess
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.node_settings import METRICS_FILE
from embed_pipeline.graph.topology import Node, select_nodes
from embed_pipeline.interruption import Interruption
from embed_pipeline.project.project import ENVIRONMENT, Project

if TYPE_CHECKING:
    import dagster as dg

    from embed_pipeline.defs.running import Tell
    from embed_pipeline.graph.work import Attempt, Run, Work

RunOne = Callable[["Work", str, "Tell"], tuple[str, ...]]
"""Executes a piece of work as the run of that id, telling what its steps say; returns its errors."""
Find = Callable[[Collection[Node]], "Sequence[Work]"]
"""The work that there is to do, with the nodes that were given up."""


@click.command(cls=ProjectCommand)
@click.option("--dataset", help="Only this data set.")
@click.option("--variant", help="Only this variant: its key (disease/minilm) or its name.")
@click.option("--on-request", is_flag=True, help="With the variants that data sets name as variants_on_request.")
@click.option("--all", "everything", is_flag=True, help="Materialise fresh partitions too (served from the store).")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time.")
@pass_interruption
def run(
    interruption: Interruption,
    dataset: str | None,
    variant: str | None,
    on_request: bool,
    everything: bool,
    jobs: int,
) -> None:
    """Run what is stale or missing, upstream first, then print the metrics table."""
    if everything and jobs > 1:
        raise click.UsageError("--all takes every run in its order, one at a time; leave out --jobs.")
    if on_request:
        os.environ[ENVIRONMENT["on_request"]] = "true"
    from embed_pipeline.graph.work import all_work, ready_work

    started, graph = time.monotonic(), open_graph()
    wanted = select_nodes(graph.project, dataset, variant)
    for line in graph.store.forget_damaged():
        console.print(f"[yellow]damaged[/yellow]: {escape(line)}", soft_wrap=True)

    def find(given_up: Collection[Node]) -> "Sequence[Work]":
        return all_work(open_graph(), wanted) if everything else ready_work(open_graph(), wanted, given_up)

    # Dagster's storage is opened only where there is something to record.
    attempts, warnings = _work_off(find, interruption, jobs) if find(()) else ((), [])
    failures = sum(bool(attempt.errors) for attempt in attempts)
    graph = open_graph()
    unfinished = [a for a in assess(graph, wanted) if wanted(a.node) and a.state != "fresh"]
    if not (attempts or unfinished or graph.project.broken):
        console.print("Everything is fresh; nothing was run.")
    console.print(f"{len(attempts)} runs, {failures} failed, {time.monotonic() - started:.1f} s\n")
    project = graph.project
    if (project.home / METRICS_FILE).exists():
        print_metrics_table(project, dataset)
    for assessment in unfinished:
        label = escape(f"{assessment.node} is {assessment.state}")
        console.print(f"[red]{label}[/red]: {escape('; '.join(assessment.reasons))}", soft_wrap=True)
    _say_again(warnings)
    broken = print_broken(project, dataset or (variant or "").partition("/")[0] or None)
    if failures or unfinished or broken:
        sys.exit(1)
    console.print("Look at the graph in the browser: embed-pipeline dev. Reports: " + str(project.home / "reports"))


def print_metrics_table(project: Project, dataset: str | None) -> None:
    """Print the newest row of every variant, of one data set or of all."""
    from embed_pipeline.reporting.database import read_newest
    from embed_pipeline.reporting.terminal import print_metrics

    headlines = {name: project.headline(name) for name in project.datasets}
    print_metrics(read_newest(project.home / METRICS_FILE, dataset=dataset, say=_say), headlines=headlines)


def _say(line: str) -> None:
    console.print(escape(line), soft_wrap=True)


def print_broken(project: Project, dataset: str | None = None) -> bool:
    """Name the data sets, or only this one, that cannot be read; whether there are some."""
    found = {name: why for name, why in project.broken.items() if dataset in (None, name)}
    for name, why in found.items():
        console.print(f"[red]data set {escape(name)} failed[/red]: {escape(why)}", soft_wrap=True)
    return bool(found)


def open_graph() -> Graph:
    """The graph as files, recipes and the store stand now; what is unpacked for it is said."""
    from embed_pipeline.defs.resources import pipeline_from_environment

    # Made anew each time: files, recipes and the store change while a command runs.
    return pipeline_from_environment().graph(lambda line: console.print(escape(line), soft_wrap=True))


def _work_off(find: Find, interruption: Interruption, jobs: int) -> "tuple[tuple[Attempt, ...], list[str]]":
    """Execute what `find` gives until nothing is left, `jobs` runs at a time; a line for each check that did not pass.

    One at a time runs here, several run in processes of their own.
    """
    from embed_pipeline.assembly.cleanup import remove_half_made
    from embed_pipeline.commands.workers import Workers
    from embed_pipeline.defs.running import open_instance
    from embed_pipeline.graph.work import work_off

    with open_instance() as instance:
        if jobs == 1:
            runs = _Runs(_run_here(instance), instance, interruption)
            try:
                return work_off(find, runs.in_turn()), runs.warnings
            except KeyboardInterrupt:
                runs.say_what_is_kept()
                raise
        with ThreadPoolExecutor(jobs) as threads, Workers(jobs) as workers:
            runs = _Runs(workers.execute, instance, interruption)
            try:
                with runs.screen.together():
                    return work_off(find, runs.in_turn(), threads=threads, jobs=jobs), runs.warnings
            except KeyboardInterrupt:
                workers.stop()
                remove_half_made(open_graph())  # of a worker that took too long
                runs.say_what_is_kept()
                raise


def _run_here(instance: "dg.DagsterInstance") -> RunOne:
    from embed_pipeline.definitions import defs
    from embed_pipeline.defs.running import execute, told_to

    def run_here(work: "Work", run_id: str, tell: "Tell") -> tuple[str, ...]:
        with told_to(tell):
            return execute(defs, work, instance, run_id=run_id)

    return run_here


def _say_again(warnings: Sequence[str]) -> None:
    """What the checks of all runs found, where the table would hide it."""
    if warnings:
        console.print(f"\nChecks that did not pass: {len(warnings)}")
    for line in warnings:
        console.print(f"  {line}", soft_wrap=True)


class _Runs:
    """Executes the runs of one command and says how each went."""

    def __init__(self, run: RunOne, instance: "dg.DagsterInstance", interruption: Interruption) -> None:
        self.run, self.instance, self.interruption = run, instance, interruption
        self.screen, self.finished = RunScreen(interruption), 0
        self.warnings: list[str] = []
        self.under_way: list[Work] = []

    def in_turn(self) -> "Run":
        """`execute`, where no other run of the project is at the same piece; else that it waits is said."""
        from embed_pipeline.graph.work import in_turn

        return in_turn(self.execute, open_graph, lambda found: _say(f"{found} in another run"))

    def execute(self, work: "Work") -> tuple[str, ...]:
        """Run a piece of work; returns its errors."""
        from embed_pipeline.defs.liveness import end_dead_runs
        from embed_pipeline.defs.running import cancel_run

        run_id = str(uuid.uuid4())
        self.under_way.append(work)
        label, reasons, started = _label(work), work.reasons[:2], time.monotonic()
        with (
            self.screen.under_way(label, reasons) as tell,
            self.interruption.last_act(lambda: cancel_run(self.instance, run_id)),
        ):
            try:
                errors = self.run(work, run_id, tell)
            except KeyboardInterrupt:
                cancel_run(self.instance, run_id)
                raise
        self.screen.ended(label, reasons, errors, time.monotonic() - started)
        self.finished += not errors
        if errors:  # one whose process was killed holds a place in a pool
            end_dead_runs(self.instance)
        graph = open_graph()
        found = [line for asset in work.job.assets for line in _failed_checks(graph, Node(asset, work.partition))]
        for line in found:
            console.print(f"  {line}", soft_wrap=True)
        self.warnings += found
        self.under_way.remove(work)
        return errors

    def say_what_is_kept(self) -> None:
        """After an interruption: what the next run need not do again."""
        from embed_pipeline.graph.freshness import describe_remains

        during = ", ".join(map(_label, self.under_way))
        canceled = f" during {during}, which {'are' if len(self.under_way) > 1 else 'is'} canceled" if during else ""
        kept = [f"{self.finished} finished runs"] if self.finished else []
        for work in self.under_way:
            kept += describe_remains(open_graph(), work.job.assets, work.partition)
        console.print(
            escape(f"Stopped{canceled}. Kept: {', '.join([*kept, 'every vector encoded so far'])}."), soft_wrap=True
        )
        console.print("The next `embed-pipeline run` goes on from there.")


def _label(work: "Work") -> str:
    return work.job.name if work.partition == ALL else f"{work.job.name} {work.partition}"


def _failed_checks(graph: Graph, node: Node) -> Iterator[str]:
    """A line per check that the newest artifact of a partition did not pass: figures, limit, remedy."""
    from embed_pipeline.defs.checks import describe_outcome, outcomes_of

    manifest = graph.store.read(node.asset, node.partition)
    for outcome in outcomes_of(manifest) if manifest else ():
        if not outcome.passed:
            kind = "[red]failed check[/red]" if outcome.blocking else "[yellow]warning[/yellow]"
            yield f"{kind} {escape(f'{node} {outcome.name}: {describe_outcome(outcome)}')}"
