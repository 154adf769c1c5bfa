"""The command line as a user types it, in a project folder of its own; runs show up on its Dagster instance."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner, Result

from embed_pipeline.cli import main
from embed_pipeline.commands.terminal import ProjectCommand
from embed_pipeline_tests.small_project import edit_yaml, mark_project, write_full_project, write_project

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without a trained variant, so that nothing takes long."""
    root = tmp_path_factory.mktemp("project")
    data = write_project(root)
    settings = yaml.safe_load((data / "small" / "dataset.yaml").read_text(encoding="utf-8"))
    settings["variants"] = ["bm25", "base"]
    (data / "small" / "dataset.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    mark_project(root)
    return root


def _type(
    folder: Path, *arguments: str, places: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_PIPELINE_", "DAGSTER_HOME"))}
    environment |= places
    command = [sys.executable, "-c", "from embed_pipeline.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def _type_here(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """The same in this process, for what ends before anything runs."""
    monkeypatch.chdir(folder)
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def ran(folder: Path) -> subprocess.CompletedProcess:
    return _type(folder, "run")


def test_run_prints_the_table_and_says_where_the_report_is(ran: subprocess.CompletedProcess, folder: Path) -> None:
    assert ran.returncode == 0, ran.stderr
    assert "small · test" in ran.stdout and "baseline" in ran.stdout
    assert "5 runs, 0 failed" in ran.stdout
    assert (folder / ".embed_pipeline" / "reports" / "small.html").is_file()


def test_a_second_run_says_that_everything_is_fresh(ran: subprocess.CompletedProcess, folder: Path) -> None:
    again = _type(folder, "run")
    assert again.returncode == 0 and "Everything is fresh; nothing was run." in again.stdout


def test_runs_show_up_in_the_ui_and_nothing_litters_the_folder(ran: subprocess.CompletedProcess, folder: Path) -> None:
    storage = str(folder / ".embed_pipeline" / "dagster")
    with dg.DagsterInstance.local_temp(storage) as instance:
        jobs = [run.job_name for run in instance.get_runs()]
    assert set(jobs) == {"read_workbooks", "prepare_dataset", "evaluate_variant", "publish_metrics"}
    names = {path.name for path in folder.iterdir()}
    assert names == {"data", "model", "dagster.yaml", "workspace.yaml", ".embed_pipeline"}


def test_status_and_why_name_the_changed_setting(ran: subprocess.CompletedProcess, folder: Path) -> None:
    recipe = folder / "data" / "recipes" / "base.yaml"
    before = recipe.read_text(encoding="utf-8")
    edit_yaml(recipe, "encoder", passage_max_length=12)
    try:
        status, why = _type(folder, "status"), _type(folder, "why", "faiss_index", "small/base")
    finally:
        recipe.write_text(before, encoding="utf-8")
    for output in (status.stdout, why.stdout):
        assert "encoder.passage_max_length: 16 → 12" in output
    assert "faiss_index[small/base] is stale" in why.stdout
    cause = "encoder.passage_max_length of small/base changed (16 → 12) → faiss_index "
    assert why.stdout.splitlines()[0].startswith(cause)


def test_why_of_something_fresh_says_when_it_was_built(ran: subprocess.CompletedProcess, folder: Path) -> None:
    assert "cleaned_qa[small] is fresh" in _type(folder, "why", "cleaned_qa", "small").stdout


def test_an_unknown_partition_is_answered_with_the_known_ones(folder: Path) -> None:
    found = _type(folder, "why", "faiss_index", "small/bas")
    assert found.returncode == 2 and "Near: small/base." in found.stderr
    assert "partitions of faiss_index: small/bm25, small/base" in found.stderr


def test_an_unknown_asset_is_answered_with_the_known_ones(folder: Path) -> None:
    found = _type(folder, "why", "checkpoint", "small/tuned")
    assert found.returncode == 2 and "assets: raw_xlsx, cleaned_qa, faiss_index, query_metrics" in found.stderr


def test_an_unknown_data_set_is_answered_with_the_known_ones(folder: Path) -> None:
    found = _type(folder, "run", "--dataset", "large")
    assert found.returncode == 2 and "no data set 'large'. Data sets: small." in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *(("run", "--dataset", "smal"), ("metrics", "--dataset", "smal"), ("ladder", "smal"), ("promoted", "smal")),
        *(("estimate", "smal"), ("run", "--variant", "bse"), ("lineage", "bse"), ("reproduce", "small/bse")),
        *(("mteb", "bse"), ("export", "bse", "copy"), ("why", "query_metrics", "small/bse")),
    ],
    ids=" ".join,
)
def test_a_misspelt_name_is_answered_with_the_near_one(
    folder: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _type_here(folder, monkeypatch, *arguments)
    assert found.exit_code == 2
    near = "near: small." if "smal" in arguments else "near: small/base."
    assert near in found.stderr.lower()


def test_metrics_prints_the_table_of_the_last_run(ran: subprocess.CompletedProcess, folder: Path) -> None:
    found = _type(folder, "metrics")
    table = found.stdout[found.stdout.index("small · test") :]
    assert found.returncode == 0 and all(name in table for name in ("bm25", "base", "baseline"))
    assert table.strip() in ran.stdout
    assert _type(folder, "metrics", "--dataset", "small").stdout == found.stdout


@pytest.mark.slow
def test_a_variant_runs_alone_and_the_table_has_it_alone(folder: Path, tmp_path: Path) -> None:
    root = _copy_without_state(folder, tmp_path)
    found = _type(root, "run", "--variant", "base")
    assert found.returncode == 0, found.stderr
    assert "4 runs, 0 failed" in found.stdout and "bm25" not in found.stdout
    assert "faiss_index    small/bm25  missing" in " ".join(_type(root, "status").stdout.split("\n"))


def test_an_unknown_variant_is_answered_with_the_known_ones(folder: Path) -> None:
    found = _type(folder, "run", "--variant", "bert")
    assert found.returncode == 2 and "Variants: small/bm25, small/base" in found.stderr


def test_gc_only_looks_when_it_is_told_to(ran: subprocess.CompletedProcess, folder: Path) -> None:
    assert "would remove 0 objects" in _type(folder, "gc", "--dry-run").stdout
    assert _type(folder, "gc").returncode == 0
    assert "Everything is fresh" in _type(folder, "run").stdout


def test_metrics_before_any_run_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    found = _type(_copy_without_state(folder, tmp_path), "metrics")
    assert found.returncode == 1 and "Run `embed-pipeline run` first." in found.stderr


def test_recipe_takes_no_option_that_it_would_ignore(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = _type_here(folder, monkeypatch, "recipe", "base", "--as", "own", "--explain")
    assert refused.exit_code == 2 and "leave out --explain" in refused.output
    assert not (folder / "data" / "recipes" / "own.yaml").exists()


def test_dev_does_not_begin_where_something_else_listens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = _type_here(folder, monkeypatch, "dev", "--port", str(port))
    assert refused.exit_code == 1 and f"port {port}: expected a free one" in refused.output
    assert "Dagster UI" not in refused.output
    assert _type_here(folder, monkeypatch, "dev", "--port", "65536").exit_code == 2


@pytest.mark.parametrize("arguments", [["run"], ["status"], ["gc", "--dry-run"], ["metrics"], ["dev"]], ids=" ".join)
def test_outside_a_project_nothing_is_made(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _type_here(tmp_path, monkeypatch, *arguments)
    assert found.exit_code == 2 and found.stdout == ""
    assert f"{tmp_path}: expected a project or a folder inside one" in found.stderr
    assert "embed-pipeline new" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_project_without_its_dagster_yaml_is_named(folder: Path, tmp_path: Path) -> None:
    root = _copy_without_state(folder, tmp_path)
    (root / "dagster.yaml").unlink()
    found = _type(root, "run")
    assert found.returncode == 1 and f"{root}: expected dagster.yaml, found none" in found.stderr


def test_every_command_but_those_named_here_is_about_a_project() -> None:
    free = {name for name, command in main.commands.items() if not isinstance(command, ProjectCommand)}
    assert free == {"new", "convert", "doctor"}


def test_a_project_is_found_from_inside_it_and_by_name(
    ran: subprocess.CompletedProcess, folder: Path, tmp_path: Path
) -> None:
    expected = _type(folder, "metrics").stdout
    assert expected and _type(folder / "data" / "recipes", "metrics").stdout == expected
    assert _type(tmp_path, "--project", str(folder), "metrics").stdout == expected
    assert _type(folder.parent, "metrics", "--project", folder.name).stdout == expected
    assert list(tmp_path.iterdir()) == []


def test_a_path_is_meant_from_where_it_is_typed_and_a_variable_from_the_project(folder: Path, tmp_path: Path) -> None:
    root = _copy_without_state(folder, tmp_path)
    (root / "data").rename(root / "elsewhere")
    inside = root / "notes"
    inside.mkdir()
    (inside / "raw.csv").write_text("question,context\nWhy?,Because.\nWhen?,Now.\n", encoding="utf-8")
    places = {"EMBED_PIPELINE_DATA": "elsewhere", "EMBED_PIPELINE_HOME": "state"}
    made = _type(inside, "init", "things", "--from", "raw.csv", places=places)
    assert made.returncode == 0, made.stderr
    assert (root / "elsewhere" / "things" / "raw.csv").is_file()
    assert _type(inside, "status", places=places).returncode == 0
    assert (root / "state").is_dir() and [path.name for path in inside.iterdir()] == ["raw.csv"]


def test_a_data_folder_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBED_PIPELINE_DATA", "/nonexistent")
    for arguments in (["status"], ["run"], ["gc", "--dry-run"]):
        found = _type_here(folder, monkeypatch, *arguments)
        assert found.exit_code == 2 and found.stderr.startswith("Error: /nonexistent: expected the folder")


def test_a_malformed_data_set_is_one_message_and_no_traceback(folder: Path, tmp_path: Path) -> None:
    root = _copy_without_state(folder, tmp_path)
    edit_yaml(root / "data" / "small" / "dataset.yaml", "split", train=0.9)
    for command in (("run",), ("status",)):
        found = _type(root, *command)
        assert found.returncode == 1
        assert "data set small failed" in found.stdout
        assert "dataset.yaml, split: train + validation + test must be 1" in found.stdout
        assert "Traceback" not in found.stderr


def test_a_workbook_that_is_none_fails_its_run_and_is_not_called_fresh(folder: Path, tmp_path: Path) -> None:
    root = _copy_without_state(folder, tmp_path)
    (root / "data" / "small" / "first.xlsx").write_text("Question,Label\n", encoding="utf-8")
    found = _type(root, "run")
    assert found.returncode == 1 and "1 failed" in found.stdout
    assert "first.xlsx" in found.stdout and "Traceback" not in found.stdout + found.stderr
    assert "cleaned_qa[small] is missing" in found.stdout


def test_a_missing_workbook_is_not_called_fresh(folder: Path, tmp_path: Path) -> None:
    root = _copy_without_state(folder, tmp_path)
    (root / "data" / "small" / "first.xlsx").unlink()
    found = _type(root, "run")
    assert found.returncode == 1 and "fresh" not in found.stdout
    assert "raw_xlsx[small] is failed" in found.stdout and "first.xlsx" in found.stdout


def test_the_environment_moves_data_and_state(folder: Path, tmp_path: Path) -> None:
    root = _copy_without_state(folder, tmp_path)
    (root / "data").rename(root / "elsewhere")
    places = {"EMBED_PIPELINE_DATA": "elsewhere", "EMBED_PIPELINE_HOME": str(tmp_path / "state")}
    found = _type(root, "status", places=places)
    assert found.returncode == 0 and "raw_xlsx" in found.stdout
    assert not (root / ".embed_pipeline").exists()


def _copy_without_state(folder: Path, tmp_path: Path) -> Path:
    root = tmp_path / "project"
    shutil.copytree(folder, root, ignore=shutil.ignore_patterns(".embed_pipeline"))
    return root


def test_lineage_leads_from_a_figure_to_the_bytes_of_the_workbook(
    ran: subprocess.CompletedProcess, folder: Path
) -> None:
    found = _type(folder, "lineage", "small/base", "--measure", "ndcg@10")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].startswith("small/base, ndcg@10 0.")
    names = [line.split()[0] for line in lines[1:] if "[" in line]
    assert names == ["query_metrics[small/base]", "cleaned_qa[small]", "raw_xlsx[small]", "faiss_index[small/base]"]
    digest = hashlib.sha256((folder / "data" / "small" / "first.xlsx").read_bytes()).hexdigest()
    assert any(line.split() == ["first.xlsx", "sha256", digest] for line in lines)
    assert "no row of ndcg@7" in _type(folder, "lineage", "small/base", "--measure", "ndcg@7").stderr


@pytest.mark.slow
def test_a_fused_variant_alone_brings_its_dense_part_and_the_general_suite_along(tmp_path: Path) -> None:
    root = tmp_path / "project"
    write_full_project(root)
    mark_project(root)
    found = _type(root, "run", "--variant", "small/fused")
    assert found.returncode == 0, found.stdout + found.stderr
    ran = {line.split("  ")[0] for line in found.stdout.splitlines() if not line.startswith(" ") and "  " in line}
    expected = {"prepare_dataset general", "finetune_variant small/tuned", "measure_general_suite small/fused"}
    assert expected <= ran and not any("bm25" in line or "bilingual" in line for line in ran)


@pytest.mark.slow
def test_mteb_scores_a_variant_offline_and_the_second_time_from_its_cache(
    ran: subprocess.CompletedProcess, folder: Path
) -> None:
    first, again = (_type(folder, "mteb", "small/base") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "small" in first.stdout and "retrieval" in first.stdout.lower() and "ndcg_at_10" in first.stdout
    assert again.stdout == first.stdout


def test_mteb_of_what_has_no_encoder_is_one_message(folder: Path) -> None:
    found = _type(folder, "mteb", "small/bm25")
    assert found.returncode == 1 and "no encoder section" in found.stderr and "Traceback" not in found.stderr
    assert "Variants: small/bm25" in _type(folder, "mteb", "small/other").stderr


def test_a_raw_table_becomes_a_data_set_that_runs_without_an_edit(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mark_project(tmp_path)
    for name in ("bm25", "tfidf"):
        (tmp_path / "data" / "recipes").mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "data" / "recipes" / f"{name}.yaml", tmp_path / "data" / "recipes" / f"{name}.yaml")
    rows = [f"Where can I find thing number {n}?;Thing number {n} is on shelf {n * 7}, second room." for n in range(40)]
    (tmp_path / "raw.csv").write_text("frage;antwort\n" + "\n".join(rows) + "\n", encoding="utf-8")
    made = _type(tmp_path, "init", "things", "--from", "raw.csv")
    assert made.returncode == 0, made.stderr
    assert "40 questions" in made.stdout and "embed-pipeline run --dataset things" in made.stdout
    ran = _type(tmp_path, "run", "--dataset", "things")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "bm25" in ran.stdout and "tfidf" in ran.stdout
    again = _type(tmp_path, "init", "things", "--from", "raw.csv")
    assert again.returncode == 1 and "nothing is overwritten" in again.stderr


def test_convert_says_what_the_target_cannot_hold_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,question,context\n1,Why?,Because.\n2,When?,Now.\n", encoding="utf-8")
    found = _type(tmp_path, "convert", "in.csv", "out.jsonl", "--to", "flagembedding")
    assert found.returncode == 0, found.stderr
    assert "table → flagembedding: 2 queries, 2 passages" in found.stdout
    again = _type(tmp_path, "convert", "in.csv", "out.jsonl", "--to", "flagembedding")
    assert again.returncode == 1 and "exists already" in again.stderr and "Traceback" not in again.stderr
    assert "expected one of flagembedding" in _type(tmp_path, "convert", "in.csv", "x.json", "--to", "beer").stderr
