"""Laws of the ladder: what a setting earned is a difference on the same data, or none is named."""

from pathlib import Path

import pytest

from embed_pipeline.artifacts import Plan
from embed_pipeline.assembly.ladder import climb
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.evaluation.measures import QueryMeasure
from embed_pipeline.evaluation.measuring import METRICS_FILE
from embed_pipeline.evaluation.query_metrics import write_query_metrics
from embed_pipeline.graph.graph import Graph
from embed_pipeline_tests.small_project import write_project

TODAY, BEFORE = "a" * 64, "b" * 64


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A data set of which nothing is built."""
    return PipelineResource(data=str(write_project(tmp_path)), home=str(tmp_path / "home")).graph()


def measure(graph: Graph, key: str, cleaned: str, value: float) -> None:
    """Keeps figures of four test queries as those of a variant on the cleaned data."""
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
        inputs={f"cleaned_qa[{dataset}]": cleaned},
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
