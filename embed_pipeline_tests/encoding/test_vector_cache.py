"""Laws of the vector cache: nothing stale, nothing lost, nothing twice."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from embed_pipeline.encoding.encoder import EncoderSettings, Role
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline_tests.fakes import FakeEncoder

ROOT = Path(__file__).parents[2]
FINGERPRINT = "a" * 64


def vectors_of(texts: list[str], dimension: int = 4) -> np.ndarray:
    return np.array([[len(text), index, -1.5, 0] for index, text in enumerate(texts)], dtype=np.float32)[:, :dimension]


def test_what_was_stored_is_found_bit_for_bit_in_the_order_asked(tmp_path: Path) -> None:
    cache, texts = VectorCache(tmp_path), [f"text {number}" for number in range(2500)]
    cache.store(FINGERPRINT, texts, vectors_of(texts))
    asked = [*reversed(texts), "new", texts[3]]
    found = VectorCache(tmp_path).lookup(FINGERPRINT, asked, 4)
    assert found.found.tolist() == [True] * 2500 + [False, True]
    np.testing.assert_array_equal(found.vectors[:2500], vectors_of(texts)[::-1])
    np.testing.assert_array_equal(found.vectors[2501], vectors_of(texts)[3])


def test_another_fingerprint_or_dimension_finds_nothing(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.store(FINGERPRINT, ["a"], vectors_of(["a"]))
    assert not cache.lookup("b" * 64, ["a"], 4).found.any()
    assert not cache.lookup(FINGERPRINT, ["a"], 3).found.any()


def test_a_second_run_encodes_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = [f"question {number}" for number in range(600)] * 2
    first = CachedEncoder(FakeEncoder(), VectorCache(tmp_path))
    vectors = first.encode_queries(texts)
    assert (first.encoded, first.served) == (600, 0)
    np.testing.assert_array_equal(vectors, FakeEncoder().encode_queries(texts))
    second = CachedEncoder(FakeEncoder(), VectorCache(tmp_path))
    assert second.encode_queries(texts).tobytes() == vectors.tobytes()
    assert (second.encoded, second.served) == (0, 600)


def test_appended_texts_cost_their_own_encoding_only(tmp_path: Path) -> None:
    CachedEncoder(FakeEncoder(), VectorCache(tmp_path)).encode_passages(["old a", "old b"])
    later = FakeEncoder()
    CachedEncoder(later, VectorCache(tmp_path)).encode_passages(["old a", "new", "old b", "new"])
    assert later.calls == ["new"]


def test_queries_and_passages_share_vectors_only_when_encoded_alike(tmp_path: Path) -> None:
    alike = CachedEncoder(FakeEncoder(), VectorCache(tmp_path / "alike"))
    alike.encode_passages(["a"])
    alike.encode_queries(["a"])
    assert (alike.encoded, alike.served) == (1, 1)
    prompted = CachedEncoder(FakeEncoder(query_instruction="q: "), VectorCache(tmp_path / "prompted"))
    assert not np.array_equal(prompted.encode_passages(["a"]), prompted.encode_queries(["a"]))
    assert (prompted.encoded, prompted.served) == (2, 0)


def test_empty_input_keeps_the_dimension(tmp_path: Path) -> None:
    assert CachedEncoder(FakeEncoder(7), VectorCache(tmp_path)).encode_queries([]).shape == (0, 7)


def test_a_retrain_in_place_meets_no_stale_vector_and_a_rename_every_vector(
    settings: EncoderSettings, model_copy: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    cache, texts = VectorCache(tmp_path / "cache"), ["diabetes", "high blood pressure"]
    before = CachedEncoder(load_local_encoder(settings, directory=model_copy), cache)
    old = before.encode_queries(texts)

    renamed = model_copy.rename(tmp_path / "renamed")
    local = load_local_encoder(settings, directory=renamed)
    moved = CachedEncoder(local, cache)
    np.testing.assert_array_equal(moved.encode_queries(texts), old)
    assert (moved.encoded, moved.served, local.is_loaded) == (0, 2, False)

    weights = load_file(renamed / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    save_file({**weights, name: weights[name][::-1].copy()}, renamed / "model.safetensors", metadata={"format": "pt"})
    retrained = CachedEncoder(load_local_encoder(settings, directory=renamed), cache)
    new = retrained.encode_queries(texts)
    assert (retrained.encoded, retrained.served) == (2, 0)
    assert (new * old).sum(axis=1).max() < 0.99


class PortionedEncoder(FakeEncoder):
    """Wants three texts at a time, and fails at the portion whose number is given."""

    def __init__(self, fails_at: int | None) -> None:
        super().__init__()
        self.fails_at = fails_at
        self.portions_seen: list[list[str]] = []

    def portions(self, role: Role, texts: Sequence[str]) -> list[int]:
        return [min(3, len(texts) - start) for start in range(0, len(texts), 3)]

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.portions_seen) == self.fails_at:
            raise ValueError("failed as told")
        self.portions_seen.append(list(texts))
        return super().encode_passages(texts)


def test_an_encoder_with_portions_of_its_own_keeps_each_before_the_next(tmp_path: Path) -> None:
    texts = [f"text {number:02d}" for number in range(11)]
    first = PortionedEncoder(fails_at=2)
    with pytest.raises(ValueError, match="failed as told"):
        CachedEncoder(first, VectorCache(tmp_path)).encode_passages(texts)
    assert first.portions_seen == [texts[0:3], texts[3:6]]
    second = PortionedEncoder(fails_at=None)
    vectors = CachedEncoder(second, VectorCache(tmp_path)).encode_passages(texts)
    assert second.portions_seen == [texts[6:9], texts[9:]]
    np.testing.assert_array_equal(vectors, FakeEncoder().encode_passages(texts))


WRITER = """
import sys, time
from pathlib import Path
from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache
from embed_pipeline_tests.fakes import FakeEncoder

