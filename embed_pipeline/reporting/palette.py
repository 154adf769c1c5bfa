"""Which colour and shape a variant has, everywhere in one report.

Belongs here: the choice. Does not belong here: the colours themselves (page.html.j2).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

COLOURS = 7


@dataclass(frozen=True, slots=True)
class Look:
    """A colour class of the page, and the index of a marker shape."""

    colour: str
    shape: int


def choose_looks(variants: Iterable[str], baseline: str | None) -> Mapping[str, Look]:
    """A look per variant: the baseline is grey; the others by name, so that a new score changes no colour."""
    others = sorted(set(variants) - {baseline})
    looks = {variant: Look(f"c{i % COLOURS}", i + 1) for i, variant in enumerate(others)}
    return looks if baseline is None else {**looks, baseline: Look("cb", 0)}
