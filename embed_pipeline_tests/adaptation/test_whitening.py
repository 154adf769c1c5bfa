"""Whitening: full power gives every direction one variance, a narrow cone opens, validation never loses."""

from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.adaptation.adapter import AdaptedEncoder, LinearAdapter, read_adapter, write_adapter
from embed_pipeline.adaptation.linear import Asked
from embed_pipeline.adaptation.ranks import unit_rows
from embed_pipeline.adaptation.whitening import Whitening, whiten
from embed_pipeline_tests.fakes import FakeEncoder

WIDTH, PASSAGES = 16, 400
CONE = np.r_[8.0, 4.0, np.ones(WIDTH - 2)]
"""Spread by direction: two directions that all texts share decide the similarity, though they say nothing."""


def _task(spread: np.ndarray, *, noise: float = 0.3) -> tuple[np.ndarray, Asked, Asked]:
    """Passages; train and validation queries: each is its passage, but drawn anew where the spread is wide."""
    chance = np.random.default_rng(0)
    meaning = chance.standard_normal((PASSAGES, WIDTH))
    shared = spread > 1

    def texts(rows: np.ndarray, offset: float) -> np.ndarray:
        own = meaning[rows] + noise * chance.standard_normal((len(rows), WIDTH))
        own[:, shared] = chance.standard_normal((len(rows), int(shared.sum())))
        return unit_rows(own * spread + offset).astype(np.float32)

    corpus = texts(np.arange(PASSAGES), 3.0)
    parts = (np.arange(0, 200), np.arange(200, PASSAGES))
    train, validation = (Asked(texts(rows, -3.0), [[int(row)] for row in rows]) for rows in parts)
    return corpus, train, validation


def _whiten(spread: np.ndarray, powers: tuple[float, ...], **changes: float) -> tuple[np.ndarray, Asked, Whitening]:
    corpus, train, validation = _task(spread, **changes)
    found = whiten(corpus, train.vectors, validation=validation, powers=powers, encoder_fingerprint="f" * 64)
    return corpus, train, found


def test_a_narrow_cone_opens_and_answers_are_found() -> None:
    _, _, found = _whiten(CONE, (0.1, 0.25, 0.5))
    values = {one.power: one.validation_mrr_at_10 for one in found.tried}
    assert list(values) == [0, 0.1, 0.25, 0.5]
    assert found.power > 0 and values[found.power] == max(values.values()) > values[0] + 0.3


def test_full_power_gives_every_direction_nearly_one_variance() -> None:
    corpus, train, found = _whiten(CONE, (0.5,))
    adapter = found.adapter
    assert adapter.passage is not None and adapter.passage_mean is not None and adapter.query_mean is not None
    np.testing.assert_allclose(adapter.query_mean, train.vectors.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(adapter.query, adapter.passage)
    np.testing.assert_allclose(adapter.query, adapter.query.T, atol=1e-5)
    mapped = (corpus - adapter.passage_mean) @ adapter.passage
    variances = np.linalg.eigvalsh(np.cov(mapped.T))
    before = np.linalg.eigvalsh(np.cov(corpus.T))
    assert variances.max() / variances.min() < 1.3 < 30 < before.max() / before.min()


def test_where_no_gain_is_proven_nothing_changes() -> None:
    corpus, train, validation = _task(CONE)
    few = Asked(validation.vectors[:2], validation.relevant[:2])
    found = whiten(corpus, train.vectors, validation=few, powers=[0.5], encoder_fingerprint="f")
    before, after = found.tried
    assert after.validation_mrr_at_10 > before.validation_mrr_at_10 and after.p >= 0.5  # two queries prove nothing
    assert found.power == 0 and found.adapter.passage is None and found.adapter.query_mean is None
    np.testing.assert_allclose(found.adapter.apply("query", train.vectors), train.vectors, atol=1e-6)
    assert found.adapter.apply("passage", corpus) is corpus


def test_a_corpus_smaller_than_the_vectors_is_mapped_without_a_division_by_zero() -> None:
    corpus, train, validation = _task(CONE)
    asked = Asked(validation.vectors, [[row % 5] for row in range(len(validation.vectors))])
    found = whiten(corpus[:5], train.vectors, validation=asked, powers=[1.0], encoder_fingerprint="f")
    assert np.isfinite([one.validation_mrr_at_10 for one in found.tried]).all()
    assert np.isfinite(found.adapter.apply("query", train.vectors)).all()


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_without_queries_it_is_refused(missing: str) -> None:
    corpus, train, validation = _task(CONE)
    asked = Asked(validation.vectors[:0], []) if missing == "validation" else validation
    vectors = train.vectors[:0] if missing == "train" else train.vectors
    with pytest.raises(ValueError, match="Both are needed"):
        whiten(corpus, vectors, validation=asked, powers=[0.5], encoder_fingerprint="f")


def test_equal_passages_are_refused() -> None:
    _, train, validation = _task(CONE)
    same = np.ones((4, WIDTH), dtype=np.float32)
    asked = Asked(validation.vectors[:1], [[0]])
    with pytest.raises(ValueError, match="all passages have the same vector"):
        whiten(same, train.vectors, validation=asked, powers=[0.5], encoder_fingerprint="f")


def test_the_file_gives_the_same_vectors_and_another_mean_another_fingerprint(tmp_path: Path) -> None:
    _, train, found = _whiten(CONE, (0.3,))
    write_adapter(found.adapter, tmp_path)
    read = read_adapter(tmp_path)
    for role in ("query", "passage"):
        np.testing.assert_array_equal(read.apply(role, train.vectors), found.adapter.apply(role, train.vectors))
    encoder = FakeEncoder(dimension=WIDTH)

    def fingerprints(query_mean: np.ndarray | None) -> tuple[str, str]:
        same = np.eye(WIDTH, dtype=np.float32)
        adapter = LinearAdapter(same, same, True, encoder.fingerprint, query_mean, None)
        adapted = AdaptedEncoder(encoder, adapter)
        return adapted.query_fingerprint, adapted.passage_fingerprint

    before, after = fingerprints(None), fingerprints(np.ones(WIDTH, dtype=np.float32))
    assert before[0] != after[0] and before[1] == after[1]
