"""Commands about data files: from one tool's format to another's, and from a file to a data set.

Belongs here: their arguments and what they print. Does not belong here: the work (dataset.exchange).
"""

from pathlib import Path

import click
from rich.markup import escape

from embed_pipeline.terminal import console


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--to", "to", required=True, help="The format to write; see docs/datasets.md for the list.")
@click.option("--from", "source_format", help="The format of SOURCE; left out: what it looks like.")
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
def convert(source: Path, target: Path, to: str, source_format: str | None, force: bool) -> None:
    """Write the data set in SOURCE to TARGET in another format, read back and compared before it appears."""
    from embed_pipeline.dataset.exchange.conversion import convert as convert_file

    report = convert_file(source, target, to, source_format=source_format, force=force)
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


@click.command()
@click.argument("dataset")
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A file, or a folder of files for several splits or languages.",
)
def init(dataset: str, source: Path) -> None:
    """Make the data set DATASET of a file: guess format, columns, language, split; write a commented dataset.yaml."""
    from embed_pipeline.dataset.exchange.inspection import inspect
    from embed_pipeline.dataset.exchange.starting import describe_inspection, write_dataset_yaml
    from embed_pipeline.defs.resources import pipeline_from_environment

    inspection = inspect(source)
    written = write_dataset_yaml(inspection, dataset, pipeline_from_environment().project().data)
    console.print(escape(describe_inspection(inspection)), soft_wrap=True)
    console.print(f"Written: {escape(str(written))}. Read it, correct it, then:", soft_wrap=True)
    console.print(f"embed-pipeline run --dataset {dataset}")
