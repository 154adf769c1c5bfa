"""The digests that a variant's row in the table names, each read from the store's record of what was built.

Belongs here: the chain from measured figures up to the raw files. Does not belong here: printing it (lineage.py).
"""

from embed_pipeline.artifacts import Manifest
from embed_pipeline.graph.catalogue import RAW_ASSETS
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.precision import precision_of
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.variants import Variant
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
        precision=_trained_in(graph, weights, checkpoint) if weights and checkpoint else None,
        dtype=precision_of(measured.settings),
    )


def _negatives(graph: Graph, weights: Node, digest: str) -> str | None:
    """The digest of the mined negatives that weights were trained on, through a mixture to its first part."""
    trained = _trained(graph, weights, digest)
    mined = trained.inputs.items() if trained else ()
    return next((below for name, below in mined if Node.parse(name).asset == "mined_negatives"), None)


def _trained_in(graph: Graph, weights: Node, digest: str) -> str | None:
    """The arithmetic that weights were trained in, through a mixture to its first part."""
    trained = _trained(graph, weights, digest)
    return precision_of(trained.settings) if trained and trained.asset == "finetuned_checkpoint" else None


def _trained(graph: Graph, weights: Node, digest: str) -> Manifest | None:
    """The record of the training that weights come from; None where they learnt without mined groups."""
    version = _version(graph, weights.asset, weights.partition, digest)
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
        name, digest = next(iter(_version(graph, asset, dataset, digest).inputs.items()))
        asset = Node.parse(name).asset
    return digest


def _version(graph: Graph, asset: str, partition: str, digest: str) -> Manifest:
    """The newest version with these bytes."""
    return next(version for version in graph.store.history(asset, partition) if version.digest == digest)
