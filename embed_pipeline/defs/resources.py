"""What assets are handed: the project, the store and where the work runs.

Belongs here: how a step is run. Does not belong here: anything that changes the numbers; that is in recipes and data
sets.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import dagster as dg
from pydantic import Field, ValidationError

from embed_pipeline.artifacts import ArtifactStore, Manifest, Plan
from embed_pipeline.assembly.questioning import CHAT_FOLDER
from embed_pipeline.assembly.variant_encoder import (
    load_search,
)
from embed_pipeline.cluster.cluster import Cluster
from embed_pipeline.cluster.encoding import ClusterEncoder
from embed_pipeline.defs.liveness import keep_alive
from embed_pipeline.encoding.cross_encoder import CrossEncoder
from embed_pipeline.encoding.encoder import Encoder, EncoderSettings
from embed_pipeline.encoding.gpus import on_all_gpus
from embed_pipeline.encoding.local import LocalEncoder
from embed_pipeline.encoding.pair_scores import CachedPairScorer
from embed_pipeline.encoding.usage import COST_DETAIL, spent_usd
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.graph.catalogue import ALL, RAW_ASSETS
from embed_pipeline.graph.freshness import Causes
from embed_pipeline.graph.graph import PAIR_SCORES_FOLDER, USAGE_FOLDER, VECTORS_FOLDER, Graph
from embed_pipeline.graph.node_settings import mining_encoder_settings
from embed_pipeline.graph.topology import Node
from embed_pipeline.progress import Progress, Tally
from embed_pipeline.project.project import (
    ENVIRONMENT,
    Project,
    Runtime,
    environment_settings,
    parse_linked_folders,
)
from embed_pipeline.project.recipes import AnyEncoderSettings, required
from embed_pipeline.project.variants import Variant
from embed_pipeline.retrieval.searching import Search
from embed_pipeline.settings_file import join_problems, shown
from embed_pipeline.training.finetune import work_prefix

_BUILT_BEFORE_SEARCHING = ("faiss_index", "hybrid_weights")
"""What is built before the weights of scores are chosen and a second stage is asked."""


class Step:
    """One partition of one asset being materialised: its inputs as folders, its build, its log."""

    def __init__(self, pipeline: "PipelineResource", context: dg.AssetExecutionContext) -> None:
        self.pipeline = pipeline
        self.graph = pipeline.graph(context.log.info)
        self.context = context
        partition = context.partition_key if context.has_partition_key else ALL
        self.node = Node(context.asset_key.path[-1], partition)

    @cached_property
    def plan(self) -> Plan:
        """What this partition is built from, looked at once: `build` looks it up by the same digests that are copied.

        Raises:
            MissingInputError: an upstream artifact is missing or failed a blocking check.
            ValueError: a raw file or the base model cannot be read.
        """
        return self.graph.plan_to_build(self.node)

    @contextmanager
    def work_folder(self, inside: Path | None = None) -> Iterator[Path]:
        """An empty folder for intermediate files; what a killed run leaves in it, `embed-pipeline gc` finds.

        `inside`: where it lies, if not in the project's home; gc does not look there.
        """
        where = inside or self.project.home
        where.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=where, prefix=work_prefix(self.plan.fingerprint)) as folder:
            yield Path(folder)

    @property
    def project(self) -> Project:
        return self.graph.project

    @cached_property
    def variant(self) -> Variant:
        """The variant of this partition, `training: auto` replaced."""
        return self.graph.resolved(self.project.variants[self.node.partition])

    @property
    def dataset(self) -> str:
        """The data set of this partition."""
        return self.node.partition.partition("/")[0]

    def folder(self, asset: str, partition: str | None = None) -> Path:
        """The verified folder of an upstream artifact, by default of the partition this one stands on: see `opened`."""
        if partition is None:
            partition = next(node.partition for node in self.graph.upstream(self.node) if node.asset == asset)
        return self.opened(Node(asset, partition))

    def opened(self, upstream: Node) -> Path:
        """The verified folder of the bytes that the plan names, whatever another run has published meanwhile."""
        return self.graph.store.open(self.plan.inputs[str(upstream)])

    def base_encoder(self) -> CachedEncoder:
        """The encoder that the variant's recipe names, behind the vector cache."""
        return self.encoder_of(required(self.variant.encoder, "encoder"))

    def base_directory(self) -> Path | None:
        """The folder of the model that the variant's recipe names; None where it is hosted or there is none."""
        settings = self.variant.encoder
        return self.graph.model_directory(settings) if isinstance(settings, EncoderSettings) else None

    def encoder_of(self, settings: AnyEncoderSettings) -> CachedEncoder:
        """The encoder that settings name, behind the vector cache."""
        return self.cached(self.graph.base_encoder(settings))

    def mining_encoder(self) -> CachedEncoder:
        """The encoder that mines: the weights of an earlier round, a stronger encoder, or the base."""
        settings = mining_encoder_settings(self.variant)
        if self.variant.mining_source is None:
            return self.cached(self.graph.base_encoder(settings))
        checkpoint = self.folder("finetuned_checkpoint", self.variant.mining_source.key)
        return self.cached(self.graph.trained_encoder(self.variant.mining_source.local_encoder, checkpoint))

    def reranker(self) -> CachedPairScorer | None:
        """The cross-encoder that mining scores with, if any, behind the cache of pair scores."""
        found = self.graph.mining_reranker(self.variant)
        return self.pair_scorer(found) if found else None

    def checkpoint(self) -> Path | None:
        """The folder of the trained or merged model that the variant searches with, adapted or not, if there is one."""
        variant = self.variant.encoding_variant.adapted or self.variant
        weights = self.graph.topology.weights(variant)
        if weights is None or not variant.weights_are_a_model:
            return None
        return self.folder(weights.asset, weights.partition)

    def search(self, *, before_training: bool = False) -> Search:
        """How the variant searches its own data set; `before_training`: with the base weights and one stage."""
        return self.search_of(self.variant, before_training=before_training)

    def search_of(self, variant: Variant, *, before_training: bool = False) -> Search:
        """The same for another variant that this partition stands on."""
        return load_search(
            self.graph,
            variant,
            self.cached,
            self.pair_scorer,
            before_training=before_training,
            index_only=self.node.asset in _BUILT_BEFORE_SEARCHING,
            opened=self.opened,
        )

    def pair_scorer(self, encoder: CrossEncoder) -> CachedPairScorer:
        """A cross-encoder behind the cache of pair scores."""
        cache = VectorCache(self.project.home / PAIR_SCORES_FOLDER)
        return CachedPairScorer(encoder, cache, progress=self.log_progress("scored", "pairs"))

    def cached(self, encoder: Encoder) -> CachedEncoder:
        """An encoder behind the cache of vectors."""
        cluster = self.pipeline.cluster()
        if isinstance(encoder, LocalEncoder):
            encoder = ClusterEncoder(encoder, cluster) if cluster else on_all_gpus(encoder)
        return CachedEncoder(encoder, VectorCache(self.project.home / VECTORS_FOLDER), progress=self.log_progress())

    def log_progress(self, done_to: str = "encoded", what: str = "texts") -> Callable[[int, int], None]:
        """A callback that says in the run's log how far a long step is: share done, rate and time left."""
        return Progress(self.context.log.info, done_to, what)

    def log_tally(self, verb: str, things: str, every: int) -> Callable[[int], None]:
        """The same for a step of unknown length: what is done and the rate, every so many things."""
        return Tally(self.context.log.info, verb, things, every)

    def build(self, make: Callable[[Path], Mapping[str, object]]) -> Manifest:
        """The artifact of this partition: served from the store if its fingerprint is known, else made.

        Its materialisation gets the field `because`: the paths from what changed.
        """
        before = self.graph.stored(self.node)
        manifest = self.graph.store.build(self.plan, self._counting_cost(make), run_id=self.context.run_id)
        how = "found in the store" if manifest.cached else f"built in {manifest.seconds:.1f} s"
        because = Causes(self.graph).of_build(manifest, before)
        self.context.log.info(f"{self.node} {how}: digest {manifest.digest[:12]}, because: {because[0]}")
        told = dg.MetadataValue.text("\n".join(because))
        self.context.add_asset_metadata({"because": told}, asset_key=self.context.asset_key)
        return manifest

    def _counting_cost(self, make: Callable[[Path], Mapping[str, object]]) -> Callable[[Path], Mapping[str, object]]:
        """The same, and what hosted models were paid meanwhile, by whichever run, in the details."""
        folders = [self.project.home / name for name in (USAGE_FOLDER, CHAT_FOLDER)]

        def made(out: Path) -> Mapping[str, object]:
            before = spent_usd(*folders)
            with self._naming_the_owners_files():
                details = make(out)
            return {**details, COST_DETAIL: round(spent_usd(*folders) - before, 6)}

        return made

    @contextmanager
    def _naming_the_owners_files(self) -> Iterator[None]:
        """An error about the copy of a raw file is one about the file itself: that is where it can be corrected."""
        try:
            yield
        except Exception as error:
            copies = {
                str(self.opened(node)): str(self.project.data / node.partition)
                for node in self.graph.upstream(self.node)
                if node.asset in RAW_ASSETS
            }
            told: BaseException | None = error
            while told is not None:
                told.args = tuple(_replaced(one, copies) if isinstance(one, str) else one for one in told.args)
                told = told.__cause__
            raise

    def open(self, manifest: Manifest) -> Path:
        """The verified folder of an artifact."""
        return self.graph.store.open(manifest)


