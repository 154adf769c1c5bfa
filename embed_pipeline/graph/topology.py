"""Which partitions of which assets exist, and what each stands on: the graph's shape, from the project alone.

Belongs here: nodes and edges, which of them somebody means who names a data set or a variant; the Dagster partitions
and the plans are both derived from them. Does not belong here: what exists in the store, what bytes depend on
(graph.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from embed_pipeline.graph.catalogue import (
    ALL,
    DATASET_ASSETS,
    DOCUMENT_ASSETS,
    FIGURES,
    PUBLISHED_ASSETS,
    SECTIONS,
    TRAINED_ASSETS,
    VARIANT_ASSETS,
)
from embed_pipeline.project.finding import check_known
from embed_pipeline.project.project import Project
from embed_pipeline.project.variants import Variant, sources_first


@dataclass(frozen=True, order=True)
class Node:
    """One partition of one asset."""

    asset: str
    partition: str

    def __str__(self) -> str:
        return f"{self.asset}[{self.partition}]"

    @classmethod
    def parse(cls, text: str) -> "Node":
        """The node that str() gave the text for, as an input is named in a manifest."""
        asset, _, partition = text.removesuffix("]").partition("[")
        return cls(asset, partition)


@dataclass(frozen=True)
class Topology:
    """The nodes of a project and the edges between them."""

    project: Project

    def nodes(self) -> Iterator[Node]:
        """Every node, upstream first."""
        for dataset in self.project.datasets:
            yield from (Node(asset, dataset) for asset in self._sources(dataset))
            yield Node("cleaned_qa", dataset)
        for variant in sources_first(self.project.variants):
            yield from (Node(asset, variant.key) for asset in self._assets_of(variant))
        for dataset in self.project.datasets:
            # Without validation queries nothing could be chosen honestly.
            is_chosen = "validation" in self.project.datasets[dataset].expected_splits
            if is_chosen and any(variant.trains for variant in self.project.variants_of(dataset)):
                yield Node("promoted_checkpoint", dataset)
        if self.project.variants:  # else there is nothing to publish
            yield from (Node(asset, ALL) for asset in PUBLISHED_ASSETS)

    def upstream(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a node reads, in a fixed order."""
        if node.asset in DATASET_ASSETS:
            return tuple(Node(asset, node.partition) for asset in self._inputs_of_dataset(node))
        if node.asset in PUBLISHED_ASSETS:
            return self._upstream_of_published(node.asset)
        if node.asset == "promoted_checkpoint":
            return self._upstream_of_promoted(node.partition)
        return self._upstream_of_variant(node.asset, self.project.variants[node.partition])

    def trained(self, variant: Variant) -> Node | None:
        """What was trained last for the variant: its second stage, else its weights, if anything was."""
        return Node("reranker_checkpoint", variant.key) if variant.trains_reranker else self.weights(variant)

    def weights(self, variant: Variant) -> Node | None:
        """What was trained for the vectors that the variant searches with, if anything was."""
        asset = variant.weights_asset
        return Node(asset, variant.encoding_variant.key) if asset else None

    def _upstream_of_variant(self, asset: str, variant: Variant) -> tuple[Node, ...]:
        cleaned = Node("cleaned_qa", variant.dataset)
        weights = self._weights_and_below(variant)
        hybrid = (Node("hybrid_weights", variant.hybrid_variant.key),) if variant.hybrid_variant else ()
        later = (*hybrid, *((Node("reranker_checkpoint", variant.key),) if variant.trains_reranker else ()))
        if asset == "mined_negatives":
            source, replay = variant.mining_source, variant.recipe.mining and variant.recipe.mining.replay
            weights = (Node("finetuned_checkpoint", source.key),) if source else ()
            return (cleaned, *((Node("cleaned_qa", replay.dataset),) if replay else ()), *weights)
        if asset == "finetuned_checkpoint":
            return (Node("mined_negatives", variant.key),)
        if asset == "word_vectors":
            return (cleaned,)
        if asset == "adapter":
            return (cleaned, *weights[1:])
        if asset == "merged_checkpoint":
            tuned = (Node("finetuned_checkpoint", one.key) for one in variant.tuned)
            return (cleaned, *self._suites(variant.dataset), *tuned)
        if asset == "reranker_checkpoint":
            source = variant.negatives_variant
            base = () if variant.recipe.rerank and variant.recipe.rerank.model else weights[-1:]
            return (Node("mined_negatives", source.key if source else ""), *base)
        if asset == "general_metrics":
            return (*self._suites(variant.dataset), *weights, *later)
        if asset == "vector_store":
            return (cleaned, Node("faiss_index", variant.key))
        if asset in ("hybrid_weights", "faiss_index") or (asset in SECTIONS and not variant.first_stage):
            return (cleaned, *weights)
        return (cleaned, *weights, *later, Node("faiss_index", variant.key))

    def _weights_and_below(self, variant: Variant) -> tuple[Node, ...]:
        """The weights that the variant searches with and, of an adaptation, those of the encoder it is put behind."""
        adapted = variant.encoding_variant.adapted
        found = (self.weights(variant), self.weights(adapted) if adapted else None)
        return tuple(node for node in found if node)

    def _sources(self, dataset: str) -> tuple[str, ...]:
        """The assets that a data set's clean form is made from, upstream first."""
        kinds = {"workbooks": ("raw_xlsx",), "pairs": ("raw_pairs",), "documents": DOCUMENT_ASSETS}
        return kinds[self.project.datasets[dataset].source]

    def _suites(self, dataset: str) -> tuple[Node, ...]:
        return tuple(Node("cleaned_qa", suite) for suite in self.project.datasets[dataset].general_suite)

    def _inputs_of_dataset(self, node: Node) -> tuple[str, ...]:
        if node.asset == "cleaned_qa":
            sources = self._sources(node.partition)
            return sources[1:] or sources
        return {"passages": ("raw_documents",), "synthetic_qa": ("passages",)}.get(node.asset, ())

    def _assets_of(self, variant: Variant) -> tuple[str, ...]:
        recipe = variant.recipe
        made = (
            *(TRAINED_ASSETS if variant.trains else ()),
            *(("merged_checkpoint",) if recipe.merge else ()),
            *(("adapter",) if recipe.adaptation else ()),
            *(("hybrid_weights",) if recipe.hybrid else ()),
            *(("reranker_checkpoint",) if variant.trains_reranker else ()),
            *(("word_vectors",) if recipe.retriever == "word2vec" else ()),
        )
        # A classifier knows the passages that train questions are about, and a suite has none of them.
        elsewhere = (variant.first_stage or variant).recipe.retriever != "classifier"
        suite = ("general_metrics",) if elsewhere and self.project.datasets[variant.dataset].general_suite else ()
        own = (asset for asset, section in SECTIONS.items() if attrgetter(section)(recipe))
        return (*made, *VARIANT_ASSETS, *suite, *own)

    def _upstream_of_promoted(self, dataset: str) -> tuple[Node, ...]:
        found = [Node("cleaned_qa", dataset), *self._suites(dataset)]
        for variant in self.project.variants_of(dataset):
            weights = self.weights(variant)
            if variant.is_checkpoint and weights:
                found.append(weights)
        return tuple(dict.fromkeys(found))

    def _upstream_of_published(self, asset: str) -> tuple[Node, ...]:
        variants = self.project.variants.values()
        measured = [Node(asset, v.key) for v in variants for asset in self._assets_of(v) if asset in FIGURES]
        if asset == "metrics_table":
            return tuple(measured)
        words = [Node("word_vectors", v.key) for v in variants if "word_vectors" in self._assets_of(v)]
        cleaned = [Node("cleaned_qa", dataset) for dataset in self.project.datasets]
        return (Node("metrics_table", ALL), *measured, *words, *cleaned)


