"""Ending when asked: Ctrl-C, SIGTERM and a closed terminal end a command within seconds, with everything it started.

The first signal raises KeyboardInterrupt, or what Dagster raises while a step is under way, in the main thread, which
cleans up. A thread beside it ends the process where that takes too long, as inside native code, or at the second
signal. Belongs here: signals and process trees. Does not belong here: what is printed (terminal), runs (defs.running).
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

GRACE_SECONDS = 4.0
"""How long the clean end may take; with what follows it stays under five seconds."""
_ACT_SECONDS = 1.5
_HEARD_SECONDS = 1.0
_DOUBLE_SECONDS = 0.2  # a wrapper and the terminal may both deliver one Ctrl-C
_PR_SET_PDEATHSIG = 1
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANGUP) if number)


class Interruption:
    """What was asked of a command, and what it must do where it is ended by force."""

    def __init__(self, announce: Callable[[str], None], grace_seconds: float = GRACE_SECONDS) -> None:
        self.announce = announce
        self.grace_seconds = grace_seconds
        """How long the clean end may take; a command that has answers to give first raises it."""
        self.signal: signal.Signals | None = None
        self._heard = threading.Event()
        self._acts: list[Callable[[], None]] = []

    @property
    def exit_code(self) -> int:
        """The shell's number for a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
        self._heard.wait(_HEARD_SECONDS)  # the main thread may be here before the watcher has read which one it was
        return 128 + (self.signal or signal.SIGINT)

    @contextmanager
    def last_act(self, act: Callable[[], None]) -> Iterator[None]:
        """While inside, `act` is called before the process is ended by force; it gets a second or so."""
        self._acts.append(act)
        try:
            yield
        finally:
            self._acts.remove(act)

    @contextmanager
    def announced_by(self, announce: Callable[[str], None]) -> Iterator[None]:
        """While inside, `announce` says what happens, as where the terminal is drawn on."""
        before, self.announce = self.announce, announce
        try:
            yield
        finally:
            self.announce = before

    def watch(self, wakeups: socket.socket) -> None:
        """Wait for signals, of which each is a byte; returns only where the other end is closed."""
        wakeups.settimeout(None)
        self.signal = _next_signal(wakeups)
        if self.signal is None:
            return
        self._heard.set()
        self.announce("Stopping: the step under way is being ended. Once more ends it at once.")
        began = time.monotonic()
        deadline = began + self.grace_seconds
        while (left := deadline - time.monotonic()) > 0:
            wakeups.settimeout(left)
            try:
                again = _next_signal(wakeups)
            except TimeoutError:
                break
            if again is None:
                return
            if time.monotonic() - began > _DOUBLE_SECONDS:
                break
        self.force()

    def force(self) -> None:
        """End the process and all it started now."""
        helpers = [threading.Thread(target=act, daemon=True) for act in self._acts]
        for helper in helpers:
            helper.start()
        end_children(grace_seconds=0)
        for helper in helpers:
            helper.join(_ACT_SECONDS)
        end_children(grace_seconds=0)  # what was begun meanwhile
        self.announce("Stopped by force. What was finished before is kept; the same command goes on from there.")
        os._exit(self.exit_code)


@contextmanager
def interruptible(announce: Callable[[str], None], *, grace_seconds: float = GRACE_SECONDS) -> Iterator[Interruption]:
    """Inside, signals end what is under way: KeyboardInterrupt in the main thread, force after `grace_seconds`.

    Outside the main thread, where Python lets nobody handle signals, nothing is changed.
    """
    interruption = Interruption(announce, grace_seconds)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    wakeup_before, hook_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False), sys.unraisablehook
    watcher = threading.Thread(target=interruption.watch, args=(ours,), name="signal watcher", daemon=True)
    watcher.start()
    try:
        sys.unraisablehook = partial(_raise_again, hook_before)
        signal.signal(signal.SIGINT, _raise)
        signal.signal(signal.SIGTERM, _raise)
        if _HANGUP and before[_HANGUP] is not signal.SIG_IGN:  # nohup
            signal.signal(_HANGUP, _pass_on)
        yield interruption
    finally:
        signal.set_wakeup_fd(wakeup_before)
        sys.unraisablehook = hook_before
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()
        watcher.join()
        ours.close()


def end_children(*, grace_seconds: float) -> None:
    """End every descendant of this process, as `end_process_tree`."""
    import psutil

    _end(psutil.Process().children(recursive=True), grace_seconds)


def end_process_tree(pid: int, *, grace_seconds: float) -> None:
    """End a process and all its descendants: asked first (SIGTERM), killed after `grace_seconds`."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        _end([root, *root.children(recursive=True)], grace_seconds)


def end_with_parent(number: signal.Signals = signal.SIGINT) -> None:
    """For a child before it begins: it is asked to end, by that signal, when its parent is killed; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _end(tree: list, grace_seconds: float) -> None:
    import psutil

    alive = tree
    if grace_seconds > 0:
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=grace_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=1.0)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _raise_again(other: Callable[..., object], unraisable: "sys.UnraisableHookArgs") -> None:
    # Python drops what is raised while an object is finalised, as when a module was imported at that moment. A moment
    # later, which the watcher takes for the same signal, the main thread is somewhere else.
    if issubclass(unraisable.exc_type, Exception) or "Interrupt" not in unraisable.exc_type.__name__:  # Dagster's too
        other(unraisable)
        return
    main = threading.main_thread().ident
    threading.Timer(_DOUBLE_SECONDS / 4, lambda: main and signal.pthread_kill(main, signal.SIGINT)).start()


def _pass_on(number: int, frame: FrameType | None) -> None:
    # Whoever handles the end of a process at this moment, as Dagster inside a step, knows SIGTERM. Called, not raised:
    # the watcher would take it for a second signal.
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler):
        handler(signal.SIGTERM, frame)


def _next_signal(wakeups: socket.socket) -> signal.Signals | None:
    while read := wakeups.recv(1):
        if read[0] in _SIGNALS:
            return signal.Signals(read[0])
    return None
