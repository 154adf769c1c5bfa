"""From a row of the metrics table back to the files: the versions that its number was really made from.

Belongs here: following digests through the store's history. Does not belong here: what would be built now (graph). No
dagster here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from embed_pipeline.artifacts import Manifest
from embed_pipeline.evaluation.measures import parse_measure
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.node_settings import METRICS_FILE
from embed_pipeline.graph.topology import Node
from embed_pipeline.reporting.database import read_newest
from embed_pipeline.reporting.metric_row import MetricRow


@dataclass(frozen=True)
class Link:
    """One artifact that a number stands on; `version` is None where the store has no record of these bytes.

    `depth` is its distance from the row, `current` whether the same bytes are what the store would serve today.
    """

    node: Node
    digest: str
    depth: int
    version: Manifest | None
    current: bool


def describe_lineage(graph: Graph, variant: str, measure: str | None) -> Iterator[str]:
    """Lines: the newest figure of a variant (by default on the headline), then what it stands on, indented by depth.

    Raises:
        ValueError: there is no such variant, measure or row.
    """
    row = find_row(graph, variant, measure)
    figure = f"{row.dataset}/{row.variant}, {row.at} {row.value:.4f} on {row.queries} queries"
    yield f"{figure}, {row.evaluated_at:%Y-%m-%d %H:%M} UTC"
    for link in trace_row(graph, row):
        found, indent = link.version, "  " * (link.depth + 1)
        made = f"built {found.built_at}, commit {found.git_commit}" if found else "not in the store"
        yield f"{indent}{link.node}  {link.digest[:12]}  {made}" + ("" if link.current else "  (newer version exists)")
        for name, digest in raw_files(link).items():
            yield f"{indent}  {name}  sha256 {digest}"


def trace_row(graph: Graph, row: MetricRow) -> Iterator[Link]:
    """The artifacts below a row, each once, depth first: query metrics, then what they were made from."""
    return trace(graph, Node("query_metrics", f"{row.dataset}/{row.variant}"), row.query_metrics_digest)


def trace(graph: Graph, node: Node, digest: str) -> Iterator[Link]:
    """The version of a node with these bytes and the artifacts below it, each once, depth first."""
    return _trace(graph, node, digest, 0, set())


def raw_files(link: Link) -> dict[str, str]:
    """The sha256 of each raw file by name, where the link is an artifact of raw files."""
    files = link.version.settings.get("files") if link.version else None
    return {name: str(digest) for name, digest in files.items()} if isinstance(files, dict) else {}


def _trace(graph: Graph, node: Node, digest: str, depth: int, seen: set[tuple[Node, str]]) -> Iterator[Link]:
    if (node, digest) in seen:
        return
    seen.add((node, digest))
    versions = graph.store.history(node.asset, node.partition)
    version = next((version for version in versions if version.digest == digest), None)
    newest = graph.store.read(node.asset, node.partition)
    yield Link(node, digest, depth, version, current=newest is not None and newest.digest == digest)
    for name, below in sorted((version.inputs if version else {}).items()):
        yield from _trace(graph, Node.parse(name), below, depth + 1, seen)


def find_row(graph: Graph, variant: str, measure: str | None) -> MetricRow:
    """The newest row of a variant on all its own queries, on a measure or, left out, on the headline.

    Raises:
        ValueError: there is no such variant, measure or row.
    """
    file = graph.project.home / METRICS_FILE
    chosen = graph.project.variant_named(variant)
    if not file.exists():
        raise ValueError(f"{file}: no metrics yet. Run `embed-pipeline run` first.")
    wanted = parse_measure(measure) if measure else graph.project.headline(chosen.dataset)
    rows = read_newest(file, dataset=chosen.dataset, variant=chosen.name)
    row = next((row for row in rows if row.covers_own_queries and row.at == wanted), None)
    if row is None:
        raise ValueError(f"{variant} has no row of {wanted}. Run `embed-pipeline run --variant {variant}`.")
    return row
