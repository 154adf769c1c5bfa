"""The whole graph on a small corpus: what a second run, new data, a touched file and a changed setting cost."""

import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from embed_pipeline.artifacts import DamagedObjectError
from embed_pipeline.assembly.cleanup import remove_unused
from embed_pipeline.evaluation.measures import MEASURES
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.freshness import explain
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import all_work
from embed_pipeline.reporting.database import read_history, read_newest
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import (
    edit_yaml,
    is_training,
    make_rows,
    write_model,
    write_project,
    write_workbook,
    write_yaml,
)

TUNED = "small/tuned"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> PipelineProject:
    """A project in which everything has run once."""
    project = PipelineProject(tmp_path_factory.mktemp("finished"))
    (project.root / "dagster").mkdir()
    write_project(project.root)
    project.run()
    return project


@pytest.fixture
def project(finished: PipelineProject, tmp_path: Path) -> PipelineProject:
    """A copy of the finished project that a test may change."""
    root = tmp_path / "project"
    shutil.copytree(finished.root, root)
    return PipelineProject(root)


def test_every_variant_and_measure_has_a_row_whose_digests_lead_to_artifacts(finished: PipelineProject) -> None:
    rows = read_newest(finished.root / "home" / "metrics.duckdb")
    measured = {(row.variant, row.at) for row in rows if row.covers_own_queries}
    assert measured == {(v, m) for v in ("bm25", "base", "tuned") for m in MEASURES}
    store = finished.graph.store
    for row in rows:
        digests = [row.raw_digest, row.cleaned_digest, row.index_digest, row.query_metrics_digest]
        digests += [row.negatives_digest, row.checkpoint_digest] if row.variant == "tuned" else []
        assert all(store.open(digest).is_dir() for digest in digests)
        assert (row.checkpoint_digest is None) == (row.variant != "tuned")
        assert row.run_id and row.recipe["description"]


def test_training_moves_the_encoder_past_its_random_start(finished: PipelineProject) -> None:
    newest = read_newest(finished.root / "home" / "metrics.duckdb")
    rows = {row.variant: row.value for row in newest if str(row.at) == "mrr@10"}
    assert rows["tuned"] > rows["base"]


def test_a_renamed_model_folder_encodes_and_trains_nothing(project: PipelineProject) -> None:
    vectors = project.vectors()
    for name in ("base", "tuned"):
        edit_yaml(project.root / "data" / "recipes" / f"{name}.yaml", "encoder", model=str(project.root / "model"))
    assert project.run() == [f"publish_metrics {ALL}"]  # the recipe in the table's rows names the new folder
    assert project.vectors() == vectors


@pytest.mark.slow
def test_other_weights_under_the_same_name_are_never_served_old_vectors(project: PipelineProject) -> None:
    digest = project.manifest("query_metrics", "small/base").digest
    for name in ("base", "tuned"):
        edit_yaml(project.root / "data" / "recipes" / f"{name}.yaml", "encoder", model=str(project.root / "model"))
    write_model(project.root / "model", seed=1)
    assert "evaluate_variant small/base" in project.run()
    assert project.manifest("query_metrics", "small/base").digest != digest


def test_a_second_run_does_nothing(project: PipelineProject) -> None:
    assert project.run() == []


def test_everything_asked_for_again_encodes_and_trains_nothing(project: PipelineProject) -> None:
    before, vectors = list(project.graph.store.refs()), project.vectors()
    for work in all_work(project.graph):
        ways = project.execute(work.job.name, None if work.partition == ALL else work.partition)
        # The report draws the history, and another evaluation is another point in it.
        assert ways == [f"{asset} {'built' if asset == 'report' else 'found'}" for asset in work.job.assets]
    after = list(project.graph.store.refs())
    assert [ref for ref in after if ref.asset != "report"] == [ref for ref in before if ref.asset != "report"]
    assert project.vectors() == vectors


def test_a_workbook_saved_again_with_equal_cells_trains_nothing(project: PipelineProject) -> None:
    cleaned = project.manifest("cleaned_qa", "small").digest
    write_workbook(project.dataset / "first.xlsx", make_rows(), creator="somebody else")
    assert project.run() == ["read_workbooks small", "prepare_dataset small"]
    assert project.manifest("cleaned_qa", "small").digest == cleaned


@pytest.mark.slow
def test_a_new_workbook_encodes_only_its_texts_and_moves_no_old_query(project: PipelineProject) -> None:
    splits, vectors = project.splits(), project.vectors()
    new = [(f"{row[0]}，谢谢老师指点一下啊", *row[1:]) for row in make_rows()[::9]]
    write_workbook(project.dataset / "second.xlsx", new)
    node = Node("query_metrics", "small/base")
    assert any(line.strip().startswith("file second.xlsx: none → ") for line in explain(project.graph, node))
    ran = project.run()
    assert ran[:2] == ["read_workbooks small", "prepare_dataset small"] and f"finetune_variant {TUNED}" in ran
    assert any("because file second.xlsx: none → " in line for line in explain(project.graph, node))
    after = project.splits()
    assert {query: after[query] for query in splits} == splits
    added = [split for query, split in after.items() if query not in splits]
    assert 0 < added.count("train") < len(added)
    assert project.encoded("mined_negatives", TUNED) == added.count("train")
    assert project.encoded("faiss_index", "small/base") == 0
    held_out = added.count("test") + added.count("validation")
    assert project.encoded("query_metrics", "small/base") == held_out
    grown = {name: count - vectors[name] for name, count in project.vectors().items() if name in vectors}
    assert sorted(grown.values())[-1] == added.count("train") + held_out


