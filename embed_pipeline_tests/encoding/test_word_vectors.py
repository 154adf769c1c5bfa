"""Laws of word vectors: shared contexts make words close, equal texts give equal bytes, a text is a weighted mean."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.encoding.word_vectors import (
    VECTORS_FILE,
    WordVectorEncoder,
    WordVectors,
    WordVectorSettings,
    read_word_vectors,
    train_word_vectors,
    write_word_vectors,
)
from embed_pipeline.records import Query
from embed_pipeline.retrieval.faiss_index import build_index
from embed_pipeline.retrieval.search import DenseRetriever

SMALL = WordVectorSettings(dimension=16, window=3, epochs=10)


def planted_texts() -> list[str]:
    """Cat and dog between the same words, bond between others, each word of a group equally often."""
    chance = random.Random(0)
    animal, money = ["feeds", "purrs", "garden", "paw"], ["market", "yield", "coupon", "broker"]
    groups = [("cat", animal), ("dog", animal), ("bond", money)] * 150
    return [" ".join([*chance.sample(words, 2), subject, *chance.sample(words, 2)]) for subject, words in groups]


def by_hand(**changes: object) -> WordVectors:
    vectors = np.array([[3, 0], [0, 2], [-1, 1]], dtype=np.float32)
    settings = WordVectorSettings(dimension=2, smoothing=0.1)
    parts = {"words": ("a", "b", "c"), "counts": (6, 3, 1), "vectors": vectors, "language": "en", "settings": settings}
    return WordVectors(**{**parts, **changes})  # pyright: ignore[reportArgumentType]


def test_words_of_the_same_contexts_end_up_closer_than_words_that_never_meet() -> None:
    trained = train_word_vectors(planted_texts(), SMALL.model_copy(update={"epochs": 100}), "en")
    units = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    cat, dog, bond = (units[trained.words.index(word)] for word in ("cat", "dog", "bond"))
    assert cat @ dog > cat @ bond + 0.2
    assert cat @ dog > dog @ bond + 0.2


def test_every_word_that_is_frequent_enough_has_a_row_the_most_frequent_first() -> None:
    texts = ["b b b c", "a a c d", "高 高"]
    trained = train_word_vectors(texts, SMALL.model_copy(update={"min_count": 2}), "en")
    assert trained.words[0] == "b"
    assert dict(zip(trained.words, trained.counts, strict=True)) == {"b": 3, "a": 2, "c": 2, "高": 2}
    assert trained.vectors.shape == (4, 16)
    assert trained.vectors.dtype == np.float32


@pytest.mark.parametrize("texts", [[], ["?!", ""], ["rare words only"]])
def test_texts_without_a_frequent_word_give_no_rows_and_zero_vectors(texts: list[str]) -> None:
    trained = train_word_vectors(texts, SMALL.model_copy(update={"min_count": 2}), "en")
    assert trained.words == ()
    assert not WordVectorEncoder(trained).encode_queries(["rare words"]).any()


def test_a_text_is_the_mean_of_its_words_with_rare_words_weighing_more() -> None:
    # shares .6 and .3 at smoothing .1: weights 1/7 and 1/4, so (2 * 3/7, 2/4) before it is scaled
    expected = np.array([6 / 7, 2 / 4]) / np.hypot(6 / 7, 2 / 4)
    encoded = WordVectorEncoder(by_hand()).encode_queries(["A, b unknown a", "b a a"])
    assert encoded == pytest.approx(np.stack([expected, expected]), abs=1e-6)
    assert encoded.dtype == np.float32


def test_both_roles_are_alike_and_neighbours_in_a_batch_move_nothing() -> None:
    encoder = WordVectorEncoder(train_word_vectors(planted_texts(), SMALL, "en"))
    texts = [*planted_texts() * 3, "cat bond", ""]
    encoded = encoder.encode_passages(texts)
    assert (encoder.encode_queries(texts) == encoded).all()
    assert (np.concatenate([encoder.encode_queries([text]) for text in texts[-50:]]) == encoded[-50:]).all()
    assert np.linalg.norm(encoded[:-1], axis=1) == pytest.approx(1)
    assert encoder.encode_queries([]).shape == (0, encoder.dimension)


def test_a_text_without_a_known_word_scores_0_with_all() -> None:
    encoder = WordVectorEncoder(by_hand())
    passages = ["b", "zzz", "a"]
    vectors = encoder.encode_passages(passages)
    index = build_index(["p2", "p1", "p0"], vectors, encoder_fingerprint=encoder.fingerprint)
    hits = DenseRetriever(index, encoder).search([Query("q", "unknown", "test"), Query("r", "b", "test")], 3)
    assert [(hit.passage_id, hit.score) for hit in hits[:3]] == [("p0", 0.0), ("p1", 0.0), ("p2", 0.0)]
    assert hits[3].passage_id == "p2"


def test_the_fingerprint_changes_with_everything_that_changes_a_vector() -> None:
    moved = by_hand().vectors + np.float32(1e-6)
    settings = WordVectorSettings(dimension=2, smoothing=0.2)
    others: list[dict[str, object]] = [
        {"words": ("a", "b", "d")},
        {"counts": (6, 2, 1)},
        {"vectors": moved},
        {"language": "zh"},
        {"settings": settings},
    ]
    fingerprints = {WordVectorEncoder(by_hand(**change)).fingerprint for change in others}
    assert len(fingerprints | {WordVectorEncoder(by_hand()).fingerprint}) == 1 + len(others)
    assert WordVectorEncoder(by_hand()).fingerprint == WordVectorEncoder(by_hand()).fingerprint


def test_word_vectors_read_back_are_the_same_encoder(tmp_path: Path) -> None:
    for trained in (by_hand(), train_word_vectors(["高血压 abc"], SMALL, "zh"), train_word_vectors([], SMALL, "en")):
        write_word_vectors(trained, tmp_path)
        read = read_word_vectors(tmp_path)
        assert WordVectorEncoder(read).fingerprint == WordVectorEncoder(trained).fingerprint
        assert (read.words, read.settings) == (trained.words, trained.settings)


def test_files_of_two_trainings_are_refused(tmp_path: Path) -> None:
    write_word_vectors(by_hand(), tmp_path)
    np.save(tmp_path / VECTORS_FILE, np.zeros((4, 2), np.float32), allow_pickle=False)
    with pytest.raises(ValueError, match="different trainings"):
        read_word_vectors(tmp_path)


TRAINER = """
import sys
from pathlib import Path
from embed_pipeline.encoding.word_vectors import WordVectorSettings, train_word_vectors, write_word_vectors
texts = ["高血压和糖尿病 能投保吗", "甲状腺结节 能买重疾险吗", "血压 有点高", "结节 三级"] * 400
settings = WordVectorSettings(dimension=16, epochs=3, seed=int(sys.argv[2]))
write_word_vectors(train_word_vectors(texts, settings, "zh"), Path(sys.argv[1]))
"""


def test_the_trained_bytes_depend_on_texts_and_seed_and_not_on_the_process(tmp_path: Path) -> None:
    digests = []
    for hash_seed, seed in (("1", "0"), ("2", "0"), ("1", "5")):
        directory = tmp_path / f"{hash_seed} {seed}"
        command = [sys.executable, "-W", "ignore", "-c", TRAINER, str(directory), seed]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        result = subprocess.run(
            command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
        )
        assert (result.stdout, result.stderr) == ("", "")
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())])
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
