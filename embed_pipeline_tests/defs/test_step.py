"""A step reads what its plan names, whatever another run publishes while it works."""

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.artifacts import Manifest
from embed_pipeline.defs.resources import PipelineResource, Step
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.graph.topology import Node
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import encoder_settings, write_model

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

    @dg.asset(name=node.asset, partitions_def=dg.StaticPartitionsDefinition([node.partition]))
    def asset(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> None:
        step = pipeline.step(context)
        step.build(lambda out: make(step, out))

    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"pipeline": project.pipeline}
        assert dg.materialize([asset], instance=instance, partition_key=node.partition, resources=resources).success
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
