"""The graph without its machinery: what the bytes of each node depend on, and what stands in the store.

A plan names everything that changes an artifact's bytes: the store builds by it, `status` and `why`
compare with it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from embed_pipeline.artifacts import ArtifactStore, DamagedObjectError, Manifest, Plan
from embed_pipeline.dataset.facts import DataFacts, data_facts
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.encoding.any_settings import AnyEncoderSettings
from embed_pipeline.encoding.cross_encoder import CrossEncoder, CrossEncoderSettings, load_cross_encoder
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.hosted import HostedEncoder, load_hosted_encoder
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline.encoding.precision import NativePrecision, native_precision
from embed_pipeline.graph.catalogue import ASSETS, DATASET_ASSETS, PUBLISHED_ASSETS, TRAINED_ASSETS
from embed_pipeline.graph.node_settings import mining_settings, promotion_settings, published_settings, variant_settings
from embed_pipeline.graph.precision import refuse_emulated_variant, resolve_settings
from embed_pipeline.graph.source_settings import dataset_settings
from embed_pipeline.graph.topology import Node, Topology
from embed_pipeline.project.automatic_training import AutomaticTraining, choose_training
from embed_pipeline.project.project import Project, Runtime
from embed_pipeline.project.recipes import AUTO
from embed_pipeline.project.variants import Variant

USAGE_FOLDER = "usage"
COMPILED_FOLDER = "compiled"
"""What other backends than torch made of models: encoding/backends.py."""
VECTORS_FOLDER = "vectors"
_FAILED = "failed_blocking_checks"
FACTS = "facts"
"""Where the manifest of `cleaned_qa` keeps what training: auto is chosen by."""
_SHORT = 40  # longer figures are examples
PAIR_SCORES_FOLDER = "pair_scores"


class MissingInputError(ValueError):
    """An upstream artifact does not exist yet, or must not be used because a blocking check of it failed."""


@dataclass(frozen=True)
class Graph:
    """The nodes of a project and the plan of each, read from the store as it stands now.

    `report` is told when a packed model had to be unpacked, which backend computes vectors and when a service is asked
    again. `native` is what auto comes to, of this machine where it is left out.
    """

    project: Project
    store: ArtifactStore
    runtime: Runtime
    report: Callable[[str], None] | None = None
    native: NativePrecision | None = None
    _local: dict[str, LocalEncoder] = field(default_factory=dict, repr=False)
    _hosted: dict[str, HostedEncoder] = field(default_factory=dict, repr=False)
    _cross_encoders: dict[str, CrossEncoder] = field(default_factory=dict, repr=False)
    _facts: dict[str, DataFacts] = field(default_factory=dict, repr=False)

    @cached_property
    def topology(self) -> Topology:
        """The nodes and edges."""
        return Topology(self.project)

    def nodes(self) -> Iterator[Node]:
        """Every node, upstream first."""
        return self.topology.nodes()

    def upstream(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a node reads, in a fixed order."""
        return self.topology.upstream(node)

    @cached_property
    def native_precision(self) -> NativePrecision:
        """What precision and dtype `auto` come to where something is built now."""
        return self.native or native_precision(self.runtime.device)

    def plan(self, node: Node, *, anew: bool = False) -> Plan:
        """What building the node now would be built from.

        Where a recipe says auto, the plan has the precision of the stored artifact if nothing else has changed, and
        this machine's otherwise, or if everything is to be made `anew`.

        Raises:
            MissingInputError: an upstream artifact is missing or failed a blocking check.
            ValueError: a workbook or the base model cannot be read, or the processor would emulate what is asked for.
        """
        asked = self.settings(node)
        inputs = {str(upstream): self.input(upstream).digest for upstream in self._present(node)}

        def planned(settings: dict) -> Plan:
            return Plan(
                asset=node.asset,
                partition=node.partition,
                code_version=ASSETS[node.asset].version,
                settings=settings,
                inputs=inputs,
            )

        if node.asset in PUBLISHED_ASSETS:
            return planned(asked)
        stored = None if anew else self.stored(node)
        if stored:
            kept = planned(resolve_settings(asked, self.native_precision.name, stored.settings))
            if kept.fingerprint == stored.fingerprint:
                return kept
        variant = self.project.variants.get(node.partition)
        if variant:
            refuse_emulated_variant(
                self.project, variant, node.asset, self.native_precision, device=self.runtime.device
            )
        return planned(resolve_settings(asked, self.native_precision.name))

    def plan_to_build(self, node: Node) -> Plan:
        """The same, with this machine's precision also where the stored artifact is damaged and is made again."""
        plan, stored = self.plan(node), self.stored(node)
        if stored is None or stored.fingerprint != plan.fingerprint:
            return plan
        try:
            self.store.open(stored)
        except DamagedObjectError:
            return self.plan(node, anew=True)
        return plan

    def stored(self, node: Node) -> Manifest | None:
        """The newest manifest of a node; None where there is none, or its object is damaged."""
        try:
            return self.store.read(node.asset, node.partition)
        except DamagedObjectError:  # what a build replaces
            return None

    def input(self, node: Node) -> Manifest:
        """The newest manifest of an upstream node, fit for use.

        Raises:
            MissingInputError: there is none, or one of its blocking checks failed.
        """
        manifest = self.store.read(node.asset, node.partition)
        if manifest is None:
            raise MissingInputError(f"{node} does not exist yet. Materialise it first.")
        failed = manifest.details.get(_FAILED)
        if failed:
            found = "; ".join(_describe_failed_checks(manifest)) or str(failed)
            raise MissingInputError(f"{node} failed its check {found} Nothing is built on it.")
        return manifest

    def open_input(self, node: Node) -> Path:
        """The verified folder of what stands at an upstream node; a step opens what its plan names instead.

        Raises:
            MissingInputError: as `input`.
        """
        return self.store.open(self.input(node))

    def base_encoder(self, settings: AnyEncoderSettings) -> LocalEncoder | HostedEncoder:
        """The encoder that the settings name; a local one's weights are digested once per graph."""
        if isinstance(settings, EncoderSettings):
            return self.local_encoder(settings)
        key = settings.model_dump_json()
        if key not in self._hosted:
            folder = self.project.home / USAGE_FOLDER
            self._hosted[key] = load_hosted_encoder(settings, usage_directory=folder, report=self.report)
        return self._hosted[key]

    def local_encoder(self, settings: EncoderSettings) -> LocalEncoder:
        """The encoder of a model on this machine; a packed one is unpacked first, once for the project."""
        key = settings.model_dump_json()
        if key not in self._local:
            self._local[key] = self.trained_encoder(settings, self.model_directory(settings))
        return self._local[key]

    def trained_encoder(self, settings: EncoderSettings, folder: Path) -> LocalEncoder:
        """The encoder of a model folder, as one that was trained, under the settings."""
        compiled = self.project.home / COMPILED_FOLDER
        return load_local_encoder(
            settings, device=self.runtime.device, directory=folder, compiled=compiled, report=self.report
        )

    def model_directory(self, settings: EncoderSettings) -> Path:
        """The folder of the model that the settings name; raises ValueError where it is not found."""
        return resolve_model(settings, models=self.project.models, report=self.report)

    def mining_reranker(self, variant: Variant) -> CrossEncoder | None:
        """The cross-encoder that scores a variant's negatives, if any; raises ValueError where it is not found."""
        settings = variant.recipe.mining and variant.recipe.mining.reranker
        return self._cross_encoder(settings, f"{variant.key}, mining.reranker.model") if settings else None

    def second_stage(self, variant: Variant) -> CrossEncoder | None:
        """The pretrained cross-encoder of a reranked variant, if one is named; raises ValueError if it is not found."""
        settings = variant.recipe.rerank and variant.recipe.rerank.pretrained
        return self._cross_encoder(settings, f"{variant.key}, rerank.model") if settings else None

    def _cross_encoder(self, settings: CrossEncoderSettings, place: str) -> CrossEncoder:
        key = settings.model_dump_json()
        if key not in self._cross_encoders:  # its weights are digested once per graph
            try:
                self._cross_encoders[key] = load_cross_encoder(settings, device=self.runtime.device)
            except ValueError as error:
                raise ValueError(f"recipe of {place}: {error}") from error
        return self._cross_encoders[key]

    def settings(self, node: Node) -> dict:
        """The settings that change the node's bytes, as they are asked for: auto is not resolved.

        Raises:
            ValueError: a raw file or the base model cannot be read.
        """
        if node.asset in DATASET_ASSETS:
            return dataset_settings(self.project, node, self.base_encoder, self.model_directory)
        if node.asset in PUBLISHED_ASSETS:
            return published_settings(self.project, node.asset)
        if node.asset == "promoted_checkpoint":
            return promotion_settings(self.project, node.partition, self.base_encoder)
        variant = self.project.variants[node.partition]
        if node.asset in TRAINED_ASSETS:
            variant = self.resolved(variant)
        if node.asset == "mined_negatives":
            return mining_settings(variant, self.base_encoder, self.mining_reranker(variant), self._language(variant))
        return variant_settings(self.project, self.runtime, node.asset, variant, self.base_encoder, self.second_stage)

    def resolved(self, variant: Variant) -> Variant:
        """The variant with `training: auto` replaced by what it comes to on the data as they are cleaned now.

        Raises:
            MissingInputError: the data have not been cleaned yet, or failed a blocking check.
        """
        found = self.automatic_training(variant)
        if found is None:
            return variant
        description = f"{variant.recipe.description.rstrip('.')}: {found.summary}."
        update = {"mining": found.mining, "training": found.training, "description": description}
        return replace(variant, recipe=variant.recipe.model_copy(update=update))

    def automatic_training(self, variant: Variant) -> AutomaticTraining | None:
        """What `training: auto` comes to, and why; None where the recipe states its training or has none.

        Raises:
            MissingInputError: as `resolved`.
        """
        if variant.recipe.training != AUTO:
            return None
        config = self.model_directory(variant.local_encoder) / "config.json"
        layers = json.loads(config.read_text(encoding="utf-8")).get("num_hidden_layers")
        if not isinstance(layers, int):
            raise ValueError(
                f"{config}: training: auto expected num_hidden_layers, found none. State the training in the recipe "
                f"{variant.name}."
            )
        return choose_training(
            self._facts_of(variant.dataset),
            layers=layers,
            device=self.runtime.device,
            processes=self.runtime.processes,
        )

    def _facts_of(self, dataset: str) -> DataFacts:
        cleaned = self.input(Node("cleaned_qa", dataset))
        if cleaned.digest not in self._facts:
            kept = cleaned.details.get(FACTS)  # an artifact from before they were kept has none
            found = DataFacts.model_validate(kept) if kept else data_facts(read_dataset(self.store.open(cleaned)))
            self._facts[cleaned.digest] = found
        return self._facts[cleaned.digest]

    def _language(self, variant: Variant) -> str:
        return self.project.datasets[variant.dataset].language

    def _present(self, node: Node) -> tuple[Node, ...]:
        upstream = self.upstream(node)
        if node.asset not in PUBLISHED_ASSETS:
            return upstream
        # A table of the variants measured so far is useful; a variant that is not yet measured has no row, and a data
        # set that failed a blocking check has no page.
        standing = ((node, self.store.read(node.asset, node.partition)) for node in upstream)
        return tuple(node for node, manifest in standing if manifest and not manifest.details.get(_FAILED))


def _describe_failed_checks(manifest: Manifest) -> Iterator[str]:
    """Name, figures, limit and remedy of each blocking check that failed, as the manifest keeps them."""
    checks = manifest.details.get("checks")
    for check in checks if isinstance(checks, list) else ():
        if isinstance(check, dict) and check.get("blocking") and not check.get("passed"):
            found = check.get("figures")
            figures = found.items() if isinstance(found, dict) else ()
            told = "; ".join(f"{name}: {value}" for name, value in figures if len(str(value)) <= _SHORT)
            yield f"{check.get('name')} ({told}). {check.get('remedy')}"