def _replaced(text: str, places: Mapping[str, str]) -> str:
    for place, other in places.items():
        text = text.replace(place, other)
    return text


class PipelineResource(dg.ConfigurableResource):
    """Folders, device and training processes, each settable by an environment variable (project/project.py)."""

    data: str = Field("data", description="Folder of the data sets and recipes.")
    home: str = Field(".embed_pipeline", description="Folder of all state: artifacts, vectors, table, report.")
    artifacts: str | None = Field(None, description="fsspec URL of the artifact store; default: artifacts/ in home.")
    linked_folders: str = Field("", description="Folders outside data that links in it may lead to, with : between.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where models run. cuda without a GPU is an error.")
    training_processes: int = Field(1, ge=1, description="Processes that torchrun starts: 1 on CPU, one per GPU.")
    training_threads: int | None = Field(None, ge=1, description="CPU threads of a training process; default: all.")
    save_steps: int = Field(200, ge=1, description="Steps between two checkpoints that a killed training goes on from.")
    tensorboard: bool = Field(True, description="Whether trainings write TensorBoard files into tensorboard/ in home.")
    nightly_cron: str = Field("0 2 * * *", description="When the nightly re-evaluation starts, as cron writes it.")
    time_zone: str = Field("UTC", description="The time zone of nightly_cron, as Europe/Berlin.")
    team: str | None = Field(None, description="Stands before every asset key; needed where teams share an instance.")
    ui_path: str = Field("", description="The webserver's --path-prefix, as /dagster.")

    on_request: bool = Field(False, description="Whether variants on request take part, where a data set names some.")
    ray_address: str | None = Field(None, description="Ray cluster that encodes, mines and trains, as head:6379.")
    ray_storage: str | None = Field(None, description="Folder that all its nodes mount at one place; default: home.")

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Refuses a run whose own config names places that this machine's owner did not; else says who carries it.

        Raises:
            ValueError: as `check_named_places`.
        """
        if context.run is not None:
            resources: Any = context.run.run_config.get("resources", {})
            given = resources.get("pipeline", {}).get("config", {})
            check_named_places(given, pipeline_from_environment())
            if context.instance is not None:
                keep_alive(context.instance, context.run)

    def project(self) -> Project:
        """The project as its data folder stands now."""
        places = Path(self.data).absolute(), Path(self.home).absolute()
        return Project(*places, parse_linked_folders(self.linked_folders), on_request=self.on_request)

    def runtime(self) -> Runtime:
        """Device, processes and threads."""
        threads = self.training_threads or max(1, (os.cpu_count() or 1) // self.training_processes)
        return Runtime(device=self.device, processes=self.training_processes, threads=threads)

    def cluster(self) -> Cluster | None:
        """The Ray cluster that heavy steps run on; None where no address is set."""
        if self.ray_address is None:
            return None
        storage = Path(self.ray_storage or self.home).absolute()
        return Cluster(self.ray_address, storage, self.device, self.training_threads)

    def graph(self, report: Callable[[str], None] | None = None) -> Graph:
        """The graph over the project and the store; `report` is told when a packed model had to be unpacked."""
        project = self.project()
        project.home.mkdir(parents=True, exist_ok=True)
        store = ArtifactStore(self.artifacts or str(project.home / "artifacts"), local=project.home / "local")
        return Graph(project, store, self.runtime(), report)

    def step(self, context: dg.AssetExecutionContext) -> Step:
        """One partition of one asset, being materialised."""
        return Step(self, context)


def check_named_places(given: Mapping[str, object], own: PipelineResource) -> None:
    """Who may launch a run does not thereby read and write wherever the server may.

    given: the config of a run for the resource, unresolved. own: the resource as the machine's owner set it.

    Raises:
        ValueError: a place in `given` is neither inside the project's folder nor inside one that `own` names.
    """
    if given.get("ray_address") not in (None, own.ray_address):
        raise ValueError(
            f"run config, resources.pipeline.config.ray_address: expected {own.ray_address or 'none'}, found "
            f"{str(given['ray_address'])[:200]!r}. Remove it; another one is set by {ENVIRONMENT['ray_address']} where "
            "the server runs."
        )
    linked = parse_linked_folders(own.linked_folders)
    roots = [folder.resolve() for folder in (Path.cwd(), Path(own.data), Path(own.home), *linked)]
    for name in ("data", "home", "artifacts", "linked_folders", "ray_storage"):
        value = given.get(name)
        if value is None or value == getattr(own, name):
            continue
        texts = value.split(os.pathsep) if name == "linked_folders" and isinstance(value, str) else [value]
        for text in texts:
            # A colon or a tilde makes fsspec read another place than the name says.
            plain = isinstance(text, str) and not (name == "artifacts" and (":" in text or text.startswith("~")))
            if not plain or not any(Path(str(text)).resolve().is_relative_to(root) for root in roots):
                raise ValueError(
                    f"run config, resources.pipeline.config.{name}: expected a folder inside "
                    f"{' or '.join(dict.fromkeys(map(str, roots)))}, found {str(text)[:200]!r}. Remove it from the "
                    f"config; other places are set by {ENVIRONMENT[name]} where the server runs."
                )


def pipeline_from_environment() -> PipelineResource:
    """The resource as the environment variables of project/project.py set it.

    Raises:
        ValueError: a variable has a value that its field does not allow.
    """
    try:
        return PipelineResource.model_validate(environment_settings())
    except ValidationError as error:
        lines = [
            f"{ENVIRONMENT[str(item['loc'][0])]}: expected {item['msg'].removeprefix('Input should be ')}, found "
            f"{shown(item['input'])}. Correct or unset it."
            for item in error.errors()
        ]
        raise ValueError(join_problems(lines)) from None  # it says the same, in the words of pydantic
