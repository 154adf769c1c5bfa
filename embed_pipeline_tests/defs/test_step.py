"""A step reads what its plan names, whatever another run publishes while it works."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.artifacts import Manifest
from embed_pipeline.assembly.collecting import measured_variants
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.topology import Node
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_dataset, encoder_settings, write_model

TUNED = "small/tuned"
CLEANED, CHECKPOINT = Node("cleaned_qa", "small"), Node("finetuned_checkpoint", TUNED)
INDEX, PROMOTED = Node("faiss_index", TUNED), Node("promoted_checkpoint", "small")


@pytest.fixture
def project(template: Path, tmp_path: Path) -> PipelineProject:
    """A project whose cleaned data and checkpoint are stand-ins, so that all that searches can be planned."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    project = PipelineProject(tmp_path)
    for node in (Node("raw_xlsx", "small"), CLEANED, Node("mined_negatives", TUNED)):
        _publish(project, node, "first")
    return project


def _publish(project: PipelineProject, node: Node, content: str | Path) -> Manifest:
    """Other bytes of the same plan, as another run of later code would publish them: a text or a folder's files."""
    store = project.graph.store
    if known := store.read(node.asset, node.partition):
        store.forget(known)

    def make(out: Path) -> dict[str, object]:
        if isinstance(content, Path):
            shutil.copytree(content, out, dirs_exist_ok=True)
        else:
            (out / "text").write_text(content)
        return {}

    return store.build(project.graph.plan(node), make)


def _materialise(project: PipelineProject, node: Node, make: Callable[[Step, Path], dict[str, object]]) -> Manifest:
    """The node's partition, made by `make` in a run of Dagster."""

    partitions = None if node.partition == ALL else dg.StaticPartitionsDefinition([node.partition])
    key = node.partition if partitions else None

    @dg.asset(name=node.asset, partitions_def=partitions)
    def asset(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> None:
        step = pipeline.step(context)
        step.build(lambda out: make(step, out))

    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"pipeline": project.pipeline}
        assert dg.materialize([asset], instance=instance, partition_key=key, resources=resources).success
    return project.manifest(node.asset, node.partition)


def test_what_is_measured_first_and_copied_last_are_the_same_bytes(project: PipelineProject) -> None:
    first = _publish(project, CHECKPOINT, "first")

    def make(step: Step, out: Path) -> dict[str, object]:
        measured = (step.folder(CHECKPOINT.asset, TUNED) / "text").read_text()
        for node in (CHECKPOINT, CLEANED):
            _publish(project, node, "second")
        shutil.copytree(step.folder(CHECKPOINT.asset, TUNED), out / "model")
        return {"measured": measured, "data": (step.folder(CLEANED.asset) / "text").read_text()}

    promoted = _materialise(project, PROMOTED, make)
    assert promoted.details["measured"] == promoted.details["data"] == "first"
    assert promoted.inputs[str(CHECKPOINT)] == first.digest
    assert (project.graph.store.open(promoted) / "model" / "text").read_text() == "first"


def test_the_table_is_of_the_figures_that_its_plan_names(template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dagster").mkdir()
    project, measured = PipelineProject(tmp_path), Node("query_metrics", "small/bm25")
    edit_dataset(project.dataset, variants=["bm25"])
    project.run()
    first = project.manifest(measured.asset, measured.partition)
    project.graph.store.forget(project.manifest("metrics_table", ALL))
    shutil.copytree(project.graph.store.open(first), tmp_path / "other")
    (tmp_path / "other" / "note").write_text("other bytes")

    def make(step: Step, out: Path) -> dict[str, object]:
        assert step.plan.inputs[str(measured)] == first.digest
        newer = replace(project.graph.plan(measured), code_version="newer")
        store = project.graph.store
        second = store.build(newer, lambda out: shutil.copytree(tmp_path / "other", out, dirs_exist_ok=True) and {})
        assert second.digest != first.digest
        (row,) = measured_variants(step.graph, step.plan.inputs)
        (out / "digest").write_text(row.lineage.query_metrics_digest)
        return {}

    table = _materialise(project, Node("metrics_table", ALL), make)
    assert (project.graph.store.open(table) / "digest").read_text() == first.digest


def test_a_search_is_by_the_weights_that_the_plan_names(project: PipelineProject, tmp_path: Path) -> None:
    settings = EncoderSettings.model_validate(encoder_settings(tmp_path / "model"))
    models = [write_model(tmp_path / f"trained{seed}", seed=seed) for seed in (1, 2)]
    first = _publish(project, CHECKPOINT, models[0])

    def make(step: Step, out: Path) -> dict[str, object]:
        step.folder(CLEANED.asset)
        _publish(project, CHECKPOINT, models[1])
        encoder = step.search().encoder
        assert encoder is not None
        (out / "encoder").write_text(encoder.fingerprint)
        return {}

    index = _materialise(project, INDEX, make)
    assert index.inputs[str(CHECKPOINT)] == first.digest
    expected, other = (load_local_encoder(settings, directory=model).fingerprint for model in models)
    assert (project.graph.store.open(index) / "encoder").read_text() == expected != other
