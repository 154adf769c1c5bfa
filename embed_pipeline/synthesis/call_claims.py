"""Who is making which call, so that two processes that need the same answer ask for it once.

Belongs here: claims, which end with the process that holds them, also when it is killed. Does not belong here: the
answers (call_cache.py); equal requests of one process, which are one call already (hosted_chat.py).

A claim is a lock on one byte of a file that stays empty, at a place that the call's key decides.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS_BETWEEN_TRIES = 0.02
_PLACES = 2**62


class CallClaims:
    """Claims among the processes of one machine; where the system has no such locks, every claim is granted."""

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
