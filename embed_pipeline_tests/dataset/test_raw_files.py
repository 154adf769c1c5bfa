"""A file that is still on its way is told from one that has arrived, and a copy has the bytes that were looked at."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from embed_pipeline.dataset.raw_files import (
    SETTLE_SECONDS,
    copy_verified,
    is_temporary,
    still_written,
    temporary_files,
)

NOW = 1_800_000_000.0


def _file(path: Path, *, age: float) -> Path:
    path.write_bytes(b"content")
    os.utime(path, (NOW - age, NOW - age))
    return path


@pytest.mark.parametrize("name", ["~$first.xlsx", ".first.xlsx.Xa81", "first.xlsx.part", "a.CRDOWNLOAD", "8A2F.tmp"])
def test_lock_files_and_downloads_are_temporary(name: str) -> None:
    assert is_temporary(name)


@pytest.mark.parametrize("name", ["first.xlsx", "party.xlsx", "a.part.xlsx", "tmp", "$first.xlsx"])
def test_a_name_that_only_resembles_one_is_not(name: str) -> None:
    assert not is_temporary(name)


def test_temporary_files_are_found_in_subfolders_but_not_in_hidden_ones(tmp_path: Path) -> None:
    for name in ("~$a.xlsx", "b.xlsx", "sub/c.pdf.part", ".git/d.tmp", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert temporary_files(tmp_path) == ("sub/c.pdf.part", "~$a.xlsx")


def test_a_file_has_arrived_when_nobody_wrote_to_it_for_long_enough(tmp_path: Path) -> None:
    fresh, old = _file(tmp_path / "a", age=SETTLE_SECONDS - 0.1), _file(tmp_path / "b", age=SETTLE_SECONDS)
    assert still_written([fresh, old], NOW) == (fresh,)


def test_a_clock_that_is_a_little_ahead_does_not_hide_a_writer_and_a_far_future_does_not_block(tmp_path: Path) -> None:
    ahead, far = _file(tmp_path / "a", age=-2), _file(tmp_path / "b", age=-86400)
    assert still_written([ahead, far], NOW) == (ahead,)


def test_a_file_that_is_gone_has_not_arrived(tmp_path: Path) -> None:
    assert still_written([tmp_path / "gone"], NOW) == (tmp_path / "gone",)


def test_a_copy_of_known_bytes_is_made_with_its_folders(tmp_path: Path) -> None:
    source = _file(tmp_path / "a", age=9)
    copy_verified(source, tmp_path / "out" / "deep" / "a", hashlib.sha256(b"content").hexdigest())
    assert (tmp_path / "out" / "deep" / "a").read_bytes() == b"content"


@pytest.mark.parametrize("harm", ["grown", "gone"])
def test_a_file_that_changed_since_it_was_looked_at_is_named_and_leaves_no_copy(tmp_path: Path, harm: str) -> None:
    source = _file(tmp_path / "first.xlsx", age=9)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if harm == "grown":
        source.write_bytes(b"content and more")
    else:
        source.unlink()
    with pytest.raises(ValueError, match=r"first\.xlsx: changed while it was read: .* run again"):
        copy_verified(source, tmp_path / "out", digest)
    assert not (tmp_path / "out").exists()


def test_while_another_process_writes_slowly_the_file_never_counts_as_arrived(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "with open(sys.argv[1], 'wb', buffering=0) as file:\n"
        "    for _ in range(8):\n"
        "        file.write(b'x' * 1000); time.sleep(0.2)\n"
    )
    path = tmp_path / "slow.xlsx"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    looks = 0
    while process.poll() is None:
        assert not path.exists() or still_written([path], time.time()) == (path,)
        looks += path.exists()
        time.sleep(0.05)
    assert process.returncode == 0 and looks > 5
    assert still_written([path], time.time() + SETTLE_SECONDS) == ()


def test_a_thread_that_keeps_writing_never_gets_a_half_file_past_the_copy(tmp_path: Path) -> None:
    """Whatever was copied is what was digested, or it is an error; never other bytes under the digest."""
    source, stop = tmp_path / "slow.bin", threading.Event()
    source.write_bytes(b"0")

    def write() -> None:
        with source.open("ab", buffering=0) as file:
            for _ in range(20_000):  # an end, whatever becomes of the test
                if stop.wait(0.0005):
                    return
                file.write(b"x" * 64)

    writer = threading.Thread(target=write)
    writer.start()
    refused = 0
    try:
        for number in range(20):
            digest = hashlib.sha256(source.read_bytes()).hexdigest()
            time.sleep(0.001 * (number % 3))
            target = tmp_path / f"copy{number}"
            try:
                copy_verified(source, target, digest)
                assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
            except ValueError:
                refused += 1
    finally:
        stop.set()
        writer.join()
    assert refused > 0
