"""What every command shares: where it prints, which project it is about, and how bad input ends.

Belongs here: the console, the group of commands, the command in a project, how a command ends when it is asked to. Does
not belong here: a command.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from embed_pipeline.commands.failures import describe_failure, print_traceback
from embed_pipeline.console import SafeConsole
from embed_pipeline.interruption import end_children, interruptible
from embed_pipeline.paths import printable
from embed_pipeline.project.finding import NoProjectError, UnknownNameError, find_project
from embed_pipeline.project.project import DEBUG_VARIABLE, is_debugging

WIDTH_WITHOUT_TERMINAL = 150

_INTERRUPTION = "embed_pipeline.interruption"
pass_interruption = click.decorators.pass_meta_key(
    _INTERRUPTION, doc_description="Gives a command its Interruption as first argument."
)


console = SafeConsole(highlight=False)
if not console.is_terminal:
    console = SafeConsole(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


def project_option() -> click.Option:
    """`--project FOLDER`, before or after the command; it becomes the context's object."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    told = "The project's folder or one inside it; left out: the current one."
    return click.Option(["--project"], type=folder, expose_value=False, callback=_remember, help=told)


def debug_option() -> click.Option:
    """`--debug`, before or after the command: what Python says of an error is shown beside the message."""
    told = f"Show the traceback of an error; so does {DEBUG_VARIABLE}=1."
    return click.Option(["--debug"], is_flag=True, expose_value=False, callback=_remember_debugging, help=told)


def _remember_debugging(ctx: click.Context, _: click.Parameter, debugging: bool) -> None:
    if debugging:  # for the runs too, which word their own errors
        os.environ[DEBUG_VARIABLE] = "1"


def _remember(ctx: click.Context, _: click.Parameter, folder: Path | None) -> None:
    ctx.obj = folder or ctx.obj


class MistypedError(click.ClickException):
    """What was typed names nothing that exists."""

    exit_code = 2


class Place(click.ParamType):
    """Where something is put: a path of this machine, or an address of one of these kinds, as `s3://`."""

    name = "place"

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "str | Path":
        if isinstance(value, str) and not value.startswith(self.kinds):
            if "://" in value:  # as a path it would be a folder of that name
                self.fail(f"expected a path or {' or '.join(self.kinds)}, found {value!r}", param, ctx)
            return Path(value)
        return value


class ProjectCommand(click.Command):
    """A command about a project, which works in its folder whichever folder inside it the terminal is in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(project_option())

    def invoke(self, ctx: click.Context) -> object:
        # What the user typed is meant from where the user is.
        for name, value in ctx.params.items():
            ctx.params[name] = value.absolute() if isinstance(value, Path) else value
        enter(find_project(ctx.obj or Path.cwd()))
        return super().invoke(ctx)


class CommandGroup(click.Group):
    """Whatever goes wrong ends in one message, not in a traceback; names that do not exist in exit code 2.

    A signal ends the command and all it started.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [project_option(), debug_option()]

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.params.append(debug_option())
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> object:
        with (
            terminal_stream(sys.stderr) as stream,
            interruptible(lambda line: click.echo(line, stream)) as interruption,
        ):
            ctx.meta[_INTERRUPTION] = interruption
            try:
                return super().invoke(ctx)
            except (NoProjectError, UnknownNameError) as error:
                raise MistypedError(printable(str(error))) from error
            except click.ClickException as error:
                if type(error) is not click.ClickException:
                    raise
                raise click.ClickException(printable(error.message)) from error
            except (click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise
            except KeyboardInterrupt:
                end_children(grace_seconds=0.5)
                sys.exit(interruption.exit_code)
            except Exception as error:
                if is_debugging():
                    print_traceback(error)
                raise click.ClickException(printable(describe_failure(error))) from error


@contextmanager
def terminal_stream(stream: TextIO) -> Iterator[TextIO]:
    """Where `stream` leads now, also while Dagster has turned it into a file that holds the output of a step."""
    try:
        number = os.dup(stream.fileno())
    except (OSError, ValueError):  # no file of the system, as in tests
        yield stream
        return
    with os.fdopen(number, "w", encoding=stream.encoding, errors="replace", buffering=1) as copy:
        yield copy


def enter(project: Path) -> None:
    """Every relative path is meant from the project's folder: of the environment, of recipes, of Dagster."""
    from embed_pipeline.defs.resources import pipeline_from_environment

    os.chdir(project)
    pipeline_from_environment().project().check_data_folder()
