"""The graph without its machinery: which partitions exist, what each stands on, what its bytes depend on.

No dagster here. A plan names everything that changes an artifact's bytes: the store builds by it, `status` and `why`
compare with it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from embed_pipeline.artifacts import ArtifactStore, Manifest, Plan
from embed_pipeline.dataset.settings import workbook_paths
from embed_pipeline.defs.project import Project, Runtime, Variant
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.evaluation.measures import MEASURES
from embed_pipeline.evaluation.significance import SignificanceSettings
from embed_pipeline.retrieval.index import IndexSettings
from embed_pipeline.retrieval.lexical import LexicalSettings

DATASET_ASSETS = ("raw_xlsx", "cleaned_qa")
TRAINED_ASSETS = ("mined_negatives", "finetuned_checkpoint")
VARIANT_ASSETS = ("faiss_index", "query_metrics")
PUBLISHED_ASSETS = ("metrics_table", "report")


@dataclass(frozen=True)
class Job:
    """Assets that share their partitions and are materialised together, one partition at a time."""

    name: str
    assets: tuple[str, ...]
    description: str


JOBS = (
    Job("prepare_dataset", DATASET_ASSETS, "Read the raw files of one data set and clean them."),
    Job("finetune_variant", TRAINED_ASSETS, "Mine hard negatives and fine-tune the encoder of one variant."),
    Job("evaluate_variant", VARIANT_ASSETS, "Index the corpus under one variant and measure its test queries."),
    Job("publish_metrics", PUBLISHED_ASSETS, "Append to the metrics table and write the report."),
)

# Raise a version when the code makes other bytes, or runs other checks, on the same inputs.
CODE_VERSIONS: Mapping[str, str] = {
    "raw_xlsx": "1",
    "cleaned_qa": "1",
    "mined_negatives": "1",
    "finetuned_checkpoint": "1",
    "faiss_index": "1",
    "query_metrics": "1",
    "metrics_table": "1",
    "report": "1",
}

EVALUATED_SPLIT = "test"
HITS_PER_QUERY = 20
ALL = "all"  # the partition name of what has none


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
    _encoders: dict[str, LocalEncoder] = field(default_factory=dict, repr=False)

    def nodes(self) -> Iterator[Node]:
        """Every node, upstream first."""
        for dataset in self.project.datasets:
            yield from (Node(asset, dataset) for asset in DATASET_ASSETS)
        for variant in self.project.variants.values():
            assets = (*TRAINED_ASSETS, *VARIANT_ASSETS) if variant.trains else VARIANT_ASSETS
            yield from (Node(asset, variant.key) for asset in assets)
        yield from (Node(asset, ALL) for asset in PUBLISHED_ASSETS)

    def upstream(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a node reads, in a fixed order."""
        if node.asset == "raw_xlsx":
            return ()
        if node.asset == "cleaned_qa":
            return (Node("raw_xlsx", node.partition),)
        if node.asset in PUBLISHED_ASSETS:
            measured = tuple(Node("query_metrics", key) for key in self.project.variants)
            if node.asset == "metrics_table":
                return measured
            cleaned = tuple(Node("cleaned_qa", dataset) for dataset in self.project.datasets)
            return (Node("metrics_table", ALL), *measured, *cleaned)
        variant = self.project.variants[node.partition]
        cleaned_node = Node("cleaned_qa", variant.dataset)
        if node.asset == "mined_negatives":
            return (cleaned_node,)
        if node.asset == "finetuned_checkpoint":
            return (Node("mined_negatives", variant.key),)
        trained = (Node("finetuned_checkpoint", variant.key),) if variant.trains else ()
        if node.asset == "faiss_index":
            return (cleaned_node, *trained)
        return (cleaned_node, *trained, Node("faiss_index", variant.key))

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

    def base_encoder(self, settings: EncoderSettings) -> LocalEncoder:
        """The encoder that the settings name; its weights' digest is taken once per graph."""
        key = settings.model_dump_json()
        if key not in self._encoders:
            self._encoders[key] = load_local_encoder(settings, device=self.runtime.device)
        return self._encoders[key]

    def _present(self, node: Node) -> tuple[Node, ...]:
        upstream = self.upstream(node)
        if node.asset not in PUBLISHED_ASSETS:
            return upstream
        # A table of the variants measured so far is useful; a variant that is not yet measured has no row.
        return tuple(n for n in upstream if self.store.read(n.asset, n.partition) is not None)

    def settings(self, node: Node) -> dict:
        """The settings that change the node's bytes.

        Raises:
            ValueError: a workbook or the base model cannot be read.
        """
        if node.asset == "raw_xlsx":
            return {"files": self._file_digests(node.partition)}
        if node.asset == "cleaned_qa":
            settings = self.project.datasets[node.partition]
            return settings.model_dump(mode="json", exclude={"description", "language", "variants"})
        if node.asset == "metrics_table":
            recipes = {key: variant.recipe.model_dump(mode="json") for key, variant in self.project.variants.items()}
            # The order counts: the first variant of a data set is the baseline of its comparisons.
            variants = {name: list(settings.variants) for name, settings in self.project.datasets.items()}
            significance = SignificanceSettings().model_dump(mode="json")
            return {"significance": significance, "recipes": recipes, "variants": variants}
        if node.asset == "report":
            return {}
        return self._variant_settings(node.asset, self.project.variants[node.partition])

    def _variant_settings(self, asset: str, variant: Variant) -> dict:
        recipe = variant.recipe
        settings: dict = {}
        if recipe.encoder is not None:
            # Never the model's name or path: the weights' content says what it is.
            settings["encoder"] = recipe.encoder.model_dump(mode="json", exclude={"model", "revision"})
            if not (variant.trains and asset in VARIANT_ASSETS):
                settings["base_encoder"] = self.base_encoder(recipe.encoder).fingerprint
        if asset == "mined_negatives" and recipe.mining:
            settings["mining"] = recipe.mining.model_dump(mode="json")
        elif asset == "finetuned_checkpoint" and recipe.training:
            settings["training"] = recipe.training.model_dump(mode="json")
            settings |= {"device": self.runtime.device, "processes": self.runtime.processes}
        elif asset == "faiss_index":
            language = self.project.datasets[variant.dataset].language
            index = IndexSettings() if recipe.retriever == "dense" else LexicalSettings(language=language)
            settings |= {"retriever": recipe.retriever, "index": index.model_dump(mode="json")}
        elif asset == "query_metrics":
            settings |= {
                "split": EVALUATED_SPLIT,
                "hits_per_query": HITS_PER_QUERY,
                "measures": [str(measure) for measure in MEASURES],
            }
        return settings

    def _file_digests(self, dataset: str) -> dict[str, str]:
        settings, folder = self.project.datasets[dataset], self.project.folder(dataset)
        paths = [*workbook_paths(folder, settings), folder / settings.label_list]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
