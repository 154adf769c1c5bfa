"""Formats hold what they promise: ONNX and half precision against the original, the gate, another process alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from click.testing import CliRunner

from embed_pipeline.cli import main
from embed_pipeline.encoding import backends
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.exporting import formats
from embed_pipeline.exporting.formats import OnnxEncoder, check_packages, write_float16, write_onnx, write_onnx_int8
from embed_pipeline.exporting.parity import Measured, Parity, Speed, choose_format, compare, read_parity
from embed_pipeline.exporting.settings import ExportSettings
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import (
    edit_dataset,
    edit_yaml,
    encoder_settings,
    mark_project,
    write_project,
    write_yaml,
)

TEXTS = ["我肝上有油,能买吗", "痛风", "体检说高压一百六" * 10, "x"]
HEADLINE = Measure("precise", 5)


@pytest.fixture
def with_onnx() -> None:
    """What needs the extra `export`; `make test` installs it, and where CI is set its absence is a failure."""
    try:
        check_packages(["onnx"])
    except ValueError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


def encoder_of(model: Path, **changes: object) -> LocalEncoder:
    lengths = {"query_max_length": 20, "passage_max_length": 30, "query_instruction": "我: "}
    settings = EncoderSettings.model_validate(
        {"model": str(model), "pooling": "mean", "dtype": "float32", **lengths, **changes}
    )
    return load_local_encoder(settings, directory=model)


@pytest.mark.usefixtures("with_onnx")
@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token", "max", "mean_sqrt_len", "weighted_mean", "cls+mean"])
def test_onnx_gives_the_originals_vectors_whatever_the_pooling(small_model: Path, tmp_path: Path, pooling: str) -> None:
    encoder = encoder_of(small_model, pooling=pooling)
    write_onnx(encoder, tmp_path / "onnx")
    found = OnnxEncoder(tmp_path / "onnx")
    assert found.dimension == encoder.dimension and found.encode_queries([]).shape == (0, encoder.dimension)
    for role in ("queries", "passages"):
        expected = getattr(encoder, f"encode_{role}")(TEXTS)
        np.testing.assert_allclose(getattr(found, f"encode_{role}")(TEXTS), expected, atol=1e-5)
    write_onnx_int8(tmp_path / "onnx", tmp_path / "int8")
    cosines = (OnnxEncoder(tmp_path / "int8").encode_queries(TEXTS) * encoder.encode_queries(TEXTS)).sum(axis=1)
    lengths = np.linalg.norm(encoder.encode_queries(TEXTS), axis=1) ** 2
    assert (cosines / lengths > 0.99).all() and not (cosines == lengths).all()


@pytest.mark.usefixtures("with_onnx")
def test_the_same_weights_give_the_same_bytes_and_other_weights_another_fingerprint(
    small_model: Path, tmp_path: Path
) -> None:
    encoder = encoder_of(small_model)
    for name in ("one", "two"):
        write_onnx(encoder, tmp_path / name)
        write_onnx_int8(tmp_path / name, tmp_path / f"{name}_int8")
    for kind in ("", "_int8"):
        first, second = ((tmp_path / f"{name}{kind}" / formats.MODEL_FILE).read_bytes() for name in ("one", "two"))
        assert first == second
    found = [OnnxEncoder(tmp_path / name) for name in ("one", "two", "one_int8")]
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint
    assert found[0].query_fingerprint != found[0].passage_fingerprint


@pytest.mark.usefixtures("with_onnx")
def test_an_onnx_folder_needs_nothing_of_this_package(small_model: Path, tmp_path: Path) -> None:
    encoder = encoder_of(small_model)
    write_onnx(encoder, tmp_path / "onnx")
    code = """
