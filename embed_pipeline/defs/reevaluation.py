"""The job `reevaluate`: a night as one run, and each piece of its work as a run of its own with the night's tag.

Belongs here: the job. Does not belong here: what a night does (night), when it begins (automation).
"""

import dagster as dg

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
from embed_pipeline.defs.teams import team_tags
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.night import reevaluate as run_night
from embed_pipeline.graph.work import Work


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
