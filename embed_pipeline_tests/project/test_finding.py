"""A project is found from any folder inside it, and only a marked folder is one."""

from pathlib import Path

import pytest

from embed_pipeline.project.finding import (
    NoProjectError,
    UnknownNameError,
    check_known,
    find_project,
    is_project,
    near_names,
)

ROOT = Path(__file__).parents[2]


def _mark(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workspace.yaml").write_text((ROOT / "workspace.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def test_the_nearest_marked_folder_above_is_the_project(tmp_path: Path) -> None:
    outer = _mark(tmp_path / "outer")
    inner = _mark(outer / "examples" / "inner")
    (inner / "data" / "recipes").mkdir(parents=True)
    assert find_project(inner / "data" / "recipes") == find_project(inner) == inner
    assert find_project(inner.parent) == outer


def test_a_relative_folder_is_meant_from_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mark(tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    assert find_project(Path("project")) == tmp_path / "project"


def test_another_dagster_projects_workspace_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").write_text("load_from: [{python_module: shop.definitions}]\n", encoding="utf-8")
    assert not is_project(tmp_path)
    with pytest.raises(NoProjectError, match="embed-pipeline new FOLDER"):
        find_project(tmp_path)


def test_the_checkout_is_a_project() -> None:
    assert find_project(Path(__file__)) == ROOT


def test_an_unknown_name_is_refused_with_the_nearest_ones_first() -> None:
    known = ["a/bm25", "a/minilm", "a/minilm_finetuned"]
    assert near_names("minlm", known) == ["a/minilm"]
    assert near_names("minilm_fine", known) == ["a/minilm_finetuned", "a/minilm"]
    assert near_names("a/bm52", known) == ["a/bm25"]
    assert near_names("whatever", known) == []
    with pytest.raises(UnknownNameError, match=r"no variant 'minlm'; near: a/minilm\. Variants: a/bm25, "):
        check_known("minlm", known, what="variant", plural="Variants")
    check_known("a/bm25", known, what="variant", plural="Variants")
