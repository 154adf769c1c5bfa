"""How far a long step is: a line of words in the log of its run, which a terminal reads back as a bar.

Belongs here: when a step says how far it is, the words, and reading them. Does not belong here: drawing
(commands/live). What trains says it through the same log from another process.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

HUNDREDTHS = 100
BRISK_SECONDS = 2.0
"""However fast a step is, it says no more often how far it is."""

SILENT_SECONDS = 30.0
"""A step that takes longer for a hundredth of its way says how far it is so often."""

WORTH_SECONDS = 5.0
"""What was measured for a shorter time foretells nothing: first steps allocate and compile."""

_LINE = re.compile(
    r"(?P<activity>\S.*?) (?P<done>\d+) of (?P<total>\d+) \S+ \(\d+%\)(?:, (?P<pace>[^;]*))?(?:; (?P<facts>.*))?"
)


@dataclass(frozen=True)
class Reading:
    """What a line of progress says: `done` of `total`, and how fast in words (rate, time left), empty if not yet."""

    activity: str
    done: int
    total: int
    pace: str
    facts: str


def read_progress(line: str) -> Reading | None:
    """The progress that a line of a run's log tells; None where it tells something else."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    told = found.groupdict(default="")
    return Reading(told["activity"], int(told["done"]), int(told["total"]), told["pace"], told["facts"])


@dataclass
class Progress:
    """Called with what is done and what there is, it says so at every hundredth, and every half minute in between.

    The rate is that since the first call: what was done before, as by a cache or before an interruption, came for
    nothing. `facts` are added as they are, as the loss of a training.
    """

    say: Callable[[str], None]
    verb: str
    things: str
    clock: Callable[[], float] = time.monotonic
    _first: tuple[int, float] | None = field(default=None, init=False)
    _last: tuple[int, int] = field(default=(0, 0), init=False)
    _told: int = field(default=-1, init=False)
    _told_at: float = field(default=0.0, init=False)

    def __call__(self, done: int, total: int, facts: str = "") -> None:
        now, (before, total_before) = self.clock(), self._last
        if self._first is None or total != total_before or done < before:  # the next thing, as passages after queries
            self._first, self._told = (done, now), -1
        self._last = (done, total)
        share, silence = done * HUNDREDTHS // max(total, 1), now - self._told_at
        due = share > self._told and (silence >= BRISK_SECONDS or done == total)
        if self._told < 0 or due or silence >= SILENT_SECONDS:
            self._told, self._told_at = share, now
            pace = self._pace(self._first, done, total, now)
            told = f"{self.verb} {done} of {total} {self.things} ({done / max(total, 1):.0%}){pace}"
            self.say(f"{told}; {facts}" if facts else told)

    def _pace(self, first: tuple[int, float], done: int, total: int, now: float) -> str:
        before, started = first
        if done <= before or now <= started:
            return ""
        rate = (done - before) / (now - started)
        foreseen = done < total and now - started >= WORTH_SECONDS
        left = f", {format_seconds((total - done) / rate)} left" if foreseen else ""
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
