"""Formats hold what they promise: ONNX and half precision against the original, the gate, another process alone."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import dagster as dg
import numpy as np
import pytest
from click.testing import CliRunner

from embed_pipeline.cli import main
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.cross_encoder import CrossEncoderSettings, TextPair, load_cross_encoder
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.tokens import load_tokenizer
from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.evaluation.measuring import measure_hits
from embed_pipeline.exporting import writing
from embed_pipeline.exporting.parity import (
    Measured,
    Parity,
    Speed,
    choose_format,
    compare,
    measure_encoder,
    measure_pairs,
    read_parity,
    read_vector_forms,
)
from embed_pipeline.exporting.running import ExportedCrossEncoder, ExportedEncoder, StaticEncoder
from embed_pipeline.exporting.settings import ExportSettings
from embed_pipeline.exporting.vectors import compare_vectors
from embed_pipeline.exporting.writing import (
    check_packages,
    write_float16,
    write_onnx,
    write_onnx_int8,
    write_onnx_int8_static,
    write_openvino_int8,
    write_pair_onnx,
    write_static,
)
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.records import Hit, Judgment, Passage, Query
from embed_pipeline.retrieval.faiss_index import build_index
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking
from embed_pipeline.retrieval.search import DenseRetriever, RerankedRetriever
from embed_pipeline_tests.fakes import FakeEncoder
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import (
    edit_dataset,
    edit_yaml,
    encoder_settings,
    mark_project,
    write_project,
    write_yaml,
)
from embed_pipeline_tests.tiny_cross_encoder import FakePairScorer, write_cross_encoder

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
    found = ExportedEncoder(tmp_path / "onnx")
    assert found.dimension == encoder.dimension and found.encode_queries([]).shape == (0, encoder.dimension)
    for role in ("queries", "passages"):
        expected = getattr(encoder, f"encode_{role}")(TEXTS)
        np.testing.assert_allclose(getattr(found, f"encode_{role}")(TEXTS), expected, atol=1e-5)
    write_onnx_int8(tmp_path / "onnx", tmp_path / "int8")
    cosines = (ExportedEncoder(tmp_path / "int8").encode_queries(TEXTS) * encoder.encode_queries(TEXTS)).sum(axis=1)
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
        first, second = ((tmp_path / f"{name}{kind}" / writing.MODEL_FILE).read_bytes() for name in ("one", "two"))
        assert first == second
    found = [ExportedEncoder(tmp_path / name) for name in ("one", "two", "one_int8")]
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint
    assert found[0].query_fingerprint != found[0].passage_fingerprint


BARE_ONNX = """
import json, sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer
about = json.load(open("encoder.json"))
settings, tokenizer = about["settings"], Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(settings["query_max_length"])
tokenizer.enable_padding(pad_id=about["padding"])
session, vectors = onnxruntime.InferenceSession("model.onnx"), []
for text in json.load(sys.stdin):
    found = tokenizer.encode_batch([settings["instruction_format"].format(settings["query_instruction"], text)])
    inputs = {"input_ids": [one.ids for one in found], "attention_mask": [one.attention_mask for one in found]}
    vectors += session.run(None, {name: np.array(value) for name, value in inputs.items()})[0].tolist()
"""
BARE_PAIRS = """
import json, sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer
about, tokenizer = json.load(open("encoder.json")), Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(about["settings"]["max_length"], strategy=about["settings"]["truncation"])
session, vectors = onnxruntime.InferenceSession("model.onnx"), []
for pair in json.load(sys.stdin):
    found = tokenizer.encode(*pair)
    inputs = {"input_ids": found.ids, "attention_mask": found.attention_mask, "token_type_ids": found.type_ids}
    vectors += session.run(None, {name: np.array([inputs[name]]) for name in about["inputs"]})[0].tolist()
