"""How far a long step is, in words: share done, rate and time left.

Does not belong here: the progress of a training (training/progress), which another process reports.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

TENTHS = 10
SILENT_SECONDS = 30.0
"""A step that takes longer for a tenth of its way says how far it is so often."""


@dataclass
class Progress:
    """Called with what is done and what there is, it says so at every tenth, and every half minute in between.

    The rate is that since the first call: what was done before, as by a cache, came for nothing.
    """

    say: Callable[[str], None]
    verb: str
    things: str
    clock: Callable[[], float] = time.monotonic
    _first: tuple[int, float] | None = field(default=None, init=False)
    _last: tuple[int, int] = field(default=(0, 0), init=False)
    _told: int = field(default=-1, init=False)
    _told_at: float = field(default=0.0, init=False)

    def __call__(self, done: int, total: int) -> None:
        now, (before, total_before) = self.clock(), self._last
        if self._first is None or total != total_before or done < before:  # the next thing, as passages after queries
            self._first, self._told = (done, now), -1
        self._last = (done, total)
        tenth = done * TENTHS // max(total, 1)
        if tenth > self._told or now - self._told_at >= SILENT_SECONDS:
            self._told, self._told_at = tenth, now
            share = f"{done / max(total, 1):.0%}"
            self.say(
                f"{self.verb} {done} of {total} {self.things} ({share}){self._pace(self._first, done, total, now)}"
            )

    def _pace(self, first: tuple[int, float], done: int, total: int, now: float) -> str:
        before, started = first
        if done <= before or now <= started:
            return ""
        rate = (done - before) / (now - started)
        left = f", {format_seconds((total - done) / rate)} left" if done < total else ""
        return f", {format_rate(rate)} {self.things}/s{left}"


@dataclass
class Tally:
    """Called with what is done where nobody knows how much there is: says so, and the rate, every so many things."""

    say: Callable[[str], None]
    verb: str
    things: str
    every: int
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _told: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def __call__(self, done: int) -> None:
        if done // self.every > self._told:
            self._told = done // self.every
            rate = done / max(self.clock() - self._started, 1e-6)
            self.say(f"{self.verb} {done} {self.things}, {format_rate(rate)} {self.things}/s")


def format_rate(rate: float) -> str:
    """A rate with three figures, as many digits as it needs: 0.0512, 3.14, 1234."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


def format_seconds(seconds: float) -> str:
    """A duration as one would say it: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
