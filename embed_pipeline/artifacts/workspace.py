"""Locks and working directories of the running processes, and how to tell a dead one's leftovers from a living one's.

A working directory `staging/<name>-<token>` belongs to the holder of `locks/<name>.lock`. The system drops a process's
locks however it dies, so a directory whose lock is free is abandoned. `begun/<name>` is the mark of work that did not
come to an end. Does not belong here: what the work is.
"""

import logging
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from embed_pipeline.artifacts.digests import total_bytes

_INPUTS = "inputs.txt"
_SCRATCH_NAME = re.compile(r".+-[0-9a-f]{16}")


@contextmanager
def exclusive(state: Path, name: str, say: Callable[[str], object] | None = None) -> Iterator[bool]:
    """Hold the lock of a name among all processes that share the directory; gives whether it had to be waited for.

    That it waits is told to `say`; left out: to the log.
    """
    lock, waited = _lock(state, name), False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        waited = True
        (say or logging.getLogger(__name__).info)(f"waiting for another process that works on {name}")
        lock.acquire()
    try:
        yield waited
    finally:
        lock.release()


@contextmanager
def workspace(state: Path, name: str) -> Iterator[Path]:
    """An empty directory of this process alone, removed at the end; no other process has one of this name meanwhile."""
    with exclusive(state, name):
        directory = scratch_path(state, name)
        directory.mkdir()
        try:
            yield directory
        finally:
            remove_tree(directory)


@contextmanager
def marked(state: Path, name: str) -> Iterator[None]:
    """Leaves a mark of the name where what is inside ends by an interruption or with its process."""
    mark = _mark_path(state, name)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield
    except Exception:
        mark.unlink(missing_ok=True)
        raise
    mark.unlink(missing_ok=True)


def marked_since(state: Path, name: str) -> datetime | None:
    """When what left a mark of the name, or is at work now, began; None where there is none."""
    with suppress(FileNotFoundError):
        return datetime.fromtimestamp(_mark_path(state, name).stat().st_mtime, UTC)
    return None


def scratch_path(state: Path, name: str) -> Path:
    """A path in `staging` that nobody else uses. Without the lock of that name, whatever lies there is a leftover."""
    staging = state / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    return staging / f"{name}-{secrets.token_hex(8)}"


def remove_tree(path: Path) -> None:
    """Delete a file or directory; it may be gone, or going, already."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def declare_inputs(directory: Path, digests: list[str]) -> None:
    """Say in a workspace which objects its work reads, so that nobody throws them away before it is done."""
    unfinished = directory / f"{_INPUTS}.new"
    unfinished.write_text("\n".join(digests), encoding="utf-8")
    unfinished.replace(directory / _INPUTS)


def inputs_in_use(state: Path) -> set[str]:
    """Digests that living workspaces declared."""
    found: set[str] = set()
    for directory in _staged(state):
        if _is_held(state, directory):
            declared = directory / _INPUTS
            found.update(declared.read_text(encoding="utf-8").splitlines() if declared.exists() else ())
    return found


def is_held(state: Path, name: str) -> bool:
    """Whether a living process, this one included, holds the lock of a name."""
    if not _lock_path(state, name).exists():
        return False
    lock = _lock(state, name)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def remove_leftovers(state: Path, *, dry_run: bool = False) -> list[int]:
    """The bytes of each thing in `staging` that no living process holds; it is deleted unless `dry_run`."""
    found: list[int] = []
    for path in _staged(state):
        if _is_held(state, path):
            continue
        found.append(0)
        with suppress(FileNotFoundError):  # another process may be deleting it
            found[-1] = total_bytes(path)
        if not dry_run:
            remove_tree(path)
    return found


def remove_free_locks(state: Path) -> None:
    """Delete the lock files that nobody holds, with the marks of what was interrupted under them.

    A process that had just opened one notices and opens it anew.
    """
    for path in sorted((state / "locks").glob("*.lock")):
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _mark_path(state, path.stem).unlink(missing_ok=True)
        path.unlink()
        lock.release()


def _staged(state: Path) -> list[Path]:
    staging = state / "staging"
    # What is called otherwise was put there by somebody else, and stays.
    return sorted(path for path in staging.glob("*") if _SCRATCH_NAME.fullmatch(path.name)) if staging.is_dir() else []


def _is_held(state: Path, staged: Path) -> bool:
    return is_held(state, staged.name.rpartition("-")[0])


def _lock(state: Path, name: str) -> FileLock:
    path = _lock_path(state, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def _mark_path(state: Path, name: str) -> Path:
    return state / "begun" / name


def _lock_path(state: Path, name: str) -> Path:
    return state / "locks" / f"{name}.lock"
