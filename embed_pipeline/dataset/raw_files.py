"""The raw files that a data set's settings name, as they lie in its folder.

Belongs here: finding them. Does not belong here: reading them (workbook, pairs_file).
"""

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from embed_pipeline.dataset.arriving import is_temporary
from embed_pipeline.dataset.nearest import nearest_text
from embed_pipeline.dataset.settings import SETTINGS_FILE, DatasetSettings
from embed_pipeline.paths import check_relative, plain_file


def raw_paths(directory: Path, settings: DatasetSettings, roots: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Every raw file of a data set, in reading order: workbooks and label list, or the files of pairs.

    Links may lead into the folder itself and into the folders `roots`.

    Raises:
        ValueError: a named file is missing, no plain file, or a link that leads elsewhere.
    """
    if settings.workbooks:
        found = (*workbook_paths(directory, settings), *_named(directory, "label_list", settings.label_list))
    else:
        found = _named(directory, "pairs", *(entry.file for entry in settings.pairs))
    allowed = (directory, *roots)
    return tuple(plain_file(path, allowed) for path in found)


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
        matches = [entry] if entry in names else [name for name in names if fnmatch.fnmatchcase(name, entry)]
        if not matches and not any(character in entry for character in "*?["):
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
