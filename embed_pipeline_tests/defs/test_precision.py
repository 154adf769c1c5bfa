"""Precision in plans: resolved by the machine, kept where it is stored, refused where it would be emulated."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_pipeline.artifacts import ArtifactStore
from embed_pipeline.encoding.precision import NativePrecision, Precision
from embed_pipeline.graph.freshness import assess, explain
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.lineage import measured_lineage
from embed_pipeline.graph.precision import precision_of, resolve_settings
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import ready_work
from embed_pipeline.project.project import Project, Runtime
from embed_pipeline_tests.small_project import edit_yaml

TUNED = "small/tuned"
CHECKPOINT, INDEX = Node("finetuned_checkpoint", TUNED), Node("faiss_index", TUNED)
MEASURED = Node("query_metrics", TUNED)

Open = Callable[[Precision], Graph]


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    data = tmp_path / "data"
    for name in ("base", "tuned"):
        edit_yaml(data / "recipes" / f"{name}.yaml", "encoder", model=str(tmp_path / "model"), dtype="auto")
    edit_yaml(data / "recipes" / "tuned.yaml", "training", precision="auto")
    return data


@pytest.fixture
def machine(data: Path, tmp_path: Path) -> Open:
    """The project on a machine that has bfloat16, or on one that lacks it, over one store."""

    def opened(name: Precision) -> Graph:
        store = ArtifactStore(str(tmp_path / "home" / "artifacts"))
        return Graph(Project(data, tmp_path / "home"), store, Runtime(), native=NativePrecision(name, "planted"))

    return opened


def _build(graph: Graph) -> None:
    """A stand-in of everything that is not fresh."""
    for node in graph.nodes():
        plan = graph.plan(node)
        graph.store.build(plan, lambda out, text=plan.fingerprint: (out / "stand_in").write_text(text) and {})


def _states(graph: Graph) -> dict[Node, str]:
    return {assessment.node: assessment.state for assessment in assess(graph)}


def _recipe(data: Path, section: str, **changes: object) -> None:
    edit_yaml(data / "recipes" / "tuned.yaml", section, **changes)


def _precisions(graph: Graph) -> tuple[str | None, ...]:
    return tuple(precision_of(graph.plan(node).settings) for node in (CHECKPOINT, INDEX, MEASURED))


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_plan_states_what_auto_came_to(machine: Open, name: Precision) -> None:
    graph = machine(name)
    _build(graph)
    assert _precisions(graph) == (name, name, name)
    assert '"auto"' not in str([graph.plan(node).settings for node in (CHECKPOINT, INDEX, MEASURED)])
    lineage = measured_lineage(graph, graph.project.variants[TUNED])
    assert (lineage.precision, lineage.dtype) == (name, name)
    bm25 = measured_lineage(graph, graph.project.variants["small/bm25"])
    assert (bm25.precision, bm25.dtype) == (None, None)
    told = {assessment.node: assessment.precision for assessment in assess(graph)}
    assert told[CHECKPOINT] == told[INDEX] == name and told[Node("query_metrics", "small/bm25")] is None
    assert next(explain(graph, CHECKPOINT)).endswith(f" in {name}")


@pytest.mark.parametrize(("first", "second"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_what_one_machine_built_is_fresh_on_the_other_and_made_anew_by_its_own_precision(
    machine: Open, data: Path, first: Precision, second: Precision
) -> None:
    _build(machine(first))
    other = machine(second)
    assert set(_states(other).values()) == {"fresh"} and ready_work(other) == ()
    assert _precisions(other) == (first, first, first)
    assert precision_of(other.plan(CHECKPOINT, anew=True).settings) == second
    _recipe(data, "training", epochs=3)
    changed = machine(second)
    assert _states(changed)[CHECKPOINT] == "stale"
    assert precision_of(changed.plan(CHECKPOINT).settings) == second
    _build(changed)
    assert set(_states(machine(first)).values()) == {"fresh"}  # and back: the two never chase each other


def test_a_damaged_object_is_made_again_by_the_precision_of_the_machine_that_makes_it(machine: Open) -> None:
    graph = machine("bfloat16")
    _build(graph)
    other = machine("float32")
    assert precision_of(other.plan_to_build(CHECKPOINT).settings) == "bfloat16"
    manifest = graph.store.read(CHECKPOINT.asset, CHECKPOINT.partition)
    assert manifest is not None
    shutil.rmtree(graph.store.open(manifest))
    assert precision_of(other.plan_to_build(CHECKPOINT).settings) == "float32"


def test_a_precision_by_name_is_another_setting(machine: Open, data: Path) -> None:
    _recipe(data, "training", precision="bfloat16")
    _build(machine("bfloat16"))
    assert _states(machine("float32"))[CHECKPOINT] == "fresh"  # it is there: nothing is to be emulated
    _recipe(data, "training", precision="float32")
    assert _states(machine("bfloat16"))[CHECKPOINT] == "stale"
    _recipe(data, "training", precision="auto")
    assert _states(machine("float32"))[CHECKPOINT] == "fresh"  # auto may come to it


def test_vectors_of_a_named_bfloat16_are_not_those_of_auto(machine: Open, data: Path) -> None:
    _recipe(data, "encoder", dtype="bfloat16")
    _build(machine("bfloat16"))
    _recipe(data, "encoder", dtype="auto")
    # Queries in float32 must not search an index that says bfloat16 by name: it is built again.
    assert _states(machine("float32"))[Node("mined_negatives", TUNED)] == "stale"
    assert precision_of(machine("float32").plan(INDEX).settings) == "float32"


def test_emulation_is_refused_before_anything_is_encoded(machine: Open, data: Path) -> None:
    _recipe(data, "training", precision="bfloat16")
    for node in (Node("raw_xlsx", "small"), Node("cleaned_qa", "small")):
        graph = machine("float32")
        graph.store.build(graph.plan(node), lambda out: (out / "stand_in").write_text("x") and {})
    graph = machine("float32")
    found = {assessment.node: assessment for assessment in assess(graph)}
    mined = found[Node("mined_negatives", TUNED)]
    assert mined.state == "failed" and found[CHECKPOINT].blocked and found[MEASURED].blocked
    assert mined.reasons == (
        f"{data}/recipes/tuned.yaml, training.precision: expected arithmetic that the processor has, found bfloat16, "
        "which would be emulated on one core (planted). Set precision: auto or float32.",
    )
    assert TUNED not in {work.partition for work in ready_work(graph)}
    _recipe(data, "training", precision="auto")
    _recipe(data, "encoder", dtype="bfloat16")
    (reason,) = {a.node: a for a in assess(machine("float32"))}[Node("mined_negatives", TUNED)].reasons
    assert "tuned.yaml, encoder.dtype: " in reason and reason.endswith("Set dtype: auto or float32.")


def test_settings_are_resolved_where_they_may_say_auto_and_nowhere_else() -> None:
    asked = {
        "training": {"precision": "auto", "candidates": "auto", "deepspeed": {"dtype": "auto"}},
        "candidates": {"one": {"encoder": {"dtype": "auto"}}, "two": {"encoder": {"dtype": "float16"}}},
        "dtype": "auto",
    }
    found = resolve_settings(asked, "bfloat16", {"candidates": {"one": {"encoder": {"dtype": "float32"}}}})
    assert found == {
        "training": {"precision": "bfloat16", "candidates": "auto", "deepspeed": {"dtype": "auto"}},
        "candidates": {"one": {"encoder": {"dtype": "float32"}}, "two": {"encoder": {"dtype": "float16"}}},
        "dtype": "auto",
    }
    assert (
        resolve_settings(asked, "float32", {"training": {"precision": "float16"}})["training"]["precision"] == "float32"
    )
