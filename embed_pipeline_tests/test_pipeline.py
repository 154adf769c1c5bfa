"""The whole graph on a small corpus: what a second run, new data, a touched file and a changed setting cost."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest

from embed_pipeline.artifacts import Manifest
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.freshness import explain
from embed_pipeline.defs.graph import ALL, Graph, Node
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.defs.running import execute
from embed_pipeline.defs.work import ready_work
from embed_pipeline.evaluation.measures import MEASURES
from embed_pipeline.reporting.database import read_history, read_newest
from embed_pipeline_tests.small_project import edit_yaml, make_rows, write_model, write_project, write_workbook

TUNED = "small/tuned"


@dataclass
class Project:
    """A project folder and its own Dagster instance."""

    root: Path

    @property
    def pipeline(self) -> PipelineResource:
        return PipelineResource(data=str(self.root / "data"), home=str(self.root / "home"), training_threads=1)

    @property
    def graph(self) -> Graph:
        return self.pipeline.graph()

    @property
    def dataset(self) -> Path:
        return self.root / "data" / "small"

    def manifest(self, asset: str, partition: str) -> Manifest:
        found = self.graph.store.read(asset, partition)
        assert found is not None, f"{asset}[{partition}] was not built"
        return found

    def run(self) -> list[str]:
        """Run what is stale until all is fresh; returns the jobs with their partitions."""
        done = []
        with dg.DagsterInstance.local_temp(str(self.root / "dagster")) as instance:
            while work := ready_work(self.graph):
                assert len(done) < 20, done
                errors = execute(build_definitions(self.pipeline), work[0], instance)
                assert not errors, errors
                done.append(f"{work[0].job.name} {work[0].partition}")
        return done

    def vectors(self) -> dict[str, int]:
        """Stored vectors per encoder."""
        counts = {}
        for path in sorted((self.root / "home" / "vectors").glob("*.sqlite")):
            with sqlite3.connect(path) as connection:
                (table,) = connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchone()
                counts[path.name] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return counts

    def splits(self) -> dict[str, str]:
        folder = self.graph.store.open(self.manifest("cleaned_qa", "small"))
        return {query.id: query.split for query in read_dataset(folder).queries}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which everything has run once."""
    project = Project(tmp_path_factory.mktemp("finished"))
    (project.root / "dagster").mkdir()
    write_project(project.root)
    project.run()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project that a test may change."""
    root = tmp_path / "project"
    shutil.copytree(finished.root, root)
    return Project(root)


def test_every_variant_and_measure_has_a_row_whose_digests_lead_to_artifacts(finished: Project) -> None:
    rows = read_newest(finished.root / "home" / "metrics.duckdb")
    assert {(row.variant, row.at) for row in rows} == {(v, m) for v in ("bm25", "base", "tuned") for m in MEASURES}
    store = finished.graph.store
    for row in rows:
        digests = [row.raw_digest, row.cleaned_digest, row.index_digest, row.query_metrics_digest]
        digests += [row.negatives_digest, row.checkpoint_digest] if row.variant == "tuned" else []
        assert all(store.open(digest).is_dir() for digest in digests)
        assert (row.checkpoint_digest is None) == (row.variant != "tuned")
        assert row.run_id and row.recipe["description"]


def test_training_moves_the_encoder_past_its_random_start(finished: Project) -> None:
    newest = read_newest(finished.root / "home" / "metrics.duckdb")
    rows = {row.variant: row.value for row in newest if str(row.at) == "mrr@10"}
    assert rows["tuned"] > rows["base"]


def test_a_renamed_model_folder_encodes_and_trains_nothing(project: Project) -> None:
    vectors = project.vectors()
    for name in ("base", "tuned"):
        edit_yaml(project.root / "data" / "recipes" / f"{name}.yaml", "encoder", model=str(project.root / "model"))
    assert project.run() == [f"publish_metrics {ALL}"]  # the recipe in the table's rows names the new folder
    assert project.vectors() == vectors


def test_other_weights_under_the_same_name_are_never_served_old_vectors(project: Project) -> None:
    digest = project.manifest("query_metrics", "small/base").digest
    for name in ("base", "tuned"):
        edit_yaml(project.root / "data" / "recipes" / f"{name}.yaml", "encoder", model=str(project.root / "model"))
    write_model(project.root / "model", seed=1)
    assert "evaluate_variant small/base" in project.run()
    assert project.manifest("query_metrics", "small/base").digest != digest


def test_a_second_run_does_nothing(project: Project) -> None:
    assert project.run() == []


def test_everything_asked_for_again_encodes_and_trains_nothing(project: Project) -> None:
    before, vectors = list(project.graph.store.refs()), project.vectors()
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        definitions = build_definitions(project.pipeline)
        for name in ("finetune_variant", "evaluate_variant"):
            job = definitions.resolve_job_def(name)
            result = job.execute_in_process(instance=instance, partition_key=TUNED)
            events = [event for event in result.all_events if event.is_step_materialization]
            assert len(events) == 2
            assert all(event.materialization.metadata["cached"].value for event in events)
    assert list(project.graph.store.refs()) == before
    assert project.vectors() == vectors


def test_a_workbook_saved_again_with_equal_cells_trains_nothing(project: Project) -> None:
    cleaned = project.manifest("cleaned_qa", "small").digest
    write_workbook(project.dataset / "first.xlsx", make_rows(), creator="somebody else")
    assert project.run() == ["prepare_dataset small"]
    assert project.manifest("cleaned_qa", "small").digest == cleaned


def test_a_new_workbook_encodes_only_its_texts_and_moves_no_old_query(project: Project) -> None:
    splits, vectors = project.splits(), project.vectors()
    new = [(f"{row[0]}，谢谢老师指点一下啊", *row[1:]) for row in make_rows()[::9]]
    write_workbook(project.dataset / "second.xlsx", new)
    ran = project.run()
    assert ran[0] == "prepare_dataset small" and f"finetune_variant {TUNED}" in ran
    after = project.splits()
    assert {query: after[query] for query in splits} == splits
    added = len(after) - len(splits)
    assert added > 0
    base = {name: count for name, count in project.vectors().items() if name in vectors}
    grown = sum(base.values()) - sum(vectors.values())
    assert 0 < grown <= added * len(base)


def test_a_learning_rate_concerns_its_own_variant_alone_and_why_names_it(project: Project) -> None:
    others = _versions_of_others(project)
    checkpoint = project.manifest("finetuned_checkpoint", TUNED).digest
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=1e-3)
    node = Node("finetuned_checkpoint", TUNED)
    assert any("training.learning_rate: 0.005 → 0.001" in line for line in explain(project.graph, node))
    assert project.run() == [f"finetune_variant {TUNED}", f"evaluate_variant {TUNED}", f"publish_metrics {ALL}"]
    assert project.manifest("finetuned_checkpoint", TUNED).digest != checkpoint
    assert _versions_of_others(project) == others
    assert any("training.learning_rate: 0.005 → 0.001" in line for line in explain(project.graph, node))


def test_a_damaged_checkpoint_is_rebuilt_and_never_served(project: Project) -> None:
    digest = project.manifest("finetuned_checkpoint", TUNED).digest
    weights = project.root / "home" / "artifacts" / "objects" / digest[:2] / digest[2:] / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        job = build_definitions(project.pipeline).resolve_job_def("finetune_variant")
        assert job.execute_in_process(instance=instance, partition_key=TUNED).success
    rebuilt = project.manifest("finetuned_checkpoint", TUNED)
    assert not rebuilt.cached
    assert rebuilt.digest == digest  # float32 repeats to the byte
    assert project.graph.store.open(rebuilt).is_dir()


def test_a_re_evaluation_appends_to_the_history(project: Project) -> None:
    table = project.root / "home" / "metrics.duckdb"
    before, newest = len(read_history(table)), read_newest(table)
    with dg.DagsterInstance.local_temp(str(project.root / "dagster")) as instance:
        job = build_definitions(project.pipeline).resolve_job_def("publish_metrics")
        assert job.execute_in_process(instance=instance).success
    assert len(read_history(table)) == 2 * before
    again = read_newest(table)
    assert [row.value for row in again] == [row.value for row in newest]
    assert again[0].evaluated_at > newest[0].evaluated_at


def test_the_data_version_of_every_materialisation_is_the_digest(finished: Project) -> None:
    with dg.DagsterInstance.local_temp(str(finished.root / "dagster")) as instance:
        for manifest in finished.graph.store.refs():
            records = instance.fetch_materializations(dg.AssetKey(manifest.asset), limit=20).records
            mine = [r.asset_materialization for r in records if (r.partition_key or ALL) == manifest.partition]
            assert mine[0].tags["dagster/data_version"] == manifest.digest


def test_no_run_leaves_anything_half_written_when_it_is_killed(project: Project) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=2e-3, epochs=200)
    old = project.manifest("finetuned_checkpoint", TUNED).id
    process = _start_run(project)
    _wait_for_worker(project)
    process.kill()
    process.wait()
    _wait_until(lambda: not _workers(project), "the workers to end after their starter was killed")
    assert project.manifest("finetuned_checkpoint", TUNED).id == old
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", epochs=1)
    assert project.run()[0] == f"finetune_variant {TUNED}"


def test_an_interrupted_run_leaves_no_worker(project: Project) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=3e-3, epochs=200)
    process = _start_run(project)
    _wait_for_worker(project)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    _wait_until(lambda: not _workers(project), "the workers to end after an interrupt")


def test_two_processes_that_want_the_same_partition_do_the_work_once(project: Project) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=4e-3)
    processes = [_start_run(project) for _ in range(2)]
    for process in processes:
        process.wait(timeout=120)
    checkpoint = project.manifest("finetuned_checkpoint", TUNED)
    versions = list(project.graph.store.history("finetuned_checkpoint", TUNED))
    assert [m.fingerprint for m in versions].count(checkpoint.fingerprint) == 1


def _versions_of_others(project: Project) -> set[str]:
    return {version.id for version in project.graph.store.refs() if version.partition not in (TUNED, ALL)}


def _start_run(project: Project) -> subprocess.Popen:
    code = (
        "import dagster as dg, sys\n"
        "from embed_pipeline.definitions import build_definitions\n"
        "from embed_pipeline.defs.resources import PipelineResource\n"
        "pipeline = PipelineResource(data=sys.argv[1], home=sys.argv[2], training_threads=1)\n"
        "job = build_definitions(pipeline).resolve_job_def('finetune_variant')\n"
        "job.execute_in_process(partition_key=sys.argv[3], raise_on_error=True)\n"
    )
    arguments = [str(project.root / "data"), str(project.root / "home"), TUNED]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _workers(project: Project) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if "embed_pipeline.training.worker" in command and str(project.root) in command:
            found.append(process)
    return found


def _wait_for_worker(project: Project) -> None:
    """Until a training log shows that steps are being made."""

    def trains() -> bool:
        staging = project.root / "home" / "artifacts" / "staging"
        return staging.is_dir() and any(staging.rglob("training_log.jsonl"))

    _wait_until(trains, "the training to make its first steps")


def _wait_until(condition, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)
