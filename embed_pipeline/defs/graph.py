"""The graph without its machinery: which partitions exist, what each stands on, what its bytes depend on.

No dagster here. A plan names everything that changes an artifact's bytes: the store builds by it, `status` and `why`
compare with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from embed_pipeline.artifacts import ArtifactStore, Manifest, Plan
from embed_pipeline.defs.catalogue import (
    ALL,
    CODE_VERSIONS,
    DATASET_ASSETS,
    DOCUMENT_ASSETS,
    FIGURES,
    PUBLISHED_ASSETS,
    TRAINED_ASSETS,
    VARIANT_ASSETS,
)
from embed_pipeline.defs.node_settings import mining_settings, published_settings, variant_settings
from embed_pipeline.defs.project import Project, Runtime, Variant
from embed_pipeline.defs.source_settings import dataset_settings
from embed_pipeline.encoding.any_settings import AnyEncoderSettings
from embed_pipeline.encoding.cross_encoder import CrossEncoder, CrossEncoderSettings, load_cross_encoder
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.hosted import HostedEncoder, load_hosted_encoder
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder

USAGE_FOLDER = "usage"
PAIR_SCORES_FOLDER = "pair_scores"


@dataclass(frozen=True, order=True)
class Node:
    """One partition of one asset."""

    asset: str
    partition: str

    def __str__(self) -> str:
        return f"{self.asset}[{self.partition}]"


class MissingInputError(ValueError):
    """An upstream artifact does not exist yet, or must not be used because a blocking check of it failed."""


@dataclass(frozen=True)
class Graph:
    """The nodes of a project and the plan of each, read from the store as it stands now."""

    project: Project
    store: ArtifactStore
    runtime: Runtime
    _encoders: dict[str, LocalEncoder | HostedEncoder] = field(default_factory=dict, repr=False)
    _cross_encoders: dict[str, CrossEncoder] = field(default_factory=dict, repr=False)

    def nodes(self) -> Iterator[Node]:
        """Every node, upstream first."""
        for dataset in self.project.datasets:
            yield from (Node(asset, dataset) for asset in self._sources(dataset))
            yield Node("cleaned_qa", dataset)
        for variant in _sources_first(self.project.variants):
            yield from (Node(asset, variant.key) for asset in self._assets_of(variant))
        yield from (Node(asset, ALL) for asset in PUBLISHED_ASSETS)

    def upstream(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a node reads, in a fixed order."""
        if node.asset in DATASET_ASSETS:
            return tuple(Node(asset, node.partition) for asset in self._inputs_of_dataset(node))
        if node.asset in PUBLISHED_ASSETS:
            return self._upstream_of_published(node.asset)
        variant = self.project.variants[node.partition]
        cleaned = Node("cleaned_qa", variant.dataset)
        if node.asset == "mined_negatives" and variant.mining_source:
            return (cleaned, Node("finetuned_checkpoint", variant.mining_source.key))
        if node.asset in ("mined_negatives", "word_vectors"):
            return (cleaned,)
        if node.asset == "finetuned_checkpoint":
            return (Node("mined_negatives", variant.key),)
        weights = self._weights(variant)
        if node.asset == "general_metrics":
            suites = self.project.datasets[variant.dataset].general_suite
            return (*(Node("cleaned_qa", suite) for suite in suites), *weights)
        if node.asset == "faiss_index":
            return (cleaned, *weights)
        return (cleaned, *weights, Node("faiss_index", variant.key))

    def plan(self, node: Node) -> Plan:
        """What building the node now would be built from.

        Raises:
            MissingInputError: an upstream artifact is missing or failed a blocking check.
            ValueError: a workbook or the base model cannot be read.
        """
        return Plan(
            asset=node.asset,
            partition=node.partition,
            code_version=CODE_VERSIONS[node.asset],
            settings=self.settings(node),
            inputs={str(upstream): self.input(upstream).digest for upstream in self._present(node)},
        )

    def input(self, node: Node) -> Manifest:
        """The newest manifest of an upstream node, fit for use.

        Raises:
            MissingInputError: there is none, or one of its blocking checks failed.
        """
        manifest = self.store.read(node.asset, node.partition)
        if manifest is None:
            raise MissingInputError(f"{node} does not exist yet. Materialise it first.")
        failed = manifest.details.get("failed_blocking_checks")
        if failed:
            raise MissingInputError(
                f"{node} failed its check {failed}; nothing is built on it. See the check's remedy."
            )
        return manifest

    def base_encoder(self, settings: AnyEncoderSettings) -> LocalEncoder | HostedEncoder:
        """The encoder that the settings name; a local one's weights are digested once per graph."""
        key = settings.model_dump_json()
        if key not in self._encoders:
            self._encoders[key] = self._load_encoder(settings)
        return self._encoders[key]

    def cross_encoder(self, settings: CrossEncoderSettings) -> CrossEncoder:
        """The cross-encoder that the settings name; its weights are digested once per graph."""
        key = settings.model_dump_json()
        if key not in self._cross_encoders:
            self._cross_encoders[key] = load_cross_encoder(settings, device=self.runtime.device)
        return self._cross_encoders[key]

    def settings(self, node: Node) -> dict:
        """The settings that change the node's bytes.

        Raises:
            ValueError: a raw file or the base model cannot be read.
        """
        if node.asset in DATASET_ASSETS:
            return dataset_settings(self.project, node.asset, node.partition, self.base_encoder)
        if node.asset in PUBLISHED_ASSETS:
            return published_settings(self.project, node.asset)
        variant = self.project.variants[node.partition]
        if node.asset == "mined_negatives":
            return mining_settings(variant, self.base_encoder, self.cross_encoder, self._language(variant))
        return variant_settings(self.project, self.runtime, node.asset, variant, self.base_encoder)

    def _language(self, variant: Variant) -> str:
        return self.project.datasets[variant.dataset].language

    def _load_encoder(self, settings: AnyEncoderSettings) -> LocalEncoder | HostedEncoder:
        if isinstance(settings, EncoderSettings):
            return load_local_encoder(settings, device=self.runtime.device)
        return load_hosted_encoder(settings, usage_directory=self.project.home / USAGE_FOLDER)

    def _sources(self, dataset: str) -> tuple[str, ...]:
        """The assets that a data set's clean form is made from, upstream first."""
        kinds = {"workbooks": ("raw_xlsx",), "pairs": ("raw_pairs",), "documents": DOCUMENT_ASSETS}
        return kinds[self.project.datasets[dataset].source]

    def _inputs_of_dataset(self, node: Node) -> tuple[str, ...]:
        if node.asset == "cleaned_qa":
            sources = self._sources(node.partition)
            return sources[1:] or sources
        return {"passages": ("raw_documents",), "synthetic_qa": ("passages",)}.get(node.asset, ())

    def _assets_of(self, variant: Variant) -> tuple[str, ...]:
        made = TRAINED_ASSETS if variant.trains else ()
        words = ("word_vectors",) if variant.recipe.retriever == "word2vec" else ()
        suite = ("general_metrics",) if self.project.datasets[variant.dataset].general_suite else ()
        return (*made, *words, *VARIANT_ASSETS, *suite)

    def _weights(self, variant: Variant) -> tuple[Node, ...]:
        """What was trained for the variant's vectors, if anything was."""
        encoding = variant.encoding_variant
        if encoding.trains:
            return (Node("finetuned_checkpoint", encoding.key),)
        return (Node("word_vectors", variant.key),) if variant.recipe.retriever == "word2vec" else ()

    def _upstream_of_published(self, asset: str) -> tuple[Node, ...]:
        variants = self.project.variants.values()
        measured = [Node(asset, v.key) for v in variants for asset in self._assets_of(v) if asset in FIGURES]
        if asset == "metrics_table":
            return tuple(measured)
        words = [Node("word_vectors", v.key) for v in variants if "word_vectors" in self._assets_of(v)]
        cleaned = [Node("cleaned_qa", dataset) for dataset in self.project.datasets]
        return (Node("metrics_table", ALL), *measured, *words, *cleaned)

    def _present(self, node: Node) -> tuple[Node, ...]:
        upstream = self.upstream(node)
        if node.asset not in PUBLISHED_ASSETS:
            return upstream
        # A table of the variants measured so far is useful; a variant that is not yet measured has no row.
        return tuple(n for n in upstream if self.store.read(n.asset, n.partition) is not None)


def _sources_first(variants: Mapping[str, Variant]) -> tuple[Variant, ...]:
    """The variants in their order, but each after the one whose weights mine for it."""
    ordered: dict[str, Variant] = {}
    for variant in variants.values():
        chain = [variant]
        while (source := chain[-1].mining_source) is not None:  # it ends: the project refuses circles
            chain.append(variants[source.key])
        ordered |= {one.key: one for one in reversed(chain) if one.key not in ordered}
    return tuple(ordered.values())
