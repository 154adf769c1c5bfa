"""Pieces of SVG as strings: shapes, text, axes.

Belongs here: markup, escaping, scales and ticks, which colour and shape a variant has everywhere in a report. Does not
belong here: what a chart shows (charts, planes). Colours are classes of the page (`c0` … for variants, `axis`, `grid`),
so that a drawing follows light and dark.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from unicodedata import east_asian_width

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


FONT_PIXELS = 12

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_MARKERS = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
    "M-4 -4H4V4H-4Z",
    "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0 -5L5 4H-5Z",
    "M0 5L5 -4H-5Z",
    "M-5 -1.7H-1.7V-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5Z",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` laid out from pixel `start` to pixel `end`; outside values stop at the ends."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; the middle where the scale has no extent."""
        low, high, value = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def drawing(width: float, height: float, label: str, *parts: str, kind: str = "") -> str:
    """An <svg> element for a page, where it needs no namespace; `label` is what a screen reader says."""
    size = f'viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" height="{number(height)}"'
    named = f'class="{kind}" ' if kind else ""
    return f'<svg {named}{size} role="img" aria-label="{clean(label)}">{"".join(parts)}</svg>'


def label(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Text with its baseline at y; anchor: start, middle, end."""
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">{clean(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, words: str = "", extra: str = "") -> str:
    """A rectangle; `words` come up on hovering."""
    place = f'x="{number(x)}" y="{number(y)}" width="{number(max(width, 0.0))}" height="{number(max(height, 0.0))}"'
    return f'<rect class="{kind}" {place}{extra}>{_hover(words)}</rect>'


def stroke(commands: str, kind: str, words: str = "") -> str:
    """A path."""
    return f'<path class="{kind}" d="{commands}">{_hover(words)}</path>'


def whisker(low: float, high: float, at: float, kind: str = "whisker", cap: float = 4, *, upright: bool = False) -> str:
    """An interval from pixel `low` to pixel `high` with end caps, lying unless `upright`."""
    first, last, before, after, middle = (number(v) for v in (low, high, at - cap, at + cap, at))
    if upright:
        return stroke(f"M{middle} {first}V{last}M{before} {first}H{after}M{before} {last}H{after}", kind)
    return stroke(f"M{first} {middle}H{last}M{first} {before}V{after}M{last} {before}V{after}", kind)


def marker(x: float, y: float, index: int, kind: str, words: str = "") -> str:
    """A small filled shape that differs from the shapes of the next indices, so that colour is not needed."""
    shape = _MARKERS[index % len(_MARKERS)]
    return f'<path class="{kind}" transform="translate({number(x)} {number(y)})" d="{shape}">{_hover(words)}</path>'


def draw_key(look: Look) -> str:
    """The colour and shape of a variant, as small as a letter; what it stands for is written next to it."""
    shape = marker(7, 7, look.shape, f"dot {look.colour}")
    return f'<svg class="key" viewBox="0 0 14 14" aria-hidden="true">{shape}</svg>'


def clean(words: str) -> str:
    """Escaped for elements and attributes, without the characters that XML forbids."""
    return escape(_FORBIDDEN.sub("", words), quote=True)


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def width_of(words: str, pixels: float = FONT_PIXELS) -> float:
    """About how wide a text is drawn: Chinese characters are square, others a bit over half as wide."""
    return sum(1.0 if east_asian_width(c) in "WF" else 0.57 for c in words) * pixels


def shorten(words: str, width: float, pixels: float = FONT_PIXELS) -> str:
    """The text, or as much of it as fits, with an ellipsis."""
    if width_of(words, pixels) <= width:
        return words
    while words and width_of(f"{words}…", pixels) > width:
        words = words[:-1]
    return f"{words}…"


def linear_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Round values inside [low, high], at most about `count`: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return (low,)
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(i * step, 10) for i in range(first, last + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten inside [low, high], or the powers alone over more than a factor of 1,000."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high <= 1000 * low else (1,)
    ticks = (factor * 10.0**power for power in powers for factor in factors)
    return tuple(tick for tick in ticks if low <= tick <= high)


def _hover(words: str) -> str:
    return f"<title>{clean(words)}</title>" if words else ""
