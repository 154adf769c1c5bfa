"""Real processes for the tests of the artifact store, and a real `kill -9` at any of their steps."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

# What changes a directory, as the interpreter announces it just before it happens.
_CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}


def start(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """A running copy of this process that does the work and ends."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def finishes_before_step(work: Callable[[], object], step: int, root: Path) -> bool:
    """Do the work in a process of its own, killed with SIGKILL just before its nth step below the root.

    A step is the opening of a file, or one change of a directory. True if the work ended first.
    """

    def work_until_killed() -> None:
        left = step

        def count(event: str, arguments: tuple) -> None:
            nonlocal left
            # rmtree names files relative to a descriptor, so removals count wherever they are.
            if event in _CHANGES and (event in ("os.remove", "os.rmdir") or str(arguments[0]).startswith(str(root))):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()

    process = start(work_until_killed)
    process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode == 0
