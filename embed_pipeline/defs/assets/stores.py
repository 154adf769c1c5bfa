"""Assets and checks of the stage `stores`: a variant's vectors where production asks them.

Checked: does production answer as what was measured?
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.assembly.publication import publish_to_store
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized
from embed_pipeline.defs.checks import CheckOutcome, describe_outcomes, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.project.recipes import required
from embed_pipeline.retrieval.faiss_index import IndexSettings
from embed_pipeline.stores.publishing import COMPARED_AT, SCORE_TOLERANCE, Published, alias_of
from embed_pipeline.stores.store import Corpus

RECORD_FILE = "published.json"

SPECS = [
    dg.AssetCheckSpec(
        "the_store_scores_as_we_do",
        asset="vector_store",
        description=f"A store's score is the inner product that was measured, within {SCORE_TOLERANCE:g}.",
    ),
    dg.AssetCheckSpec(
        "the_store_finds_what_an_exact_search_finds",
        asset="vector_store",
        description=f"It finds at least index.recall_at_least of the {COMPARED_AT} nearest passages of a sample.",
    ),
]


def define_assets(partitions: Partitions) -> Assets:
    """The asset `vector_store`."""
    options = partial(asset_options, partitions, group="stores")

    @dg.asset(**options("vector_store", kinds={"qdrant", "postgres", "elasticsearch", "lancedb"}, specs=SPECS))
    def vector_store(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """The passages of a variant's index with their vectors in the vector store of its recipe, under one alias.

        The store's scores are held against ours and its queries are timed, each time. Where it is, and its key, the
        environment says. Rows: passages.
        """
        step = pipeline.step(context)
        # Not only where something is built: the alias may lead elsewhere by now.
        found, corpus = publish_to_store(
            step.graph,
            step.variant,
            required(step.variant.recipe.index.store, "index.store"),
            step.cached,
            alias=alias_of(step.variant.key, pipeline.team),
            say=context.log.info,
        )
        outcomes = check_published(found, step.variant.recipe.index)
        manifest = step.build(lambda out: _record(found, corpus, outcomes, out))
        figures = {**asdict(found), "dropped": len(found.dropped)}
        folder, checked = step.open(manifest), results(outcomes, SPECS)
        return materialized(manifest, rows=found.points, folder=folder, metadata=figures, checks=checked)

    return [vector_store]


def _record(found: Published, corpus: Corpus, outcomes: Sequence[CheckOutcome], out: Path) -> dict[str, object]:
    """What is the same wherever the store is; how it answers are details."""
    content = {"passages": found.points, "dimension": found.dimension, "encoder": corpus.encoder_fingerprint}
    text = json.dumps({"content": corpus.digest, **content}, indent=1) + "\n"
    (out / RECORD_FILE).write_text(text, encoding="utf-8")
    figures = {"query_p50_ms": found.query_p50_ms, "recall": found.recall, "score_difference": found.score_difference}
    return {"collection": found.collection, **figures, **describe_outcomes(outcomes)}


def check_published(found: Published, settings: IndexSettings) -> list[CheckOutcome]:
    """What was compared before the alias was turned; that every passage is there is not a check: else none is."""
    return [
        CheckOutcome(
            name="the_store_scores_as_we_do",
            passed=found.score_difference <= SCORE_TOLERANCE,
            figures={"largest_difference": found.score_difference, "limit": SCORE_TOLERANCE},
            remedy="The store keeps other numbers than it was sent, as with quantization; look at its defaults.",
        ),
        CheckOutcome(
            name="the_store_finds_what_an_exact_search_finds",
            passed=found.recall >= settings.recall_at_least,
            figures={"recall": found.recall, "limit": settings.recall_at_least, "passages": found.points},
            remedy="Have the store look at more candidates in a search (docs/stores.md), or search exactly.",
        ),
    ]
