"""A figure made again from what it was recorded to stand on, or the first thing that is another today.

Belongs here: comparing a row's record with today, and building its artifacts anew in a folder of their own. Does not
belong here: following the record (lineage).
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from embed_pipeline.artifacts import installed_packages
from embed_pipeline.assembly.questioning import CHAT_FOLDER
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.defs.running import Build, execute
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.evaluation.comparison import summarise
from embed_pipeline.evaluation.measuring import METRICS_FILE
from embed_pipeline.evaluation.query_metrics import read_query_metrics
from embed_pipeline.graph.freshness import format_difference
from embed_pipeline.graph.graph import Graph, MissingInputError
from embed_pipeline.graph.lineage import Link, find_row, trace_row
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import ready_work
from embed_pipeline.reporting.metrics_table import MetricRow


@dataclass(frozen=True)
class Reproduction:
    """What came of it: `same` is true where the figure was made again; `lines` tell how, artifact by artifact."""

    same: bool
    lines: tuple[str, ...]


def reproduce(pipeline: PipelineResource, variant: str, measure: str | None, build: Build) -> Reproduction:
    """The newest figure of a variant, built anew from the files without the store's artifacts and vectors.

    Recorded answers of a chat model are used; none is asked for again.

    `build` gives the definitions of a project in other folders.

    Where a file, a setting, the code or a package is another one than recorded, nothing is built: the first difference
    is named, upstream first.

    Raises:
        ValueError: there is no such variant, measure or row.
    """
    graph = pipeline.graph()
    row = find_row(graph, variant, measure)
    if isinstance(graph.project.variant_named(variant).encoder, HostedEncoderSettings):
        raise ValueError(
            f"{variant}: what a service answered cannot be made again, and asking again costs money. "
            "Its vectors are in the cache; `embed-pipeline run --all` serves them."
        )
    links = sorted(trace_row(graph, row), key=lambda link: -link.depth)
    difference = next(_differences(graph, links), None)
    if difference is not None:
        return Reproduction(False, (f"not the same any more: {difference}",))
    with graph.store.scratch(f"reproduction-{variant.replace('/', '-')}") as folder:
        answers = graph.project.home / CHAT_FOLDER
        if answers.is_dir():
            # What a chat model answered is an input like a file: asked again it would cost, and say something else.
            shutil.copytree(answers, folder / CHAT_FOLDER)
        errors = _build(pipeline, links, folder, build)
        if errors:
            return Reproduction(False, tuple(errors))
        return _compare(pipeline, links, row, folder)


def _differences(graph: Graph, links: Sequence[Link]) -> Iterator[str]:
    installed = installed_packages()
    for link in links:
        if link.version is None:
            yield f"{link.node}: the store has no record of digest {link.digest[:12]}"
            continue
        try:
            plan = graph.plan(link.node, anew=True)
        except (MissingInputError, ValueError) as error:
            yield f"{link.node}: {error}"
            continue
        for change in plan.differences(link.version):
            yield f"{link.node}: {format_difference(change)}"
        for name, version in sorted(link.version.packages.items()):
            if installed.get(name) != version:
                yield f"{link.node}: package {name} {version} → {installed.get(name, 'not installed')}"


def _build(pipeline: PipelineResource, links: Sequence[Link], home: Path, build: Build) -> tuple[str, ...]:
    fresh, wanted, done = _elsewhere(pipeline, home), {link.node for link in links}, set()
    with dg.DagsterInstance.ephemeral() as instance:
        while work := ready_work(fresh.graph(), lambda node: node in wanted):
            if work[0].key in done:
                return (f"{work[0].job.name} {work[0].partition} was run and is stale again",)
            done.add(work[0].key)
            errors = execute(build(fresh), work[0], instance)
            if errors:
                return errors
    return ()


def _elsewhere(pipeline: PipelineResource, home: Path) -> PipelineResource:
    # A copy made by pydantic would keep the old folders: Dagster makes resources again from what they were made with.
    fields = {name: getattr(pipeline, name) for name in type(pipeline).model_fields}
    return PipelineResource(**{**fields, "home": str(home), "artifacts": None})


def _compare(pipeline: PipelineResource, links: Sequence[Link], row: MetricRow, home: Path) -> Reproduction:
    store = _elsewhere(pipeline, home).graph().store
    lines = []
    for link in links:
        made = store.read(link.node.asset, link.node.partition)
        found = made.digest if made else "nothing"
        same = "the same bytes" if found == link.digest else f"other bytes, {link.digest[:12]} → {found[:12]}"
        lines.append(f"{link.node}: {same}")
    measured = store.read(*_node_of(row))
    results = read_query_metrics(store.open(measured) / METRICS_FILE) if measured else ()
    value = next((mean.value for mean in summarise(results) if mean.measure == row.at), None) if results else None
    lines.append(f"{row.at}: recorded {row.value:.6f}, made again {'nothing' if value is None else f'{value:.6f}'}")
    return Reproduction(value == row.value, tuple(lines))


def _node_of(row: MetricRow) -> tuple[str, str]:
    node = Node("query_metrics", f"{row.dataset}/{row.variant}")
    return node.asset, node.partition
