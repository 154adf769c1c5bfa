"""What a variant searches with: its encoder, the weights of its scores, its second stage, the passages of its index.

Belongs here: which variant a name means and which weights each comes from, once, for every caller. Does not belong
here: where vectors are kept (the caller wraps), what they are searched for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from embed_pipeline.adaptation.building import read_adapted
from embed_pipeline.artifacts import Manifest
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.dataset.normalisation import normalise_text
from embed_pipeline.encoding.cross_encoder import CrossEncoder, load_cross_encoder
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.encoding.vector_cache import CachedEncoder
from embed_pipeline.encoding.word_vectors import WordVectorEncoder, read_word_vectors
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.topology import Node
from embed_pipeline.merging.candidates import read_promoted
from embed_pipeline.project.recipes import WITHOUT_VECTORS, Recipe, required
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import Passage, Query
from embed_pipeline.retrieval.faiss_index import read_index
from embed_pipeline.retrieval.hybrid import HybridWeights, read_weighing
from embed_pipeline.retrieval.lexical import LexicalSettings
from embed_pipeline.retrieval.search import Retriever, check_encoder
from embed_pipeline.retrieval.searching import DENSE_FOLDER, Search, dense_part, open_retriever
from embed_pipeline.stores.store import Corpus, FusedSearch


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a search returned; rank 1 is the best, a higher score is better."""

    rank: int
    score: float
    passage_id: str
    text: str


@dataclass(frozen=True)
class Searcher:
    """Searches the passages of a data set as one variant does, over the index that the last run built."""

    variant: str
    passages: dict[str, Passage]
    retriever: Retriever

    def search(self, texts: Sequence[str], k: int = 10) -> list[list[Found]]:
        """For each text, in order, at most k passages, the best first; texts are normalised as the data set's are.

        Raises:
            ValueError: `texts` is one text, or k is less than 1.
        """
        if isinstance(texts, str):
            raise ValueError(f"search: expected a list of texts, found one text {texts[:40]!r}. Write [text].")
        queries = [Query(str(at), normalise_text(text), "test") for at, text in enumerate(texts)]
        found: list[list[Found]] = [[] for _ in queries]
        for hit in self.retriever.search(queries, k) if queries else ():
            text = self.passages[hit.passage_id].text
            found[int(hit.query_id)].append(Found(hit.rank, hit.score, hit.passage_id, text))
        return found


@dataclass(frozen=True)
class Standing:
    """What stands in the store for a name now: the variant it means, and the manifests of all that answers for it."""

    variant: Variant
    manifests: Mapping[Node, Manifest]

    @property
    def digests(self) -> dict[str, str]:
        """The digest of every artifact, by node."""
        return {str(node): manifest.digest for node, manifest in self.manifests.items()}


def find_standing(graph: Graph, name: str) -> Standing:
    """What stands for a variant, or for a data set: the variant whose checkpoint was promoted there.

    Raises:
        UnknownNameError: there is no such data set or variant.
        MissingInputError: something was not built yet.
        ValueError: the artifacts do not belong together, as in the middle of a run.
    """
    manifests: dict[Node, Manifest] = {}
    if name in graph.project.datasets:
        node = Node("promoted_checkpoint", name)
        manifests[node] = graph.input(node)
        variant = graph.project.variant_named(f"{name}/{read_promoted(graph.store.open(manifests[node])).chosen}")
    else:
        variant = graph.project.variant_named(name)
    measured = Node("query_metrics", variant.key)
    needed = [node for node in graph.upstream(measured) if node.asset != "cleaned_qa"]
    manifests |= {node: graph.input(node) for node in needed}
    for node, manifest in manifests.items():
        for other, digest in manifest.inputs.items():
            stands = manifests.get(Node.parse(other))
            if stands is not None and stands.digest != digest:
                raise ValueError(
                    f"{name}: expected artifacts that belong together, found {node} built from {other} "
                    f"{digest[:12]}, where {stands.digest[:12]} stands now. Run `embed-pipeline run`."
                )
    calibrated = graph.stored(measured)
    if calibrated and all(calibrated.inputs.get(str(node)) == manifests[node].digest for node in needed):
        manifests[measured] = calibrated  # else its threshold is of another index
    return Standing(variant, manifests)


def describe_search(
    recipe: Recipe, language: str, encoder: Encoder | None, device: Literal["cpu", "cuda"] = "cpu"
) -> Search:
    """How a recipe of one stage searches.

    Raises:
        ValueError: its first stage is another recipe's.
    """
    if recipe.retriever == "reranked":
        raise ValueError("expected a recipe with a retriever of its own, found reranked. Search with its first stage.")
    return Search(
        recipe.retriever, language, encoder, device, fusion=recipe.fusion, hybrid=recipe.hybrid, index=recipe.index
    )


