"""The command that looks at the machine and at what the project needs of it.

Belongs here: its argument and what it prints. Does not belong here: finding anything (diagnosis).
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from embed_pipeline.commands.terminal import console, enter, project_option
from embed_pipeline.diagnosis.machine import Finding
from embed_pipeline.project.finding import NoProjectError, find_project

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


class _AnywhereCommand(click.Command):
    """A command that works without a project too; it is handed the folder of the project, or None."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            ctx.params["project"] = find_project(ctx.obj or Path.cwd())
        except NoProjectError:
            if ctx.obj:  # one was named
                raise
        return super().invoke(ctx)


@click.command(cls=_AnywhereCommand, params=[project_option()])
def doctor(project: Path | None = None) -> None:
    """Say what this machine has, what the project lacks here, and what will be slow.

    Exit code 1 if something that the project's variants need is missing.
    """
    findings = list(_findings(project))
    table = Table(box=None, pad_edge=False)
    for header in ("", "state", "found", "what to do"):
        table.add_column(header, overflow="fold")
    for one in findings:
        state = f"[{_COLOURS[one.state]}]{one.state}[/]"
        table.add_row(escape(one.subject), state, escape(one.found), escape(one.remedy))
    console.print(table)
    if any(one.state == "problem" for one in findings):
        sys.exit(1)


def _findings(folder: Path | None) -> Iterator[Finding]:
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.diagnosis.machine import (
        judge_machine,
        judge_packages,
        judge_port,
        read_machine,
        read_requirements,
    )
    from embed_pipeline.diagnosis.needs import judge_models, judge_recipes, judge_services, judge_stores

    if folder:
        enter(folder)
    pipeline = pipeline_from_environment()
    machine = read_machine(Path(pipeline.home).absolute())
    yield from judge_machine(machine, pipeline.device)
    yield from judge_packages(*read_requirements(folder))
    yield judge_port()
    if folder is None:
        yield Finding("project", "ok", "none here", "Make one: embed-pipeline new FOLDER.")
        return
    try:
        project = pipeline.project()
        yield Finding("project", "ok", f"{folder}: {len(project.datasets)} data sets, {len(project.variants)} variants")
    except ValueError as error:
        yield Finding("project", "problem", str(error), "Correct the file.")
        return
    for name, why in project.broken.items():
        yield Finding(f"data set {name}", "problem", why, "Correct the file; the other data sets go on without it.")
    yield from judge_models(project, os.environ)
    yield from judge_services(project, os.environ)
    yield from judge_stores(project, os.environ)
    yield from judge_recipes(project, pipeline.runtime(), machine.precision)
