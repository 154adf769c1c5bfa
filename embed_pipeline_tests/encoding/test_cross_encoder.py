"""Laws of the cross-encoder and of the scores that are kept: FlagReranker's scores, alone or in company, once."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.encoding.cross_encoder import CrossEncoder, CrossEncoderSettings, TextPair, load_cross_encoder
from embed_pipeline.encoding.pair_scores import CachedPairScorer
from embed_pipeline.encoding.vector_cache import VectorCache
from embed_pipeline_tests.small_project import LABELS, make_rows, write_model
from embed_pipeline_tests.tiny_cross_encoder import FakePairScorer, write_cross_encoder

QUESTIONS = [str(row[0]) for row in make_rows()][:9]
PAIRS = [TextPair(question, label) for question in QUESTIONS for label in LABELS]
LONG = [
    TextPair("我肝上有油" * 30, "脂肪肝"),
    TextPair("我肝上有油，能买吗", "高血压痛风" * 40),
    TextPair("痒" * 90, "湿疹" * 60),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("cross") / "reranker")


def _open(directory: Path, **changes: object) -> CrossEncoder:
    return load_cross_encoder(CrossEncoderSettings(model=str(directory), max_length=48, batch=8, **changes))  # type: ignore[arg-type]


def test_scores_equal_those_of_flagembedding(directory: Path) -> None:
    from FlagEmbedding import FlagReranker

    oracle = FlagReranker(str(directory), use_fp16=False, devices="cpu", max_length=48)
    pairs = [*PAIRS, *LONG]
    expected = oracle.compute_score([list(pair) for pair in pairs])
    assert np.ptp(np.asarray(expected)) > 0.1
    np.testing.assert_allclose(_open(directory).score(pairs), expected, atol=1e-5)


def test_a_pair_scores_the_same_bytes_in_any_company_and_order(directory: Path) -> None:
    model = _open(directory)
    together = model.score([*PAIRS, *LONG])
    np.testing.assert_array_equal(model.score([*PAIRS, *LONG][::-1])[::-1], together)
    np.testing.assert_array_equal(np.concatenate([model.score([pair]) for pair in [*PAIRS, *LONG][::5]]), together[::5])


def test_no_pairs_have_no_scores(directory: Path) -> None:
    assert _open(directory).score([]).shape == (0,)


def test_identity_is_the_content_and_the_length_and_never_the_path_or_the_batch(
    directory: Path, tmp_path: Path
) -> None:
    fingerprint = _open(directory).fingerprint
    assert _open(Path(shutil.copytree(directory, tmp_path / "renamed"))).fingerprint == fingerprint
    other = CrossEncoderSettings(model=str(directory), max_length=48, batch=3)
    assert load_cross_encoder(other).fingerprint == fingerprint
    assert load_cross_encoder(other.model_copy(update={"max_length": 32})).fingerprint != fingerprint
    assert _open(write_cross_encoder(tmp_path / "retrained", seed=1)).fingerprint != fingerprint


def test_an_encoder_without_a_head_and_a_classifier_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Random numbers would stand in"):
        _open(write_model(tmp_path / "encoder")).score(PAIRS[:1])
    with pytest.raises(ValueError, match="expected a cross-encoder with one output, found 3"):
        _open(write_cross_encoder(tmp_path / "classifier", outputs=3)).score(PAIRS[:1])


def test_weights_that_change_after_the_digest_are_refused(tmp_path: Path) -> None:
    model = _open(write_cross_encoder(tmp_path / "model"))
    write_cross_encoder(tmp_path / "model", seed=1)
    with pytest.raises(ValueError, match="changed after this cross-encoder was opened"):
        model.score(PAIRS[:1])


def test_nothing_is_scored_twice_and_rows_keep_their_order(tmp_path: Path) -> None:
    scorer = FakePairScorer({label: 0.1 * at for at, label in enumerate(LABELS)})
    cached = CachedPairScorer(scorer, VectorCache(tmp_path))
    first = cached.score([*PAIRS[:6], *PAIRS[:6]])
    again = CachedPairScorer(scorer, VectorCache(tmp_path))
    second = again.score(PAIRS[:12][::-1])
    np.testing.assert_array_equal(first[:6], first[6:])
    np.testing.assert_array_equal(second[::-1][:6], first[:6])
    assert sorted(scorer.calls) == sorted(set(PAIRS[:12]))
    assert (again.scored, again.served) == (6, 6)
    assert cached.score([]).shape == (0,)


def test_both_texts_and_the_weights_make_the_key(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    CachedPairScorer(FakePairScorer({"b": 1.0}), cache).score([TextPair("a", "b"), TextPair('a", "b', "")])
    other = FakePairScorer({"a": 2.0, "b": 3.0})
    assert CachedPairScorer(other, cache).score([TextPair("b", "a"), TextPair("a", "b")]).tolist() == [2.0, 1.0]
    assert other.calls == [TextPair("b", "a")]
    retrained = FakePairScorer({"b": 5.0}, fingerprint="e" * 64)
    assert CachedPairScorer(retrained, cache).score([TextPair("a", "b")]).tolist() == [5.0]


def test_what_was_scored_before_a_kill_is_kept(tmp_path: Path) -> None:
    class Killed(FakePairScorer):
        def score(self, pairs: list[TextPair]) -> np.ndarray:  # type: ignore[override]
            if self.calls:
                raise KeyboardInterrupt
            return super().score(pairs)

    pairs = [TextPair("q", f"passage {at:04}") for at in range(600)]
    with pytest.raises(KeyboardInterrupt):
        CachedPairScorer(Killed({}), VectorCache(tmp_path)).score(pairs)
    after = CachedPairScorer(FakePairScorer({}), VectorCache(tmp_path))
    after.score(pairs)
    assert (after.scored, after.served) == (344, 256)