def load_variant_encoder(
    graph: Graph,
    variant: Variant,
    cached: Callable[[Encoder], CachedEncoder],
    *,
    before_training: bool = False,
    opened: Callable[[Node], Path] | None = None,
) -> Encoder | None:
    """The encoder, with `cached` around the model itself, so that another adapter behind it encodes nothing again.

    `before_training`: the base. `opened`: the folder of an artifact; left out: of what stands now. None for a variant
    without vectors.

    Raises:
        MissingInputError: the trained weights do not exist yet.
        ValueError: a model cannot be read.
    """
    weights, opened = graph.topology.weights(variant), opened or graph.open_input
    if weights and weights.asset == "word_vectors":
        return WordVectorEncoder(read_word_vectors(opened(weights)))
    if weights is None or before_training:
        return cached(graph.base_encoder(variant.encoder)) if variant.encoder else None
    folder = opened(weights)
    if weights.asset == "adapter":
        adapted = variant.encoding_variant.adapted
        if adapted:
            behind = load_variant_encoder(graph, adapted, cached, opened=opened)
            return read_adapted(required(behind, "encoder"), folder)
        return read_adapted(cached(graph.base_encoder(required(variant.encoder, "encoder"))), folder)
    return cached(graph.trained_encoder(variant.local_encoder, folder))


def load_search(
    graph: Graph,
    variant: Variant,
    cached: Callable[[Encoder], CachedEncoder],
    scorer: Callable[[CrossEncoder], PairScorer],
    *,
    before_training: bool = False,
    index_only: bool = False,
    opened: Callable[[Node], Path] | None = None,
) -> Search:
    """How the variant searches, with `cached` and `scorer` around its models.

    `before_training`: with the base weights and one stage. `index_only`: all that an index is built with, so that what
    is chosen or trained later need not be there yet. `opened`: the folder of an artifact; left out: of what stands now.

    Raises:
        MissingInputError: something that was to be chosen or trained does not exist yet.
        ValueError: a model cannot be read.
    """
    recipe, rerank = (variant.first_stage or variant).recipe, variant.recipe.rerank
    opened = opened or graph.open_input
    encoder = load_variant_encoder(graph, variant, cached, before_training=before_training, opened=opened)
    search = describe_search(recipe, graph.project.datasets[variant.dataset].language, encoder, graph.runtime.device)
    if before_training:
        return dense_part(search) if recipe.hybrid else search
    if rerank is not None:
        search = replace(search, rerank=rerank.second_stage)
    if index_only:
        return search
    second = load_second_stage(graph, variant, opened)
    weights = load_hybrid_weights(variant, opened)
    return replace(search, weights=weights, scorer=scorer(second) if second else None)


def load_hybrid_weights(variant: Variant, opened: Callable[[Node], Path]) -> HybridWeights | None:
    """What the scores of a hybrid variant, or of a first stage that is one, weigh; None for any other.

    Raises:
        MissingInputError: they were not chosen yet.
    """
    if variant.hybrid_variant is None:
        return None
    return read_weighing(opened(Node("hybrid_weights", variant.hybrid_variant.key))).weights


def load_second_stage(graph: Graph, variant: Variant, opened: Callable[[Node], Path]) -> CrossEncoder | None:
    """The cross-encoder that orders a variant's hits anew, trained or as it is; None for a variant of one stage.

    Raises:
        MissingInputError: it was not trained yet.
        ValueError: the model cannot be read.
    """
    if variant.recipe.rerank is None or not variant.trains_reranker:
        return graph.second_stage(variant)
    folder = opened(Node("reranker_checkpoint", variant.key))
    return load_cross_encoder(variant.recipe.rerank.trained(folder), device=graph.runtime.device)


def load_searcher(graph: Graph, variant: Variant, search: Search) -> Searcher:
    """The search over the index that stands and the passages that were indexed, though the data were cleaned anew.

    Raises:
        MissingInputError: there is no index yet.
    """
    index = graph.input(Node("faiss_index", variant.key))
    corpus = graph.store.open(index.inputs[str(Node("cleaned_qa", variant.dataset))])
    passages = {passage.id: passage for passage in read_dataset(corpus).passages}
    return Searcher(variant.key, passages, open_retriever(search, graph.store.open(index)))


def load_corpus(graph: Graph, variant: Variant, cached: Callable[[Encoder], CachedEncoder]) -> Corpus:
    """What a vector store takes: the passages of the index that stands, and their vectors in float32.

    An index that keeps codes in place of vectors gives none; they are then encoded, or `cached` has them.

    Raises:
        MissingInputError: there is no index yet.
        ValueError: the variant has no vectors of its own, or its index is of another encoder.
    """
    if variant.recipe.retriever in WITHOUT_VECTORS:
        first = f"; its first stage is {variant.first_stage.key}" if variant.first_stage else ""
        raise ValueError(
            f"{variant.key}: expected a variant with vectors, found retriever {variant.recipe.retriever}{first}. Name "
            "another one."
        )
    manifest = graph.input(Node("faiss_index", variant.key))
    folder = graph.store.open(manifest)
    index = read_index(folder / DENSE_FOLDER if (folder / DENSE_FOLDER).is_dir() else folder)
    passages = read_dataset(graph.store.open(manifest.inputs[str(Node("cleaned_qa", variant.dataset))])).passages
    if index.passage_ids != tuple(passage.id for passage in passages):
        raise ValueError(
            f"{variant.key}: expected an index of the passages it was built from, found others. Run again."
        )
    vectors = index.vectors()
    if vectors is None:
        encoder = required(load_variant_encoder(graph, variant, cached), "encoder")
        check_encoder(index, encoder)
        vectors = encoder.encode_passages([passage.text for passage in passages])
    fusion, language = variant.recipe.fusion, graph.project.datasets[variant.dataset].language
    fused = FusedSearch(fusion, LexicalSettings(language=language)) if fusion else None
    return Corpus(passages, vectors, index.encoder_fingerprint, fused)
