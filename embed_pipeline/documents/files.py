"""Which files of a data set's folder are its documents.

Belongs here: finding them. Does not belong here: reading them (reading).
"""

from collections.abc import Iterable
from pathlib import Path

from embed_pipeline.dataset.arriving import is_temporary
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.paths import check_relative, plain_file


def document_paths(directory: Path, settings: DocumentSettings, roots: Iterable[Path] = ()) -> tuple[Path, ...]:
    """The documents, each once, sorted by their path below the folder.

    Hidden files, Office's lock files and downloads under way are none. Links may lead into the folder itself and into
    the folders `roots`.

    Raises:
        ValueError: the folder is missing, a name or pattern matches nothing or leads out of the folder, or what it
            matches is no plain file or a link that leads elsewhere.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such folder. Create it and put the documents there.")
    found: set[Path] = set()
    allowed = (directory, *roots)
    for pattern in settings.files:
        # A downloaded "terms[1].pdf" is a name, though it reads like a pattern.
        try:
            named = directory / check_relative(pattern)
            matches = [named] if named.is_file() else [path for path in directory.glob(pattern) if _is_document(path)]
        except ValueError as error:
            raise ValueError(f"{directory / 'dataset.yaml'}, documents.files: {error}. Correct the pattern.") from error
        if not matches:
            there = sorted(path.name for path in directory.iterdir())[:10]
            raise ValueError(
                f"{directory / 'dataset.yaml'}, documents.files: nothing in the folder matches {pattern!r}, found "
                f"{there}. Put the documents there or correct the pattern."
            )
        found.update(plain_file(path, allowed) for path in matches)
    return tuple(sorted(found, key=lambda path: path.relative_to(directory).as_posix()))


def _is_document(path: Path) -> bool:
    # What is no plain file and no folder is not passed over: the caller names it.
    return not path.is_dir() and not is_temporary(path.name)
