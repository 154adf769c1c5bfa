"""The jobs: one per partition set, in the order in which they run; `run_stale`, which runs what is due; the night's.

`run_stale` does what `embed-pipeline run` does, as one action of the UI and in its own process: what it starts waits
for no free place among the concurrent runs, so it cannot wait for itself; steps still take their turn in their pools.
Does not belong here: what is stale (work), what a night may do (graph.night), running one piece (running).
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from embed_pipeline.artifacts.workspace import exclusive
from embed_pipeline.assembly.alerts import alert_hook, describe_changed_models
from embed_pipeline.assembly.hosted_samples import (
    newly_changed,
    nodes_of_changed_models,
    record_samples,
    sample_hosted_models,
)
from embed_pipeline.defs.liveness import end_dead_runs
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.defs.running import NIGHTLY_TAG, Build, execute
from embed_pipeline.defs.teams import team_key, team_tags
from embed_pipeline.graph.catalogue import JOBS
from embed_pipeline.graph.freshness import assess
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.night import reevaluate as run_night
from embed_pipeline.graph.topology import select_nodes
from embed_pipeline.graph.work import Attempt, Work, in_turn, ready_work, work_off

UnresolvedJob = Any
"""What define_asset_job returns; dagster does not export the type."""


def define_jobs(team: str | None = None) -> dict[str, UnresolvedJob]:
    """The jobs of the graph by name, each with the partitions of its assets."""
    return {
        job.name: dg.define_asset_job(
            job.name,
            selection=dg.AssetSelection.assets(*(team_key(team, asset) for asset in job.assets)),
            description=job.description,
            tags=team_tags(team),
        )
        for job in JOBS
    }


STALE_TAG = "embed_pipeline/run_stale"
"""On the runs that a `run_stale` started: the id of that one."""


class RunStaleConfig(dg.Config):
    """What the Launchpad asks for."""

    dataset: str | None = Field(
        None, description="Only this data set, with the general suites that it is measured on; left out: everything."
    )


def define_run_stale(build: Build, team: str | None = None) -> dg.JobDefinition:
    """The job; `build` gives the definitions of a project as its data folder stands now."""

    @dg.op(description="Runs the jobs of what is stale, upstream first, until nothing is left that can be run.")
    def stale_runs(context: dg.OpExecutionContext, config: RunStaleConfig, pipeline: PipelineResource) -> None:
        end_dead_runs(context.instance)
        definitions, project = build(pipeline), pipeline.project()
        wanted = select_nodes(project, config.dataset)

        def run(work: Work) -> tuple[str, ...]:
            context.log.info(f"{work.job.name} {work.partition}: {'; '.join(work.reasons)}")
            errors = execute(definitions, work, context.instance, tags={STALE_TAG: context.run_id})
            for error in errors:
                context.log.error(f"{work.job.name} {work.partition} failed: {error}")
            return errors

        context.log.info("begins when no other run_stale of this project is under way")
        # Two at once would each make the other's report stale by appending to the table.
        with exclusive(project.home, "run_stale"):
            for line in pipeline.graph().store.forget_damaged():
                context.log.warning(line)
            attempts = work_off(
                lambda given_up: ready_work(pipeline.graph(), wanted, given_up),
                in_turn(run, pipeline.graph, context.log.info),
            )
            left = [a for a in assess(pipeline.graph(), wanted) if wanted(a.node) and a.state != "fresh"]
        context.log.info(f"{len(attempts)} runs; {len(left)} partitions are still not fresh")
        context.add_output_metadata({"runs": len(attempts), "still_not_fresh": len(left)})
        problems = [*_describe(attempts), *(f"{a.node} is {a.state}: {'; '.join(a.reasons)}" for a in left)]
        if problems:
            failed = sum(bool(attempt.errors) for attempt in attempts)
            raise dg.Failure(f"{failed} of {len(attempts)} runs failed. {' | '.join(problems)}", allow_retries=False)

    @dg.job(
        tags=team_tags(team),
        description="Run what is stale or missing, upstream first, as `embed-pipeline run` does; the runs are tagged "
        f"{STALE_TAG}. A failure is told at the end and stops only what stands on it.",
    )
    def run_stale():
        stale_runs()

    return run_stale


def _describe(attempts: Sequence[Attempt]) -> list[str]:
    return [f"{a.work.job.name} {a.work.partition}: {'; '.join(a.errors)}" for a in attempts if a.errors]


def define_reevaluation(build: Build, team: str | None = None) -> dg.JobDefinition:
    """The job; `build` gives the definitions of the project as it stands when the night begins."""

    @dg.op(description="Samples the hosted models, runs what is stale without training anything, publishes.")
    def reevaluate_variants(context: dg.OpExecutionContext, pipeline: PipelineResource) -> None:
        end_dead_runs(context.instance)
        definitions = build(pipeline)
        night = context.run.tags.get(NIGHTLY_TAG, context.run_id)

        def run(work: Work) -> tuple[str, ...]:
            context.log.info(f"{work.job.name} {work.partition}: {'; '.join(work.reasons)}")
            return execute(definitions, work, context.instance, tags={NIGHTLY_TAG: night})

        _sample_hosted_models(context, pipeline.graph())
        errors = run_night(pipeline.graph, run, context.log.warning, nodes_of_changed_models(pipeline.graph()))
        if errors:
            raise dg.Failure("\n".join(errors), allow_retries=False)

    @dg.job(
        name="reevaluate",
        tags=team_tags(team),
        description="Every variant on the newest data, with the weights that stand; appends to the metrics table.",
    )
    def reevaluate() -> None:
        reevaluate_variants()

    return reevaluate


def _sample_hosted_models(context: dg.OpExecutionContext, graph: Graph) -> None:
    samples = sample_hosted_models(graph)
    for sample in samples:
        context.log.info(str(sample))
    news = newly_changed(graph, samples)
    if news:
        for problem in alert_hook().call(describe_changed_models(news), run_id=context.run_id):
            context.log.error(problem)
    # After people were told: a run that dies in between tells again, rather than never.
    record_samples(graph.project.home, samples)
