"""A new project is whole, holds recipes that fit together, and overwrites nothing."""

import hashlib
import tomllib
from pathlib import Path

import pytest
import yaml

from embed_pipeline.project.finding import is_project
from embed_pipeline.project.project import Project
from embed_pipeline.project.starting import (
    EXTRAS,
    RECIPES,
    dataset_name,
    start_dataset,
    start_project,
)

ROOT = Path(__file__).parents[2]


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_without_a_file_the_example_is_whole_and_every_recipe_reads(tmp_path: Path) -> None:
    started = start_project(tmp_path / "mine")
    files = _files(tmp_path / "mine")
    assert files - {f"data/recipes/{name}.yaml" for name in RECIPES} == {
        *("README.md", ".gitignore", "requirements.txt", "workspace.yaml", "dagster.yaml"),
        *(".github/workflows/embed-pipeline.yaml", "data/faq_en/dataset.yaml", "data/faq_en/faq.csv"),
    }
    assert is_project(tmp_path / "mine") and started.dataset == "faq_en"
    project = Project(data=tmp_path / "mine" / "data", home=tmp_path / "state")
    assert list(project.datasets) == ["faq_en"]
    assert tuple(variant.name for variant in project.variants.values()) == ("bm25", "tfidf", "e5")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_recipes_of_a_new_project_stand_on_none_that_is_missing(tmp_path: Path) -> None:
    start_project(tmp_path / "mine")
    settings = tmp_path / "mine" / "data" / "faq_en" / "dataset.yaml"
    content = yaml.safe_load(settings.read_text(encoding="utf-8")) | {"variants": list(RECIPES)}
    content["general_suite"] = ["other"]  # a mixture is chosen on one
    settings.write_text(yaml.safe_dump(content), encoding="utf-8")
    other = settings.parents[1] / "other"
    other.mkdir()
    (other / "faq.csv").write_bytes((settings.parent / "faq.csv").read_bytes())
    content = content | {"general_suite": [], "variants": ["bm25"]}
    (other / "dataset.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert len(Project(data=settings.parents[1], home=tmp_path).variants) == len(RECIPES) + 1


def test_a_file_becomes_the_data_set_that_init_would_make_of_it(tmp_path: Path) -> None:
    source = tmp_path / "Our Questions 2026.csv"
    rows = [f"Where is thing {n}?,Thing number {n} lies on shelf {n * 7} of the second room." for n in range(40)]
    source.write_text("question,context\n" + "\n".join(rows) + "\n", encoding="utf-8")
    started = start_project(tmp_path / "mine", source)
    assert started.dataset == "our_questions_2026" and "40 questions" in started.found
    start_dataset(source, "same", tmp_path / "mine" / "data")
    made = [tmp_path / "mine" / "data" / name / "dataset.yaml" for name in ("our_questions_2026", "same")]
    assert made[0].read_bytes() == made[1].read_bytes()
    assert "data/our_questions_2026/" in (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "name"), [("A-b c.csv.gz", "a_b_c"), ("问答.csv", "questions"), ("recipes.csv", "questions")]
)
def test_a_file_gives_its_data_set_a_name_that_may_be_one(file: str, name: str) -> None:
    assert dataset_name(Path(file)) == name


def test_a_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for folder in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="expected a new or empty folder, found files in it"):
            start_project(folder)
    assert _files(tmp_path) == {"notes.txt"}


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    before = folder.stat().st_ino
    start_project(folder)
    assert is_project(folder) and folder.stat().st_ino == before


def test_a_file_that_is_no_data_set_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd\.csv"):
        start_project(tmp_path / "mine", tmp_path / "odd.csv")
    assert _files(tmp_path) == {"odd.csv"} and not (tmp_path / "mine").exists()


def test_the_workflow_installs_runs_and_keeps_the_report(tmp_path: Path) -> None:
    start_project(tmp_path / "mine")
    workflow = tmp_path / "mine" / ".github" / "workflows" / "embed-pipeline.yaml"
    steps = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]["run"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == ["pip install -r requirements.txt", "embed-pipeline run"]
    uploads = [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")]
    assert uploads == [".embed_pipeline/reports"]


def test_the_requirements_name_this_version_and_extras_that_exist(tmp_path: Path) -> None:
    start_project(tmp_path / "mine")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = (tmp_path / "mine" / "requirements.txt").read_text(encoding="utf-8")
    assert needed == f"embed-pipeline[{','.join(EXTRAS)}]=={project['version']}\n"
    assert set(EXTRAS) <= set(project["optional-dependencies"])


def test_who_names_no_test_questions_is_told_before_a_run_fails(tmp_path: Path) -> None:
    words = [hashlib.sha256(bytes([at])).hexdigest() for at in range(80)]
    rows = [f"What is {word}?,It is {word[::-1]}.,{'train' if at % 4 else 'dev'}" for at, word in enumerate(words)]
    (tmp_path / "faq.csv").write_text("\n".join(["question,answer,split", *rows]), encoding="utf-8")
    told = start_project(tmp_path / "mine", tmp_path / "faq.csv").found
    assert "(60 train, 20 validation, 0 test)" in told and "A run would fail: expected test questions" in told
