"""What automation starts by itself under each setting, what then waits, and that a file must have arrived."""

import time
from pathlib import Path

import pytest

from embed_pipeline.dataset.raw_files import SETTLE_SECONDS
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.graph.automatic_work import AutomaticWork, automatic_work, withheld_because
from embed_pipeline.graph.catalogue import ALL, CHEAP_ASSETS, JOBS, PUBLISHED_ASSETS, TRAINED_ASSETS
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.topology import Node
from embed_pipeline_tests.small_project import (
    edit_dataset,
    edit_yaml,
    make_rows,
    settle,
    write_project,
    write_workbook,
    write_yaml,
)

HOSTED = {"service": "openai", "model": "text-embedding-3-small"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_project(tmp_path)


def _graph(data: Path) -> Graph:
    return PipelineResource(data=str(data), home=str(data.parent / "home")).graph()


def _stand_in(data: Path, *assets: str) -> None:
    graph = _graph(data)
    for node in graph.nodes():
        if node.asset in assets:
            graph.store.build(graph.plan(node), lambda out: (out / "stand_in").write_text("x") and {})


def _work(data: Path, *, later: float = 3600) -> AutomaticWork:
    """What automation does so many seconds after now, when every file has arrived unless said otherwise."""
    return automatic_work(_graph(data), time.time() + later)


def _ran(work: AutomaticWork) -> set[str]:
    return {f"{run.job.name} {run.partition}" for run in work.runs}


def _run_all(data: Path) -> set[str]:
    """Stand-ins for everything that automation asks for, until it asks for nothing more."""
    ran: set[str] = set()
    while (work := _work(data)).runs:
        assert not _ran(work) & ran, "a run was asked for twice"
        ran |= _ran(work)
        graph = _graph(data)
        for run in work.runs:
            for asset in run.job.assets:
                graph.store.build(
                    graph.plan(Node(asset, run.partition)), lambda out: (out / "stand_in").write_text("x") and {}
                )
    return ran


def test_cheap_is_the_default_and_trains_nothing_by_itself(data: Path) -> None:
    assert _run_all(data) == {
        "read_workbooks small",
        "prepare_dataset small",
        "evaluate_variant small/bm25",
        "evaluate_variant small/base",
        f"publish_metrics {ALL}",
    }


def test_what_waits_is_named_with_the_setting_that_it_waits_for(data: Path) -> None:
    _run_all(data)
    waiting = _work(data).waiting
    why = "automation: cheap in data/small/dataset.yaml leaves out what trains"
    assert f"finetune_variant small/tuned waits for you: {why}" in waiting
    below = [line for line in waiting if line.startswith(("faiss_index[small/tuned]", "query_metrics[small/tuned]"))]
    assert len(below) == 2 and all("waits for" in line for line in below)


def test_all_runs_everything(data: Path) -> None:
    edit_dataset(data / "small", automation="all")
    assert {"finetune_variant small/tuned", "evaluate_variant small/tuned", f"publish_metrics {ALL}"} <= _run_all(data)
    assert _work(data).waiting == ()


def test_off_runs_nothing_of_the_data_set_and_leaves_the_others_alone(data: Path) -> None:
    edit_dataset(data / "small", automation="off")
    assert _work(data).runs == ()
    assert _work(data).waiting[0] == "read_workbooks small waits for you: automation: off in data/small/dataset.yaml"
    (data / "other").mkdir()
    for name in ("first.xlsx", "labels.txt", "dataset.yaml"):
        (data / "other" / name).write_bytes((data / "small" / name).read_bytes())
    edit_dataset(data / "other", automation="cheap", variants=["bm25"])
    ran = _run_all(data)
    assert ran == {
        "read_workbooks other",
        "prepare_dataset other",
        "evaluate_variant other/bm25",
        f"publish_metrics {ALL}",
    }


def test_when_every_data_set_is_off_nothing_is_published(data: Path) -> None:
    _stand_in(data, *(asset for job in JOBS for asset in job.assets))
    edit_dataset(data / "small", automation="off", baseline="base")
    assert _work(data).runs == ()
    edit_dataset(data / "small", automation="cheap")
    assert _ran(_work(data)) == {f"publish_metrics {ALL}"}


def test_publishing_waits_for_what_will_run_and_not_for_what_will_not(data: Path) -> None:
    _run_all(data)
    write_workbook(data / "small" / "second.xlsx", make_rows()[:5])
    assert _ran(_work(data)) == {"read_workbooks small"}
    edit_dataset(data / "small", automation="all")
    assert f"publish_metrics {ALL}" not in _ran(_work(data))


def test_old_figures_are_not_published_under_a_recipe_that_waits_for_its_training(data: Path) -> None:
    _stand_in(data, *(asset for job in JOBS for asset in job.assets))
    edit_yaml(data / "recipes" / "tuned.yaml", "training", epochs=9)
    work = _work(data)
    assert work.runs == ()
    assert f"publish_metrics {ALL} waits for the figures of what waits (small/tuned): nothing but recipes changed" in (
        work.waiting
    )
    edit_yaml(data / "recipes" / "base.yaml", "encoder", query_max_length=40)
    assert _ran(_work(data)) == {"evaluate_variant small/base"}  # after which the table has other figures to publish


def test_editing_the_setting_makes_nothing_stale(data: Path) -> None:
    _stand_in(data, *(asset for job in JOBS for asset in job.assets))
    before = {node: _graph(data).plan(node).fingerprint for node in _graph(data).nodes()}
    edit_dataset(data / "small", automation="all")
    assert {node: _graph(data).plan(node).fingerprint for node in _graph(data).nodes()} == before


def test_a_variant_with_a_hosted_encoder_is_not_cheap(data: Path) -> None:
    write_yaml(data / "recipes" / "base.yaml", {"description": "paid", "encoder": HOSTED})
    project = _graph(data).project
    reason = withheld_because(project, Node("query_metrics", "small/base"))
    assert reason == "automation: cheap in data/small/dataset.yaml leaves out what asks a hosted encoder"
    assert withheld_because(project, Node("query_metrics", "small/bm25")) is None


@pytest.mark.parametrize(
    ("synthesis", "cost"),
    [
        ({}, None),
        ({"generator": "chat", "chat": {"service": "openai", "model": "any"}}, "asks a hosted chat model"),
        ({"judge": {"service": "openai", "model": "any"}}, "asks a hosted chat model"),
        ({"round_trip": {"recipe": "paid"}}, "asks a hosted encoder"),
    ],
)
def test_questions_are_cheap_unless_a_hosted_model_writes_judges_or_finds_them(
    data: Path, synthesis: dict, cost: str | None
) -> None:
    write_yaml(data / "recipes" / "paid.yaml", {"description": "paid", "encoder": HOSTED})
    (data / "pages").mkdir()
    content = {"description": "d", "documents": {"files": ["*.md"]}, "synthesis": synthesis, "variants": ["bm25"]}
    write_yaml(data / "pages" / "dataset.yaml", content)
    reason = withheld_because(_graph(data).project, Node("synthetic_qa", "pages"))
    assert (reason or "").endswith(cost or "") and (reason is None) == (cost is None)


def test_every_asset_is_declared_cheap_or_trains_and_word_vectors_are_cheap() -> None:
    assets = {asset for job in JOBS for asset in job.assets}
    assert set(CHEAP_ASSETS) <= assets and not set(CHEAP_ASSETS) & set(TRAINED_ASSETS)
    assert {"word_vectors", *PUBLISHED_ASSETS} <= set(CHEAP_ASSETS)


def test_a_file_that_is_still_written_starts_no_run_and_is_named(data: Path) -> None:
    edit_dataset(data / "small", automation="all")
    settle(data)
    write_workbook(data / "small" / "second.xlsx", make_rows()[:5])
    written = (data / "small" / "second.xlsx").stat().st_mtime
    now = automatic_work(_graph(data), written)
    assert now.runs == ()
    assert now.waiting == (
        f"read_workbooks small waits for second.xlsx: written to within the last {SETTLE_SECONDS:g} s",
    )
    assert _ran(automatic_work(_graph(data), written + SETTLE_SECONDS + 1)) == {"read_workbooks small"}


def test_a_file_that_no_pattern_names_holds_nothing_up(data: Path) -> None:
    settle(data)
    (data / "small" / "export.xlsx.part").write_bytes(b"half")
    (data / "small" / "~$first.xlsx").write_bytes(b"lock")
    assert _ran(_work(data, later=0)) == {"read_workbooks small"}


def test_a_setting_that_is_none_is_refused_with_the_three(data: Path) -> None:
    edit_dataset(data / "small", automation="sometimes")
    told = _graph(data).project.broken["small"]
    assert "automation: expected 'off', 'cheap' or 'all', found 'sometimes'" in told
