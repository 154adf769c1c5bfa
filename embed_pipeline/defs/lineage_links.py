"""The chain from a figure to the files as Markdown for the metadata, each artifact a link to its page in the UI.

Belongs here: how a chain is shown. Does not belong here: following it (lineage).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import dagster as dg

from embed_pipeline.defs.resources import Step
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.lineage import Link, raw_files, trace
from embed_pipeline.graph.topology import Node
from embed_pipeline.reporting.metrics_table import MetricRow


def check_ui_path(path: str) -> str:
    """The path prefix of the UI, if it is one.

    Raises:
        ValueError: it does not begin with a slash, or ends with one.
    """
    if not re.fullmatch(r"(/[^/\s]+)*", path):
        raise ValueError(
            f"EMBED_PIPELINE_UI_PATH: expected the webserver's --path-prefix, as /dagster, found {path!r}. Write it "
            "with a slash before and none behind."
        )
    return path


@dataclass(frozen=True)
class Pages:
    """Where the UI shows assets and runs."""

    ui_path: str = ""
    """What stands before every address: the webserver's path prefix, as `/dagster`."""
    key_prefix: Sequence[str] = ()
    """What stands before the names in the asset keys."""

    def of_node(self, node: Node) -> str:
        """The page of an asset, at the partition if it has some."""
        key = "/".join(quote(part, safe="") for part in (*self.key_prefix, node.asset))
        partition = "" if node.partition == ALL else f"?view=partitions&partition={quote(node.partition, safe='')}"
        return f"{self.ui_path}/assets/{key}{partition}"

    def of_run(self, run_id: str) -> str:
        """The page of a run."""
        return f"{self.ui_path}/runs/{run_id}"


def pages_of(step: Step) -> Pages:
    """The pages of the instance that the step runs in, under its own team's keys."""
    return Pages(step.pipeline.ui_path, step.context.asset_key.path[:-1])


def link_chain(graph: Graph, node: Node, digest: str, pages: Pages) -> dg.MetadataValue:
    """A nested list: the version of a node with these bytes, what it was made from, down to each raw file's sha256.

    The same chain as `embed-pipeline lineage`.
    """
    return dg.MetadataValue.md("\n".join(_list(trace(graph, node, digest), pages)))


def link_rows(graph: Graph, rows: Sequence[MetricRow], pages: Pages) -> dg.MetadataValue:
    """A table: per row its figure and the digests of what it was made from, raw files last."""
    lines = ["| variant | figure | measured | index | weights | data | raw files |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        variant = graph.project.variants.get(f"{row.dataset}/{row.variant}")
        if variant is None:
            continue
        raw = next(node for node in graph.nodes() if node.partition == row.dataset)
        variant_node = Node("query_metrics", variant.key)
        found = [
            (variant_node, row.query_metrics_digest),
            (Node("faiss_index", variant.key), row.index_digest),
            (graph.topology.weights(variant) or variant_node, row.checkpoint_digest),
            (Node("cleaned_qa", row.dataset), row.cleaned_digest),
            (raw, row.raw_digest),
        ]
        cells = [f"[`{digest[:12]}`]({pages.of_node(node)})" if digest else "–" for node, digest in found]
        lines.append(" | ".join([f"| {variant.key}", f"{row.at} {row.value:.4f}", *cells]) + " |")
    return dg.MetadataValue.md("\n".join(lines))


def _list(links: Iterator[Link], pages: Pages) -> Iterator[str]:
    for link in links:
        indent, version = "  " * link.depth, link.version
        made = "not in the store"
        if version is not None:
            made = f"[built {version.built_at}]({pages.of_run(version.run_id)})" if version.run_id else version.built_at
        later = "" if link.current else " (newer version exists)"
        yield f"{indent}- [{link.node}]({pages.of_node(link.node)}) `{link.digest[:12]}` {made}{later}"
        yield from (f"{indent}  - {name}: sha256 `{digest}`" for name, digest in raw_files(link).items())
