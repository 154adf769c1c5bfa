"""The raw files that a data set's settings name, and those among them that are still on their way.

Belongs here: finding them; telling downloads, lock files and copies under way from files that have arrived; the copy
that proves what it copied. Does not belong here: reading them (workbook, pairs_file), documents (documents.files).
"""

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from embed_pipeline.dataset.settings import SETTINGS_FILE, DatasetSettings
from embed_pipeline.nearest import nearest_text
from embed_pipeline.paths import check_relative, copy_new, plain_file


def raw_paths(directory: Path, settings: DatasetSettings, roots: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Every raw file of a data set, in reading order: workbooks or files of pairs, and behind them the label list.

    Links may lead into the folder itself and into the folders `roots`.

    Raises:
        ValueError: a named file is missing, no plain file, or a link that leads elsewhere.
    """
    if settings.workbooks:
        found = workbook_paths(directory, settings)
    else:
        found = _named(directory, "pairs", *(entry.file for entry in settings.pairs))
    allowed, labels = (directory, *roots), _named(directory, "label_list", settings.label_list)
    return tuple(plain_file(path, allowed) for path in (*found, *labels))


def workbook_paths(directory: Path, settings: DatasetSettings) -> tuple[Path, ...]:
    """The workbooks of a data set in reading order, each once, at its first match.

    Subfolders, hidden files, Excel's lock files (~$...) and downloads under way (.part, .tmp) are never matched. A
    pattern may match nothing as long as another one does; a plain file name must exist.

    Raises:
        ValueError: a named workbook is missing, or there is none at all.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such folder. Create it and put {SETTINGS_FILE} and the workbooks there.")
    names = sorted(p.name for p in directory.iterdir() if not p.is_dir() and not is_temporary(p.name))
    found: dict[str, None] = {}
    for entry in settings.workbooks:
        # A downloaded "export[1].xlsx" is a name, though it reads like a pattern.
        matches = [entry] if entry in names else [name for name in names if _matches(name, entry)]
        if not matches and not _is_pattern(entry):
            nearest = nearest_text(entry, names)
            hint = f" Nearest name there: {nearest.text!r}." if nearest else ""
            raise ValueError(
                f"{directory / SETTINGS_FILE}, workbooks: no file {entry!r} in the folder.{hint} "
                "Put the file there or correct the name."
            )
        found.update(dict.fromkeys(matches))
    if not found:
        raise ValueError(
            f"{directory / SETTINGS_FILE}, workbooks: nothing in the folder matches {list(settings.workbooks)}, found "
            f"{names}. Put a workbook there or correct the pattern."
        )
    return tuple(directory / name for name in found)


def _matches(name: str, entry: str) -> bool:
    """Whether a pattern covers a file; `*.xlsx` means EXPORT.XLSX too, a name without wildcards only itself."""
    return fnmatch.fnmatchcase(name.lower(), entry.lower()) if _is_pattern(entry) else name == entry


def _is_pattern(entry: str) -> bool:
    return any(character in entry for character in "*?[")


def _named(directory: Path, field: str, *names: str | None) -> tuple[Path, ...]:
    try:
        paths = tuple(directory / check_relative(name) for name in names if name)
    except ValueError as error:
        raise ValueError(f"{directory / SETTINGS_FILE}, {field}: {error}. Correct the name.") from error
    missing = [path.name for path in paths if not path.is_symlink() and (not path.exists() or path.is_dir())]
    if missing:
        raise ValueError(
            f"{directory / SETTINGS_FILE}, {field}: no file {missing[0]!r} in the folder. Put it there or correct the "
            "name."
        )
    return paths


SETTLE_SECONDS = 5.0
"""A raw file must have been left alone for so long before automation reads it."""

_TEMPORARY_PREFIXES = (".", "~$")
_TEMPORARY_SUFFIXES = (".part", ".crdownload", ".tmp")


def is_temporary(name: str) -> bool:
    """Whether a file's name says that it is hidden, a lock file or a download under way; no pattern matches it."""
    return name.startswith(_TEMPORARY_PREFIXES) or name.lower().endswith(_TEMPORARY_SUFFIXES)


def temporary_files(directory: Path) -> tuple[str, ...]:
    """Paths of the lock files and downloads below a folder, sorted; hidden files and folders are nobody's concern."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if is_temporary(path.name) and path.is_file())
    return tuple(sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)))


def still_written(paths: Iterable[Path], now: float) -> tuple[Path, ...]:
    """Those files that were changed within SETTLE_SECONDS of `now` (seconds since 1970), or are gone again.

    What copies a file sets its time stamp back, if at all, when it is done. Where the file system's clock is not ours
    this tells nothing; `copy_verified` is the second guard.
    """
    return tuple(path for path in paths if _age(path, now) < SETTLE_SECONDS)


def copy_verified(source: Path, target: Path, digest: str) -> None:
    """Copy a file whose SHA-256 is known to where nothing lies; `target`'s folder is made if need be.

    Raises:
        ValueError: the bytes that were copied have another digest, or the file is gone: it changed since it was looked
            at, and no copy is left. Or something lies at `target`, which stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = copy_new(source, target)
    except FileNotFoundError:
        found = "no file"
    else:
        if found != digest:
            target.unlink()  # ours: the copy began where nothing lay
    if found != digest:
        raise ValueError(
            f"{source}: changed while it was read: expected sha256 {digest[:12]}, found {found[:12]}. Wait until "
            "whatever writes the file is done and run again."
        )


def _age(path: Path, now: float) -> float:
    try:
        return abs(now - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0
