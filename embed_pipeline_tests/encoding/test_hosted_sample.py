"""A service that begins to answer with other vectors is noticed on a few texts, at a known price; noise is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_pipeline.encoding.hosted import HostedEncoder, load_hosted_encoder
from embed_pipeline.encoding.hosted_sample import SampleComparison, compare_sample
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.usage import SpendLimitError
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline_tests.embedding_server import EmbeddingServer, count_tokens
from embed_pipeline_tests.fakes import FakeEncoder

TEXTS = [f"passage {number} about 糖尿病" for number in range(40)]


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(FakeEncoder()) as running:
        yield running


def _encoder(server: EmbeddingServer, directory: Path, **changes: Any) -> HostedEncoder:
    fields = {"service": "compatible", "model": "fake", "base_url": f"{server.url}/v1", "vector_dimension": 32}
    settings = HostedEncoderSettings.model_validate({**fields, "price_per_million_tokens": 10.0, **changes})
    return load_hosted_encoder(settings, usage_directory=directory / "usage")


def _compare(encoder: HostedEncoder, directory: Path, texts: list[str] = TEXTS) -> SampleComparison | None:
    return compare_sample(encoder, VectorCache(directory / "vectors"), texts)


@pytest.fixture
def encoder(server: EmbeddingServer, tmp_path: Path) -> HostedEncoder:
    """An encoder of which the vectors of TEXTS are kept."""
    found = _encoder(server, tmp_path)
    CachedEncoder(found, VectorCache(tmp_path / "vectors")).encode_passages(TEXTS)
    return found


def test_an_unchanged_service_gives_a_cosine_of_one_over_sample_texts_in_one_request(
    encoder: HostedEncoder, server: EmbeddingServer, tmp_path: Path
) -> None:
    calls = len(server.calls)
    found = _compare(encoder, tmp_path)
    assert found and (found.texts, len(server.calls) - calls) == (16, 1)
    assert found.lowest == pytest.approx(1, abs=1e-6) and found.mean == pytest.approx(1, abs=1e-6)


def test_sample_texts_says_how_many_are_asked(encoder: HostedEncoder, server: EmbeddingServer, tmp_path: Path) -> None:
    found = _compare(_encoder(server, tmp_path, sample_texts=5), tmp_path)
    assert found and found.texts == len(server.calls[-1].texts) == 5


def test_what_it_costs_is_what_the_service_counted(
    encoder: HostedEncoder, server: EmbeddingServer, tmp_path: Path
) -> None:
    found = _compare(encoder, tmp_path)
    assert found and found.cost_usd == pytest.approx(count_tokens(server.calls[-1].texts) * 10 / 1e6)


def test_another_model_behind_the_name_is_far_from_one_and_no_kept_vector_is_replaced(
    encoder: HostedEncoder, server: EmbeddingServer, tmp_path: Path
) -> None:
    server.encoder = FakeEncoder(weights="retrained")
    for _ in range(2):
        found = _compare(encoder, tmp_path)
        assert found and found.lowest <= found.mean < 0.9


def test_rounding_of_the_service_stays_above_the_limit(
    encoder: HostedEncoder, server: EmbeddingServer, tmp_path: Path
) -> None:
    class Rounded(FakeEncoder):
        def encode_passages(self, texts: Any) -> np.ndarray:
            return super().encode_passages(texts).astype(np.float16).astype(np.float32)

    server.encoder = Rounded()
    found = _compare(encoder, tmp_path)
    assert found and encoder.settings.sample_cosine < found.lowest < 1


def test_the_sample_is_the_same_whatever_the_order_of_the_texts_and_whatever_is_not_kept(
    encoder: HostedEncoder, server: EmbeddingServer, tmp_path: Path
) -> None:
    _compare(encoder, tmp_path)
    _compare(encoder, tmp_path, [*reversed(TEXTS), "not kept", TEXTS[0]])
    assert server.calls[-1].texts == server.calls[-2].texts and len(set(server.calls[-1].texts)) == 16


def test_fewer_kept_texts_than_the_sample_are_all_asked_and_none_asks_nothing(
    encoder: HostedEncoder, server: EmbeddingServer, tmp_path: Path
) -> None:
    found = _compare(encoder, tmp_path, TEXTS[:3])
    assert found and found.texts == 3
    calls = len(server.calls)
    assert _compare(encoder, tmp_path, ["not kept"]) is None and len(server.calls) == calls


def test_the_cap_holds_for_the_sample_too(server: EmbeddingServer, encoder: HostedEncoder, tmp_path: Path) -> None:
    capped = _encoder(server, tmp_path, spend_limit_usd=encoder.usage.spent_usd)
    calls = len(server.calls)
    with pytest.raises(SpendLimitError):
        _compare(capped, tmp_path)
    assert len(server.calls) == calls


def test_another_edition_is_another_encoder_and_none_leaves_the_fingerprint_as_it_was(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    plain, same, other = (_encoder(server, tmp_path, edition=word) for word in ("", "", "2026-11"))
    assert plain.fingerprint == same.fingerprint != other.fingerprint
    assert plain.passage_fingerprint != other.passage_fingerprint and plain.query_fingerprint != other.query_fingerprint
