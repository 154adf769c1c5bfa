"""Checks of the stage `retrieval`: does an index that is not exact find what an exact one finds?"""

from collections.abc import Mapping

import dagster as dg

from embed_pipeline.defs.checks.outcome import CheckOutcome
from embed_pipeline.retrieval.faiss_index import RECALL_AT, IndexSettings
from embed_pipeline.retrieval.searching import RECALL_DETAIL

SPECS = [
    dg.AssetCheckSpec(
        "finds_what_an_exact_search_finds",
        asset="faiss_index",
        description=f"The index finds at least index.recall_at_least of the {RECALL_AT} nearest passages of a sample.",
    )
]


def check_index(found: Mapping[str, object], settings: IndexSettings) -> list[CheckOutcome]:
    """The recall that was measured while the index was built; an exact index passes and says so."""
    recall = found.get(RECALL_DETAIL)
    figures: dict[str, float | int | str] = {"kind": str(found["kind"])}
    if isinstance(recall, float):
        figures |= {"recall": recall, "limit": settings.recall_at_least}
    return [
        CheckOutcome(
            name="finds_what_an_exact_search_finds",
            passed=not isinstance(recall, float) or recall >= settings.recall_at_least,
            figures=figures,
            remedy="Raise index.ivf_probes or index.hnsw_ef_search, keep more bytes a passage, or search exactly.",
        )
    ]
