"""Checks of the stage `stores`: does production answer as what was measured?"""

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.retrieval.faiss_index import IndexSettings
from embed_pipeline.stores.publishing import COMPARED_AT, SCORE_TOLERANCE, Published

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
