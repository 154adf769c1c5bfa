"""mteb on a variant of the project: its data set as a retrieval task, and tasks from local folders.

The scores are for comparison with the outside world and do not go into the metrics table.
"""

from pathlib import Path

from embed_pipeline.assembly.variant_encoder import load_variant_encoder
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.evaluation.mteb_run import TaskScore, measure_variant
from embed_pipeline.graph.graph import VECTORS_FOLDER, Graph
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.recipes import required
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import LANGUAGE

RESULTS_FOLDER = "mteb"


def score_variant(graph: Graph, variant: Variant, tasks: Path | None) -> tuple[TaskScore, ...]:
    """The scores on the test queries of the variant's data set, then on every task in the folder.

    Raises:
        ValueError: the variant has no encoder, an input is missing, a task is malformed or mteb is not installed.
    """
    dataset = read_dataset(graph.store.open(graph.input(Node("cleaned_qa", variant.dataset))))
    required(variant.encoder, "encoder")
    if variant.encoding_variant is not variant:
        raise ValueError(
            f"{variant.key}: mteb measures an encoder alone, this variant does more with the vectors of "
            f"{variant.encoding_variant.key}. Name that one."
        )
    vectors = VectorCache(graph.project.home / VECTORS_FOLDER)
    encoder = load_variant_encoder(graph, variant, lambda model: CachedEncoder(model, vectors))
    own_languages = any(LANGUAGE in query.attributes for query in dataset.queries)
    return measure_variant(
        required(encoder, "encoder"),
        dataset,
        name=variant.dataset,
        variant=variant.key,
        cache_directory=graph.project.home / RESULTS_FOLDER,
        languages=() if own_languages else [graph.project.datasets[variant.dataset].language],
        task_folder=tasks,
    )