import json, sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer
about = json.load(open("onnx/encoder.json"))
settings, tokenizer = about["settings"], Tokenizer.from_file("onnx/tokenizer.json")
tokenizer.enable_truncation(settings["query_max_length"])
tokenizer.enable_padding(pad_id=about["padding"])
texts = [settings["instruction_format"].format(settings["query_instruction"], text) for text in json.load(sys.stdin)]
found = tokenizer.encode_batch(texts)
inputs = {"input_ids": [one.ids for one in found], "attention_mask": [one.attention_mask for one in found]}
session = onnxruntime.InferenceSession("onnx/model.onnx")
vectors = session.run(None, {name: np.array(value) for name, value in inputs.items()})[0]
assert not any(name.startswith(("embed_pipeline", "torch", "transformers")) for name in sys.modules)
print(json.dumps(vectors.tolist()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(json.loads(done.stdout), encoder.encode_queries(TEXTS), atol=1e-5)


def test_half_precision_halves_the_weights_and_loads_in_sentence_transformers(
    small_model: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = encoder_of(small_model, query_instruction=None, query_max_length=30)
    write_float16(encoder, tmp_path / "half")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (small_model, tmp_path / "half")]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    found = SentenceTransformer(str(tmp_path / "half"), device="cpu", model_kwargs={"dtype": "float32"}).encode(TEXTS)
    assert ((found * encoder.encode_queries(TEXTS)).sum(axis=1) > 0.9999).all()
    with pytest.raises(ValueError, match=r"expected a pooling of cls, mean, last_token .* found max"):
        write_float16(encoder_of(small_model, pooling="max"), tmp_path / "other")


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._PACKAGES, "onnx", ("onnx_that_is_not_there",))
    with pytest.raises(ValueError, match=r"found no onnx_that_is_not_there.*embed-pipeline\[export\]"):
        check_packages(["float16", "onnx"])
    check_packages(["float16"])


def measured(values: list[float], *, turned: float = 0.0) -> Measured:
    """Queries of these values on the headline; every vector turned away by an angle."""
    vectors = np.array([[np.cos(turned), np.sin(turned)]] * len(values), dtype=np.float32)
    ranking = Ranking(tuple(RankedQuery(str(at), ("a", "b"), (1.0, 0.5)) for at in range(len(values))))
    return Measured(vectors, vectors, ranking, tuple(QueryMeasure(str(at), HEADLINE, v) for at, v in enumerate(values)))


def test_a_format_is_refused_for_points_and_an_exact_one_for_its_vectors_too() -> None:
    settings, original = ExportSettings(points_lost=0.5), measured([1.0] * 100 + [0.0] * 100)
    same = compare(original, original, "onnx_int8", megabytes=1, headline=HEADLINE, settings=settings)
    assert (same.points_lost, same.low, same.high, same.refused) == (0.0, 0.0, 0.0, None)
    assert (same.lowest_cosine, same.same_first_hit, same.shared_hits) == (1.0, 1.0, 1.0)
    one_lost = measured([1.0] * 99 + [0.0] * 101)
    just = compare(original, one_lost, "onnx_int8", megabytes=1, headline=HEADLINE, settings=settings)
    assert just.points_lost == 0.5 and just.refused is None and just.low <= 0.5 <= just.high
    two_lost = measured([1.0] * 98 + [0.0] * 102)
    found = compare(original, two_lost, "onnx_int8", megabytes=1, headline=HEADLINE, settings=settings)
    assert found.refused == "it loses 1.0 points of precise@5, at most 0.5 are allowed"
    gained = compare(two_lost, original, "onnx_int8", megabytes=1, headline=HEADLINE, settings=settings)
    assert gained.points_lost == -1.0 and gained.refused is None
    turned = measured([1.0] * 100 + [0.0] * 100, turned=0.05)  # cosine .9988
    eight = compare(original, turned, "onnx_int8", megabytes=1, headline=HEADLINE, settings=settings)
    exact = compare(original, turned, "onnx", megabytes=1, headline=HEADLINE, settings=settings)
    assert eight.refused is None and "lowest cosine to the original is 0.9988" in str(exact.refused)


def test_the_format_to_deploy_is_the_fastest_of_those_handed_out_and_of_equals_the_smallest() -> None:
    one = Parity("onnx", 100.0, 1, 1, 1, 1, 0, 0, 0, None)
    eight, half = replace(one, format="onnx_int8", megabytes=25.0), replace(one, format="float16", megabytes=50.0)
    speeds = [Speed("original", 1.0, 1), Speed("onnx", 2.0, 1), Speed("onnx_int8", 2.05, 1)]
    assert choose_format([one, eight, half], speeds) == "onnx_int8"
    assert choose_format([one, eight, half], [speeds[1], Speed("onnx_int8", 4.0, 1)]) == "onnx"
    assert choose_format([one, replace(eight, refused="so")], speeds) == "onnx"
    assert choose_format([half], speeds) == "float16"
    assert choose_format([replace(one, refused="so")], speeds) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retriever": "bm25"}, "export goes with retriever: dense"),
        ({"encoder": {"model": "bundled"}, "adaptation": {"method": "whiten"}}, "without adaptation"),
        ({"encoder": {"service": "openai", "model": "text-embedding-3-small"}}, "a local encoder"),
        ({"encoder": {"model": "bundled"}, "export": {"formats": ["onnx", "onnx"]}}, "expected each once"),
        ({"encoder": {"model": "bundled"}, "export": {"formats": ["gguf"]}}, "onnx_int8"),
    ],
)
def test_a_recipe_that_cannot_be_exported_says_why(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate({"description": "x", "export": {}, **changes})


def test_only_what_passes_is_in_the_artifact_and_the_command_copies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Untrained, so that it takes seconds; a bound that nothing can miss beside one that nothing can keep."""
    onnx = all(find_spec(name) for name in ("onnx", "onnxruntime"))
    wanted = ["onnx", "onnx_int8", "float16"] if onnx else ["float16"]
    data = write_project(tmp_path)
    mark_project(tmp_path)
    section = {"formats": wanted, "points_lost": 100}
    edit_yaml(data / "recipes" / "base.yaml", "export", **section)
    refused = {"description": "broken", "encoder": encoder_settings(tmp_path / "model"), "export": section}
    write_yaml(data / "recipes" / "refused.yaml", refused)
    edit_dataset(data / "small", variants=["base", "refused"])
    project = PipelineProject(tmp_path)
    (tmp_path / "dagster").mkdir()
    for job, partition in (("read_workbooks", "small"), ("prepare_dataset", "small"), ("export_variant", "small/base")):
        project.execute(job, partition)
    manifest = project.manifest("exported_model", "small/base")
    folder = project.graph.store.open(manifest)
    parities = {one.format: one for one in read_parity(folder)}
    assert list(parities) == wanted and all(one.refused is None for one in parities.values())
    assert parities["float16"].lowest_cosine > 0.999 and parities["float16"].same_first_hit > 0.9
    assert {path.name for path in folder.iterdir()} == {*wanted, "parity.json"}
    assert manifest.details["deploy"] in wanted and "failed_blocking_checks" not in manifest.details
    assert project.execute("export_variant", "small/base") == ["exported_model found"]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBED_PIPELINE_HOME", "home")
    done = CliRunner().invoke(main, ["export", "small/base", "copy", "--format", "float16"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "copy" / "modules.json").is_file()

    import embed_pipeline.exporting.parity as parity

    monkeypatch.setattr(parity, "LOWEST_COSINE", dict.fromkeys(wanted, 1.1))
    project.execute("export_variant", "small/refused")
    manifest = project.manifest("exported_model", "small/refused")
    # The same weights, settings and questions are the same artifact; only another bound makes another.
    assert manifest.cached
    edit_yaml(data / "recipes" / "refused.yaml", "export", points_lost=99)
    with pytest.raises(dg.DagsterError, match="a_format_answers_as_the_model"):
        project.execute("export_variant", "small/refused")
    manifest = project.manifest("exported_model", "small/refused")
    folder = project.graph.store.open(manifest)
    assert [path.name for path in folder.iterdir()] == ["parity.json"] and manifest.details["deploy"] == "none"
    assert manifest.details["failed_blocking_checks"] == "a_format_answers_as_the_model"
    done = CliRunner().invoke(main, ["export", "small/refused", "other", "--format", "float16"])
    assert done.exit_code == 1 and "lowest cosine" in done.output
