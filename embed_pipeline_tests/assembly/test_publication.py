"""Handing out a model: to a folder and to a Hub, through the command, with a card that says what is true of it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.reporting.database import read_newest
from embed_pipeline_tests.hub_server import HubServer
from embed_pipeline_tests.pipeline_project import PipelineProject
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


def push(project: PipelineProject, *arguments: str, hub: HubServer | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"EMBED_PIPELINE_HOME": "home", "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_ENDPOINT": hub.address} if hub else {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "embed_pipeline", "push", *arguments]
    return subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, timeout=120)


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