"""
BARE_SENTENCE_TRANSFORMERS = """
import json, sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(".", device="cpu", model_kwargs={"dtype": "float32"})
prompt = "query" if "query" in model.prompts else None
vectors = [model.encode(text, prompt_name=prompt).tolist() for text in json.load(sys.stdin)]
"""
BARE_OPENVINO = (
    BARE_ONNX.replace("numpy as np, onnxruntime", "numpy as np, openvino")
    .replace(
        'onnxruntime.InferenceSession("model.onnx")',
        'openvino.compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
    )
    .replace(
        "session.run(None, {name: np.array(value) for name, value in inputs.items()})",
        "session({name: np.array(value) for name, value in inputs.items()})",
    )
)


def in_a_bare_process(code: str, folder: Path, texts: object) -> np.ndarray:
    """What `vectors` is in a process that lies in the folder and does not have this package."""
    code += "\nassert not any(name.startswith('embed_pipeline') for name in sys.modules)\nprint(json.dumps(vectors))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def sample_of(folder: Path) -> list:
    found = ExportedEncoder(folder)
    return [*found.inputs_of("query", TEXTS), *found.inputs_of("passage", TEXTS)]


@pytest.mark.usefixtures("with_onnx")
def test_every_onnx_folder_gives_its_vectors_in_a_process_without_this_package(
    small_model: Path, tmp_path: Path
) -> None:
    import onnxruntime

    encoder, onnx = encoder_of(small_model), tmp_path / "onnx"
    write_onnx(encoder, onnx)
    write_onnx_int8(onnx, tmp_path / "int8")
    write_onnx_int8_static(onnx, sample_of(onnx), tmp_path / "static")
    original = encoder.encode_queries(TEXTS)
    session = onnxruntime.InferenceSession(onnx / writing.MODEL_FILE)  # names and dimensions: docs/use_elsewhere.md
    assert [one.name for one in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [(one.name, len(one.shape)) for one in session.get_outputs()] == [("sentence_embedding", 2)]
    for name in ("onnx", "int8", "static"):
        found = np.concatenate([ExportedEncoder(tmp_path / name).encode_queries([text]) for text in TEXTS])
        np.testing.assert_allclose(in_a_bare_process(BARE_ONNX, tmp_path / name, TEXTS), found, atol=1e-6)
        assert ((found * original).sum(axis=1) > (0.9999 if name == "onnx" else 0.97)).all()
    # Scales that are fixed give a text the same vector in any company.
    together = ExportedEncoder(tmp_path / "static").encode_queries(TEXTS)
    np.testing.assert_allclose(together, found, atol=1e-6)
    assert (tmp_path / "static" / "model.onnx").stat().st_size < (onnx / "model.onnx").stat().st_size


@pytest.mark.slow  # nncf alone takes seconds to load
@pytest.mark.usefixtures("with_onnx")
def test_an_openvino_folder_gives_its_vectors_in_a_process_without_this_package(
    small_model: Path, tmp_path: Path
) -> None:
    try:
        check_packages(["openvino_int8"])
    except ValueError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    encoder = encoder_of(small_model)
    write_onnx(encoder, tmp_path / "onnx")
    write_openvino_int8(tmp_path / "onnx", sample_of(tmp_path / "onnx"), tmp_path / "openvino")
    found = np.concatenate([ExportedEncoder(tmp_path / "openvino").encode_queries([text]) for text in TEXTS])
    np.testing.assert_allclose(in_a_bare_process(BARE_OPENVINO, tmp_path / "openvino", TEXTS), found, atol=1e-6)
    assert ((found * encoder.encode_queries(TEXTS)).sum(axis=1) > 0.97).all()


def test_a_static_model_is_the_mean_of_its_tokens_alike_in_sentence_transformers(
    small_model: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file
    from sentence_transformers import SentenceTransformer
    from sklearn.decomposition import PCA

    encoder = encoder_of(small_model, query_instruction=None)
    write_static(encoder, tmp_path / "static")
    found = StaticEncoder(tmp_path / "static")
    assert found.dimension == encoder.dimension  # the small model has fewer than 256
    vectors = found.encode_queries(TEXTS)
    other = SentenceTransformer(str(tmp_path / "static"), device="cpu", model_kwargs={"dtype": "float32"})
    np.testing.assert_allclose(vectors, other.encode(TEXTS), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.encode_passages(TEXTS[::-1])[::-1], vectors)
    assert not found.encode_queries([""]).any()
    # scikit-learn's components of what the encoder gives for each token alone, weighed: the same angles and lengths.
    tokenizer = load_tokenizer(small_model)
    tokens = sorted(tokenizer.get_vocab(), key=lambda token: tokenizer.token_to_id(token) or 0)
    whole = encoder_of(small_model, query_instruction=None, normalize=False).encode_passages(tokens)
    frequency = 1 / np.arange(2, len(tokens) + 2)
    weights = 1e-4 / (1e-4 + frequency / frequency.sum())
    expected = PCA().fit_transform(whole.astype(np.float64)) * weights[:, None]
    table = load_file(tmp_path / "static" / "model.safetensors")["embedding.weight"].astype(np.float64)
    np.testing.assert_allclose(table @ table.T, expected @ expected.T, atol=1e-3 * np.abs(expected).max() ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float16", "static"])
def test_sentence_transformers_gives_a_folders_vectors_in_a_process_without_this_package(
    small_model: Path, tmp_path: Path, name: str
) -> None:
    encoder = encoder_of(small_model, query_max_length=30)
    if name == "static":
        write_static(encoder, tmp_path / name)
        expected = StaticEncoder(tmp_path / name).encode_queries(TEXTS)
    else:
        write_float16(small_model, tmp_path / name, encoder.settings)
        expected = load_local_encoder(encoder.settings, directory=tmp_path / name).encode_queries(TEXTS)
    found = in_a_bare_process(BARE_SENTENCE_TRANSFORMERS, tmp_path / name, TEXTS)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.usefixtures("with_onnx")
def test_a_cross_encoders_onnx_gives_its_scores_here_and_in_a_process_without_this_package(tmp_path: Path) -> None:
    model = write_cross_encoder(tmp_path / "model")
    original = load_cross_encoder(CrossEncoderSettings(model=str(model), max_length=32, batch=4))
    pairs = [TextPair(text[:20], passage) for text in TEXTS for passage in ("脂肪肝", "痛风" * 30, "高血压")]
    write_pair_onnx(original, tmp_path / "onnx")
    write_onnx_int8(tmp_path / "onnx", tmp_path / "int8")
    expected = original.score(pairs)
    found = ExportedCrossEncoder(tmp_path / "onnx", original)
    np.testing.assert_allclose(found.score(pairs), expected, atol=1e-4)
    np.testing.assert_allclose(in_a_bare_process(BARE_PAIRS, tmp_path / "onnx", pairs)[:, 0], expected, atol=1e-4)
    eight = ExportedCrossEncoder(tmp_path / "int8", original)
    assert 0 < np.abs(eight.score(pairs) - expected).max() < 0.3 * np.ptp(expected)
    assert len({original.fingerprint, found.fingerprint, eight.fingerprint}) == 3


def test_small_vectors_find_less_the_smaller_they_are_and_rescored_bits_what_their_bytes_find() -> None:
    rng = np.random.default_rng(0)
    passages = rng.normal(size=(300, 64)).astype(np.float32) * np.linspace(2, 0.1, 64, dtype=np.float32)
    queries = passages[:50] + 0.4 * rng.normal(size=(50, 64)).astype(np.float32)
    passages, queries = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (passages, queries))
    dataset = RetrievalDataset(
        queries=tuple(Query(f"q{at:02}", f"q{at}", "test") for at in range(50)),
        passages=tuple(Passage(f"p{at:03}", f"p{at:03}") for at in range(300)),
        judgments=tuple(Judgment(f"q{at:02}", f"p{at:03}", 1) for at in range(50)),
    )
    order = np.argsort(-queries @ passages.T, axis=1)[:, :20]
    hits = [Hit(f"q{q:02}", f"p{p:03}", rank, 0.0) for q, row in enumerate(order) for rank, p in enumerate(row, 1)]
    scores, headline = measure_hits(dataset, "test", hits), Measure("mrr", 10)
    found = compare_vectors(queries, passages, dataset, scores, dimensions=[16], headline=headline)
    by_form = {(one.index, one.dimension): one for one in found}
    whole = by_form["flat", 64]
    assert (whole.recall_at_10, whole.points_lost, whole.low, whole.high) == (1, 0, 0, 0)
    cut = np.argsort(-queries[:, :16] @ (passages[:, :16] / np.linalg.norm(passages[:, :16], axis=1)[:, None]).T)[
        :, :10
    ]
    shared = np.mean([len(set(one[:10]) & set(other)) / 10 for one, other in zip(order, cut, strict=True)])
    assert by_form["flat", 16].recall_at_10 == pytest.approx(shared)
    for dimension in (64, 16):
        sizes = [by_form[name, dimension].megabytes for name in ("flat", "sq8")]
        assert sizes[1] < 0.4 * sizes[0]
        recalls = [by_form[name, dimension].recall_at_10 for name in ("flat", "sq8", f"PQ{dimension // 8}x8np")]
        assert recalls == sorted(recalls, reverse=True)
    assert [one.index for one in found] == [
        "flat",
        "sq8",
        "binary, sq8",
        "PQ8x8np",
        "flat",
        "sq8",
        "binary, sq8",
        "PQ2x8np",
    ]
    # Of a few passages bits leave none out, and there are too few for product quantisation.
    few = replace(dataset, passages=dataset.passages[:100])
    found = compare_vectors(queries, passages[:100], few, scores, dimensions=[], headline=headline)
    assert [one.index for one in found] == ["flat", "sq8", "binary, sq8"]
    assert found[1].recall_at_10 == found[2].recall_at_10 < 1


def test_copies_above_the_answer_hide_no_loss() -> None:
    rng, boilerplate = np.random.default_rng(1), np.eye(64, dtype=np.float32)[:1]
    answers = np.concatenate([boilerplate + 0.3 * rng.standard_normal((12, 64)), rng.standard_normal((50, 64))])
    answers = (answers / np.linalg.norm(answers, axis=1, keepdims=True)).astype(np.float32)
    queries = answers[:12] + boilerplate
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    asked = [Query(f"q{at:02}", f"question {at}", "test") for at in range(12)]
    ids = [f"p{at:02}" for at in range(len(answers))]
    judged = tuple(Judgment(query.id, passage) for query, passage in zip(asked, ids, strict=False))
    alone = RetrievalDataset(tuple(asked), (Passage("a", "copied"), *(Passage(one, one) for one in ids)), judged)
    copies = tuple(Passage(f"a{at:03}", "copied") for at in range(300))
    copied = replace(alone, passages=(*copies, *alone.passages[1:]))

    vectors = {"copied": boilerplate[0], **dict(zip(ids, answers, strict=True))}
    vectors |= {query.text: vector for query, vector in zip(asked, queries, strict=True)}

    class Known(FakeEncoder):
        def _encode(self, formatted: list[str], texts: Sequence[str]) -> np.ndarray:
            return np.stack([vectors[text] for text in texts])

    encoder, headline = Known(64), Measure("mrr", 10)
    one, other = (measure_encoder(encoder, dataset).scores for dataset in (alone, copied))
    assert one == other and mean(found.value for found in one if found.measure == headline) > 0.4
    lost = []
    for dataset in (alone, copied):
        passages = np.stack([vectors[passage.text] for passage in dataset.passages])
        forms = compare_vectors(queries, passages, dataset, one, dimensions=[], headline=headline)
        lost.append({form.index: form.points_lost for form in forms if form.index in ("flat", "sq8", "binary, sq8")})
    assert lost[0] == lost[1] and lost[0]["flat"] == 0
    texts = {passage.id: passage.text for passage in copied.passages}
    index = build_index(
        list(texts), encoder.encode_passages(list(texts.values())), encoder_fingerprint=encoder.fingerprint
    )
    scorer = FakePairScorer({"copied": 2.0})
    retriever = RerankedRetriever(DenseRetriever(index, encoder), scorer, texts, top_k=20, keep=10)
    assert any(found.value for found in measure_pairs(scorer, retriever, copied).scores if found.measure == headline)
    assert len(scorer.calls) == 12 * 20 == len(set(scorer.calls))


def test_half_precision_halves_the_weights_and_loads_in_sentence_transformers(
    small_model: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = encoder_of(small_model, query_instruction=None, query_max_length=30)
    write_float16(small_model, tmp_path / "half", encoder.settings)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (small_model, tmp_path / "half")]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    found = SentenceTransformer(str(tmp_path / "half"), device="cpu", model_kwargs={"dtype": "float32"}).encode(TEXTS)
    assert ((found * encoder.encode_queries(TEXTS)).sum(axis=1) > 0.9999).all()
    with pytest.raises(ValueError, match=r"expected a pooling of cls, mean, last_token .* found max"):
        write_float16(small_model, tmp_path / "other", encoder_of(small_model, pooling="max").settings)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = dict.fromkeys(("onnx", "openvino_int8"), ("onnx_that_is_not_there",))
    monkeypatch.setattr(writing, "_PACKAGES", needed)
    with pytest.raises(ValueError, match=r"onnx needs .*no onnx_that_is_not_there.*embed-pipeline\[export\]"):
        check_packages(["float16", "onnx"])
    with pytest.raises(ValueError, match=r"embed-pipeline\[export,openvino\]"):
        check_packages(["openvino_int8"])
    check_packages(["float16", "static"])


def measured(values: list[float], *, turned: float = 0.0) -> Measured:
    """Queries of these values on the headline; every vector turned away by an angle."""
    vectors = np.array([[np.cos(turned), np.sin(turned)]] * len(values), dtype=np.float32)
    ranking = Ranking(tuple(RankedQuery(str(at), ("a", "b"), (1.0, 0.5)) for at in range(len(values))))
    return Measured(vectors, ranking, tuple(QueryMeasure(str(at), HEADLINE, v) for at, v in enumerate(values)))


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
    other_space = replace(original, outputs=np.ones((200, 3), dtype=np.float32))
    static = compare(original, other_space, "static", megabytes=1, headline=HEADLINE, settings=settings)
    assert static.mean_cosine is static.lowest_cosine is static.refused is None


def test_a_cross_encoders_exact_format_is_refused_for_one_score() -> None:
    settings, original = ExportSettings(), replace(measured([1.0, 0.0]), outputs=np.zeros(9, dtype=np.float32))
    one_off = replace(original, outputs=np.array([0.0] * 8 + [0.01], dtype=np.float32))
    exact = compare(original, one_off, "onnx", megabytes=1, headline=HEADLINE, settings=settings)
    assert exact.refused == "a score is 0.0100 from the original's, at most 0.001 is allowed"
    eight = compare(original, one_off, "onnx_int8", megabytes=1, headline=HEADLINE, settings=settings)
    assert eight.refused is None and eight.largest_gap == 0.01 and eight.mean_cosine is None


def test_the_format_to_deploy_is_the_fastest_of_those_handed_out_and_of_equals_the_smallest() -> None:
    one = Parity("onnx", 100.0, 1, 1, None, 1, 1, 0, 0, 0, None)
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
        (
            {"retriever": "reranked", "rerank": {"of": "base"}, "export": {"formats": ["onnx", "static"]}},
            "a cross-encoder is written as onnx, onnx_int8, float16, found static",
        ),
        ({"encoder": {"model": "bundled"}, "adaptation": {"method": "whiten"}}, "without adaptation"),
        ({"encoder": {"service": "openai", "model": "text-embedding-3-small"}}, "a local encoder"),
        ({"encoder": {"model": "bundled"}, "export": {"formats": ["onnx", "onnx"]}}, "expected each once"),
        ({"encoder": {"model": "bundled"}, "export": {"formats": ["gguf"]}}, "onnx_int8"),
    ],
)
def test_a_recipe_that_cannot_be_exported_says_why(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate({"description": "x", "export": {}, **changes})


@pytest.mark.slow
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
    second = {
        "of": "base",
        "model": str(write_cross_encoder(tmp_path / "cross")),
        "training": None,
        "top_k": 5,
        "keep": 3,
    }
    pairs = {
        "description": "two stages",
        "retriever": "reranked",
        "rerank": {**second, "max_length": 64},
        "export": section,
    }
    write_yaml(data / "recipes" / "reranked.yaml", pairs)
    edit_dataset(data / "small", variants=["base", "refused", "reranked"])
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
    forms = read_vector_forms(folder)
    assert (forms[0].index, forms[0].recall_at_10, forms[0].points_lost) == ("flat", 1.0, 0.0)
    assert {one.dimension for one in forms} == {32, 16, 8}
    assert manifest.details["deploy"] in wanted and "failed_blocking_checks" not in manifest.details
    assert project.execute("export_variant", "small/base") == ["exported_model found"]
    for job in ("evaluate_variant", "export_variant"):
        project.execute(job, "small/reranked")
    folder = project.graph.store.open(project.manifest("exported_model", "small/reranked"))
    found = {one.format: one for one in read_parity(folder)}
    assert list(found) == wanted and all(one.refused is None and one.mean_cosine is None for one in found.values())
    gaps = {name: one.largest_gap or 0.0 for name, one in found.items()}
    assert gaps["float16"] > gaps.get("onnx", 0.0) and not read_vector_forms(folder)

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
