"""Assets of the stage `retrieval`: the index of a corpus under a variant."""

from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import ASSET_OPTIONS, Assets, materialized
from embed_pipeline.defs.catalogue import CODE_VERSIONS
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.defs.searching import write_search_index


def define_assets(partitions: Partitions) -> Assets:
    """The asset `faiss_index`."""

    @dg.asset(
        partitions_def=partitions.of("faiss_index"),
        deps=partitions.deps("faiss_index"),
        group_name="retrieval",
        kinds={"faiss"},
        code_version=CODE_VERSIONS["faiss_index"],
        **ASSET_OPTIONS,
    )
    def faiss_index(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One index per variant: every passage of the corpus with its row id, under that variant's encoder.

        Variants with vectors hold a Faiss inner-product index, BM25 and TF-IDF their scores, a fused variant both.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _build_index(step, out))
        return materialized(manifest)

    return [faiss_index]


def _build_index(step: Step, out: Path) -> dict[str, object]:
    return write_search_index(step.search(), read_dataset(step.folder("cleaned_qa")).passages, out)
