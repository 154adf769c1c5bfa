"""The code location: every asset, the jobs, the sensors, the schedule, the resource.

`dagster dev` and the command line load `defs`; tests call `build_definitions` with folders of their own.
"""

import logging
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import dagster as dg

from embed_pipeline.defs import assets
from embed_pipeline.defs.automation import define_schedules, define_sensors
from embed_pipeline.defs.jobs import define_jobs, define_reevaluation, define_run_stale
from embed_pipeline.defs.lineage_links import check_ui_path
from embed_pipeline.defs.partitions import define_partitions
from embed_pipeline.defs.resources import PipelineResource, pipeline_from_environment
from embed_pipeline.defs.running import terse_console
from embed_pipeline.defs.teams import assign_to_team, check_team
from embed_pipeline.paths import printable

_MODULES = (import_module(f"{assets.__name__}.{found.name}") for found in iter_modules(assets.__path__))
STAGES: tuple[ModuleType, ...] = tuple(module for module in _MODULES if hasattr(module, "define_assets"))
"""Every module in defs/assets that defines assets."""


def build_definitions(pipeline: PipelineResource) -> dg.Definitions:
    """The definitions of the project that the resource points to.

    A data set with a malformed dataset.yaml or recipe is left out, and the log names it.

    Raises:
        ValueError: the team's name or the UI's path is malformed.
    """
    team = check_team(pipeline.team)
    check_ui_path(pipeline.ui_path)
    project = pipeline.project()
    for name, why in project.broken.items():
        logging.getLogger(__name__).warning("data set %s is left out: %s", printable(name), printable(why))
    partitions, jobs = define_partitions(project), define_jobs(team)
    reevaluate = define_reevaluation(build_definitions, team)
    return dg.Definitions(
        assets=[assign_to_team(asset, team) for stage in STAGES for asset in stage.define_assets(partitions)],
        jobs=[*jobs.values(), define_run_stale(build_definitions, team), reevaluate],
        sensors=define_sensors(partitions, jobs, team),
        schedules=define_schedules(reevaluate, cron=pipeline.nightly_cron, time_zone=pipeline.time_zone),
        resources={"pipeline": pipeline},
        loggers={"console": terse_console},
        # A process per step would pay two seconds of imports for steps that take less.
        executor=dg.in_process_executor,
    )


defs = build_definitions(pipeline_from_environment())
