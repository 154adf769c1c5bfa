"""Handing out a model and its figures: to a folder, a Hub and S3, through the command, with a card that is true."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow.parquet
import pytest
import yaml

from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.reporting.database import read_newest
from embed_pipeline_tests.hub_server import HubServer
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.s3_server import S3Server
from embed_pipeline_tests.small_project import edit_dataset, mark_project, write_project

TEXTS = ["我肝上有油", "痛风"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> PipelineProject:
    """The small project, untrained, in which everything has run."""
    root = tmp_path_factory.mktemp("publication")
    (root / "dagster").mkdir()
    write_project(root)
    edit_dataset(root / "data" / "small", variants=["bm25", "base"])
    mark_project(root)
    found = PipelineProject(root)
    found.run()
    return found


def begin(
    project: PipelineProject, *arguments: str, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.Popen[str]:
    """The command, started in the project's folder or another one inside it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_"))}
    own |= {"EMBED_PIPELINE_HOME": "home", "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1", **environment}
    command, pipe = [sys.executable, "-m", "embed_pipeline", *arguments], subprocess.PIPE
    return subprocess.Popen(command, cwd=folder or project.root, env=own, stdout=pipe, stderr=pipe, text=True)


def run(project: PipelineProject, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    process = begin(project, *arguments, **options)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def push(project: PipelineProject, *arguments: str, hub: HubServer | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"HF_ENDPOINT": hub.address} if hub else {"HF_HUB_OFFLINE": "1"}
    return run(project, "push", *arguments, environment=environment)


def test_a_pushed_folder_gives_the_variants_vectors_and_its_card_the_measured_figures(project, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    done = push(project, "small/base", "--to", str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    encoder = load_local_encoder(project.graph.project.variants["small/base"].local_encoder)
    found = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found, encoder.encode_queries(TEXTS), atol=1e-5)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert str(project.root) not in card and "base_model" not in metadata and "license" not in metadata
    (result,) = metadata["model-index"][0]["results"]
    figures = {one["type"]: one["value"] for one in result["metrics"]}
    rows = [row for row in read_newest(project.root / "home" / "metrics.duckdb") if row.variant == "base"]
    expected = {f"{row.measure}_at_{row.cutoff}": round(100 * row.value, 2) for row in rows if row.covers_own_queries}
    assert figures == expected and figures
    again = push(project, "small/base", "--to", str(tmp_path / "model"))
    assert again.returncode == 1, "a folder that is there is left alone"
    other = push(project, "small/bm25", "--to", str(tmp_path / "other"))
    assert other.returncode == 1 and "expected a dense variant with a local encoder" in other.stderr
    assert not (tmp_path / "other").exists()


def test_a_dry_run_shows_every_file_and_sends_nothing(project, tmp_path: Path) -> None:
    with HubServer() as hub:
        done = push(project, "small/base", "--to", "hf:team/model", "--dry-run", hub=hub)
        assert done.returncode == 0, done.stderr
        assert "model.safetensors" in done.stdout and "modules.json" in done.stdout and "model-index" in done.stdout
        assert hub.private is None and hub.tokens == set()
    assert not list((project.root / "home").glob("push-*"))


def test_a_hub_gets_all_in_one_commit_and_is_made_public_only_then(project, tmp_path: Path) -> None:
    assert push(project, "small/base", "--to", str(tmp_path / "model")).returncode == 0
    expected = {p.relative_to(tmp_path / "model").as_posix(): p for p in (tmp_path / "model").rglob("*") if p.is_file()}
    with HubServer() as hub:
        done = push(project, "small/base", "--to", "hf:team/model", hub=hub)
        assert done.returncode == 0, done.stderr
        assert hub.private is True and len(hub.commits) == 1
        assert hub.tokens - {""} == {"Bearer hf_secret"} and "hf_secret" not in done.stdout + done.stderr
        assert {name for name in hub.files if name != ".gitattributes"} == set(expected)
        assert all(hub.files[name] == path.read_bytes() for name, path in expected.items())
        hub.files |= {"model-00002-of-00002.safetensors": b"old", "notes.txt": b"theirs"}
        done = push(project, "small/base", "--to", "hf:team/model", "--public", hub=hub)
        assert done.returncode == 0, done.stderr
        assert hub.private is False and "removes model-00002-of-00002.safetensors" in done.stdout
        assert set(hub.files) == {*expected, "notes.txt"}


@pytest.mark.parametrize("step", ["/upload/", "/commit/"])
def test_a_push_that_fails_leaves_nothing_public(project, step: str) -> None:
    with HubServer() as hub:
        hub.fail_at = step
        done = push(project, "small/base", "--to", "hf:team/model", "--public", hub=hub)
        assert done.returncode == 1 and "the Hub did not take it" in done.stderr, done.stderr
        assert hub.private is not False and hub.files == {} and "hf_secret" not in done.stdout + done.stderr
    assert not list((project.root / "home").glob("push-*"))


def test_a_push_is_told_on_the_page_of_what_was_pushed(project, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer() as hub:
        assert push(project, "small/base", "--to", "hf:team/model", hub=hub).returncode == 0
    monkeypatch.setenv("EMBED_PIPELINE_DAGSTER_STORAGE", str(project.root / "home" / "dagster"))
    with dg.DagsterInstance.from_config(str(project.root)) as instance:
        (told, *_) = instance.fetch_observations(dg.AssetKey("faiss_index"), limit=1).records
    assert told.asset_observation is not None and told.partition_key == "small/base"
    assert told.asset_observation.metadata["pushed_to"].value == f"{hub.address}/team/model/commit/{'1' * 40}"


def test_an_s3_address_gets_every_file_the_one_that_makes_it_a_model_last(project, tmp_path: Path) -> None:
    assert push(project, "small/base", "--to", str(tmp_path / "model")).returncode == 0
    expected = {p.relative_to(tmp_path / "model").as_posix(): p for p in (tmp_path / "model").rglob("*") if p.is_file()}
    with S3Server() as s3:
        address, written = f"s3://{s3.new_bucket()}/models/base", []
        s3.hook = lambda method, path: written.append(path.partition("/models/base/")[2])  # type: ignore[func-returns-value]
        done = run(project, "push", "small/base", "--to", address, "--dry-run", environment=s3.environment)
        assert done.returncode == 0 and "model.safetensors" in done.stdout and written == []
        done = run(project, "push", "small/base", "--to", address, environment=s3.environment)
        assert done.returncode == 0, done.stderr
        assert "not-to-be-told" not in done.stdout + done.stderr
        assert sorted(written) == sorted(expected) and written[-1] == "config.json"
        found = {path.partition("/models/base/")[2]: s3.files.cat_file(path) for path in s3.files.find(address)}
        assert found == {name: path.read_bytes() for name, path in expected.items()}
        again = run(project, "push", "small/base", "--to", address, environment=s3.environment)
        assert again.returncode == 1 and "expected nothing below it" in again.stderr, again.stderr


def test_an_upload_to_s3_that_fails_or_is_killed_leaves_nothing_that_is_a_model(project) -> None:
    with S3Server() as s3:
        address = f"s3://{s3.new_bucket()}/base"
        s3.hook = lambda method, path: method == "PUT" and path.endswith("tokenizer.json")
        done = run(project, "push", "small/base", "--to", address, environment=s3.environment)
        assert done.returncode == 1 and "S3 did not take it" in done.stderr, done.stderr
        assert s3.files.find(address) == []
        process = begin(project, "push", "small/base", "--to", address, environment=s3.environment)

        def kill(method: str, path: str) -> bool:
            if path.endswith("tokenizer.json"):
                process.kill()
            return path.endswith("tokenizer.json")

        s3.hook = kill
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
        left = [path.rpartition("/")[2] for path in s3.files.find(address)]
        assert left and "config.json" not in left
        s3.hook = lambda method, path: False
        done = run(project, "push", "small/base", "--to", address, environment=s3.environment)
        assert done.returncode == 1 and "perhaps of an upload that was killed" in done.stderr
        done = run(project, "push", "small/base", "--to", "s3://absent/base", environment=s3.environment)
        assert done.returncode == 1 and "S3 did not take it" in done.stderr and not s3.files.exists("absent")


def test_the_newest_figures_are_written_as_parquet_where_others_read_them(project) -> None:
    rows = read_newest(project.root / "home" / "metrics.duckdb")
    with S3Server() as s3:
        address = f"s3://{s3.new_bucket()}/metrics.parquet"
        for _ in range(2):  # every night in the same place
            done = run(project, "metrics", "--to", address, environment=s3.environment)
            assert done.returncode == 0 and f"{len(rows)} rows written" in done.stdout, done.stderr
        with s3.files.open(address) as file:
            table = pyarrow.parquet.read_table(file)
    assert [(row["variant"], row["measure"], row["value"]) for row in table.to_pylist()] == [
        (row.variant, row.measure, row.value) for row in rows
    ]
    inside = project.root / "data"
    done = run(project, "metrics", "--to", "figures.parquet", environment={}, folder=inside)
    assert done.returncode == 0 and pyarrow.parquet.read_table(inside / "figures.parquet").num_rows == len(rows)
    (inside / "figures.parquet").unlink()


def test_an_address_of_a_kind_that_is_not_known_is_no_folder(project) -> None:
    for command in (["push", "small/base"], ["metrics"]):
        done = run(project, *command, "--to", "gs://bucket/name", environment={})
        assert done.returncode == 2 and "expected a path or" in done.stderr
    assert not (project.root / "gs:").exists()