class SlowEncoder(FakeEncoder):
    def encode_queries(self, texts):
        time.sleep(float(sys.argv[2]))
        return super().encode_queries(texts)

def say(done, total):
    print(done, flush=True)

texts = [f"text {number:05d}" for number in range(int(sys.argv[3]), int(sys.argv[4]))]
CachedEncoder(SlowEncoder(4), VectorCache(Path(sys.argv[1])), progress=say).encode_queries(texts)
"""


def start_writer(directory: Path, *, seconds: float, first: int, last: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(directory), str(seconds), str(first), str(last)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_keeps_every_portion_it_committed(tmp_path: Path) -> None:
    process = start_writer(tmp_path, seconds=0.05, first=0, last=100_000)
    assert process.stdout is not None
    committed = [int(process.stdout.readline()) for _ in range(3)][-1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    texts = [f"text {number:05d}" for number in range(4096)]
    again = CachedEncoder(FakeEncoder(4), VectorCache(tmp_path))
    vectors = again.encode_queries(texts)
    assert again.served >= committed == 768
    np.testing.assert_array_equal(vectors, FakeEncoder(4).encode_queries(texts))


def test_two_processes_write_one_cache_without_losing_a_vector(tmp_path: Path) -> None:
    started = time.monotonic()
    writers = [
        start_writer(tmp_path, seconds=0.0, first=0, last=3000),
        start_writer(tmp_path, seconds=0.0, first=1500, last=4500),
    ]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0, f"failed after {time.monotonic() - started:.1f} s"
    texts = [f"text {number:05d}" for number in range(4500)]
    reader = CachedEncoder(FakeEncoder(4), VectorCache(tmp_path))
    reader.encode_queries(texts)
    assert (reader.encoded, reader.served) == (0, 4500)


BEGINNER = """
import sys, time
from pathlib import Path
import numpy as np
from embed_pipeline.encoding.vector_cache import VectorCache

for number in range(30):
    folder = Path(sys.argv[1]) / str(number)
    (folder / sys.argv[2]).mkdir(parents=True)
    while len([*folder.glob("ready*")]) < 2:
        time.sleep(0)
    VectorCache(folder).store("a" * 64, [sys.argv[2]], np.zeros((1, 4), dtype=np.float32))
