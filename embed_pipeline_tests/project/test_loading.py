"""One data set that cannot be read stops no other: they load, run and are shown, and it is named with its reason."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_pipeline.assembly.cleanup import remove_unused
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.graph.freshness import assess
from embed_pipeline.graph.work import all_work, ready_work
from embed_pipeline.project.project import Project, parse_linked_folders
from embed_pipeline_tests.small_project import edit_dataset, write_full_project, write_yaml


def _second(data: Path, **changes: object) -> Path:
    """Another data set beside `small`, evaluated with one recipe of its own."""
    folder = data / "second"
    folder.mkdir()
    (folder / "faq.csv").write_text("question,context\na,b\nc,d\n", encoding="utf-8")
    write_yaml(data / "recipes" / "own.yaml", {"description": "words", "retriever": "bm25"})
    settings = {"description": "two", "language": "en", "evaluation_only": True, "pairs": [{"file": "faq.csv"}]}
    write_yaml(folder / "dataset.yaml", settings | {"variants": ["own"]} | changes)
    return folder


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no YAML": (lambda data: (data / "second" / "dataset.yaml").write_text("a: [", encoding="utf-8"), "expected YAML"),
    "ESC": (lambda data: (data / "second" / "dataset.yaml").write_bytes(b"a: \x1b[2J"), "expected YAML"),
    "not UTF-8": (lambda data: (data / "second" / "dataset.yaml").write_bytes(b"a: \xff"), "expected YAML"),
    "20,000 brackets": (lambda data: (data / "second" / "dataset.yaml").write_text("[" * 20_000), "expected YAML"),
    "an impossible date": (
        lambda data: (data / "second" / "dataset.yaml").write_text("a: 2001-99-99"),
        "expected YAML",
    ),
    "a field": (lambda data: edit_dataset(data / "second", headline="nothing@5"), "headline"),
    "a headline that nothing measures": (
        lambda data: edit_dataset(data / "second", headline="ndcg@20"),
        "headline: expected a cutoff that is measured (1, 2, 3, 5, 10), found 'ndcg@20'. Name one of these, as ndcg@10",
    ),
    "a recipe": (lambda data: (data / "recipes" / "own.yaml").write_text("- 1"), "own.yaml: expected a mapping"),
    "no recipe": (lambda data: (data / "recipes" / "own.yaml").unlink(), "own.yaml: no such recipe"),
    "a pipe": (lambda data: _replace(data / "second" / "dataset.yaml", os.mkfifo), "found a named pipe"),
    "a link out": (
        lambda data: _replace(data / "second" / "dataset.yaml", lambda path: path.symlink_to("/etc/passwd")),
        "found a link to /etc/passwd",
    ),
}


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize("harm", BROKEN)
def test_the_others_load_and_the_broken_one_is_named(harm: str, tmp_path: Path) -> None:
    data = write_full_project(tmp_path)
    _second(data)
    whole = Project(data, tmp_path / "home")
    assert not whole.broken and "second/own" in whole.variants
    change, told = BROKEN[harm]
    change(data)
    project = Project(data, tmp_path / "home")
    assert list(project.broken) == ["second"] and told in project.broken["second"]
    left = {key: variant for key, variant in whole.variants.items() if variant.dataset != "second"}
    assert left and project.variants == left
    pipeline = PipelineResource(data=str(data), home=str(tmp_path / "home"))
    assert build_definitions(pipeline).resolve_job_def("evaluate_variant")
    assert {item.node.partition for item in assess(pipeline.graph())} >= {"small", *left}
    with pytest.raises(ValueError, match="Nothing was removed"):
        list(remove_unused(pipeline.graph(), dry_run=False))


def test_every_measure_that_has_a_figure_may_be_the_headline(tmp_path: Path) -> None:
    data = write_full_project(tmp_path)
    for cutoff in (1, 2, 3, 5, 10):
        edit_dataset(data / "small", headline=f"ndcg@{cutoff}")
        assert not Project(data, tmp_path / "home").broken


def test_where_every_data_set_is_broken_there_is_nothing_to_do(tmp_path: Path) -> None:
    data = write_full_project(tmp_path)
    for path in data.glob("*/dataset.yaml"):
        path.write_text("a: [", encoding="utf-8")
    graph = PipelineResource(data=str(data), home=str(tmp_path / "home")).graph()
    assert "small" in graph.project.broken and ready_work(graph) == all_work(graph) == ()


def test_what_is_measured_on_a_broken_data_set_says_so(tmp_path: Path) -> None:
    data = write_full_project(tmp_path)
    folder = _second(data)
    edit_dataset(data / "small", general_suite=["second"])
    (folder / "dataset.yaml").write_text("a: [", encoding="utf-8")
    broken = Project(data, tmp_path / "home").broken
    assert list(broken) == ["second", "small"] and "general_suite: second cannot be read" in broken["small"]


def test_a_data_set_elsewhere_is_followed_only_where_its_place_is_named(tmp_path: Path) -> None:
    data = write_full_project(tmp_path)
    elsewhere = tmp_path / "mnt"
    elsewhere.mkdir()
    _second(data).rename(elsewhere / "second")
    (data / "second").symlink_to(elsewhere / "second")
    refused = Project(data, tmp_path / "home").broken["second"]
    assert f"found a link to {elsewhere}" in refused and "EMBED_PIPELINE_LINKED_FOLDERS" in refused
    assert "second/own" in Project(data, tmp_path / "home", (elsewhere,)).variants
    pipeline = PipelineResource(data=str(data), home=str(tmp_path / "home"), linked_folders=str(elsewhere))
    state = {str(item.node): item.state for item in assess(pipeline.graph())}
    assert state["raw_pairs[second]"] == "missing"


def test_a_raw_file_that_is_a_link_out_fails_by_its_name(tmp_path: Path) -> None:
    data = write_full_project(tmp_path)
    folder = _second(data)
    secret = tmp_path / "secret.csv"
    secret.write_text("question,context\nx,secret\n", encoding="utf-8")
    _replace(folder / "faq.csv", lambda path: path.symlink_to(secret))
    found = {
        str(item.node): item for item in assess(PipelineResource(data=str(data), home=str(tmp_path / "home")).graph())
    }
    assert found["raw_pairs[second]"].state == "failed"
    assert "faq.csv: expected something inside" in found["raw_pairs[second]"].reasons[0]
    assert found["raw_xlsx[small]"].state == "missing"


def test_linked_folders_are_absolute() -> None:
    assert parse_linked_folders("/mnt/a:/mnt/b") == (Path("/mnt/a"), Path("/mnt/b"))
    with pytest.raises(ValueError, match="expected absolute folders, found 'mnt'"):
        parse_linked_folders("mnt")
