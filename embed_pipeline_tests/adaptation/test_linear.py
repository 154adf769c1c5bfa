"""A linear adapter: the identity changes nothing, an endless pull stays there, a hidden rotation is found."""

import math
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.adaptation.adapter import AdaptedEncoder, LinearAdapter, read_adapter, write_adapter
from embed_pipeline.adaptation.linear import Asked, TrainedAdapter, train_adapter
from embed_pipeline.adaptation.ranks import unit_rows
from embed_pipeline.adaptation.settings import AdaptationSettings
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline.retrieval.faiss_index import build_index
from embed_pipeline_tests.fakes import FakeEncoder

TEXTS = ["脂肪肝", "高血压", "痛风", "哮喘"]
WIDTH = 16


def _adapter(encoder: FakeEncoder, **changes: object) -> LinearAdapter:
    fields = {
        "query": np.eye(encoder.dimension, dtype=np.float32),
        "passage": None,
        "normalize": True,
        "encoder_fingerprint": encoder.fingerprint,
        **changes,
    }
    return LinearAdapter(**fields)  # type: ignore[arg-type]


class Task:
    """Passages at random; a query is its passage turned by a rotation that the encoder does not know, plus noise."""

    def __init__(self, seed: int = 0) -> None:
        chance = np.random.default_rng(seed)
        self.corpus = unit_rows(chance.standard_normal((80, WIDTH)))
        self.turn = np.linalg.qr(np.eye(WIDTH) + 0.25 * chance.standard_normal((WIDTH, WIDTH)))[0]
        self.train, self.validation, self.test = (self._ask(chance, count) for count in (600, 100, 300))

    def _ask(self, chance: np.random.Generator, count: int) -> Asked:
        rows = chance.integers(0, len(self.corpus), count)
        noise = 0.05 * chance.standard_normal((count, WIDTH))
        return Asked(unit_rows(self.corpus[rows] @ self.turn + noise), [[int(row)] for row in rows])

    def fit(self, **settings: object) -> TrainedAdapter:
        chosen = {"learning_rate": 0.02, "batch_size": 64, "identity_pull": 0.01, **settings}
        return train_adapter(
            self.corpus,
            train=self.train,
            validation=self.validation,
            settings=AdaptationSettings.model_validate(chosen),
            encoder_fingerprint="f" * 64,
        )

    def first_ranks(self, adapter: LinearAdapter, asked: Asked) -> float:
        scores = adapter.apply("query", asked.vectors) @ adapter.apply("passage", self.corpus).T
        return float(np.mean(scores.argmax(axis=1) == [rows[0] for rows in asked.relevant]))


@pytest.fixture(scope="module")
def task() -> Task:
    return Task()


@pytest.fixture(scope="module")
def trained(task: Task) -> TrainedAdapter:
    return task.fit()


def test_a_hidden_rotation_is_found(task: Task, trained: TrainedAdapter) -> None:
    untouched = LinearAdapter(np.eye(WIDTH, dtype=np.float32), None, True, "f" * 64)
    assert task.first_ranks(untouched, task.test) < 0.9
    assert task.first_ranks(trained.adapter, task.test) > task.first_ranks(untouched, task.test) + 0.1


def test_equal_seeds_give_equal_matrices_and_another_seed_another(task: Task, trained: TrainedAdapter) -> None:
    np.testing.assert_array_equal(task.fit().adapter.query, trained.adapter.query)
    assert (task.fit(seed=1).adapter.query != trained.adapter.query).any()


@pytest.mark.parametrize("pull", [1e12, math.inf])
def test_an_endless_pull_stays_at_the_identity(task: Task, pull: float) -> None:
    adapter = task.fit(identity_pull=pull, sides="both").adapter
    np.testing.assert_allclose(adapter.query, np.eye(WIDTH), atol=1e-9)
    assert adapter.passage is not None
    np.testing.assert_allclose(adapter.passage, np.eye(WIDTH), atol=1e-9)


def test_a_stronger_pull_ends_nearer_to_the_identity(task: Task) -> None:
    distances = [
        np.abs(task.fit(identity_pull=pull, epochs=2).adapter.query - np.eye(WIDTH)).sum() for pull in (0.0, 1.0, 5.0)
    ]
    assert distances[0] > distances[1] > distances[2] > 0


def test_the_best_pass_is_kept_and_training_stops_when_patience_ends(trained: TrainedAdapter) -> None:
    measured = [one.validation_mrr_at_10 for one in trained.passes]
    assert [one.number for one in trained.passes] == list(range(len(measured)))
    assert trained.best_pass == int(np.argmax(measured))
    assert len(measured) == 31 or len(measured) - 1 - trained.best_pass == 3


def test_validation_is_never_worse_than_without_an_adapter() -> None:
    task = Task(seed=4)
    swapped = [[(rows[0] + 1) % 80] for rows in task.train.relevant]
    task.train = Asked(task.train.vectors, swapped)  # nothing true can be learnt
    fitted = task.fit(patience=1)
    assert fitted.passes[fitted.best_pass].validation_mrr_at_10 >= fitted.passes[0].validation_mrr_at_10


