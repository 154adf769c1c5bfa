"""How long a call takes apart from what else happens: other processes, a collection of the suite's garbage."""

import time
from collections.abc import Callable


def fastest(
    action: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter, attempts: int = 3
) -> float:
    """The seconds of the fastest of some calls of `action`, which must come to the same each time."""
    return min(_seconds(action, clock) for _ in range(attempts))


def _seconds(action: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    action()
    return clock() - started
