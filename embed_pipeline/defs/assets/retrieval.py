"""Assets of the stage `retrieval`: the index of a corpus under a variant."""

from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import ASSET_OPTIONS, Assets, materialized
from embed_pipeline.defs.graph import CODE_VERSIONS
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.retrieval.index import build_index, write_index
from embed_pipeline.retrieval.lexical import LexicalSettings, build_lexical_index, write_lexical_index


def define_assets(partitions: Partitions) -> Assets:
    """The asset `faiss_index`."""

    @dg.asset(
        partitions_def=partitions.variants,
        deps=[
            dg.AssetDep("cleaned_qa", partition_mapping=partitions.dataset_to_variants),
            dg.AssetDep("finetuned_checkpoint", partition_mapping=partitions.trained_to_variants),
        ],
        group_name="retrieval",
        kinds={"faiss"},
        code_version=CODE_VERSIONS["faiss_index"],
        **ASSET_OPTIONS,
    )
    def faiss_index(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One index per variant: every passage of the corpus with its row id, under that variant's encoder.

        Dense variants hold a Faiss inner-product index, BM25 its word scores; both are read by the same search.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _build_index(step, out))
        return materialized(manifest)

    return [faiss_index]


def checkpoint_folder(step: Step) -> Path | None:
    """The folder of the variant's fine-tuned weights; None for a variant that does not train."""
    return step.folder("finetuned_checkpoint") if step.variant.trains else None


def _build_index(step: Step, out: Path) -> dict[str, object]:
    passages = read_dataset(step.folder("cleaned_qa")).passages
    if step.variant.recipe.retriever == "bm25":
        settings = LexicalSettings(language=step.project.datasets[step.dataset].language)
        write_lexical_index(build_lexical_index(passages, settings), out)
        return {"passages": len(passages), "kind": "bm25"}
    encoder = step.encoder(checkpoint_folder(step))
    vectors = encoder.encode_passages([passage.text for passage in passages])
    index = build_index([passage.id for passage in passages], vectors, encoder_fingerprint=encoder.fingerprint)
    write_index(index, out)
    return {
        "passages": len(passages),
        "kind": index.kind,
        "dimension": index.dimension,
        "texts_encoded": encoder.encoded,
        "texts_from_cache": encoder.served,
    }
