"""What answers requests: one variant's models, index and passages, of artifacts that belong together.

Belongs here: which artifacts those are, whether they fit, loading them, what they answer. Does not belong here: HTTP
(app), when they are replaced (server).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embed_pipeline.assembly.variant_encoder import Found, Searcher, find_standing, load_search, load_searcher
from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline.encoding.encoder import Encoder, EncoderSettings, Role, encode_as
from embed_pipeline.encoding.local import LocalEncoder
from embed_pipeline.encoding.pair_scores import CachedPairScorer
from embed_pipeline.encoding.tokens import load_tokenizer
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.evaluation.calibration import Calibration
from embed_pipeline.evaluation.measuring import read_calibration, read_returned
from embed_pipeline.evaluation.returned_labels import ReturnRule
from embed_pipeline.graph.graph import PAIR_SCORES_FOLDER, VECTORS_FOLDER, Graph
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.variants import Variant
from embed_pipeline.retrieval.hybrid import split_query
from embed_pipeline.retrieval.searching import Search, model_below

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_HITS = 100
"""Passages of one search; beyond a first stage's depth a fused order would depend on how many are asked for."""
_WARM_UP = "warm-up"
_BATCH_TOKENS = 2048
"""Where no encoder of this machine says how many fill it."""
_TOKEN_BYTES, _OWN_TOKENS = 4, 6
"""A token is about four letters of English or one and a half Chinese characters, four bytes both; and each text has
ends and an instruction."""


class Embedded(NamedTuple):
    """A text's vector, how many tokens the model was given of it, and whether it was longer than that."""

    vector: np.ndarray
    tokens: int | None
    cut: bool


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """What a local encoder reads of a text: its instruction and special tokens count, as they do for the limit."""

    tokenizer: "Tokenizer"
    settings: EncoderSettings

    @property
    def limit(self) -> int:
        """The most tokens that the model is given of any text."""
        return max(self.settings.max_length("query"), self.settings.max_length("passage"))

    def count(self, role: Role, texts: Sequence[str]) -> list[tuple[int, bool]]:
        """For each text the tokens that the model is given, and whether there were more."""
        limit = self.settings.max_length(role)
        formatted = [self.settings.format_text(role, text) for text in texts]
        lengths = (len(encoding.ids) for encoding in self.tokenizer.encode_batch_fast(formatted))
        return [(min(length, limit), length > limit) for length in lengths]


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded variant; one thread may use it at a time: models and index are not made for more."""

    name: str
    variant: str
    checkpoint: str
    """The digest of the trained weights; of a variant without any that of its index, which names its encoder."""
    digests: Mapping[str, str]
    searcher: Searcher
    search: Search
    calibration: Calibration | None
    return_rule: ReturnRule | None
    dimensions: tuple[int, ...]
    """The lengths that a vector may be cut to, ascending, the whole length last; none without vectors."""
    tokens: TokenCounter | None
    """None where the model's tokenizer is not here."""

    @property
    def roles_are_alike(self) -> bool:
        """Whether a text has the same vector as query and as passage."""
        encoder = self.search.encoder
        return encoder is not None and encoder.query_fingerprint == encoder.passage_fingerprint

    @property
    def reranks_by(self) -> str | None:
        """What a query and a text are scored by: the second stage, else the two vectors; None: it has neither."""
        return "cross-encoder" if self.search.scorer else "vectors" if self.search.encoder else None

    @property
    def batch_tokens(self) -> int:
        """So many fill one pass of the encoder."""
        model = model_below(self.search.encoder)
        return model.batch_tokens if isinstance(model, LocalEncoder) else _BATCH_TOKENS

    def rough_tokens(self, text: str) -> int:
        """About what a text costs, without tokenising it; what is cut off costs nothing."""
        found = _OWN_TOKENS + len(text.encode()) // _TOKEN_BYTES
        return min(found, self.tokens.limit) if self.tokens else found

    def embed(self, role: Role, texts: Sequence[str]) -> list[Embedded]:
        """The vector of each text, whole, as a query or as a passage."""
        vectors = self._encode(role, texts)
        if self.tokens is None:
            return [Embedded(vector, None, False) for vector in vectors]
        counts = self.tokens.count(role, texts)
        return [Embedded(vector, *count) for vector, count in zip(vectors, counts, strict=True)]

    def find(self, k: int, queries: Sequence[str]) -> list[list[Found]]:
        """At most k passages for each query, the best first."""
        return self.searcher.search(queries, k)

    def score(self, pairs: Sequence[TextPair]) -> list[float]:
        """How well each text answers its query: the cross-encoder's output, or the inner product of the two vectors."""
        if self.search.scorer is not None:
            return self.search.scorer.score(pairs).tolist()
        queries, texts = (list(dict.fromkeys(side)) for side in zip(*pairs, strict=True))
        left = dict(zip(queries, self._encode("query", queries), strict=True))
        right = dict(zip(texts, self._encode("passage", texts), strict=True))
        return [float(left[pair.query].astype(np.float64) @ right[pair.passage]) for pair in pairs]

    def is_sure(self, hits: Sequence[Found]) -> bool | None:
        """Whether the best hit reaches the score from which answers are right often enough; None: not calibrated."""
        if self.calibration is None:
            return None
        threshold = self.calibration.threshold
        return bool(hits) and threshold is not None and hits[0].score >= threshold

    def returned(self, hits: Sequence[Found]) -> int | None:
        """How many of the hits to return, where queries have several right answers; None: nothing was chosen."""
        return self.return_rule.count([hit.score for hit in hits]) if self.return_rule else None

    def clauses(self, query: str) -> tuple[str, ...]:
        """The parts that the query is searched as beside the whole; none unless a hybrid variant weighs them."""
        weights = self.search.weights
        return split_query(query) if weights is not None and weights.parts else ()

    def _encode(self, role: Role, texts: Sequence[str]) -> np.ndarray:
        encoder = self.search.encoder
        if encoder is None:
            raise ValueError(f"{self.variant}: it has no vectors. Name a variant with an encoder.")
        return encode_as(encoder, role, texts)


