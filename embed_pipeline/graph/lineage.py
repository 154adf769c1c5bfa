"""From a row of the metrics table back to the files: the versions that its number was really made from.

Belongs here: the digests that a row names, and following them through the store's history. Does not belong here: what
would be built now (graph). No dagster here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from embed_pipeline.artifacts import Manifest
from embed_pipeline.evaluation.measures import parse_measure
from embed_pipeline.graph.catalogue import RAW_ASSETS
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.node_settings import METRICS_FILE
from embed_pipeline.graph.precision import precision_of
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.automatic_training import summarise
from embed_pipeline.project.recipes import AUTO
from embed_pipeline.project.variants import Variant
from embed_pipeline.reporting.database import read_newest
from embed_pipeline.reporting.metrics_table import Lineage, MetricRow


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
    version = find_version(graph, node, digest)
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


def measured_lineage(graph: Graph, variant: Variant, measured: Manifest | None = None) -> Lineage:
    """What the variant's measured artifact itself was built from, whatever stands there or would be chosen now.

    `measured`: the version of it; left out: the one that stands.
    """
    measured, key = measured or graph.input(Node("query_metrics", variant.key)), variant.key
    cleaned, weights = measured.inputs[f"cleaned_qa[{variant.dataset}]"], graph.topology.weights(variant)
    checkpoint = measured.inputs.get(str(weights)) if weights else None
    trained = _training(graph, variant, measured)
    seed = _section(trained, "training").get("seed")
    return Lineage(
        raw_digest=_raw_digest(graph, "cleaned_qa", variant.dataset, cleaned),
        cleaned_digest=cleaned,
        negatives_digest=next(_groups(trained))[1] if trained else None,
        checkpoint_digest=checkpoint,
        index_digest=measured.inputs[f"faiss_index[{key}]"],
        query_metrics_digest=measured.digest,
        recipe=_recipe(graph, variant, trained),
        seed=seed if isinstance(seed, int) else None,
        precision=precision_of(trained.settings) if trained else None,
        dtype=precision_of(measured.settings),
    )


def measured_recipe(graph: Graph, variant: Variant, measured: Manifest) -> dict[str, Any]:
    """What decided a variant's figures: where its recipe says auto, what the measured weights were trained with."""
    return _recipe(graph, variant, _training(graph, variant, measured))


def _recipe(graph: Graph, variant: Variant, trained: Manifest | None) -> dict[str, Any]:
    recipe = variant.recipe.measured()
    if variant.recipe.training != AUTO or trained is None:
        return recipe
    training = _section(trained, "training")
    description = f"{variant.recipe.description.rstrip('.')}: {summarise(training)}."
    mined = find_version(graph, *next(_groups(trained)))
    return {**recipe, "description": description, "mining": _section(mined, "mining"), "training": training}


def _training(graph: Graph, variant: Variant, measured: Manifest) -> Manifest | None:
    """The record of the training that the measured weights come from."""
    weights = graph.topology.weights(variant)
    checkpoint = measured.inputs.get(str(weights)) if weights else None
    return _trained(graph, weights, checkpoint) if weights and checkpoint else None


def _section(version: Manifest | None, name: str) -> Mapping[str, Any]:
    found = version.settings.get(name) if version else None
    return found if isinstance(found, Mapping) else {}


def _groups(trained: Manifest) -> Iterator[tuple[Node, str]]:
    """The groups that weights were trained on, and the digest of them."""
    nodes = ((Node.parse(name), digest) for name, digest in trained.inputs.items())
    return (one for one in nodes if one[0].asset == "mined_negatives")


def _trained(graph: Graph, weights: Node, digest: str) -> Manifest | None:
    """The record of the training that weights come from, through a mixture to its first part; None where they learnt
    without mined groups."""
    version = version_of(graph, weights, digest)
    for name, below in version.inputs.items():
        node = Node.parse(name)
        if node.asset == "mined_negatives":
            return version
        if node.asset in ("finetuned_checkpoint", "merged_checkpoint"):
            return _trained(graph, node, below)
    return None


def _raw_digest(graph: Graph, asset: str, dataset: str, digest: str) -> str:
    """The digest of the raw files that a version was made from."""
    while asset not in RAW_ASSETS:
        name, digest = next(iter(version_of(graph, Node(asset, dataset), digest).inputs.items()))
        asset = Node.parse(name).asset
    return digest


def find_version(graph: Graph, node: Node, digest: str) -> Manifest | None:
    """The newest version of a node with these bytes; None where its record is gone."""
    return next((one for one in graph.store.history(node.asset, node.partition) if one.digest == digest), None)


def version_of(graph: Graph, node: Node, digest: str) -> Manifest:
    """As find_version.

    Raises:
        ValueError: its record is gone.
    """
    found = find_version(graph, node, digest)
    if found is None:
        raise ValueError(f"{node}: expected the record of {digest[:12]}, found none. Materialise it again.")
    return found
