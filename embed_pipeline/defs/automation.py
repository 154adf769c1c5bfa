"""What runs by itself: the sensor that follows changed files and data versions, and the nightly re-evaluation.

The sensor asks `automatic_work`, which compares digests: a workbook saved again with equal content cleans to the same
digest, and nothing below it runs. Why this and not declarative automation conditions: docs/adr/0004-automation.md.
"""

import time
from collections.abc import Mapping

import dagster as dg

from embed_pipeline.defs.jobs import UnresolvedJob
from embed_pipeline.defs.liveness import end_dead_runs
from embed_pipeline.defs.partitions import Partitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.defs.running import DUE_TAG, NIGHTLY_TAG
from embed_pipeline.defs.teams import may_be_of
from embed_pipeline.graph.automatic_work import automatic_work
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.project.project import ENVIRONMENT

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def define_sensors(
    partitions: Partitions, jobs: Mapping[str, UnresolvedJob], team: str | None = None
) -> list[dg.SensorDefinition]:
    """`stale_partitions`, off until switched on, and `dead_runs`, on: else a killed run takes a place for ever."""
    known = {ALL, *partitions.datasets.get_partition_keys(), *partitions.variants.get_partition_keys()}

    @dg.sensor(
        jobs=list(jobs.values()),
        minimum_interval_seconds=30,
        description="Looks at data/ and at the data versions, and runs what a change has made stale, as far as each "
        "data set's setting automation allows.",
    )
    def stale_partitions(context: dg.SensorEvaluationContext, pipeline: PipelineResource):
        _end_dead(context)
        unfinished = context.instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED))
        if any(may_be_of(team, run) for run in unfinished):
            return dg.SkipReason("a run is under way; what it changes is not known yet")
        found, requests = automatic_work(pipeline.graph(), time.time()), []
        for line in found.waiting:
            context.log.info(line)
        for work in found.runs:
            if work.partition not in known:
                context.log.warning(f"{work.partition} is new in data/. Reload the definitions to run it.")
                continue
            partition = None if work.partition == ALL else work.partition
            context.log.info(f"{work.job.name} {work.partition}: {'; '.join(work.reasons)}")
            due = {DUE_TAG: "true"}
            requests.append(dg.RunRequest(run_key=work.key, job_name=work.job.name, partition_key=partition, tags=due))
        waiting = f"; {'; '.join(found.waiting)}" if found.waiting else ""
        fresh = "everything that runs by itself is fresh" if waiting else "everything is fresh"
        return requests or dg.SkipReason(fresh + waiting)

    @dg.sensor(
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends the runs whose process was killed: as failed, with the reason. They would be waited for.",
    )
    def dead_runs(context: dg.SensorEvaluationContext):
        count = _end_dead(context)
        return dg.SkipReason(f"{count} ended" if count else "every run under way has its process")

    return [stale_partitions, dead_runs]


def _end_dead(context: dg.SensorEvaluationContext) -> int:
    found = end_dead_runs(context.instance)
    for dead in found:
        context.log.warning(f"{dead.run.job_name} {dead.run.run_id}: {dead.reason}")
    return len(found)


def define_schedules(job: dg.JobDefinition, *, cron: str, time_zone: str) -> list[dg.ScheduleDefinition]:
    """`nightly_reevaluation` (off until switched on): runs the job `reevaluate` at the time of `cron`.

    Raises:
        ValueError: the cron expression or the time zone is none.
    """

    def nightly_reevaluation(context: dg.ScheduleEvaluationContext):
        night = f"{context.scheduled_execution_time:%Y-%m-%d %H:%M}"
        return dg.RunRequest(run_key=night, tags={NIGHTLY_TAG: night})

    try:
        schedule = dg.schedule(
            job=job,
            cron_schedule=cron,
            execution_timezone=time_zone,
            description="Re-evaluates every variant on the newest files, with the weights that stand; trains nothing. "
            "What did not change is not computed again: no model is loaded.",
        )(nightly_reevaluation)
    except dg.DagsterInvalidDefinitionError as error:
        found = str(error).rstrip(".")
        raise ValueError(
            f"{ENVIRONMENT['nightly_cron']}={cron!r}, {ENVIRONMENT['time_zone']}={time_zone!r}: expected a time as "
            f"cron writes it and the name of a time zone, as '0 2 * * *' and 'Europe/Berlin': {found}. "
            "Correct or unset it."
        ) from error
    return [schedule]
