import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embed_pipeline.artifacts.digests import DigestCache


@contextmanager
def opened_below(directory: Path) -> Iterator[list[str]]:
    """Paths of the files that are opened meanwhile. (The interpreter cannot drop an audit hook, only ignore it.)"""
    opened: list[str] = []
    active = True

    def note(event: str, arguments: tuple) -> None:
        if active and event == "open" and str(arguments[0]).startswith(str(directory)):
            opened.append(str(arguments[0]))

    sys.addaudithook(note)
    try:
        yield opened
    finally:
        active = False


def test_unchanged_content_is_read_once(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("rows")
    time.sleep(0.06)
    cache = DigestCache()
    with opened_below(tmp_path) as opened:
        first = cache.digest_of(tmp_path)
        assert len(opened) == 2
        assert cache.digest_of(tmp_path) == first
        assert len(opened) == 2


def test_a_directory_that_moved_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.txt").write_text("rows")
    time.sleep(0.06)
    cache = DigestCache()
    first = cache.digest_of(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    with opened_below(tmp_path) as opened:
        assert cache.digest_of(tmp_path / "new") == first
    assert opened == []


def test_a_change_is_seen_even_with_the_old_size_and_modification_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("rows")
    times = path.stat()
    cache = DigestCache()
    for wait in (0, 0.06):
        time.sleep(wait)
        before = cache.digest_of(tmp_path)
        path.write_text(path.read_text()[::-1])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert cache.digest_of(tmp_path) != before


def test_names_and_content_cannot_be_mistaken_for_each_other(tmp_path: Path) -> None:
    cache = DigestCache()
    layouts = [{"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a/b": "c"}, {"a\nb": "c"}, {"a": "", "b": "c"}]
    digests = set()
    for number, files in enumerate(layouts):
        for name, text in files.items():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        digests.add(cache.digest_of(tmp_path / str(number)))
    assert len(digests) == len(layouts)