"""


def test_two_processes_may_begin_one_file_at_the_same_moment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BEGINNER, str(tmp_path)]
    beginners = [subprocess.Popen([*command, f"ready{number}"], cwd=ROOT) for number in range(2)]
    assert [beginner.wait(timeout=60) for beginner in beginners] == [0, 0]
    for number in range(30):
        assert VectorCache(tmp_path / str(number)).lookup("a" * 64, ["ready0", "ready1"], 4).found.all()


def only_file(directory: Path) -> Path:
    (path,) = directory.glob("*.sqlite")
    return path


@pytest.mark.parametrize("damage", ["garbage", "truncated", "emptied", "middle"])
def test_a_damaged_file_is_never_served_and_is_begun_anew(tmp_path: Path, damage: str) -> None:
    texts = [f"text {number}" for number in range(400)]
    CachedEncoder(FakeEncoder(), VectorCache(tmp_path)).encode_queries(texts)
    path = only_file(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        content[:] = b"not a database" * 1000
    elif damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "emptied":
        content.clear()
    else:
        content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    path.write_bytes(content)

    expected = FakeEncoder().encode_queries(texts)
    np.testing.assert_array_equal(CachedEncoder(FakeEncoder(), VectorCache(tmp_path)).encode_queries(texts), expected)
    healed = CachedEncoder(FakeEncoder(), VectorCache(tmp_path))
    np.testing.assert_array_equal(healed.encode_queries(texts), expected)
    assert (healed.encoded, healed.served) == (0, 400)


def test_a_flipped_bit_in_a_vector_is_a_miss(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    cache.store(FINGERPRINT, ["a", "b"], vectors_of(["a", "b"]))
    with sqlite3.connect(only_file(tmp_path)) as connection:
        rows = connection.execute("SELECT text_digest, vector FROM vectors ORDER BY vector").fetchall()
        digest, vector = rows[0]
        flipped = bytes([vector[0] ^ 1]) + vector[1:]
        connection.execute("UPDATE vectors SET vector = ? WHERE text_digest = ?", (flipped, digest))
    connection.close()
    assert VectorCache(tmp_path).lookup(FINGERPRINT, ["a", "b"], 4).found.sum() == 1


def test_gc_keeps_the_named_fingerprints_and_only_their_newest_generation(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    for fingerprint in ("a" * 64, "b" * 64):
        cache.store(fingerprint, ["x"], vectors_of(["x"]))
    only_a = tmp_path / f"{'a' * 64}.0.sqlite"
    only_a.write_bytes(b"damaged" * 500)
    cache.store("a" * 64, ["x"], vectors_of(["x"]))
    assert cache.gc(keep=["a" * 64]) > 0
    assert cache.lookup("a" * 64, ["x"], 4).found.all()
    assert sorted(path.name for path in tmp_path.glob("*.sqlite")) == [f"{'a' * 64}.1.sqlite"]
    assert VectorCache(tmp_path / "missing").gc(keep=[]) == 0


def poison(cache: VectorCache) -> list[str]:
    """Six good texts, and vectors of every kind that is none of a text: what is at fault, by its words."""
    good = [f"good {number}" for number in range(6)]
    cache.store(FINGERPRINT, good, FakeEncoder(4).encode_passages(good))
    faults = np.array([[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 0], [0, 3, 0, 0], [0, 0.5, 0, 0]], np.float32)
    cache.store(FINGERPRINT, [f"bad {number}" for number in range(5)], faults)
    cache.store(FINGERPRINT, [f"same {number}" for number in range(8)], np.tile(np.float32([0, 0.6, 0.8, 0]), (8, 1)))
    return good


def test_kept_vectors_that_are_none_of_a_text_are_counted_by_kind_and_removed(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    good = poison(cache)
    kinds = {"zeros": 1, "not finite": 2, "not of length 1": 2, "one for many texts": 8}
    assert cache.recheck(FINGERPRINT, unit_length=True, dry_run=True) == (19, kinds)
    assert cache.recheck(FINGERPRINT, unit_length=True) == (19, kinds)
    assert cache.recheck(FINGERPRINT, unit_length=True) == (6, {})
    assert cache.lookup(FINGERPRINT, good, 4).found.all()
    assert not cache.lookup(FINGERPRINT, ["bad 0", "same 0"], 4).found.any()


def test_an_encoder_whose_vectors_have_any_length_is_not_held_to_one(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path)
    poison(cache)
    found = cache.recheck(FINGERPRINT, unit_length=False)[1]
    assert found == {"zeros": 1, "not finite": 2, "one for many texts": 8}


def test_looking_at_vectors_begins_no_file(tmp_path: Path) -> None:
    assert VectorCache(tmp_path / "none").recheck(FINGERPRINT, unit_length=True) == (0, {})
    assert not (tmp_path / "none").exists()


def test_one_vector_per_text_is_demanded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 texts, 1 vectors"):
        VectorCache(tmp_path).store(FINGERPRINT, ["a", "b"], vectors_of(["a"]))
