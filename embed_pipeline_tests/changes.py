"""Every kind of change to a small project, and what re-runs after it: what docs/changes.md says, counted.

Files are read, cleaned and mined for real. Training, indexing, measuring and publishing are stand-ins whose bytes
follow from their inputs and settings, so a count is what re-runs at most.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import yaml

from embed_pipeline.artifacts.catalog import memo_path
from embed_pipeline.artifacts.manifest import installed_packages
from embed_pipeline.dataset.settings import SplitSettings
from embed_pipeline.dataset.splitting import hash_split
from embed_pipeline.definitions import build_definitions
from embed_pipeline.graph.catalogue import PUBLISHED_ASSETS, TRAINED_ASSETS, VARIANT_ASSETS
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import ready_work
from embed_pipeline.records import Split
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import (
    edit_dataset,
    edit_yaml,
    make_rows,
    write_model,
    write_project,
    write_workbook,
)

REAL_ASSETS = ("raw_xlsx", "cleaned_qa", "mined_negatives")
ASSETS = ("raw_xlsx", "cleaned_qa", *TRAINED_ASSETS, *VARIANT_ASSETS, "promoted_checkpoint", *PUBLISHED_ASSETS)
COMMAND = "PYTHONPATH=. python docs/write_changes.py"
_MAX_RUNS = 30
_BEFORE = f"""# What a change re-runs

Counted by a test on a small project of one data set, two workbooks and three variants: `bm25`, `base` (an encoder as
it is) and `tuned` (the same, fine-tuned). Written by `{COMMAND}`; the test fails where
this file and the graph differ.