def test_drawn_candidates_teach_as_the_whole_corpus_does(task: Task) -> None:
    untouched = LinearAdapter(np.eye(WIDTH, dtype=np.float32), None, True, "f" * 64)
    drawn = task.fit(candidates=40).adapter
    assert task.first_ranks(drawn, task.test) > task.first_ranks(untouched, task.test)


def test_a_shorter_dimension_starts_at_the_best_axes_of_the_corpus() -> None:
    task = Task(seed=2)
    flat = task.corpus.copy()
    flat[:, 10:] = 0
    task.corpus = unit_rows(flat)
    adapter = task.fit(sides="both", dimension=10, identity_pull=math.inf).adapter
    mapped = adapter.apply("passage", task.corpus)
    assert mapped.shape == (80, 10)
    np.testing.assert_allclose(mapped @ mapped.T, task.corpus @ task.corpus.T, atol=1e-5)


def test_an_identity_adapter_changes_no_vector() -> None:
    encoder = FakeEncoder()
    adapted = AdaptedEncoder(encoder, _adapter(encoder))
    np.testing.assert_allclose(adapted.encode_queries(TEXTS), encoder.encode_queries(TEXTS), atol=1e-6)
    np.testing.assert_array_equal(adapted.encode_passages(TEXTS), encoder.encode_passages(TEXTS))
    assert adapted.encode_queries([]).shape == (0, encoder.dimension)


def test_a_query_adapter_keeps_the_passages_fingerprint_and_changes_the_queries() -> None:
    encoder = FakeEncoder()
    adapted = AdaptedEncoder(encoder, _adapter(encoder))
    assert adapted.passage_fingerprint == encoder.passage_fingerprint
    assert adapted.query_fingerprint != encoder.query_fingerprint
    assert adapted.fingerprint != encoder.fingerprint


@pytest.mark.parametrize("change", ["matrix", "normalize"])
def test_another_adapter_is_another_fingerprint(change: str) -> None:
    encoder = FakeEncoder()
    changes = {"matrix": {"query": 2 * np.eye(32, dtype=np.float32)}, "normalize": {"normalize": False}}[change]
    one, other = (AdaptedEncoder(encoder, _adapter(encoder, **fields)) for fields in ({}, changes))
    assert one.query_fingerprint != other.query_fingerprint


def test_an_adapter_of_another_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="Train the adapter again"):
        AdaptedEncoder(FakeEncoder(weights="retrained"), _adapter(FakeEncoder()))


def test_a_second_adapter_over_a_cached_encoder_encodes_nothing_again(tmp_path: Path) -> None:
    inner = FakeEncoder()
    for factor in (1, 2):
        cached = CachedEncoder(inner, VectorCache(tmp_path))
        adapted = AdaptedEncoder(cached, _adapter(inner, query=factor * np.eye(32, dtype=np.float32)))
        adapted.encode_queries(TEXTS)
        adapted.encode_passages(TEXTS)
    assert sorted(inner.calls) == sorted(TEXTS)  # its queries and passages share a fingerprint


def test_an_adapted_encoder_fills_an_index() -> None:
    encoder = FakeEncoder()
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((32, 8)))[0].astype(np.float32)
    adapted = AdaptedEncoder(encoder, _adapter(encoder, query=turn, passage=turn))
    index = build_index(TEXTS, adapted.encode_passages(TEXTS), encoder_fingerprint=adapted.fingerprint)
    assert (index.dimension, adapted.dimension, index.encoder_fingerprint) == (8, 8, adapted.fingerprint)


@pytest.mark.parametrize("both", [False, True])
def test_an_adapter_reads_back_as_written_and_equal_ones_are_equal_bytes(tmp_path: Path, both: bool) -> None:
    matrix = np.random.default_rng(1).standard_normal((32, 32)).astype(np.float32)
    adapter = _adapter(FakeEncoder(), query=matrix, passage=matrix.T if both else None)
    files = [write_adapter(adapter, tmp_path / name).read_bytes() for name in ("one", "two")]
    found = read_adapter(tmp_path / "one")
    assert files[0] == files[1]
    np.testing.assert_array_equal(found.query, matrix)
    assert found.digest("query") == adapter.digest("query")
    assert found.digest("passage") == adapter.digest("passage")
    assert (found.normalize, found.encoder_fingerprint) == (True, adapter.encoder_fingerprint)


def test_a_missing_adapter_is_said() -> None:
    with pytest.raises(ValueError, match="Train the adapter again"):
        read_adapter(Path("nowhere"))


@pytest.mark.parametrize(
    "settings", [{"method": "nudge_n", "epochs": 3}, {"dimension": 64}, {"unknown": 1}, {"identity_pull": -1}]
)
def test_settings_without_effect_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        AdaptationSettings.model_validate(settings)
