"""Assets of the stage `mining`: what a trained variant learns from."""

import shutil
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import CORPUS_FILE, read_dataset
from embed_pipeline.defs.assets.publishing import ASSET_OPTIONS, Assets, detail_table, materialized, table
from embed_pipeline.defs.catalogue import CODE_VERSIONS
from embed_pipeline.defs.checks import mining as checks
from embed_pipeline.defs.checks.outcome import describe_outcomes, outcomes_of, results
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.mining.groups import read_groups, write_groups
from embed_pipeline.mining.negatives import mine_negatives
from embed_pipeline.mining.report import report_mining
from embed_pipeline.training.recipes import required

GROUPS_FILE = "groups.jsonl"
SAMPLE_ROWS = 10


def define_assets(partitions: Partitions) -> Assets:
    """The asset `mined_negatives`."""

    @dg.asset(
        partitions_def=partitions.trained,
        deps=[dg.AssetDep("cleaned_qa", partition_mapping=partitions.dataset_to_trained)],
        check_specs=checks.SPECS,
        group_name="mining",
        kinds={"faiss"},
        code_version=CODE_VERSIONS["mined_negatives"],
        **ASSET_OPTIONS,
    )
    def mined_negatives(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One training group per train query: its positives and hard negatives with the base encoder's scores.

        The corpus lies beside the groups, so that training reads this artifact and nothing else.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _mine(step, out))
        samples = [
            {"query": g.query, "positives": ", ".join(g.positives), "hard negatives": ", ".join(g.negatives)}
            for g in read_groups(step.open(manifest) / GROUPS_FILE)[:SAMPLE_ROWS]
        ]
        metadata = {"samples": table(samples), "report": detail_table(manifest, "report")}
        return materialized(manifest, metadata=metadata, checks=results(outcomes_of(manifest)))

    return [mined_negatives]


def _mine(step: Step, out: Path) -> dict[str, object]:
    cleaned, settings = step.folder("cleaned_qa"), required(step.variant.recipe.mining, "mining")
    dataset, encoder = read_dataset(cleaned), step.base_encoder()
    queries, passages = dataset.queries_of("train"), dataset.passages
    query_vectors = encoder.encode_queries([query.text for query in queries])
    passage_vectors = encoder.encode_passages([passage.text for passage in passages])
    device = step.pipeline.runtime().device
    groups = mine_negatives(
        queries, query_vectors, passages, passage_vectors, dataset.judgments, settings, device=device
    )
    write_groups(groups, out / GROUPS_FILE)
    shutil.copyfile(cleaned / CORPUS_FILE, out / CORPUS_FILE)
    report = report_mining(groups, queries, query_vectors, passages, passage_vectors, settings)
    outcomes = checks.check_negatives(groups, dataset.judgments, report)
    counts = {"groups": len(groups), "texts_encoded": encoder.encoded, "texts_from_cache": encoder.served}
    return {**counts, "report": report.to_json(), **describe_outcomes(outcomes)}
