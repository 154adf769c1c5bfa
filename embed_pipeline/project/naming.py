"""Names that somebody typed, held against those that exist.

Belongs here: refusing a name with the near ones. Does not belong here: which names there are.
"""

from collections.abc import Iterable

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
