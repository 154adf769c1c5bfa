"""What somebody typed or where they stand, held against what exists: the project's folder, data sets, variants.

Belongs here: the mark of a project's folder and the walk up to it, near names, where the files lie that come with the
package. Does not belong here: what a project holds.
"""

from collections.abc import Iterable
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


NEAR = 60.0
"""Edit similarity, 0 to 100, from which a known name is worth showing as what was meant."""
_SHOWN = 3


class UnknownNameError(ValueError):
    """A name that somebody typed is none that exists."""


def check_known(name: str, known: Iterable[str], *, what: str, plural: str) -> None:
    """Guarantees that the name is known.

    Raises:
        UnknownNameError: it is not; the message has the nearest names, then all.
    """
    names = list(known)
    if name not in names:
        near = near_names(name, names)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise UnknownNameError(f"no {what} {name!r}{hint}. {plural}: {', '.join(names) or 'none'}.")


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """At most three of the known names that resemble this one, the most alike first.

    Of a/b, b alone is held against a name without a slash, and each part against the parts of one that has it.
    """
    alike = {one: _likeness(name, one) for one in known}
    near = sorted((one for one in alike if alike[one] >= NEAR), key=lambda one: -alike[one])
    return near[:_SHOWN]


def _likeness(name: str, known: str) -> float:
    from rapidfuzz import fuzz

    parts = name.split("/")
    return min(fuzz.ratio(*pair) for pair in zip(parts, known.split("/")[-len(parts) :], strict=False))


def shipped_files() -> Path:
    """Where the files lie that a checkout has at its top: in an installed package setup.py put copies of them."""
    packaged = Path(__file__).parent / "shipped"
    return packaged if packaged.is_dir() else Path(__file__).parents[2]
