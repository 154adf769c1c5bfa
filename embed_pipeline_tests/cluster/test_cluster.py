"""What a cluster is handed and gives back, tried without one: the same portions, the same bytes, in their order."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

from embed_pipeline.cluster.cluster import Cluster, fewest_cores, worker_variables
from embed_pipeline.cluster.encoding import ClusterEncoder, NodeWorker
from embed_pipeline.cluster.training import begin_again
from embed_pipeline.defs.resources import PipelineResource, check_named_places, pipeline_from_environment
from embed_pipeline.encoding.backends import missing_packages
from embed_pipeline.encoding.encoder import EncoderSettings, Role
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.project.project import ENVIRONMENT
from embed_pipeline.retrieval.blocks import BlockVectors, search_block
from embed_pipeline_tests.small_project import encoder_settings, make_rows
from embed_pipeline_tests.training.conftest import write_job

TEXTS = [f"{row[0]} {number % 7 * '哮喘 '}{number}" for number, row in enumerate(make_rows() * 5)]


def local_encoder(model: Path, **settings: object) -> LocalEncoder:
    return load_local_encoder(EncoderSettings.model_validate(encoder_settings(model, **settings)))


def number_of(texts: Sequence[str]) -> np.ndarray:
    return np.array([[float(text.split()[-1]), 1] for text in texts], dtype=np.float32).reshape(-1, 2)


class Reversed:
    """Implements Encoder and Parallel by the number that a text ends in: the last portion is there first."""

    query_fingerprint = passage_fingerprint = fingerprint = "a" * 64
    dimension = 2

    def __init__(self, *, breaks_after: int | None = None) -> None:
        self.breaks_after = breaks_after

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return number_of(texts)

    encode_passages = encode_queries

    def encode_portions(self, role: Role, portions: Sequence[Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        for number, at in enumerate(reversed(range(len(portions)))):
            if number == self.breaks_after:
                raise ValueError("the cluster is gone")
            yield at, number_of(portions[at])


NUMBERED = [f"text {number}" for number in range(1000)]


def test_portions_that_come_back_in_any_order_stand_by_their_texts(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    encoder = CachedEncoder(Reversed(), VectorCache(tmp_path), progress=lambda done, of: told.append((done, of)))
    np.testing.assert_array_equal(encoder.encode_passages(NUMBERED), number_of(NUMBERED))
    assert told == [(232, 1000), (488, 1000), (744, 1000), (1000, 1000)]
    assert encoder.encoded == 1000


def test_what_came_back_before_a_cluster_was_lost_is_not_encoded_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone"):
        CachedEncoder(Reversed(breaks_after=2), VectorCache(tmp_path)).encode_passages(NUMBERED)
    later = CachedEncoder(Reversed(), VectorCache(tmp_path))
    np.testing.assert_array_equal(later.encode_passages(NUMBERED), number_of(NUMBERED))
    assert (later.encoded, later.served) == (1000 - 488, 488)


class TwoWorkers(ClusterEncoder):
    """Two workers in this process, which take the portions in turn from the end."""

    def encode_portions(self, role: Role, portions: Sequence[Sequence[str]]) -> Iterator[tuple[int, np.ndarray]]:
        workers = [NodeWorker(**self.node_arguments) for _ in range(2)]
        for row in reversed(list(self.rows(role, portions))):
            yield self.vectors_of(workers[row["at"] % 2](row))


def test_portions_on_two_workers_have_the_bytes_of_one_machine(small_model: Path, tmp_path: Path) -> None:
    here = CachedEncoder(local_encoder(small_model), VectorCache(tmp_path / "here"))
    spread = TwoWorkers(local_encoder(small_model), Cluster("auto", tmp_path / "storage"))
    there = CachedEncoder(spread, VectorCache(tmp_path / "there"))
    assert there.encode_passages(TEXTS).tobytes() == here.encode_passages(TEXTS).tobytes()


@pytest.mark.skipif(bool(missing_packages("openvino")), reason="openvino is not installed")
def test_auto_changes_over_at_the_portion_at_which_one_machine_would(small_model: Path, tmp_path: Path) -> None:
    cluster, portions = Cluster("auto", tmp_path), [TEXTS[:300] * 4] * 8
    rows = ClusterEncoder(local_encoder(small_model, backend="auto"), cluster).rows("passage", portions)
    chosen = [row["backend"] for row in rows]
    one_machine = local_encoder(small_model, backend="auto")
    tokens = sum(map(len, one_machine.token_ids("passage", TEXTS[:300] * 4)))
    assert chosen == [one_machine.backend_for(tokens) for _ in portions]
    assert chosen == sorted(chosen, reverse=True) and set(chosen) == {"torch", "openvino"}


def test_a_worker_that_sees_no_model_or_another_one_says_so_and_gives_no_vectors(
    small_model: Path, tmp_path: Path
) -> None:
    encoder = ClusterEncoder(local_encoder(small_model), Cluster("auto", tmp_path))
    (row,) = encoder.rows("passage", [["a"]])
    blind = NodeWorker(**{**encoder.node_arguments, "directory": str(tmp_path / "gone")})(row)
    assert blind["vectors"] == b"" and "EMBED_PIPELINE_RAY_STORAGE" in blind["error"]
    other = NodeWorker(**encoder.node_arguments)({**row, "fingerprint": "f" * 64})
    assert other["vectors"] == b"" and "do not see the same folder" in other["error"]


def test_a_folder_in_the_storage_is_used_where_it_lies_and_another_is_copied_once_per_content(tmp_path: Path) -> None:
    cluster = Cluster("auto", tmp_path / "storage")
    for name in ("storage/model", "a/model", "b/model"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    assert cluster.ship(tmp_path / "storage" / "model") == tmp_path / "storage" / "model"
    shipped = cluster.ship(tmp_path / "a" / "model")
    assert shipped == cluster.ship(tmp_path / "b" / "model")
    assert shipped.is_relative_to(tmp_path / "storage") and (shipped / "config.json").read_text() == "{}"
    (tmp_path / "b" / "model" / "config.json").write_text("[]")
    assert cluster.ship(tmp_path / "b" / "model") != shipped


def test_without_an_address_there_is_no_cluster_and_with_one_its_settings_are_the_environments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("EMBED_PIPELINE_RAY_ADDRESS", raising=False)
    assert pipeline_from_environment().cluster() is None
    monkeypatch.setenv("EMBED_PIPELINE_RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("EMBED_PIPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EMBED_PIPELINE_THREADS", "3")
    assert pipeline_from_environment().cluster() == Cluster("head:6379", tmp_path / "home", "cpu", 3)
    monkeypatch.setenv("EMBED_PIPELINE_RAY_STORAGE", str(tmp_path / "shared"))
    assert pipeline_from_environment().cluster() == Cluster("head:6379", tmp_path / "shared", "cpu", 3)


def test_a_run_sends_its_data_to_no_other_cluster_than_the_machines_owner_named() -> None:
    own = PipelineResource(ray_address="head:6379")
    check_named_places({"ray_address": "head:6379"}, own)
    with pytest.raises(ValueError, match="EMBED_PIPELINE_RAY_ADDRESS"):
        check_named_places({"ray_address": "elsewhere:6379"}, own)


def test_the_address_of_rays_client_is_refused_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"HEAD:6379"):
        Cluster("ray://head:10001", tmp_path)


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_an_address_without_the_package_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"embed-pipeline\[ray\]"):
        Cluster("auto", tmp_path).join()


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [([0, 8, 4], 1, 4), ([0, 8, 8], 2, 8), ([8, 8], 3, 4), ([8], 4, 2), ([1, 1], 8, 1), ([0], 1, 1), ([], 1, 1)],
)
def test_a_worker_takes_its_even_share_of_the_smallest_node(cores: list[int], workers: int, expected: int) -> None:
    assert fewest_cores([{"CPU": count, "memory": 1e9} for count in cores] + [{"memory": 1.0}], workers) == expected


def test_a_worker_on_another_machine_waits_for_no_process_of_this_one() -> None:
    assert "EMBED_PIPELINE_STARTER" not in worker_variables(2)
    assert worker_variables(2)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in worker_variables(None)


def test_a_training_that_begins_again_keeps_its_checkpoints_and_nothing_half_written(
    small_model: Path, tmp_path: Path
) -> None:
    job = write_job(tmp_path / "job", small_model, progress=tmp_path / "progress")
    for path in (job.output / "config.json", job.work / "base" / "vocab.txt", tmp_path / "progress" / "checkpoint-3"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    begin_again(job)
    assert not list(job.output.iterdir()) and not (job.work / "base").exists()
    assert (tmp_path / "progress" / "checkpoint-3").is_file()


def test_the_manifest_names_the_pinned_ray_known_variables_and_one_place_for_the_storage() -> None:
    root = Path(__file__).parents[2]
    cluster, *_ = yaml.safe_load_all((root / "deploy" / "kuberay.yaml").read_text(encoding="utf-8"))
    assert f"ray=={cluster['spec']['rayVersion']}" in (root / "constraints.txt").read_text().splitlines()
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    containers = [container for pod in pods for container in pod["containers"]]
    for variables in ({one["name"]: one["value"] for one in container["env"]} for container in containers):
        assert {name for name in variables if name.startswith("EMBED")} <= set(ENVIRONMENT.values())
        assert variables["EMBED_PIPELINE_RAY_STORAGE"] == "/storage"
    mounts = [{mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} for container in containers]
    assert {mount["storage"] for mount in mounts} == {"/storage"} and len(mounts) == 3
    assert [container["resources"]["limits"].get("nvidia.com/gpu") for container in containers] == [None, None, "1"]


@pytest.mark.parametrize("k", [3, 40])
def test_blocks_compared_elsewhere_give_the_hits_of_one_machine(k: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    asked: list[int] = []

    def from_the_end(queries, k, starts, block_at):
        asked.extend(starts)
        found = {start: search_block(queries, block_at(start), k, "cpu") for start in reversed(starts)}
        return [found[start] for start in starts]

    here = BlockVectors(vectors, np.arange(100), block_rows=30)
    there = BlockVectors(vectors, np.arange(100), block_rows=30, elsewhere=from_the_end)
    for one, other in zip(here.search(vectors[:5], k), there.search(vectors[:5], k), strict=True):
        np.testing.assert_array_equal(one, other)
    assert asked == [0, 30, 60, 90]
