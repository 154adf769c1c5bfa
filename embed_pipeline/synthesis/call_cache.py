"""Answers of chat models kept per call across assets and runs, keyed by everything that decides them.

Belongs here: where answers lie on disk, how they survive kills, damage and other processes, who is asking for one. Does
not belong here: what a call's key is made of, what an answer is worth (chat_answers.py).

A damaged file is left alone and the next generation of it is begun, because renaming or deleting a database that
another process has open would damage the new one.
"""

import os
import re
import sqlite3
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

Result = TypeVar("Result")

_SECONDS_BETWEEN_TRIES = 0.02
_PLACES = 2**62
_KEYS_PER_LOOKUP = 500
_LOCK_TIMEOUT_SECONDS = 120
_FILE_NAME = re.compile(r"calls\.(?P<generation>\d+)\.sqlite")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS calls (key BLOB PRIMARY KEY, text BLOB, finish_reason TEXT NOT NULL, refusal BLOB NOT "
    "NULL, prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL, at TEXT NOT NULL, checksum INTEGER NOT NULL)"
)
_LOOKUP = (
    "SELECT key, text, finish_reason, refusal, prompt_tokens, answer_tokens, checksum FROM calls WHERE key IN ({})"
)
_STORE = "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class CallClaims:
    """Who is making which call, so that two processes of one machine that need the same answer ask for it once.

    A claim is a lock on one byte of a file that stays empty, at a place that the call's key decides: it ends with the
    process that holds it, also when that is killed. Where the system has no such locks, every claim is granted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._opening = threading.Lock()

    @contextmanager
    def claim(self, key: bytes, stop: threading.Event) -> Iterator[None]:
        """Returns when no other process holds the key, or when `stop` is set."""
        if sys.platform == "win32":
            yield
            return
        import fcntl

        file, place = self._open(), int.from_bytes(key[:8], "big") % _PLACES
        while not stop.is_set():
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                stop.wait(_SECONDS_BETWEEN_TRIES)
            else:
                break
        try:
            yield
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    def _open(self) -> int:
        with self._opening:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # Left open: a process loses all its locks on a file as soon as it closes the file once.
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            return self._file


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a service answered to one call, unjudged."""

    text: str | None
    """None where the service sent none."""
    finish_reason: str
    """The service's word for why the text ends; empty where it says none."""
    refusal: str
    """What the model said instead of an answer; empty where it did not refuse."""
    prompt_tokens: int
    answer_tokens: int


class CallCache:
    """Answers under one directory; safe for threads, several processes, a kill at any moment, and damaged files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def lookup(self, keys: Sequence[bytes]) -> dict[bytes, StoredAnswer]:
        """What is stored for the keys; a row whose checksum is wrong counts as not found."""
        return self._run(lambda connection: _select(connection, keys)) if keys else {}

    def store(self, key: bytes, answer: StoredAnswer) -> StoredAnswer:
        """The answer that is kept for the key, committed before this returns; one that was there already stays."""
        columns = _columns(answer)
        row = (key, *columns, datetime.now(UTC).isoformat(timespec="seconds"), _checksum(key, columns))

        def keep(connection: sqlite3.Connection) -> StoredAnswer:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                kept = _select(connection, [key]).get(key)
                if kept is None:
                    connection.execute(_STORE, row)
            return kept or answer

        return self._run(keep)

    def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        generation = self._generation()
        try:
            with self._open(generation) as connection:
                return work(connection)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise
        with self._open(generation + 1) as connection:
            return work(connection)

    @contextmanager
    def _open(self, generation: int) -> Iterator[sqlite3.Connection]:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"calls.{generation}.sqlite"
        with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_SECONDS)) as connection:
            # SQLite does not wait for another process that begins the same file; it fails with "database is locked".
            with FileLock(self.directory / "opening.lock", timeout=_LOCK_TIMEOUT_SECONDS, poll_interval=0.002):
                connection.execute("PRAGMA journal_mode=WAL")
                # Survives a kill whole; a loss of power may take the last answers, never the file.
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(_SCHEMA)
            yield connection

    def _generation(self) -> int:
        names = (_FILE_NAME.fullmatch(path.name) for path in self.directory.glob("calls.*.sqlite"))
        return max((int(name["generation"]) for name in names if name), default=0)


def _select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, StoredAnswer]:
    found = {}
    for start in range(0, len(keys), _KEYS_PER_LOOKUP):
        part = keys[start : start + _KEYS_PER_LOOKUP]
        for key, *columns, checksum in connection.execute(_LOOKUP.format(",".join("?" * len(part))), part):
            if _checksum(key, columns) == checksum:
                found[key] = _answer(columns)
    return found


def _columns(answer: StoredAnswer) -> list[bytes | str | int | None]:
    # As bytes: an answer may hold halves of characters, which SQLite does not take as text.
    text = None if answer.text is None else answer.text.encode(errors="surrogatepass")
    refusal = answer.refusal.encode(errors="surrogatepass")
    return [text, answer.finish_reason, refusal, answer.prompt_tokens, answer.answer_tokens]


def _answer(columns: Sequence) -> StoredAnswer:
    text, finish_reason, refusal, prompt_tokens, answer_tokens = columns
    return StoredAnswer(
        text=None if text is None else text.decode(errors="surrogatepass"),
        finish_reason=finish_reason,
        refusal=refusal.decode(errors="surrogatepass"),
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
    )


def _checksum(key: bytes, columns: Sequence) -> int:
    return zlib.crc32(repr((key, *columns)).encode())