A number is how many partitions of the asset were made again; *found* were part of a run and served from the store; a
dot: not touched at all. Files are read, cleaned and mined for real; the bytes of what follows are taken to change
whenever their inputs do, so it is the most that re-runs.
"""
_AFTER = """
- A package's version stands in the manifest of what was made with it and decides nothing by itself: `embed-pipeline
  reproduce` names it as the first difference. Who wants everything made again after an upgrade raises the code versions
  in `graph/catalogue.py`.
- A renamed data set is another partition: its name is in the inputs of everything below the raw files. A renamed model
  is the same weights; the table alone names its folder.
"""


@dataclass(frozen=True)
class Counts:
    """How many partitions of each asset were built, and how many were found in the store."""

    built: Mapping[str, int]
    found: Mapping[str, int]

    def cell(self, asset: str) -> str:
        """`2`, `2 found`, `1, 1 found` or a dot for nothing."""
        built, found = self.built.get(asset, 0), self.found.get(asset, 0)
        return ", ".join([*([str(built)] if built else []), *([f"{found} found"] if found else [])]) or "·"


def write_finished_project(root: Path) -> PipelineProject:
    """A project of a data set, a second workbook and three variants (bm25, base, tuned), all fresh."""
    write_project(root)
    (root / "dagster").mkdir()
    project = PipelineProject(root)
    write_workbook(project.dataset / "second.xlsx", [_row("test", "以前")])
    settle_down(project)
    return project


def settle_down(project: PipelineProject) -> Counts:
    """Run what is stale until all is fresh; how each partition came about."""
    built, found = dict.fromkeys(ASSETS, 0), dict.fromkeys(ASSETS, 0)
    for _ in range(_MAX_RUNS):
        work = ready_work(project.graph)
        if not work:
            return Counts(built, found)
        for asset in work[0].job.assets:
            made_now = _materialise(project, work[0].job.name, Node(asset, work[0].partition))
            (built if made_now else found)[asset] += 1
    raise AssertionError(f"still not fresh after {_MAX_RUNS} runs: {work}")


def _materialise(project: PipelineProject, job: str, node: Node) -> bool:
    """Whether the partition had to be made."""
    if node.asset not in REAL_ASSETS:
        plan = project.graph.plan(node)
        made = project.graph.store.build(plan, lambda out: (out / "bytes").write_text(plan.fingerprint) and {})
        return not made.cached
    definition = build_definitions(project.pipeline).resolve_job_def(job)
    with dg.DagsterInstance.ephemeral() as instance:
        key = dg.AssetKey(node.asset)
        result = definition.execute_in_process(instance=instance, partition_key=node.partition, asset_selection=[key])
    (event,) = result.asset_materializations_for_node(node.asset)
    return not event.metadata["cached"].value


def _row(split: Split, word: str) -> tuple[str | None, ...]:
    """A question that resembles no other and that the hash puts into a split."""
    shares = SplitSettings(train=0.6, validation=0.15, test=0.25, seed=1)
    texts = (f"{word}另外打听编号{number}那位先生肝上有油的登记办法" for number in range(1000))
    return (next(text for text in texts if hash_split(text, shares) == split), "", "脂肪肝", None)


def _add_row(split: Split) -> Callable[[PipelineProject], None]:
    return lambda project: write_workbook(project.dataset / "third.xlsx", [_row(split, "后来")])


def _edit_label(project: PipelineProject) -> None:
    rows = make_rows()
    at = next(at for at, row in enumerate(rows) if row[2] == "痛风")
    rows[at] = (*rows[at][:2], "哮喘", rows[at][3])
    write_workbook(project.dataset / "first.xlsx", rows)


def _touch(project: PipelineProject) -> None:
    os.utime(project.dataset / "first.xlsx", (1, 1))


def _save_again(project: PipelineProject) -> None:
    write_workbook(project.dataset / "first.xlsx", make_rows(), creator="somebody else")


def _remove_workbook(project: PipelineProject) -> None:
    (project.dataset / "second.xlsx").unlink()


def _add_label(project: PipelineProject) -> None:
    with (project.dataset / "labels.txt").open("a", encoding="utf-8") as file:
        file.write("肺炎\n")


def _edit_recipe(project: PipelineProject) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=1e-3)


def _edit_recipe_and_back(project: PipelineProject) -> None:
    recipe = project.root / "data" / "recipes" / "tuned.yaml"
    before = recipe.read_bytes()
    _edit_recipe(project)
    settle_down(project)
    recipe.write_bytes(before)


def _bump_code(asset: str, partition: str) -> Callable[[PipelineProject], None]:
    def bump(project: PipelineProject) -> None:
        # The code stays, so the artifact is made to come from an older version of it, with the same bytes, and what the
        # present version made is forgotten.
        node = Node(asset, partition)
        plan, content = project.graph.plan(node), project.graph.store.open(project.manifest(asset, partition))
        old = replace(plan, code_version="older")
        project.graph.store.build(old, lambda out: shutil.copytree(content, out, dirs_exist_ok=True) and {})
        (project.root / "home" / "artifacts" / memo_path(plan.fingerprint)).unlink()

    return bump


def _replace_weights(project: PipelineProject) -> None:
    _use_copied_model(project)
    settle_down(project)
    write_model(project.root / "copied_model", seed=1)


def _use_copied_model(project: PipelineProject) -> None:
    """The same weights in a folder of another name, which belongs to this project alone."""
    recipes, model = project.root / "data" / "recipes", project.root / "copied_model"
    shutil.copytree(yaml.safe_load((recipes / "base.yaml").read_text(encoding="utf-8"))["encoder"]["model"], model)
    for name in ("base", "tuned"):
        edit_yaml(recipes / f"{name}.yaml", "encoder", model=str(model))


def _rename_dataset(project: PipelineProject) -> None:
    project.dataset.rename(project.root / "data" / "renamed")


def _describe(project: PipelineProject) -> None:
    edit_dataset(project.dataset, description="other words")


def _change_headline(project: PipelineProject) -> None:
    edit_dataset(project.dataset, headline="precise@3")


def _describe_recipe(project: PipelineProject) -> None:
    recipe = project.root / "data" / "recipes" / "tuned.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("description: tuned", "description: other words"))


def _automate(project: PipelineProject) -> None:
    edit_dataset(project.dataset, automation="all")


def _add_variant(project: PipelineProject) -> None:
    (project.root / "data" / "recipes" / "tfidf.yaml").write_text("{description: n-grams, retriever: tfidf}")
    edit_dataset(project.dataset, variants=["bm25", "base", "tuned", "tfidf"])


def _copy_dataset(project: PipelineProject) -> None:
    shutil.copytree(project.dataset, project.root / "data" / "second")
    edit_dataset(project.root / "data" / "second", variants=["bm25"])


def _nothing(_: PipelineProject) -> None:
    """The change is made around it."""


UPGRADE = "package upgraded"
CHANGES: Mapping[str, Callable[[PipelineProject], None]] = {
    "row added, a question of train": _add_row("train"),
    "row added, a question of test": _add_row("test"),
    "row edited: another label": _edit_label,
    "file touched": _touch,
    "file saved again, same cells": _save_again,
    "file removed": _remove_workbook,
    "label list changed: a label added": _add_label,
    "recipe field changed: `learning_rate` of tuned": _edit_recipe,
    "recipe field changed and changed back": _edit_recipe_and_back,
    "code version of `cleaned_qa` bumped, same bytes come out": _bump_code("cleaned_qa", "small"),
    "code version of `mined_negatives` bumped, same bytes come out": _bump_code("mined_negatives", "small/tuned"),
    UPGRADE: _nothing,
    "weights replaced in place": _replace_weights,
    "folder renamed: the model's": _use_copied_model,
    "folder renamed: the data set's": _rename_dataset,
    "description of the data set edited": _describe,
    "headline changed": _change_headline,
    "description of a recipe edited": _describe_recipe,
    "`automation` edited": _automate,
    "variant added": _add_variant,
    "data set added: a copy, with bm25 alone": _copy_dataset,
}


def count_change(finished: PipelineProject, name: str, root: Path) -> Counts:
    """What a change to a copy of the finished project, made in `root`, re-runs."""
    shutil.copytree(finished.root, root, ignore=shutil.ignore_patterns("model"))
    project = PipelineProject(root)
    CHANGES[name](project)
    return _upgraded(project, root) if name == UPGRADE else settle_down(project)


def _upgraded(project: PipelineProject, root: Path) -> Counts:
    """As `settle_down`, in a process that finds another version of numpy installed."""
    before = installed_packages()["numpy"]
    metadata = root / "site" / "numpy-99.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 99.0\n")
    sys.path.insert(0, str(root / "site"))
    try:
        assert installed_packages()["numpy"] == "99.0" != before
        return settle_down(project)
    finally:
        sys.path.remove(str(root / "site"))


def count_all(folder: Path) -> dict[str, Counts]:
    """The counts of every change, each made to a copy of its own below a folder."""
    finished = write_finished_project(folder / "finished")
    # The recipes name the model by its path in the finished project, which stays.
    return {name: count_change(finished, name, folder / f"change{at}") for at, name in enumerate(CHANGES)}


def format_table(counts: Mapping[str, Counts]) -> str:
    """docs/changes.md."""
    names = [f"`{asset}`" for asset in ASSETS]
    rows = [["change", *names], *([name, *map(found.cell, ASSETS)] for name, found in counts.items())]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return f"{_BEFORE}\n" + "\n".join(lines) + f"\n{_AFTER}"


def write_table(path: Path) -> None:
    """Count every change and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        path.write_text(format_table(count_all(Path(folder))), encoding="utf-8")
