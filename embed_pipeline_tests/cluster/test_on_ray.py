"""A real cluster of two nodes on this machine, one of them killed in the middle: the bytes are those of one machine.

`make test-ray` installs ray and runs this; without the package it is skipped.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import yaml

from embed_pipeline.artifacts import Manifest
from embed_pipeline.cluster.cluster import Cluster
from embed_pipeline.cluster.encoding import ClusterEncoder
from embed_pipeline.cluster.searching import ClusterBlocks
from embed_pipeline.cluster.training import train_on_cluster
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.retrieval.blocks import BlockVectors
from embed_pipeline.training.finetune import run_process_group, torchrun_command, worker_environment
from embed_pipeline_tests.cluster.test_cluster import TEXTS, local_encoder
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_yaml, write_project
from embed_pipeline_tests.training.conftest import digest, write_job

pytest.importorskip("ray", reason="ray is not installed: make test-ray")
TUNED = "small/tuned"
SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 5}
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
PATIENCE_SECONDS = 600


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """A cluster whose head offers no cores."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    import ray
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": SOON})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def nodes(head: Any) -> Any:
    """The cluster with two nodes of one core, whatever a test before has killed."""
    while len(head.worker_nodes) < 2:
        head.add_node(**NODE)
    return head


def kill_one(nodes: Any) -> None:
    nodes.remove_node(min(nodes.worker_nodes, key=lambda node: node.unique_id), allow_graceful=False)


def test_a_corpus_is_encoded_to_the_same_bytes_though_a_node_is_killed_in_the_middle(
    nodes: Any, small_model: Path, tmp_path: Path
) -> None:
    texts = [f"{text} {number}" for number in range(6) for text in TEXTS]
    expected = CachedEncoder(local_encoder(small_model), VectorCache(tmp_path / "here")).encode_passages(texts)
    portions: list[int] = []

    def tell(done: int, of: int) -> None:
        portions.append(done)
        if len(portions) == 3:
            kill_one(nodes)
            assert done < of

    spread = ClusterEncoder(local_encoder(small_model), Cluster(nodes.address, tmp_path / "storage", threads=1))
    there = CachedEncoder(spread, VectorCache(tmp_path / "there"), progress=tell)
    assert there.encode_passages(texts).tobytes() == expected.tobytes()
    assert len(nodes.worker_nodes) == 1


def test_a_node_that_does_not_see_the_model_ends_the_encoding_in_a_sentence(
    nodes: Any, small_model: Path, tmp_path: Path
) -> None:
    class NotMounted(ClusterEncoder):
        @property
        def node_arguments(self) -> dict[str, Any]:
            return {**super().node_arguments, "directory": "/not/mounted"}

    spread = NotMounted(local_encoder(small_model), Cluster(nodes.address, tmp_path / "storage", threads=1))
    with pytest.raises(ValueError, match=r"^node .*: expected the folder /not/mounted, found none"):
        list(spread.encode_portions("passage", [TEXTS[:5], TEXTS[5:10]]))


def test_negatives_are_searched_on_the_nodes_with_the_same_hits(nodes: Any, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(900, 16)).astype(np.float32)
    blocks = ClusterBlocks(Cluster(nodes.address, tmp_path, threads=1))
    here = BlockVectors(vectors, np.arange(900), block_rows=200)
    there = BlockVectors(vectors, np.arange(900), block_rows=200, elsewhere=blocks)
    for queries in (vectors[:20], vectors[20:40]):
        for one, other in zip(here.search(queries, 50), there.search(queries, 50), strict=True):
            np.testing.assert_array_equal(one, other)
    assert sorted(blocks.sent) == [0, 200, 400, 600, 800]


def test_two_processes_on_two_nodes_end_with_torchruns_bytes_though_a_node_is_killed_and_another_comes(
    nodes: Any, small_model: Path, tmp_path: Path
) -> None:
    recipe = {"epochs": 6, "batch_size": 8, "save_steps": 3}
    here = write_job(tmp_path / "here", small_model, progress=tmp_path / "unused", **recipe)
    command = torchrun_command(tmp_path / "here" / "job.json", processes=2)
    run_process_group(command, environment=worker_environment(threads=1))
    job = write_job(tmp_path / "job", small_model, progress=tmp_path / "progress", **recipe)
    cluster = Cluster(nodes.address, tmp_path, threads=1)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            train_on_cluster(cluster, tmp_path / "job" / "job.json", processes=2, environment={})
        except BaseException as error:
            failed.append(error)

    training = threading.Thread(target=run, daemon=True)  # a node can be added from the main thread alone
    training.start()
    wait_until(lambda: list((tmp_path / "progress").glob("checkpoint-*")) or failed)
    assert not failed and not (job.output / "model.safetensors").exists()
    kill_one(nodes)
    nodes.add_node(**NODE)
    training.join(PATIENCE_SECONDS)
    assert not failed and not training.is_alive()
    assert digest(job.output) == digest(here.output)