@pytest.mark.slow
def test_a_question_that_falls_into_test_mines_the_same_and_trains_nothing(project: PipelineProject) -> None:
    before, mined = project.manifest("finetuned_checkpoint", TUNED), project.manifest("mined_negatives", TUNED).digest
    offered = [(f"补充第{number}条，{row[0]}，多谢", *row[1:]) for number, row in enumerate(make_rows()[::10])]
    write_workbook(project.dataset / "second.xlsx", offered)
    old = project.splits()
    assert project.execute("read_workbooks", "small") == ["raw_xlsx built"]
    assert project.execute("prepare_dataset", "small") == ["cleaned_qa built"]
    tested = {query.text for query in project.queries() if query.id not in old and query.split == "test"}
    chosen = next(row for row in offered if unicodedata.normalize("NFKC", str(row[0])) in tested)
    write_workbook(project.dataset / "second.xlsx", [chosen])
    assert project.run()[1:3] == ["prepare_dataset small", f"finetune_variant {TUNED}"]
    assert len(project.splits()) == len(old) + 1
    assert project.manifest("mined_negatives", TUNED).digest == mined
    assert project.manifest("finetuned_checkpoint", TUNED).id == before.id
    assert project.encoded("query_metrics", "small/base") == project.encoded("query_metrics", TUNED) == 1


def test_a_new_label_encodes_its_one_passage_and_why_names_the_label_list(project: PipelineProject) -> None:
    with (project.dataset / "labels.txt").open("a", encoding="utf-8") as file:
        file.write("肺炎\n")
    node = Node("faiss_index", "small/base")
    assert any("file labels.txt: " in line for line in explain(project.graph, node))
    project.execute("read_workbooks", "small")
    project.execute("prepare_dataset", "small")
    project.execute("evaluate_variant", "small/base")
    assert project.encoded("faiss_index", "small/base") == 1
    assert project.encoded("query_metrics", "small/base") == 0


@pytest.mark.slow
def test_a_learning_rate_concerns_its_own_variant_alone_and_why_names_it(project: PipelineProject) -> None:
    others = _versions_of_others(project)
    checkpoint = project.manifest("finetuned_checkpoint", TUNED).digest
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=1e-3)
    node = Node("finetuned_checkpoint", TUNED)
    assert any("training.learning_rate: 0.005 → 0.001" in line for line in explain(project.graph, node))
    after = ["promote_checkpoint small", f"publish_metrics {ALL}"]
    assert project.run() == [f"finetune_variant {TUNED}", f"evaluate_variant {TUNED}", *after]
    assert project.manifest("finetuned_checkpoint", TUNED).digest != checkpoint
    assert _versions_of_others(project) == others
    assert any("training.learning_rate: 0.005 → 0.001" in line for line in explain(project.graph, node))


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["changed", "deleted"])
def test_a_damaged_checkpoint_is_rebuilt_and_never_served(project: PipelineProject, harm: str) -> None:
    digest = project.manifest("finetuned_checkpoint", TUNED).digest
    weights = project.object(digest) / "model.safetensors"
    if harm == "deleted":
        shutil.rmtree(weights.parent)
    else:
        weights.chmod(0o644)
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(DamagedObjectError, match="Run the asset again"):
        project.graph.store.open(digest)
    assert project.execute("finetune_variant", TUNED) == ["mined_negatives found", "finetuned_checkpoint built"]
    rebuilt = project.manifest("finetuned_checkpoint", TUNED)
    assert rebuilt.digest == digest  # float32 repeats to the byte
    assert project.graph.store.open(rebuilt).is_dir()


def test_damage_upstream_of_what_is_stale_is_mended_first_and_trains_nothing(project: PipelineProject) -> None:
    shutil.rmtree(project.object(project.manifest("cleaned_qa", "small").digest))
    edit_yaml(project.root / "data" / "recipes" / "base.yaml", "encoder", query_max_length=40)
    after = ["promote_checkpoint small", f"publish_metrics {ALL}"]
    assert project.run() == ["prepare_dataset small", "evaluate_variant small/base", *after]


