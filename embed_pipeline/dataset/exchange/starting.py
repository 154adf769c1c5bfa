"""A new data set's folder: the files, and a dataset.yaml that says why each setting is what it is.

Belongs here: writing it. Does not belong here: the guesses (inspection).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from embed_pipeline.dataset.exchange.holding import to_dataset
from embed_pipeline.dataset.exchange.inspection import InspectedFile, Inspection, sorted_splits
from embed_pipeline.dataset.exchange.json_objects import write_rag_json
from embed_pipeline.dataset.exchange.table_files import some
from embed_pipeline.dataset.formats import RetrievalDataset, build_dataset
from embed_pipeline.dataset.settings import SETTINGS_FILE, TableColumns
from embed_pipeline.paths import copy_new
from embed_pipeline.records import Split
from embed_pipeline.replacing import new_folder

_NATIVE = "rag_json"
_TOLD_FILES, _TOLD_LINES = 3, 10


def write_dataset_yaml(inspection: Inspection, name: str, data_folder: Path) -> Path:
    """The dataset.yaml in a new folder data_folder/name, with copies of the files; whole or not at all.

    A folder that is one data set (beir, jsonl_qrels) becomes one JSON file a split. Variants without a recipe in
    data_folder/recipes are left out, if there is such a folder.

    Raises:
        ValueError: the name is no data set name, or the folder exists.
    """
    with new_dataset_folder(data_folder, name) as made:
        entries = [entry for file in inspection.files for entry in _place(file, made, inspection)]
        (made / SETTINGS_FILE).write_text(_yaml(inspection, entries, data_folder), encoding="utf-8", newline="\n")
    return data_folder / name / SETTINGS_FILE


@contextmanager
def new_dataset_folder(data_folder: Path, name: str) -> Iterator[Path]:
    """A folder to be filled that becomes data_folder/name at the end, or disappears when something goes wrong.

    Raises:
        ValueError: the name is no data set name, or the folder exists.
    """
    target = data_folder / name
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"{name!r}: a data set's name must consist of a-z, 0-9 and _. Choose another name.")
    if target.exists() or target.is_symlink():
        raise ValueError(f"{target}: it exists already, and nothing is overwritten. Choose another name.")
    with new_folder(target) as made:
        yield made


def describe_inspection(inspection: Inspection) -> str:
    """What was found, what each choice was made of and what is not read, on one screen of a terminal."""
    lines = [line.removeprefix("# ") for line in _found(inspection)]
    for file in inspection.files[:_TOLD_FILES]:
        found = [reason for reason in file.reasons if reason not in file.content.notes]
        lines += [f"{file.path.name}: {one_line(reason)}" for reason in found[:_TOLD_LINES]]
        lines += [f"{file.path.name}, note: {one_line(note)}" for note in file.content.notes[:_TOLD_LINES]]
    if len(inspection.files) > _TOLD_FILES:
        lines.append(
            f"{len(inspection.files) - _TOLD_FILES} more files: what was found in them stands in dataset.yaml."
        )
    return "\n".join(lines)


def _place(file: InspectedFile, folder: Path, inspection: Inspection) -> Iterator[dict[str, object]]:
    """Put the file into the folder; its entries under `pairs`."""
    if file.format.folder:
        dataset = to_dataset(file.content)
        for split in sorted_splits([file]) or ("train",):
            write_rag_json(_split_only(dataset, split), folder / f"{split}.json")
            yield {"file": f"{split}.json", "split": split}
        return
    if "\\" in file.path.name:
        raise ValueError(f"{file.path}: expected a file name without \\, found {file.path.name!r}. Rename the file.")
    copy_new(file.path, folder / file.path.name)
    entry: dict[str, object] = {"file": file.path.name}
    if file.format.name != _NATIVE:
        entry["format"] = file.format.name
    if file.split is not None and not (inspection.draws_validation and file.split == "train"):
        entry["split"] = file.split
    if file.language is not None:
        entry["language"] = file.language
    if file.columns is not None:
        entry["columns"] = file.columns.model_dump(mode="json", exclude_defaults=True) | _always(file.columns)
    yield entry


def _split_only(dataset: RetrievalDataset, split: Split) -> RetrievalDataset:
    queries = dataset.queries_of(split)
    ids = {query.id for query in queries}
    return build_dataset(queries, dataset.passages, [j for j in dataset.judgments if j.query_id in ids])


def _always(columns: TableColumns) -> dict[str, object]:
    return {"query": columns.query, "passage": columns.passage}


def _yaml(inspection: Inspection, entries: list[dict[str, object]], data_folder: Path) -> str:
    lines = ["# Written by `embed-pipeline init` from what it found; every line may be changed.", *_found(inspection)]
    lines.append(f"description: {yaml_value(f'Questions and passages of {inspection.source.name}.')}")
    lines += [f"# {inspection.language.reason}; decides how BM25 finds words.", f"language: {inspection.language.code}"]
    lines.append("pairs:")
    for file in inspection.files:
        lines += [
            f"  # {one_line(f'{file.path.name}: {reason}')}" for reason in file.reasons[: 1 if file.language else None]
        ]
    lines += [f"  - {yaml_value(entry)}" for entry in entries]
    if inspection.is_label_corpus and not inspection.parallel_languages:
        lines += ["# What labels mean: a text file with a label in each line and, behind a tab, a sentence about it."]
        lines += ["# label_list: labels.txt"]
    if inspection.parallel_languages:
        lines += ["# Every file has the same ids and judgments: the files are languages of one data set."]
        lines += ["parallel_languages: true"]
    lines += _split_lines(inspection, entries)
    lines += _comparison_lines(inspection, data_folder)
    return "\n".join(lines) + "\n"


def _split_lines(inspection: Inspection, entries: list[dict[str, object]]) -> list[str]:
    if inspection.evaluation_only:
        if inspection.parallel_languages:
            reason = "A question's translations must not be split: nothing is trained on this set."
        elif all(entry.get("split") == "test" for entry in entries):
            reason = "There are test questions only: nothing is trained on this set."
        else:
            reason = f"{inspection.queries} questions are too few to split: all are measured, nothing is trained."
        return [f"# {reason}", "evaluation_only: true"]
    if all("split" in entry for entry in entries):
        return []
    if inspection.draws_validation:
        why = "No file has validation questions, to choose settings by: a tenth of the train questions become them."
        return [f"# {why}", "split: {train: 0.9, validation: 0.1, test: 0, seed: 0}"]
    why = "Shares and seed of the hash that splits the questions for which neither file nor column names a split."
    return [f"# {why}", "split: {train: 0.75, validation: 0.10, test: 0.15, seed: 0}"]


def _comparison_lines(inspection: Inspection, data_folder: Path) -> list[str]:
    recipes = data_folder / "recipes"
    known = [v for v in inspection.variants if not recipes.is_dir() or (recipes / f"{v}.yaml").is_file()]
    if inspection.is_label_corpus:
        why = f"{inspection.passages} short passages for {inspection.queries} questions: a list of labels."
    else:
        why = "The passages are texts of their own: what counts is how far up the right one stands."
    lines = [f"# {why}", f"headline: {inspection.headline}"]
    if known:
        lines += ["# Recipes in data/recipes that are compared; the first is the baseline."]
        lines += [f"baseline: {known[0]}", f"variants: [{', '.join(known)}]"]
    return lines


def _found(inspection: Inspection) -> list[str]:
    lines = [
        f"Format {inspection.format} (confidence {inspection.confidence:.2f}).",
        f"{inspection.queries} questions (median {inspection.median_query_length:.0f} characters, "
        f"{inspection.duplicate_queries} duplicates), {inspection.passages} passages (median "
        f"{inspection.median_passage_length:.0f} characters), {inspection.judgments} judgments.",
        *(f"Sample: {one_line(s.question)[:60]} -> {one_line(s.passage)[:60]}" for s in inspection.samples),
    ]
    if inspection.not_read:
        lines.append(f"Files of other kinds, not read: {one_line(some(inspection.not_read))}.")
    return [f"# {line}" for line in lines]


def yaml_value(value: object) -> str:
    """The value on one line of YAML, quoted by the YAML writer."""
    plain, escaped = (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=readable, sort_keys=False, width=float("inf"))
        for readable in (True, False)
    )
    # A rare line break (NEL) is written as it is and read as another.
    text = plain if yaml.safe_load(plain) == value else escaped
    return text.removesuffix("\n...\n").rstrip("\n")


def one_line(text: str) -> str:
    """The text as it may stand in a YAML comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