def test_two_variants_train_side_by_side_and_one_that_is_interrupted_leaves_its_node_free(
    nodes: Any, small_model: Path, tmp_path: Path
) -> None:
    import ray

    starters = {name: start_training(nodes.address, tmp_path, name, small_model) for name in ("one", "other")}
    wait_until(lambda: all(list((tmp_path / name).glob("progress/checkpoint-*")) for name in starters))
    assert [starter.poll() for starter in starters.values()] == [None, None]
    starters["other"].send_signal(signal.SIGINT)
    assert starters["other"].wait(PATIENCE_SECONDS) != 0
    assert starters["one"].wait(PATIENCE_SECONDS) == 0
    assert (tmp_path / "one" / "job" / "output" / "model.safetensors").is_file()
    assert not (tmp_path / "other" / "job" / "output" / "model.safetensors").exists()
    Cluster(nodes.address, tmp_path, threads=1).join()
    wait_until(lambda: ray.available_resources().get("CPU") == 2)


def start_training(address: str, root: Path, name: str, model: Path) -> subprocess.Popen:
    """A step of its own, as each run of a backfill starts."""
    write_job(root / name / "job", model, progress=root / name / "progress", epochs=40, batch_size=8)
    code = (
        "import sys; from pathlib import Path; from embed_pipeline.cluster.cluster import Cluster\n"
        "from embed_pipeline.cluster.training import train_on_cluster\n"
        "cluster = Cluster(sys.argv[1], Path(sys.argv[2]), threads=1)\n"
        "train_on_cluster(cluster, Path(sys.argv[3]), processes=1, environment={})\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, address, str(root), str(root / name / "job" / "job.json")])


def test_a_training_that_cannot_succeed_says_why_and_is_not_tried_on_another_node(
    nodes: Any, small_model: Path, tmp_path: Path
) -> None:
    write_job(tmp_path / "job", small_model, learning_rate=1e30, epochs=2)
    with pytest.raises(RuntimeError, match="Lower learning_rate"):
        train_on_cluster(
            Cluster(nodes.address, tmp_path, threads=1), tmp_path / "job" / "job.json", processes=1, environment={}
        )


class OnCluster(PipelineProject):
    """A project whose heavy steps run on a cluster."""

    address = ""

    @property
    def pipeline(self) -> PipelineResource:
        return super().pipeline.model_copy(update={"ray_address": self.address})


def test_a_project_is_trained_on_a_cluster_to_the_artifacts_of_one_machine(nodes: Any, tmp_path: Path) -> None:
    (tmp_path / "here" / "dagster").mkdir(parents=True)
    write_project(tmp_path / "here")
    edit_yaml(tmp_path / "here" / "data" / "recipes" / "tuned.yaml", "training", epochs=1)
    here = PipelineProject(tmp_path / "here")
    for job, partition in (("read_workbooks", "small"), ("prepare_dataset", "small")):
        here.execute(job, partition)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    there = OnCluster(tmp_path / "there")
    there.address = nodes.address
    for project in (here, there):
        project.execute("finetune_variant", TUNED)
    assets = ("mined_negatives", "finetuned_checkpoint")
    assert [built(there, asset).digest for asset in assets] == [built(here, asset).digest for asset in assets]
    assert built(there, "finetuned_checkpoint").fingerprint == built(here, "finetuned_checkpoint").fingerprint


def test_dagster_starts_each_run_as_a_job_of_ray_where_its_file_says_so(tmp_path: Path) -> None:
    pytest.importorskip("dagster_ray")
    from dagster_ray import RayRunLauncher

    page = (Path(__file__).parents[2] / "docs" / "ray.md").read_text(encoding="utf-8")
    (block,) = [block for block in page.split("```yaml\n")[1:] if block.startswith("run_launcher:")]
    (tmp_path / "dagster.yaml").write_text(block.partition("```")[0], encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, RayRunLauncher)
        assert (
            instance.run_launcher.address
            == yaml.safe_load(block.partition("```")[0])["run_launcher"]["config"]["ray"]["address"]
        )


def built(project: PipelineProject, asset: str) -> Manifest:
    return project.manifest(asset, TUNED)


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
