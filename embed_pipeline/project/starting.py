"""A new project's folder: a data set, recipes, and the files that make it run by itself.

Belongs here: which files a new project gets, and writing them whole or not at all. Does not belong here: guessing what
a file of questions holds (dataset.exchange), finding a project (finding).
"""

import re
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

from embed_pipeline.dataset.exchange.inspection import inspect
from embed_pipeline.dataset.exchange.starting import describe_inspection, write_dataset_yaml
from embed_pipeline.dataset.ledger import summarise_ledger
from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.settings import SETTINGS_FILE, read_dataset_settings
from embed_pipeline.documents.starting import (
    describe_documents,
    describe_documents_beside,
    find_documents,
    inspect_documents,
    write_documents_yaml,
)
from embed_pipeline.project.finding import MARKER, shipped_files
from embed_pipeline.records import SPLITS
from embed_pipeline.replacing import new_folder

EXAMPLE = "faq_en"
"""The shipped data set that a project begins with where no file is named: small, English, runs offline."""
RECIPES = (
    *("bm25", "tfidf", "classifier", "word2vec", "e5", "e5_auto", "e5_auto_hybrid"),
    *("e5_finetuned", "e5_merged", "e5_hybrid"),
    *("bge_small_zh", "bge_small_zh_finetuned", "openai_3_small", "ollama"),
)
"""The shipped recipes that a new project gets: those that `init` names, what the demo compares, a model from the Hub,
a hosted one and one's own server."""
EXTRAS = ("bundled",)
"""What the recipes need beside the package."""

_CLEANED_AT_ONCE = 20_000
"""Questions up to which `init` cleans the new data set to say what is left out; more take longer than one waits."""
_TEMPLATE = Path(__file__).parent / "template"
_PLACES = {
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "workflow.yaml": ".github/workflows/embed-pipeline.yaml",
}
"""The template's files and where each goes."""


@dataclass(frozen=True, slots=True)
class StartedDataset:
    """A data set's new dataset.yaml, and what was found in the files it was made of."""

    settings: Path
    found: str


@dataclass(frozen=True, slots=True)
class StartedProject:
    """A new project's folder, the name of its data set, and what was found in the files it was made of."""

    folder: Path
    dataset: str
    found: str


def start_project(folder: Path, source: Path | None = None) -> StartedProject:
    """A project in a new or empty folder, whole or not at all: a data set made of `source`, or the example.

    Raises:
        ValueError: there are files in the folder, or `source` cannot be read as a data set.
    """
    with new_folder(folder, last=MARKER) as made:
        data = made / "data"
        (data / "recipes").mkdir(parents=True)
        for name in RECIPES:
            shutil.copyfile(shipped_files() / "data" / "recipes" / f"{name}.yaml", data / "recipes" / f"{name}.yaml")
        if source is None:
            name, found = EXAMPLE, f"The example {EXAMPLE}: 120 questions to an invented company and 60 passages."
            _copy_example(data / EXAMPLE)
        else:
            name = dataset_name(source)
            found = start_dataset(source, name, data).found
        _write_files(made, name)
    return StartedProject(folder, name, found)


def start_dataset(source: Path, name: str, data: Path) -> StartedDataset:
    """The data set data/name, made of a file, a folder of files, or documents; its dataset.yaml says why it is so.

    Raises:
        ValueError: the name is none, the folder exists, or `source` cannot be read as a data set.
    """
    documents = find_documents(source)
    if documents.paths:
        found = inspect_documents(source, documents)
        return StartedDataset(write_documents_yaml(found, name, data), describe_documents(found))
    try:
        inspection = inspect(source)
    except ValueError as error:
        raise ValueError(f"{error}{describe_documents_beside(source)}") from error
    settings = write_dataset_yaml(inspection, name, data)
    lines = [describe_inspection(inspection)]
    if inspection.queries <= _CLEANED_AT_ONCE:
        lines += _describe_cleaning(settings.parent)
    return StartedDataset(settings, "\n".join(lines))


def _describe_cleaning(folder: Path) -> list[str]:
    """What a run would keep of the new data set and leave out, with a reason each."""
    try:
        cleaned = clean_pairs(folder, read_dataset_settings(folder))
    except ValueError as error:
        return [f"A run would fail: {error}"]
    splits = ", ".join(f"{len(cleaned.dataset.queries_of(split))} {split}" for split in SPLITS)
    lines = [f"A run keeps {cleaned.counts.queries} of {cleaned.counts.rows} questions ({splits})."]
    if not cleaned.dataset.queries_of("test"):
        lines.append("A run would fail: expected test questions, found none. Say of some that their split is test.")
    for reason, count in summarise_ledger(cleaned.ledger).items():
        first = next(entry for entry in cleaned.ledger if entry.reason == reason)
        if reason != "noted":  # told with the files
            lines.append(f"Left out: {count} × {reason}. The first: {first.value or first.sheet}: {first.detail}")
    return lines


def dataset_name(source: Path) -> str:
    """A data set's name for a file or folder: its own in small letters; `questions` where nothing of it may be used."""
    stem = source.absolute().name.partition(".")[0]
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return "questions" if name in ("", "recipes") else name


def _write_files(folder: Path, dataset: str) -> None:
    for name, place in _PLACES.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        text = (_TEMPLATE / name).read_text(encoding="utf-8")
        # The workflow's own ${{ }} is no placeholder.
        filled = Template(text).safe_substitute(dataset=dataset) if name == "README.md" else text
        (folder / place).write_text(filled, encoding="utf-8", newline="\n")
    for name in ("dagster.yaml", MARKER):
        shutil.copyfile(shipped_files() / name, folder / name)
    needed = f"embed-pipeline[{','.join(EXTRAS)}]=={version('embed-pipeline')}\n"
    (folder / "requirements.txt").write_text(needed, encoding="utf-8", newline="\n")


def _copy_example(folder: Path) -> None:
    folder.mkdir()
    for path in sorted((shipped_files() / "data" / EXAMPLE).iterdir()):
        if path.name == SETTINGS_FILE or path.suffix == ".csv":
            shutil.copyfile(path, folder / path.name)
    settings = folder / SETTINGS_FILE
    # What is compared on request has recipes and needs extras that a new project does not get.
    text = re.sub(r"^variants_on_request: .*\n", "", settings.read_text(encoding="utf-8"), flags=re.M)
    settings.write_text(text, encoding="utf-8", newline="\n")
