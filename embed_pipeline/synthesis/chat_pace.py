"""When the next attempt may be sent: so many a minute, and not while the service asks to wait.

Belongs here: the clock that all threads of one model share. Does not belong here: who attempts what (hosted_chat.py).
"""

import threading
import time


class Pace:
    """Attempts spread evenly, one every 60 / requests_per_minute seconds; for any number of threads."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._apart = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Returns when an attempt may be sent, or at once when `stop` is set."""
        while not stop.is_set():
            with self._lock:
                left = self._next - time.monotonic()
                if left <= 0:
                    self._next = time.monotonic() + self._apart
                    return
            stop.wait(left)

    def hold(self, seconds: float) -> None:
        """No attempt may be sent before so many seconds have passed."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
