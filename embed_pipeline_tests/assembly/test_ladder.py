"""Laws of the ladder: what a setting earned is a difference on the same data, or none is named."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from embed_pipeline.artifacts import Plan
from embed_pipeline.assembly.ladder import climb
from embed_pipeline.dataset.facts import DataFacts
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.evaluation.measures import QueryMeasure
from embed_pipeline.evaluation.measuring import METRICS_FILE
from embed_pipeline.evaluation.query_metrics import write_query_metrics
from embed_pipeline.graph.graph import Graph
from embed_pipeline.project.automatic_training import choose_training
from embed_pipeline_tests.small_project import edit_dataset, write_project, write_yaml

TODAY, BEFORE = "a" * 64, "b" * 64


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A data set of which nothing is built."""
    return PipelineResource(data=str(write_project(tmp_path)), home=str(tmp_path / "home")).graph()


def measure(graph: Graph, key: str, cleaned: str, value: float, **inputs: str) -> None:
    """Keeps figures of four test queries as those of a variant on the cleaned data, and on `inputs`."""
    dataset = key.partition("/")[0]
    found = [QueryMeasure(f"q{at}", graph.project.headline(dataset), value + at / 100) for at in range(4)]

    def write(out: Path) -> dict[str, object]:
        write_query_metrics(found, out / METRICS_FILE)
        return {}

    plan = Plan(
        asset="query_metrics",
        partition=key,
        code_version="1",
        settings={"value": value},
        inputs={f"cleaned_qa[{dataset}]": cleaned} | {f"{asset}[{key}]": digest for asset, digest in inputs.items()},
    )
    graph.store.build(plan, write)


@pytest.mark.parametrize("cleaned", [TODAY, BEFORE])
def test_figures_of_two_versions_of_the_data_are_not_compared_even_on_the_same_queries(
    graph: Graph, cleaned: str
) -> None:
    first, second = list(graph.project.variants_of("small"))[:2]
    measure(graph, first.key, TODAY, 0.2)
    measure(graph, second.key, cleaned, 0.7)
    _, rung = climb(graph, "small")
    assert rung.before == first.name and rung.value == pytest.approx(0.715)
    if cleaned == TODAY:
        assert rung.comparison is not None and rung.comparison.difference == pytest.approx(0.5)
    else:
        assert rung.comparison is None


def train(graph: Graph, key: str, training: Mapping[str, object]) -> str:
    """Keeps a checkpoint as one trained so, without mined negatives; gives its digest."""

    def write(out: Path) -> dict[str, object]:
        (out / "weights").write_bytes(b"")
        return {}

    def build(asset: str, settings: Mapping[str, object], inputs: Mapping[str, str]) -> str:
        plan = Plan(asset=asset, partition=key, code_version="1", settings=settings, inputs=inputs)
        return graph.store.build(plan, write).digest

    mined = build("mined_negatives", {"mining": {"number": 0}}, {})
    return build("finetuned_checkpoint", {"training": training}, {f"mined_negatives[{key}]": mined})


CHOSEN = choose_training(
    DataFacts(train_queries=2000, passages=8, passage_length=4, is_label_list=True), layers=2, device="cpu"
)
TRAINING = CHOSEN.training.model_dump(mode="json")


@pytest.fixture
def graph_with_auto(tmp_path: Path) -> Graph:
    """Of base as it is, trained by itself, and trained as a copy of that says with three epochs; nothing is built."""
    data = write_project(tmp_path)
    base = yaml.safe_load((data / "recipes" / "base.yaml").read_text(encoding="utf-8"))
    stated = {"mining": CHOSEN.mining.model_dump(mode="json"), "training": TRAINING | {"epochs": 3}}
    write_yaml(data / "recipes" / "auto.yaml", base | {"training": "auto"})
    write_yaml(data / "recipes" / "own.yaml", base | stated)
    edit_dataset(data / "small", variants=["base", "auto", "own"])
    return PipelineResource(data=str(data), home=str(tmp_path / "home")).graph()


def test_a_copy_of_what_auto_chose_is_held_against_it_by_the_value_that_was_changed(graph_with_auto: Graph) -> None:
    checkpoint = train(graph_with_auto, "small/auto", TRAINING | {"precision": "bfloat16"})
    measure(graph_with_auto, "small/auto", TODAY, 0.5, finetuned_checkpoint=checkpoint)
    measure(graph_with_auto, "small/own", TODAY, 0.6)
    _, rung = climb(graph_with_auto, "small")
    assert rung.changes == ("training.epochs: 6.0 → 3.0",)


def test_figures_from_before_a_recipe_said_auto_are_on_the_ladder(graph_with_auto: Graph) -> None:
    for key in ("small/base", "small/auto"):
        measure(graph_with_auto, key, TODAY, 0.5)
    assert [rung.variant for rung in climb(graph_with_auto, "small")] == ["base", "auto"]


def test_a_training_whose_groups_left_no_record_is_on_the_ladder(graph_with_auto: Graph) -> None:
    checkpoint = train(graph_with_auto, "small/auto", TRAINING)
    groups = graph_with_auto.store.read("mined_negatives", "small/auto")
    assert groups is not None
    graph_with_auto.store.forget(groups)
    measure(graph_with_auto, "small/base", TODAY, 0.5)
    measure(graph_with_auto, "small/auto", TODAY, 0.6, finetuned_checkpoint=checkpoint)
    assert climb(graph_with_auto, "small")[1].comparison is not None
