"""Assets of the stage `reranking`: the cross-encoder of a second stage."""

from functools import partial
from pathlib import Path

import dagster as dg

from embed_pipeline.dataset.formats import CORPUS_FILE, read_passages
from embed_pipeline.defs.assets.publishing import Assets, asset_options, materialized
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.mining.groups import read_groups
from embed_pipeline.project.recipes import required
from embed_pipeline.reranking.reranker import (
    RerankerJob,
    finish_reranker,
    prepare_reranker,
    reranker_command,
)
from embed_pipeline.training.finetune import run_process_group, worker_environment


def define_assets(partitions: Partitions) -> Assets:
    """The asset `reranker_checkpoint`."""
    options = partial(asset_options, partitions, group="reranking")

    @dg.asset(**options("reranker_checkpoint", kinds={"pytorch", "huggingface"}, cost="gpu"))
    def reranker_checkpoint(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
        """One cross-encoder per reranked variant, trained on the first stage's groups.

        It starts from the first stage's weights with a fresh head, or from a pretrained cross-encoder. It reads query
        and passage together and gives one score; transformers and FlagEmbedding load it alike.
        Rows: training groups.
        """
        step = pipeline.step(context)
        manifest = step.build(lambda out: _train(step, out))
        return materialized(manifest, rows=int(str(manifest.details["groups"])), folder=step.open(manifest))

    return [reranker_checkpoint]


def _train(step: Step, out: Path) -> dict[str, object]:
    runtime, rerank = step.pipeline.runtime(), required(step.variant.recipe.rerank, "rerank")
    settings, mined = required(rerank.training, "rerank.training"), step.folder("mined_negatives")
    pretrained = step.graph.second_stage(step.variant)
    with step.work_folder() as work:
        job = RerankerJob(
            base=pretrained.directory if pretrained else required(step.checkpoint(), "rerank.of"),
            needs_head=pretrained is not None,
            work=work,
            output=out,
            settings=settings,
            device=runtime.device,
        )
        groups = read_groups(mined / "groups.jsonl")
        filled = prepare_reranker(job, groups, tuple(read_passages(mined / CORPUS_FILE)))
        step.context.log.info(f"{len(groups)} groups, {filled} negatives drawn to fill them")
        command = reranker_command(job, processes=runtime.processes)
        run_process_group(command, environment=worker_environment(threads=runtime.threads))
        finish_reranker(job)
    return {"groups": len(groups), "filled_negatives": filled}