def load_served(graph: Graph, name: str) -> Served:
    """What stands for the name, in memory and tried out: the first request pays no loading.

    Raises:
        UnknownNameError: there is no such data set or variant.
        MissingInputError: something was not built yet.
        ValueError: the artifacts do not belong together, a model cannot be read, or a run replaced something meanwhile.
    """
    standing = find_standing(graph, name)
    variant, home = standing.variant, graph.project.home
    search = load_search(
        graph,
        variant,
        lambda one: CachedEncoder(one, VectorCache(home / VECTORS_FOLDER)),
        lambda one: CachedPairScorer(one, VectorCache(home / PAIR_SCORES_FOLDER)),
    ).uncached()  # what users ask is not written down
    searcher = load_searcher(graph, variant, search)
    measured = standing.manifests.get(Node("query_metrics", variant.key))
    figures = graph.store.open(measured) if measured else None
    returned = read_returned(figures) if figures else None
    trained, index = graph.topology.trained(variant), standing.manifests[Node("faiss_index", variant.key)]
    served = Served(
        name=name,
        variant=variant.key,
        checkpoint=(standing.manifests[trained] if trained else index).digest,
        digests=standing.digests,
        searcher=searcher,
        search=search,
        calibration=read_calibration(figures) if figures else None,
        return_rule=returned.rule if returned else None,
        dimensions=_dimensions(variant, search.encoder),
        tokens=_token_counter(search.encoder),
    )
    served.find(1, [_WARM_UP])
    if search.scorer:
        served.score([TextPair(_WARM_UP, _WARM_UP)])
    if find_standing(graph, name).digests != served.digests:
        raise ValueError(f"{name}: a run replaced artifacts while they were loaded. Try again.")
    return served


def has_changed(graph: Graph, served: Served) -> bool:
    """Whether the store holds something newer than what is served, or figures of it that were not there before."""
    for name, digest in served.digests.items():
        stored = graph.stored(Node.parse(name))
        if stored is not None and stored.digest != digest:
            return True
    measured = Node("query_metrics", served.variant)
    if str(measured) in served.digests or graph.stored(measured) is None:
        return False
    return find_standing(graph, served.name).digests != served.digests


def _dimensions(variant: Variant, encoder: Encoder | None) -> tuple[int, ...]:
    if encoder is None:
        return ()
    trained = variant.negatives_variant
    training = trained.recipe.training_settings if trained and variant.weights_are_a_model else None
    shorter = training.matryoshka_dimensions if training else ()
    return (*sorted(length for length in shorter if length < encoder.dimension), encoder.dimension)


def _token_counter(encoder: Encoder | None) -> TokenCounter | None:
    model = model_below(encoder)
    if not isinstance(model, LocalEncoder):
        return None
    return TokenCounter(load_tokenizer(model.directory), model.settings)
