"""The command that begins a project.

Belongs here: its arguments and what it prints. Does not belong here: the work (project.starting).
"""

from pathlib import Path

import click
from rich.markup import escape

from embed_pipeline.commands.terminal import console


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder of questions, or documents, for the first data set; left out: an example.",
)
def new(folder: Path, source: Path | None) -> None:
    """Make a project in the new FOLDER: a data set, recipes, and all that is needed to run them."""
    from embed_pipeline.project.starting import start_project

    started = start_project(folder, source)
    console.print(escape(started.found), soft_wrap=True)
    console.print(f"Written: {escape(str(folder))}. Its README.md says what is what. Now:", soft_wrap=True)
    if folder.absolute() != Path.cwd():
        console.print(f"cd {escape(str(folder))}", soft_wrap=True)
    console.print("embed-pipeline run")
    if source is None:
        console.print("Your own data, inside the project: embed-pipeline init NAME --from FILE")
