"""Which folder is the project, from any folder inside it.

Belongs here: the mark of a project's folder and the walk up to it. Does not belong here: what the folder holds.
"""

from pathlib import Path

MARKER = "workspace.yaml"
"""The file that Dagster reads too; it marks a project if it names CODE_LOCATION."""
CODE_LOCATION = "embed_pipeline.definitions"


class NoProjectError(ValueError):
    """Neither a folder nor one above it is a project."""


def find_project(start: Path) -> Path:
    """The nearest folder that is a project: `start` or one above it.

    Raises:
        NoProjectError: there is none.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        if is_project(folder):
            return folder
    raise NoProjectError(
        f"{start}: expected a project or a folder inside one (marked by a {MARKER} that names {CODE_LOCATION}), found "
        "neither here nor above. Go into a project, name one with --project FOLDER, or make one: embed-pipeline new "
        "FOLDER."
    )


def is_project(folder: Path) -> bool:
    """Whether the folder bears the mark."""
    try:
        return CODE_LOCATION in (folder / MARKER).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
