"""The encoder that a variant searches with: its base, what was trained from it, or what was put behind it.

Belongs here: which weights a variant's vectors come from, once, for every caller. Does not belong here: where vectors
are kept (the caller wraps), what they are searched for. No dagster here.
"""

from collections.abc import Callable

from embed_pipeline.adaptation.building import read_adapted
from embed_pipeline.defs.graph import Graph
from embed_pipeline.defs.variants import Variant
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.vector_cache import CachedEncoder
from embed_pipeline.encoding.word_vectors import WordVectorEncoder, read_word_vectors
from embed_pipeline.recipes import required


def load_variant_encoder(
    graph: Graph, variant: Variant, cached: Callable[[Encoder], CachedEncoder], *, before_training: bool = False
) -> Encoder | None:
    """The encoder, with `cached` around the model itself, so that another adapter behind it encodes nothing again.

    `before_training`: the base. None for a variant without vectors.

    Raises:
        MissingInputError: the trained weights do not exist yet.
        ValueError: a model cannot be read.
    """
    weights = graph.topology.weights(variant)
    if weights and weights.asset == "word_vectors":
        return WordVectorEncoder(read_word_vectors(graph.store.open(graph.input(weights))))
    if weights is None or before_training:
        return cached(graph.base_encoder(variant.encoder)) if variant.encoder else None
    folder = graph.store.open(graph.input(weights))
    if weights.asset == "adapter":
        adapted = variant.encoding_variant.adapted
        if adapted:
            return read_adapted(required(load_variant_encoder(graph, adapted, cached), "encoder"), folder)
        return read_adapted(cached(graph.base_encoder(required(variant.encoder, "encoder"))), folder)
    return cached(load_local_encoder(variant.local_encoder, device=graph.runtime.device, directory=folder))
