"""Laws of the call cache: what was stored comes back, from any process, whatever happened to the file."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_pipeline.synthesis.call_cache import CallCache, StoredAnswer

ROOT = Path(__file__).parents[2]


def answer(text: str | None = "a", **changes: object) -> StoredAnswer:
    found = {"finish_reason": "stop", "refusal": "", "prompt_tokens": 3, "answer_tokens": 5}
    return StoredAnswer(text=text, **{**found, **changes})  # type: ignore[arg-type]


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@given(
    text=st.none() | st.text(st.characters(), max_size=50),
    refusal=st.text(st.characters(), max_size=9),
    tokens=st.integers(0, 2**40),
)
@settings(max_examples=40, deadline=None)
def test_every_answer_comes_back_as_it_was(
    text: str | None, refusal: str, tokens: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("calls")
    stored = answer(text, refusal=refusal, prompt_tokens=tokens)
    assert CallCache(directory).store(key(1), stored) == stored
    assert CallCache(directory).lookup([key(1), key(2), key(1)]) == {key(1): stored}


def test_many_keys_are_looked_up_at_once(tmp_path: Path) -> None:
    cache = CallCache(tmp_path)
    for number in range(0, 60, 2):
        cache.store(key(number), answer(str(number)))
    found = cache.lookup([key(number) for number in range(3000)])
    assert found == {key(number): answer(str(number)) for number in range(0, 60, 2)}
    assert cache.lookup([]) == {}


def test_of_two_answers_to_one_call_the_first_stays(tmp_path: Path) -> None:
    cache = CallCache(tmp_path)
    assert cache.store(key(1), answer("first")) == cache.store(key(1), answer("second")) == answer("first")


def test_a_row_that_was_changed_on_disk_is_not_found_and_can_be_stored_again(tmp_path: Path) -> None:
    cache = CallCache(tmp_path)
    cache.store(key(1), answer("the text to be changed"))
    cache.store(key(2), answer("another"))
    (path,) = tmp_path.glob("calls.*.sqlite")
    path.write_bytes(path.read_bytes().replace(b"to be changed", b"that was wrong"[:13]))
    assert cache.lookup([key(1), key(2)]) == {key(2): answer("another")}
    assert cache.store(key(1), answer("new")) == answer("new")
    assert cache.lookup([key(1)]) == {key(1): answer("new")}


@pytest.mark.parametrize("damage", [b"not a database", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_file_is_left_alone_and_a_new_one_begun(tmp_path: Path, damage: bytes) -> None:
    cache = CallCache(tmp_path)
    cache.store(key(1), answer())
    (path,) = tmp_path.glob("calls.*.sqlite")
    path.write_bytes(damage)
    assert cache.lookup([key(1)]) == {}
    assert cache.store(key(1), answer("new")) == answer("new")
    assert cache.lookup([key(1)]) == {key(1): answer("new")}
    assert path.read_bytes() == damage and len(list(tmp_path.glob("calls.*.sqlite"))) == 2


WRITER = """
import sys
from pathlib import Path
from embed_pipeline_tests.synthesis.test_chat_cache import answer, key
from embed_pipeline.synthesis.call_cache import CallCache

cache = CallCache(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), 60):
    cache.store(key(number), answer(str(number)))
"""


def test_processes_and_threads_begin_and_fill_one_file_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, str(first)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for first in (0, 20)
    ]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    cache = CallCache(tmp_path)
    threads = [
        threading.Thread(target=lambda first=first: [cache.store(key(n), answer(str(n))) for n in range(first, 90)])
        for first in (40, 50)
    ]
    for thread in threads:
        thread.start()
    for process in processes:
        assert process.communicate("\n", timeout=30) is not None and process.returncode == 0
    for thread in threads:
        thread.join()
    assert cache.lookup([key(number) for number in range(90)]) == {key(n): answer(str(n)) for n in range(90)}
