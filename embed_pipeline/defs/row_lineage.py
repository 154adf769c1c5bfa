"""The digests that a variant's row in the table names, each read from the store's record of what was built.

Belongs here: the chain from measured figures up to the raw files. Does not belong here: printing it (lineage.py).
No dagster here.
"""

from collections.abc import Mapping

from embed_pipeline.defs.catalogue import RAW_ASSETS
from embed_pipeline.defs.graph import Graph
from embed_pipeline.defs.topology import Node
from embed_pipeline.defs.variants import Variant
from embed_pipeline.reporting.rows import Lineage


def measured_lineage(graph: Graph, variant: Variant) -> Lineage:
    """The digests that the variant's measured artifact itself was built from, whatever stands there now."""
    measured, key = graph.input(Node("query_metrics", variant.key)), variant.key
    cleaned, weights = measured.inputs[f"cleaned_qa[{variant.dataset}]"], graph.topology.weights(variant)
    checkpoint = measured.inputs.get(str(weights)) if weights else None
    negatives = _negatives(graph, weights, checkpoint) if weights and checkpoint else None
    training = variant.negatives_variant.recipe.training if variant.negatives_variant else None
    return Lineage(
        raw_digest=_raw_digest(graph, "cleaned_qa", variant.dataset, cleaned),
        cleaned_digest=cleaned,
        negatives_digest=negatives,
        checkpoint_digest=checkpoint,
        index_digest=measured.inputs[f"faiss_index[{key}]"],
        query_metrics_digest=measured.digest,
        recipe=variant.recipe.model_dump(mode="json"),
        seed=training.seed if training else None,
    )


def _negatives(graph: Graph, weights: Node, digest: str) -> str | None:
    """The digest of the mined negatives that weights were trained on, through a mixture to its first part."""
    inputs = _inputs(graph, weights.asset, weights.partition, digest)
    for name, below in inputs.items():
        node = Node.parse(name)
        if node.asset == "mined_negatives":
            return below
        if node.asset in ("finetuned_checkpoint", "merged_checkpoint"):
            return _negatives(graph, node, below)
    return None


def _raw_digest(graph: Graph, asset: str, dataset: str, digest: str) -> str:
    """The digest of the raw files that a version was made from."""
    while asset not in RAW_ASSETS:
        name, digest = next(iter(_inputs(graph, asset, dataset, digest).items()))
        asset = Node.parse(name).asset
    return digest


def _inputs(graph: Graph, asset: str, partition: str, digest: str) -> Mapping[str, str]:
    """What the newest version with these bytes was built from."""
    return next(m.inputs for m in graph.store.history(asset, partition) if m.digest == digest)
