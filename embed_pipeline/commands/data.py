"""Commands about data: from one tool's format to another's, from a file to a data set or a new project, what
questions would cost.

Belongs here: their arguments and what they print. Does not belong here: the work (dataset.exchange,
assembly.questioning).
"""

from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from embed_pipeline.commands.terminal import ProjectCommand, console


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--to", "to", required=True, help="The format to write; see docs/datasets.md for the list.")
@click.option("--from", "source_format", help="The format of SOURCE; left out: what it looks like.")
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
@click.option(
    "--guard/--no-guard",
    default=True,
    show_default=True,
    help="csv and tsv: an apostrophe before cells that a spreadsheet would take for formulas.",
)
def convert(source: Path, target: Path, to: str, source_format: str | None, force: bool, guard: bool) -> None:
    """Write the data set in SOURCE to TARGET in another format, read back and compared before it appears."""
    from embed_pipeline.dataset.exchange.conversion import convert as convert_file

    report = convert_file(source, target, to, source_format=source_format, force=force, guard=guard)
    written = report.written
    console.print(
        f"{report.source_format} → {report.target_format}: {written.queries} queries, {written.passages} passages, "
        f"{written.judgments} judgments in {escape(str(target))}",
        soft_wrap=True,
    )
    for lost in report.not_held:
        console.print(f"[yellow]not held by {report.target_format}[/yellow]: {escape(lost.what)}: {lost.count}")
    for note in report.notes:
        console.print(f"[yellow]note[/yellow]: {escape(note)}", soft_wrap=True)


@click.command(cls=ProjectCommand)
@click.argument("dataset")
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A file, a folder of files for several splits or languages, or documents.",
)
def init(dataset: str, source: Path) -> None:
    """Make the data set DATASET of files: guess format, columns, language, split; write a commented dataset.yaml."""
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.project.starting import start_dataset

    started = start_dataset(source, dataset, pipeline_from_environment().project().data)
    console.print(escape(started.found), soft_wrap=True)
    console.print(f"Written: {escape(str(started.settings))}. Read it, correct it, then:", soft_wrap=True)
    console.print(f"embed-pipeline run --dataset {dataset}")


@click.command(cls=ProjectCommand)
@click.argument("dataset")
def estimate(dataset: str) -> None:
    """Say what writing the questions of DATASET would still cost; nothing is asked."""
    from embed_pipeline.assembly.questioning import Questioning
    from embed_pipeline.dataset.formats import CORPUS_FILE, read_passages
    from embed_pipeline.defs.resources import pipeline_from_environment
    from embed_pipeline.graph.topology import Node

    graph = pipeline_from_environment().graph()
    graph.project.check_dataset(dataset)
    if dataset not in graph.project.documents:
        known = ", ".join(graph.project.documents) or "none"
        raise click.ClickException(
            f"{dataset}: expected a data set with documents, found none in it. Name another: {known}."
        )
    passages = tuple(read_passages(graph.store.open(graph.input(Node("passages", dataset))) / CORPUS_FILE))
    found = Questioning(graph.project, dataset, graph.base_encoder).estimate(passages)
    if not found:
        console.print("Questions are taken from the passages themselves; no model is asked.")
        return
    table = Table("", "calls to make", "answered already", "prompt tokens", "answer tokens", "USD", box=None)
    for name, part in found.items():
        counts = (part.calls, part.answered, part.prompt_tokens, part.answer_tokens)
        table.add_row(name, *(f"{count:,}" for count in counts), f"{part.cost_usd:.2f}")
    console.print(table)


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
