"""Which files of a data set's folder are its documents.

Belongs here: finding them. Does not belong here: reading them (reading).
"""

from pathlib import Path

from embed_pipeline.dataset.arriving import is_temporary
from embed_pipeline.documents.settings import DocumentSettings


def document_paths(directory: Path, settings: DocumentSettings) -> tuple[Path, ...]:
    """The documents, each once, sorted by their path below the folder.

    Hidden files, Office's lock files and downloads under way are none.

    Raises:
        ValueError: the folder is missing, or a name or pattern matches nothing.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such folder. Create it and put the documents there.")
    found: set[Path] = set()
    for pattern in settings.files:
        # A downloaded "terms[1].pdf" is a name, though it reads like a pattern.
        named = directory / pattern
        matches = [named] if named.is_file() else [path for path in directory.glob(pattern) if _is_document(path)]
        if not matches:
            there = sorted(path.name for path in directory.iterdir())[:10]
            raise ValueError(
                f"{directory / 'dataset.yaml'}, documents.files: nothing in the folder matches {pattern!r}, found "
                f"{there}. Put the documents there or correct the pattern."
            )
        found.update(matches)
    return tuple(sorted(found, key=lambda path: path.relative_to(directory).as_posix()))


def _is_document(path: Path) -> bool:
    return path.is_file() and not is_temporary(path.name)
