"""Handing out a model and its figures: to a folder, a Hub and S3, through the command, with a card that is true."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import dagster as dg
import numpy as np
import pyarrow.parquet
import pytest
import yaml

from embed_pipeline.assembly.publication import push_to_bucket
from embed_pipeline.commands.terminal import Place
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.reporting.database import read_newest, write_newest
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


def push(project: PipelineProject, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_"))}
    own |= {"EMBED_PIPELINE_HOME": "home", "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}
    own |= environment or {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "embed_pipeline", "push", *arguments]
    return subprocess.run(command, cwd=project.root, env=own, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def address(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address with nothing below it, for this process."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3.hook = lambda method, path: False
    return f"s3://{s3.new_bucket()}/models/base"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As a publication is laid out."""
    for name in ("README.md", "config.json", "model.safetensors", "onnx/config.json", "tokenizer.json"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(name, encoding="utf-8")
    return tmp_path / "model"


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
        done = push(project, "small/base", "--to", "hf:team/model", "--dry-run", HF_ENDPOINT=hub.address)
        assert done.returncode == 0, done.stderr
        assert "model.safetensors" in done.stdout and "modules.json" in done.stdout and "model-index" in done.stdout
        assert hub.private is None and hub.tokens == set()
    assert not list((project.root / "home").glob("push-*"))


def test_a_hub_gets_all_in_one_commit_and_is_made_public_only_then(project, tmp_path: Path) -> None:
    assert push(project, "small/base", "--to", str(tmp_path / "model")).returncode == 0
    expected = {p.relative_to(tmp_path / "model").as_posix(): p for p in (tmp_path / "model").rglob("*") if p.is_file()}
    with HubServer() as hub:
        done = push(project, "small/base", "--to", "hf:team/model", HF_ENDPOINT=hub.address)
        assert done.returncode == 0, done.stderr
        assert hub.private is True and len(hub.commits) == 1
        assert hub.tokens - {""} == {"Bearer hf_secret"} and "hf_secret" not in done.stdout + done.stderr
        assert {name for name in hub.files if name != ".gitattributes"} == set(expected)
        assert all(hub.files[name] == path.read_bytes() for name, path in expected.items())
        hub.files |= {"model-00002-of-00002.safetensors": b"old", "notes.txt": b"theirs"}
        done = push(project, "small/base", "--to", "hf:team/model", "--public", HF_ENDPOINT=hub.address)
        assert done.returncode == 0, done.stderr
        assert hub.private is False and "removes model-00002-of-00002.safetensors" in done.stdout
        assert set(hub.files) == {*expected, "notes.txt"}


@pytest.mark.parametrize("step", ["/upload/", "/commit/"])
def test_a_push_that_fails_leaves_nothing_public(project, step: str) -> None:
    with HubServer() as hub:
        hub.fail_at = step
        done = push(project, "small/base", "--to", "hf:team/model", "--public", HF_ENDPOINT=hub.address)
        assert done.returncode == 1 and "the Hub did not take it" in done.stderr, done.stderr
        assert hub.private is not False and hub.files == {} and "hf_secret" not in done.stdout + done.stderr
    assert not list((project.root / "home").glob("push-*"))


def test_the_command_sends_to_s3_and_tells_it_on_the_page_of_what_was_sent(
    project, s3: S3Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = push(project, "small/base", "--to", address, **s3.environment)
    assert done.returncode == 0, done.stderr
    assert "not-to-be-told" not in done.stdout + done.stderr
    names = {path.partition("/models/base/")[2] for path in s3.files.find(address)}
    assert {"README.md", "config.json", "model.safetensors", "modules.json", "tokenizer.json"} <= names
    monkeypatch.setenv("EMBED_PIPELINE_DAGSTER_STORAGE", str(project.root / "home" / "dagster"))
    with dg.DagsterInstance.from_config(str(project.root)) as instance:
        (told,) = instance.fetch_observations(dg.AssetKey("faiss_index"), limit=1).records
    assert told.asset_observation is not None and told.partition_key == "small/base"
    assert told.asset_observation.metadata["pushed_to"].value == address


def test_the_file_that_makes_a_model_of_the_others_comes_last_to_s3(s3: S3Server, address: str, folder: Path) -> None:
    written: list[str] = []
    s3.hook = lambda method, path: bool(written.append(path.partition("/models/base/")[2]))
    assert push_to_bucket(folder, f"{address}/") == f"{address}/"
    assert written == ["README.md", "model.safetensors", "tokenizer.json", "onnx/config.json", "config.json"]
    assert {s3.files.cat_file(f"{address}/{name}").decode() for name in written} == set(written)
    with pytest.raises(ValueError, match="expected nothing below it, found 5 objects"):
        push_to_bucket(folder, address)


def test_an_upload_to_s3_that_fails_leaves_nothing(s3: S3Server, address: str, folder: Path) -> None:
    s3.hook = lambda method, path: method == "PUT" and path.endswith("tokenizer.json")
    with pytest.raises(ValueError, match="S3 did not take it"):
        push_to_bucket(folder, address)
    assert s3.files.find(address) == []
    with pytest.raises(ValueError, match="absent/base: S3 did not take it"):
        push_to_bucket(folder, "s3://absent/base")
    assert not s3.files.exists("absent")


def test_of_two_uploads_to_one_address_one_is_whole_and_the_other_is_refused(
    s3: S3Server, address: str, folder: Path
) -> None:
    def other_was_first(method: str, path: str) -> bool:
        s3.hook = lambda method, path: False
        push_to_bucket(folder, address)
        return False

    s3.hook = other_was_first
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="S3 did not take it"):
        pool.submit(push_to_bucket, folder, address).result()
    assert len(s3.files.find(address)) == 5


@pytest.mark.slow
def test_an_upload_to_s3_that_is_killed_leaves_no_model_and_is_told(s3: S3Server, address: str, folder: Path) -> None:
    code = s3.run_killed(lambda path: path.endswith("tokenizer.json"), push_to_bucket, folder, address)
    assert code == -signal.SIGKILL
    assert [path.rpartition("/")[2] for path in s3.files.find(address)] == ["README.md", "model.safetensors"]
    with pytest.raises(ValueError, match=r"no config\.json: perhaps of an upload that was killed"):
        push_to_bucket(folder, address)


def test_the_newest_figures_are_written_as_parquet_where_others_read_them(
    project, s3: S3Server, address: str, tmp_path: Path
) -> None:
    table = project.root / "home" / "metrics.duckdb"
    rows = read_newest(table)
    for target in (f"{address}/metrics.parquet", tmp_path / "metrics.parquet"):
        assert write_newest(table, target) == write_newest(table, target, dataset="small") == len(rows)
        assert write_newest(table, target) == len(rows)  # every night in the same place
        content = s3.files.cat_file(target) if isinstance(target, str) else target.read_bytes()
        found = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
        assert [(one["variant"], one["measure"], one["value"]) for one in found] == [
            (row.variant, row.measure, row.value) for row in rows
        ]


def test_an_address_of_a_kind_that_is_not_known_is_no_folder() -> None:
    place = Place("hf:", "s3://")
    assert place.convert("s3://a/b", None, None) == "s3://a/b" and place.convert("a/b", None, None) == Path("a/b")
    with pytest.raises(click.BadParameter, match="expected a path or hf: or s3://, found 'gs://a/b'"):
        place.convert("gs://a/b", None, None)
