"""Assets of the stage `evaluation`: what every test query scored under a variant."""

from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.defs.assets.publishing import ASSET_OPTIONS, Assets, materialized, table
from embed_pipeline.defs.assets.retrieval import checkpoint_folder
from embed_pipeline.defs.checks import evaluation as checks
from embed_pipeline.defs.checks.outcome import describe_outcomes, outcomes_of, results
from embed_pipeline.defs.graph import CODE_VERSIONS, EVALUATED_SPLIT, HITS_PER_QUERY
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.evaluation.comparison import summarise
from embed_pipeline.evaluation.duplicates import canonical_passages
from embed_pipeline.evaluation.measures import measure_queries
from embed_pipeline.evaluation.query_metrics import read_query_metrics, write_hits, write_query_metrics
from embed_pipeline.retrieval.index import read_index
from embed_pipeline.retrieval.lexical import read_lexical_index
from embed_pipeline.retrieval.search import DenseRetriever, LexicalRetriever
from embed_pipeline.training.recipes import required


def define_assets(partitions: Partitions) -> Assets:
    """The asset `query_metrics`."""

    @dg.asset(
        partitions_def=partitions.variants,
        deps=[
            dg.AssetDep("cleaned_qa", partition_mapping=partitions.dataset_to_variants),
            dg.AssetDep("finetuned_checkpoint", partition_mapping=partitions.trained_to_variants),
            "faiss_index",
        ],
        check_specs=checks.SPECS,
        group_name="evaluation",
        kinds={"python"},
        code_version=CODE_VERSIONS["query_metrics"],
        **ASSET_OPTIONS,
    )
    def query_metrics(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One row per (test query, measure) of a variant, and beside it the hits themselves.

        Every judged query of the split counts; a query without hits scores 0; ties break by passage id.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _measure(step, out))
        means = [
            {"measure": str(mean.measure), "value": mean.value, "low": mean.low, "high": mean.high}
            for mean in summarise(read_query_metrics(step.open(manifest) / "query_metrics.jsonl"))
        ]
        return materialized(manifest, metadata={"measures": table(means)}, checks=results(outcomes_of(manifest)))

    return [query_metrics]


def _measure(step: Step, out: Path) -> dict[str, object]:
    dataset = read_dataset(step.folder("cleaned_qa"))
    queries = dataset.queries_of(EVALUATED_SPLIT)
    index, details = step.folder("faiss_index"), {}
    if step.variant.recipe.retriever == "bm25":
        hits = LexicalRetriever(read_lexical_index(index)).search(queries, HITS_PER_QUERY)
        outcomes = checks.check_no_tokenizer()
    else:
        encoder = step.encoder(checkpoint_folder(step))
        device = step.pipeline.runtime().device
        hits = DenseRetriever(read_index(index), encoder, device).search(queries, HITS_PER_QUERY)
        details = {"texts_encoded": encoder.encoded, "texts_from_cache": encoder.served}
        outcomes = checks.check_tokens(
            required(step.variant.recipe.encoder, "encoder"), dataset, checkpoint_folder(step)
        )
    canonical = canonical_passages(dataset.passages)
    query_ids = [query.id for query in queries]
    measured = measure_queries(hits, dataset.judgments, query_ids, canonical=canonical)
    write_query_metrics(measured, out / "query_metrics.jsonl")
    write_hits(hits, out / "hits.jsonl")
    return {"queries": len(queries), "hits": len(hits), **details, **describe_outcomes(outcomes)}
