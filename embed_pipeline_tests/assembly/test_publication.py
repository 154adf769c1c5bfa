"""Handing out a model and its figures: to a folder, a Hub and S3, through the command, with a card that is true."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import click
import dagster as dg
import numpy as np
import pyarrow.parquet
import pytest
import yaml
from click.testing import CliRunner

from embed_pipeline.assembly.publication import push_to_bucket, write_publication
from embed_pipeline.assembly.variant_encoder import load_corpus
from embed_pipeline.cli import main
from embed_pipeline.commands.terminal import Place
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.graph.freshness import assess
from embed_pipeline.graph.graph import VECTORS_FOLDER
from embed_pipeline.graph.topology import Node
from embed_pipeline.merging.candidates import PROMOTED_FILE
from embed_pipeline.records import StoreKind
from embed_pipeline.reporting.database import read_newest, write_newest
from embed_pipeline.retrieval.faiss_index import read_index
from embed_pipeline.retrieval.search import top_k
from embed_pipeline.stores.store import Place as StorePlace
from embed_pipeline.stores.store import open_store
from embed_pipeline_tests.hub_server import HubServer
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.s3_server import S3Server
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, mark_project, write_project
from embed_pipeline_tests.stores.test_stores import place_of
from embed_pipeline_tests.stores.vector_postgres import start_vector_postgres

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


def test_figures_of_another_recipe_are_not_told_of_a_model_that_was_not_trained(project, tmp_path: Path) -> None:
    recipe = project.root / "data" / "recipes" / "base.yaml"
    before, cards = recipe.read_text(encoding="utf-8"), []
    try:
        for instruction in (None, "search: "):
            if instruction:
                edit_yaml(recipe, "encoder", query_instruction=instruction)
            graph, out = project.graph, tmp_path / str(len(cards))
            out.mkdir()
            write_publication(graph, graph.project.variants["small/base"], out)
            cards.append((out / "README.md").read_text(encoding="utf-8"))
    finally:
        recipe.write_text(before, encoding="utf-8")
    assert "model-index" in cards[0] and "were not measured" not in cards[0]
    assert "model-index" not in cards[1] and "These weights were not measured." in cards[1]


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


@pytest.fixture
def with_store(project: PipelineProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineProject:
    """A copy whose recipe `base` names a vector store, in a folder."""
    copy = PipelineProject(Path(shutil.copytree(project.root, tmp_path / "project")))
    edit_yaml(copy.root / "data" / "recipes" / "base.yaml", "index", store="qdrant")
    monkeypatch.setenv("EMBED_PIPELINE_QDRANT_URL", str(tmp_path / "first"))
    return copy


def test_a_run_publishes_the_index_and_the_address_is_no_part_of_it(
    with_store: PipelineProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_store.execute("publish_vectors", "small/base") == ["vector_store built"]
    graph = with_store.graph
    states = {item.node.asset: item.state for item in assess(graph) if item.node.partition == "small/base"}
    assert states == {"faiss_index": "fresh", "query_metrics": "fresh", "vector_store": "fresh"}
    encoder = load_local_encoder(
        graph.project.variants["small/base"].local_encoder, directory=with_store.root / "model"
    )
    folder = graph.store.open(with_store.manifest("faiss_index", "small/base"))
    vectors = encoder.encode_queries(TEXTS)
    ours = top_k(read_index(folder), TEXTS, vectors, 3).hits()
    monkeypatch.setenv("EMBED_PIPELINE_QDRANT_URL", str(tmp_path / "second"))
    assert with_store.execute("publish_vectors", "small/base") == ["vector_store found"]
    for place in (tmp_path / "first", tmp_path / "second"):
        with closing(open_store(StorePlace("qdrant", str(place), None))) as store:
            found = [hit for vector in vectors for hit in store.search("small-base", vector, 3)]
        assert [hit.passage_id for hit in found] == [hit.passage_id for hit in ours]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in ours], abs=1e-5)
    with dg.DagsterInstance.local_temp(str(with_store.root / "dagster")) as instance:
        (told,) = instance.fetch_materializations(dg.AssetKey("vector_store"), limit=1).records
    metadata = told.asset_materialization.metadata
    assert metadata["points"].value == metadata["dagster/row_count"].value == 8 and metadata["recall"].value == 1.0
    assert not [name for name, value in metadata.items() if str(tmp_path / "second") in str(value)]


@pytest.mark.parametrize("kind", ["qdrant", "lancedb", pytest.param("pgvector", marks=pytest.mark.slow)])
def test_each_store_answers_for_a_published_variant_as_its_index(
    project: PipelineProject, kind: StoreKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as servers:
        place = StorePlace(kind, str(tmp_path), None)
        if kind == "pgvector":
            place = place_of(servers.enter_context(start_vector_postgres()))
            monkeypatch.setenv("EMBED_PIPELINE_PGVECTOR_PASSWORD", place.key or "")
        monkeypatch.setenv(f"EMBED_PIPELINE_{kind.upper()}_URL", place.address)
        monkeypatch.setenv("EMBED_PIPELINE_HOME", "home")
        monkeypatch.chdir(project.root)
        done = CliRunner().invoke(main, ["publish", "small/base", "--to", kind])
        assert done.exit_code == 0 and "recall@10 1.0000 of an exact search" in done.output
        graph = project.graph
        encoder = load_local_encoder(graph.project.variants["small/base"].local_encoder)
        vectors = encoder.encode_queries(TEXTS)
        index = read_index(graph.store.open(project.manifest("faiss_index", "small/base")))
        ours = top_k(index, TEXTS, vectors, 5).hits()
        with closing(open_store(place)) as store:
            found = [hit for vector in vectors for hit in store.search("small-base", vector, 5)]
    assert [hit.passage_id for hit in found] == [hit.passage_id for hit in ours]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in ours], abs=1e-5)


def test_a_data_sets_store_is_that_of_its_dense_variants_and_makes_nothing_else_stale(
    project: PipelineProject, tmp_path: Path
) -> None:
    copy = PipelineProject(Path(shutil.copytree(project.root, tmp_path / "project")))
    dataset, recipe = copy.root / "data" / "small", copy.root / "data" / "recipes" / "base.yaml"
    before = {item.node: item.state for item in assess(copy.graph)}
    plans = {node: copy.graph.plan(node).fingerprint for node in before}
    edit_dataset(dataset, store="lancedb")
    graph, node = copy.graph, Node("vector_store", "small/base")
    assert {item.node: item.state for item in assess(graph)} == before | {node: "missing"}
    assert {one: graph.plan(one).fingerprint for one in before} == plans
    assert graph.plan(node).settings["store"] == "lancedb"
    edit_yaml(recipe, "index", store="qdrant")
    assert copy.graph.plan(node).settings["store"] == "qdrant"
    assert {one: copy.graph.plan(one).fingerprint for one in before} == plans
    edit_dataset(dataset, store="milvus")
    assert (
        "store: expected 'qdrant', 'pgvector', 'elasticsearch' or 'lancedb', found 'milvus'"
        in copy.graph.project.broken["small"]
    )


def test_the_promoted_checkpoint_is_published_under_an_alias_of_its_own(
    with_store: PipelineProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBED_PIPELINE_HOME", "home")
    monkeypatch.chdir(with_store.root)
    graph = with_store.graph

    def publish(name: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["publish", name])
        return done.exit_code, done.output

    code, told = publish("small")
    assert code == 1 and "promoted_checkpoint[small] does not exist yet" in told

    def choose(out: Path) -> dict[str, object]:
        content = {"chosen": "base", "reason": "the best", "kept_gain": None, "candidates": []}
        (out / PROMOTED_FILE).write_text(json.dumps(content), encoding="utf-8")
        return {}

    graph.store.build(graph.plan(Node("promoted_checkpoint", "small")), choose)
    assert publish("small/base")[0] == 0
    code, told = publish("small")
    assert code == 0 and "small-promoted leads to small-promoted__" in told
    with closing(open_store(StorePlace("qdrant", str(tmp_path / "first"), None))) as store:
        led = [store.current(f"small-{name}") or "" for name in ("base", "promoted")]
        # Of its own: what a later run publishes of the variant, or drops, is not what users ask.
        assert len({*led}) == 2 and len({name.partition("__")[2] for name in led}) == 1
        assert store.count("small-promoted") == 8
    edit_dataset(with_store.root / "data" / "small", variants=["bm25", "base", "promoted"])
    shutil.copy(with_store.root / "data/recipes/base.yaml", with_store.root / "data/recipes/promoted.yaml")
    code, told = publish("small")
    assert code == 1 and "small/promoted: a variant has the name of the alias" in told


def test_publish_names_what_is_missing_and_sends_what_stands_elsewhere_once(
    with_store: PipelineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_project(with_store.root)
    monkeypatch.setenv("EMBED_PIPELINE_HOME", "home")
    monkeypatch.chdir(with_store.root)

    def publish(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["publish", *arguments])
        return done.exit_code, done.output

    code, told = publish("base")
    assert code == 0 and "small-base leads to small-base__" in told and ", sent;" in told
    code, told = publish("small/base", "--to", "qdrant")
    assert code == 0 and ", there already;" in told
    code, told = publish("small/bm25", "--to", "qdrant")
    assert code == 1 and "expected a variant with vectors, found retriever bm25" in told
    code, told = publish("small/bm25")
    assert code == 2 and "names no index.store" in told
    code, told = publish("base", "--to", "pgvector")
    assert code == 1 and "EMBED_PIPELINE_PGVECTOR_URL: expected an address" in told


def test_what_an_index_keeps_as_codes_is_published_in_full(with_store: PipelineProject) -> None:
    recipe = with_store.root / "data" / "recipes" / "base.yaml"
    graph = with_store.graph
    load = lambda graph: load_corpus(graph, graph.project.variants["small/base"], cached)  # noqa: E731
    cached = lambda encoder: CachedEncoder(encoder, VectorCache(graph.project.home / VECTORS_FOLDER))  # noqa: E731
    flat = load(graph)
    edit_yaml(recipe, "index", kind="sq8")
    with_store.execute("evaluate_variant", "small/base")
    assert load(with_store.graph).digest == flat.digest
