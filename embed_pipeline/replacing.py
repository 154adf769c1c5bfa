"""Putting something in place: whole or not at all, and nobody's file is ever lost.

Belongs here: folders and files that appear by one rename, and what may be replaced: a folder that was written here and
left as it was since, which its mark says. Does not belong here: where paths may lead (paths).
"""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from embed_pipeline.paths import copy_new, describe_mode, digest_of

MARK_FILE = ".embed_pipeline.json"
"""Lies in a folder that was written for a user: its files with their digests. Only such a folder is ever replaced."""

_NAMED = 5


@contextmanager
def new_folder(target: Path, last: str | None = None) -> Iterator[Path]:
    """A folder to be filled that appears as `target` when all went well, and not at all otherwise.

    An empty folder at the target is filled: it may be the one that a terminal is in. The file `last` comes last.

    Raises:
        ValueError: something lies at the target, other than an empty folder.
    """
    target = Path(os.path.abspath(target))
    _check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _workplace(target) as workplace:
        made = workplace / target.name
        made.mkdir()
        yield made
        _check_free(target)
        if not target.exists():
            made.rename(target)
            return
        for path in sorted(made.iterdir(), key=lambda path: path.name == last):
            path.rename(target / path.name)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside `target` to write a file or folder at, which then takes its place, and not at all on an error.

    A folder gets MARK_FILE. A folder that stands at the target is removed, if everything in it was written here and
    left as it was. A file that stands there is kept beside it: see `kept_beside`.

    Raises:
        ValueError: the target is a link, no plain file or folder, or a folder with a file that was not written here.
    """
    target = Path(os.path.abspath(target))
    check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _workplace(target) as workplace:
        made = workplace / target.name
        yield made
        if made.is_dir():
            _mark(made)
        if not target.is_dir():
            if target.exists():
                _keep(target)
            made.replace(target)
            return
        before = workplace / "before"
        try:
            target.rename(before)
            check_replaceable(before, target)  # now that nobody can put anything into it any more
            made.rename(target)
        except BaseException:
            if before.exists():
                before.rename(_free_name(target) if os.path.lexists(target) else target)
            raise


def kept_beside(target: Path) -> tuple[Path, ...]:
    """Files that `replacing` has kept of a target: its name with .1, .2 and so on, oldest first."""
    target = Path(os.path.abspath(target))
    beside = target.parent.iterdir() if target.parent.is_dir() else ()
    found = ((path.name.removeprefix(f"{target.name}."), path) for path in beside)
    numbered = [(int(end), path) for end, path in found if path.name != end and end.isascii() and end.isdigit()]
    return tuple(path for _, path in sorted(numbered))


def check_replaceable(target: Path, called: Path | None = None) -> None:
    """Raises ValueError, as `replacing` does, if what lies at the target (`called` so) may not be replaced."""
    target = Path(os.path.abspath(target))
    called = called or target
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        return
    if not stat.S_ISDIR(mode):
        raise ValueError(
            f"{called}: expected a file or folder to replace, found {describe_mode(mode)}. Name another target."
        )
    foreign = _not_written_here(target)
    if foreign:
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise ValueError(
            f"{called}: expected a folder that was written by embed-pipeline and left as it was, found "
            f"{', '.join(map(repr, foreign[:_NAMED]))}{more}, which was not. Name another target, or remove the folder "
            "yourself."
        )


def _check_free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise _taken(target)


def _taken(target: Path) -> ValueError:
    return ValueError(f"{target}: expected a new or empty folder, found files in it. Name another.")


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """A folder of our own beside the target, so that putting it in place is one rename on one file system."""
    workplace = Path(tempfile.mkdtemp(dir=target.parent, prefix=".embed-pipeline-"))
    try:
        yield workplace
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _keep(target: Path) -> None:
    while True:
        kept = _free_name(target)
        with suppress(FileExistsError):
            try:
                os.link(target, kept)  # fails, rather than replaces, if somebody was faster
            except PermissionError:  # a file system without hard links
                copy_new(target, kept)
            return


def _free_name(target: Path) -> Path:
    names = (target.with_name(f"{target.name}.{number}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))


def _mark(folder: Path) -> None:
    files = {
        path.relative_to(folder).as_posix(): digest_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    text = json.dumps({"written_by": "embed-pipeline", "files": files}, indent=1)
    (folder / MARK_FILE).write_text(text + "\n", encoding="utf-8")


def _not_written_here(folder: Path) -> list[str]:
    """Files and links in a folder that its mark does not list as they are; of a folder without a mark all of them."""
    try:
        files = dict(json.loads((folder / MARK_FILE).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        files = {}
    else:
        files[MARK_FILE] = None
    found = [Path(root) / name for root, folders, names in os.walk(folder) for name in (*folders, *names)]
    return sorted(path.relative_to(folder).as_posix() for path in found if not _is_known(path, folder, files))


def _is_known(path: Path, folder: Path, files: Mapping[str, str | None]) -> bool:
    name, mode = path.relative_to(folder).as_posix(), path.lstat().st_mode
    if stat.S_ISDIR(mode):
        return any(known.startswith(f"{name}/") for known in files)
    return stat.S_ISREG(mode) and name in files and files[name] in (None, digest_of(path))