def test_a_re_evaluation_appends_to_the_history(project: PipelineProject) -> None:
    table = project.root / "home" / "metrics.duckdb"
    before, newest = len(read_history(table)), read_newest(table)
    assert project.execute("publish_metrics", None) == [
        "metrics_table found",
        "report built",
    ]  # one more point in its history
    assert len(read_history(table)) == 2 * before
    again = read_newest(table)
    assert [row.value for row in again] == [row.value for row in newest]
    assert again[0].evaluated_at > newest[0].evaluated_at


def test_a_table_can_be_published_while_newer_data_is_not_measured_yet(project: PipelineProject) -> None:
    measured = project.manifest("cleaned_qa", "small").digest
    write_workbook(project.dataset / "first.xlsx", make_rows()[::2])
    project.execute("read_workbooks", "small")
    project.execute("prepare_dataset", "small")
    assert project.execute("publish_metrics", None) == ["metrics_table found", "report built"]
    rows = read_newest(project.root / "home" / "metrics.duckdb")
    assert {row.cleaned_digest for row in rows} == {measured}


def test_another_baseline_turns_the_comparisons_round_and_measures_nothing_again(project: PipelineProject) -> None:
    settings = yaml.safe_load((project.dataset / "dataset.yaml").read_text(encoding="utf-8"))
    write_yaml(project.dataset / "dataset.yaml", settings | {"variants": ["tuned", "bm25", "base"]})
    assert project.run() == [f"publish_metrics {ALL}"]
    rows = read_newest(project.root / "home" / "metrics.duckdb")
    assert {row.variant: row.baseline for row in rows if row.covers_own_queries} == {
        "tuned": None,
        "bm25": "tuned",
        "base": "tuned",
    }


def test_the_data_version_of_every_materialisation_is_the_digest(finished: PipelineProject) -> None:
    with dg.DagsterInstance.local_temp(str(finished.root / "dagster")) as instance:
        for manifest in finished.graph.store.refs():
            records = instance.fetch_materializations(dg.AssetKey(manifest.asset), limit=20).records
            mine = [r.asset_materialization for r in records if (r.partition_key or ALL) == manifest.partition]
            assert mine[0].tags["dagster/data_version"] == manifest.digest


@pytest.mark.slow
def test_no_run_leaves_anything_half_written_when_it_is_killed(project: PipelineProject) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=2e-3, epochs=200)
    old = project.manifest("finetuned_checkpoint", TUNED).id
    process = _start_run(project)
    _wait_for_worker(project)
    process.kill()
    process.wait()
    _wait_until(lambda: not _workers(project), "the workers to end after their starter was killed")
    assert project.manifest("finetuned_checkpoint", TUNED).id == old
    assert list((project.root / "home").glob("training-*"))
    list(remove_unused(project.graph, dry_run=False))
    assert not list((project.root / "home").glob("training-*"))
    assert not list((project.root / "home" / "artifacts" / "staging").iterdir())
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", epochs=1)
    assert project.run()[0] == f"finetune_variant {TUNED}"


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_worker(project: PipelineProject) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=3e-3, epochs=200)
    process = _start_run(project)
    _wait_for_worker(project)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    _wait_until(lambda: not _workers(project), "the workers to end after an interrupt")


@pytest.mark.slow
def test_two_processes_that_want_the_same_partition_do_the_work_once(project: PipelineProject) -> None:
    edit_yaml(project.root / "data" / "recipes" / "tuned.yaml", "training", learning_rate=4e-3)
    processes = [_start_run(project) for _ in range(2)]
    said = sorted(process.communicate(timeout=120)[0].strip() for process in processes)
    assert said == ["built", "found"]
    assert not list((project.root / "home" / "artifacts" / "staging").iterdir())


def _versions_of_others(project: PipelineProject) -> set[str]:
    # The choice among all variants stands on each of them.
    refs = [ref for ref in project.graph.store.refs() if ref.asset != "promoted_checkpoint"]
    return {ref.id for ref in refs if ref.partition not in (TUNED, ALL)}


def _start_run(project: PipelineProject) -> subprocess.Popen:
    code = (
        "import dagster as dg, sys\n"
        "from embed_pipeline.definitions import build_definitions\n"
        "from embed_pipeline.defs.resources import PipelineResource\n"
        "pipeline = PipelineResource(data=sys.argv[1], home=sys.argv[2], training_threads=1)\n"
        "job = build_definitions(pipeline).resolve_job_def('finetune_variant')\n"
        "result = job.execute_in_process(partition_key=sys.argv[3], raise_on_error=True)\n"
        "(event,) = result.asset_materializations_for_node('finetuned_checkpoint')\n"
        "print('found' if event.metadata['cached'].value else 'built')\n"
    )
    arguments = [str(project.root / "data"), str(project.root / "home"), TUNED]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _workers(project: PipelineProject) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if "embed_pipeline.training.worker" in command and str(project.root) in command:
            found.append(process)
    return found


def _wait_for_worker(project: PipelineProject) -> None:
    """Until a training log shows that steps are being made."""
    _wait_until(lambda: is_training(project.root / "home"), "the training to make its first steps")


def _wait_until(condition, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)
