"""The file of the metrics table: whose turn it is, what it looks like damaged, the mark beside it.

Belongs here: locks, waiting and what is said meanwhile, errors of DuckDB in words. Does not belong here: what the table
holds (database).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from embed_pipeline.paths import write_whole

if TYPE_CHECKING:
    import duckdb

LOCK_TIMEOUT_SECONDS = 60.0

BATCH_SUFFIX = ".batch"
"""Of the mark beside the database: number of the newest batch, size and time of the file that has it."""

WAL_SUFFIX = ".wal"
"""Of what DuckDB wrote and has not put into the database yet."""

Say = Callable[[str], None]
_OWN_SECONDS = 3.0  # what appending takes; longer is worth a word
_LOCKED = ("lock", "different configuration")
_OTHER_TROUBLE = ("No space left", "Permission denied", "Read-only file system", "quota")


class DamagedTableError(ValueError):
    """The file is no table of metrics, or no longer: the next run makes it again from the store."""


class Turn:
    """The file while nobody else of embed-pipeline has it.

    DuckDB lets one process at a time write a file, and others read it while nobody writes. Its own lock comes too late
    for a new file: of two processes that find none, the second creates it over the first one's rows. So ours is taken
    before; DuckDB's remains for programs that do not know ours. Both go with the process, however it ends.
    """

    def __init__(self, path: Path, timeout_seconds: float, say: Say) -> None:
        self.path, self.timeout_seconds, self.say = path, timeout_seconds, say
        self.deadline = time.monotonic() + timeout_seconds

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Our lock, held; says so where it has to be waited for."""
        import filelock

        lock = filelock.FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            lock.acquire(timeout=min(_OWN_SECONDS, self.timeout_seconds))
        except filelock.Timeout:
            self._say_waiting("another run of embed-pipeline works with it")
            try:
                lock.acquire(timeout=max(0.0, self.deadline - time.monotonic()))
            except filelock.Timeout as error:
                raise TimeoutError(
                    f"{self.path}: still locked by another run of embed-pipeline after {self.timeout_seconds:g} s. "
                    "Wait for it and run again."
                ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def connected(self, *, read_only: bool) -> "Iterator[duckdb.DuckDBPyConnection]":
        """A connection that is closed, and with it every open transaction rolled back, on the way out."""
        import duckdb

        try:
            connection = self._open(read_only)
            try:
                yield connection
            finally:
                connection.close()
        except duckdb.ConstraintException:
            raise  # a row that may not be
        except duckdb.Error as error:
            if any(words in str(error) for words in _OTHER_TROUBLE):
                raise OSError(f"{self.path}: {_first_line(error)}. Free space or give the right to write.") from error
            raise DamagedTableError(
                f"{self.path}: expected the table of metrics, found a damaged file: {_first_line(error)}. The next "
                "`embed-pipeline run` makes it again from the store."
            ) from error

    def _open(self, read_only: bool) -> "duckdb.DuckDBPyConnection":
        import duckdb

        pause = 0.01
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=read_only)
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                if not any(words in str(error) for words in _LOCKED):
                    raise
                if read_only and isinstance(error, duckdb.ConnectionException):  # this process has it open to write
                    return duckdb.connect(str(self.path))
                if pause == 0.01:
                    self._say_waiting("another program has it open")
                if time.monotonic() + pause > self.deadline:
                    raise TimeoutError(
                        f"{self.path}: still locked by another process after {self.timeout_seconds:g} s. Close the "
                        f"program that has it open (often a DuckDB shell) and run again. DuckDB says: "
                        f"{_first_line(error)}"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, 0.2)

    def _say_waiting(self, why: str) -> None:
        left = self.deadline - time.monotonic()
        if left > 1:
            self.say(f"{self.path}: {why}; waiting for at most {left:.0f} s")


def set_aside(path: Path) -> Path:
    """Move a damaged file, and what belongs to it, out of the way; nothing is deleted."""
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    for suffix in ("", WAL_SUFFIX):
        with suppress(FileNotFoundError):
            found = path.with_name(path.name + suffix)
            found.rename(found.with_name(f"{path.name}.damaged-{moment}{suffix}"))
    mark_path(path).unlink(missing_ok=True)
    return path.with_name(f"{path.name}.damaged-{moment}")


def state_of(path: Path) -> tuple[int, int]:
    """Size and time of a file, which change with its content."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def mark_path(path: Path) -> Path:
    """Where the mark of a table lies: the number of its newest batch, with the `state_of` the file that has it."""
    return path.with_name(path.name + BATCH_SUFFIX)


def read_mark(path: Path) -> tuple[int, tuple[int, int]] | None:
    """The number of the newest batch, and the state of the file that had it; None where nobody knows."""
    try:
        batch, size, modified = mark_path(path).read_text(encoding="ascii").split()
        return int(batch), (int(size), int(modified))
    except (OSError, ValueError):  # none, cut off by a power cut, or of an earlier version
        return None


def write_mark(path: Path, batch: int) -> None:
    """Say which batch is the newest of the file as it is now."""
    size, modified = state_of(path)
    write_whole(mark_path(path), f"{batch} {size} {modified}\n".encode())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(" See also")[0].rstrip("!.")
