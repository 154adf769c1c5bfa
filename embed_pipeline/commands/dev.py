"""`embed-pipeline dev`: the Dagster UI and its daemon, ended with all their runs."""

import os
import subprocess
import sys
from collections.abc import Sequence

import click
from rich.markup import escape

from embed_pipeline.commands.terminal import ProjectCommand, console, pass_interruption
from embed_pipeline.interruption import Interruption, end_with_parent

_STOPPING_SECONDS = 2.0


@click.command(cls=ProjectCommand)
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Port on 127.0.0.1.")
@pass_interruption
def dev(interruption: Interruption, port: int) -> None:
    """Start the Dagster UI and daemon on 127.0.0.1."""
    from embed_pipeline.defs.running import open_instance, prepare_environment
    from embed_pipeline.defs.services import Services
    from embed_pipeline.defs.webserver import ORIGINS_VARIABLE, read_origins
    from embed_pipeline.diagnosis.machine import judge_port

    # Without its webserver Dagster would go on, and the address below would be somebody else's.
    if (found := judge_port(port)).state != "ok":
        raise click.ClickException(f"port {port}: expected a free one, found it {found.found}. {found.remedy}.")
    prepare_environment()
    read_origins(os.environ.get(ORIGINS_VARIABLE, ""))
    program = [sys.executable, "-m", "embed_pipeline.defs.webserver", "dev"]
    command = [*program, "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    console.print(f"Dagster UI: http://127.0.0.1:{port} (stop with Ctrl-C)")
    with open_instance() as instance:
        # In a session of its own: the terminal's Ctrl-C reaches this process alone, which ends the others in order.
        process = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
        services = Services(process.pid, instance)
        with interruption.last_act(services.force):
            try:
                status = process.wait()
            except KeyboardInterrupt:
                services.stop(_STOPPING_SECONDS)
                process.wait()
                _say_what_ended([run.job_name for run in services.canceled])
                raise
    sys.exit(status)


def _say_what_ended(canceled: Sequence[str]) -> None:
    told = f" Canceled: {', '.join(canceled)}." if canceled else ""
    console.print(
        escape(f"Stopped.{told} What was finished is kept; a run started again goes on from there."), soft_wrap=True
    )