def select_nodes(project: Project, dataset: str | None, variant: str | None = None) -> Callable[[Node], bool]:
    """The filter that lets the partitions of a data set, or of a variant by key or name, through; None means any.

    Raises:
        UnknownNameError: there is no such data set or variant.
        ValueError: the data set, or one of its recipes, cannot be read.
    """
    if dataset is not None:
        project.check_dataset(dataset)
    variants = project.variants.values()
    chosen = [v for v in variants if dataset in (None, v.dataset) and variant in (None, v.key, v.name)]
    if not chosen and variant is not None and variant.partition("/")[0] in project.broken:
        raise ValueError(project.broken[variant.partition("/")[0]])
    if not chosen and variant is not None:
        asked = [f"{name}/{one}" for name, settings in project.datasets.items() for one in settings.variants_on_request]
        if any(variant in (key, key.partition("/")[2]) for key in asked):
            raise ValueError(f"variant {variant!r} takes part on request only. Say --on-request with it.")
        known = [v.key for v in variants if dataset in (None, v.dataset)]
        check_known(variant, known, what="variant", plural="Variants")
    datasets = {v.dataset for v in chosen} | ({dataset} if dataset else set())
    # What they stand on: the general suite is a data set of its own, and a fused variant uses another one's weights.
    suites = {suite for name in datasets for suite in project.datasets[name].general_suite}
    partitions = {ALL, *datasets, *suites, *(key for v in chosen for key in project.stands_on(v))}
    # The choice among all variants of a data set is not asked for with one of them.
    left_out = "promoted_checkpoint" if variant is not None else None
    return lambda node: node.partition in partitions and node.asset != left_out
