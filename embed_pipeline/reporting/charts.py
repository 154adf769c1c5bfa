"""Bars, intervals in table cells and matrices, as SVG.

Belongs here: drawings that lay one figure after another. Does not belong here: drawings with two axes (planes), pieces
of SVG (svg), which rows are drawn (page). Every drawing is of a given width, so that its text keeps its size.
"""

import re
from collections.abc import Mapping, Sequence

from embed_pipeline.reporting.metrics_table import MetricRow, row_of_today
from embed_pipeline.reporting.outcomes import Outcomes
from embed_pipeline.reporting.svg import (
    Look,
    Scale,
    box,
    drawing,
    label,
    linear_ticks,
    number,
    shorten,
    stroke,
    whisker,
    width_of,
)
from embed_pipeline.reporting.words import percent, points, with_interval

_LANGUAGE_PAIR = re.compile(r"question (.+) → passage (.+)")


def draw_bars(rows: Sequence[MetricRow], looks: Mapping[str, Look], width: int) -> str:
    """A bar per row in the given order with its interval, its value, and the ceiling as a dashed line."""
    height, step = 34 * len(rows) + 34, 34
    left = _label_width([row.variant for row in rows], width)
    scale = Scale(0, 1, left, width - 44)
    parts = [_grid(scale, 6, height - 28, width)]
    for i, row in enumerate(rows):
        y, look = 8 + step * i, looks[row.variant]
        parts += [
            label(left - 10, y + 16, shorten(row.variant, left - 12), "name", "end"),
            box(left, y + 2, scale.at(row.value) - left, 20, f"fill {look.colour}", f"{row.variant}: {_told(row)}"),
            whisker(scale.at(row.low), scale.at(row.high), y + 12),
            label(width, y + 16, percent(row.value), "figure", "end"),
        ]
    reachable = row_of_today(rows).ceiling
    ceiling = number(scale.at(reachable))
    parts.append(stroke(f"M{ceiling} 2V{height - 28}", "ceiling", f"ceiling {percent(reachable)}"))
    return drawing(width, height, f"{rows[0].at} per variant with intervals", *parts)


def draw_interval(row: MetricRow, look: Look, width: int = 108) -> str:
    """One interval on a line from 0 to 100 %, with a tick at the ceiling."""
    scale, ceiling = Scale(0, 1, 5, width - 5), row.ceiling
    return drawing(
        width,
        20,
        f"{row.at}: {_told(row)}",
        stroke(f"M5 10H{number(width - 5)}", "track"),
        stroke(f"M{number(scale.at(ceiling))} 4V16", "ceiling", f"ceiling {percent(ceiling)}"),
        stroke(f"M{number(scale.at(row.low))} 10H{number(scale.at(row.high))}", f"span {look.colour}"),
        stroke(f"M{number(scale.at(row.value))} 3V17", f"mark {look.colour}"),
        kind="cell",
    )


def difference_scale(rows: Sequence[MetricRow], width: int = 154) -> Scale:
    """One scale for the differences of all rows, with 0 on it and as far on either side as any bound needs."""
    bounds = [bound for row in rows for bound in (row.difference_low, row.difference_high) if bound is not None]
    low, high = min([*bounds, -0.01]), max([*bounds, 0.01])
    room = 0.04 * (high - low)
    return Scale(low - room, high + room, 6, width - 6)


def draw_difference(row: MetricRow, scale: Scale) -> str:
    """One difference with its interval around the line of no difference; empty for a row without comparison."""
    if row.difference is None or row.difference_low is None or row.difference_high is None:
        return ""
    kind = "bad" if row.difference_high < 0 else "good" if row.difference_low > 0 else "open"
    zero, at = number(scale.at(0)), scale.at(row.difference)
    return drawing(
        scale.end + 6,
        20,
        f"{points(row.difference)} points, interval {points(row.difference_low)} to {points(row.difference_high)}",
        stroke(f"M6 10H{number(scale.end)}", "track"),
        stroke(f"M{zero} 0V20", "zero"),
        whisker(scale.at(row.difference_low), scale.at(row.difference_high), 10, f"whisker {kind}"),
        box(at - 4, 6, 8, 8, f"dot {kind}", extra=' rx="1"'),
        kind="cell",
    )


def draw_difference_axis(scale: Scale) -> str:
    """The scale of `draw_difference`, for the head of its column."""
    ticks = [
        label(scale.at(tick), 12, points(tick, digits=0) if tick else "0", "axis", "middle")
        for tick in linear_ticks(scale.low, scale.high, 4)
        if scale.at(tick) - 12 >= 0 and scale.at(tick) + 12 <= scale.end + 6
    ]
    return drawing(scale.end + 6, 16, "scale of the differences, in points", *ticks, kind="cell")


def draw_slices(
    groups: Mapping[str, Sequence[MetricRow]], looks: Mapping[str, Look], name: str, width: int = 290
) -> str:
    """A group of bars per value of one slicing, with the number of its queries, and a bar with interval per variant."""
    variants = sorted({row.variant for rows in groups.values() for row in rows})
    left = _label_width(variants, width)
    scale = Scale(0, 1, left, width - 40)
    parts, y = [], 4.0
    for value, rows in groups.items():
        counts = sorted({row.queries for row in rows})
        asked = f"{counts[0]} queries" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} queries"
        parts += [
            label(0, y + 13, shorten(value, width - width_of(asked) - 14, 13), "group"),
            label(width, y + 13, asked.replace("1 queries", "1 query") if counts == [1] else asked, "axis", "end"),
            stroke(f"M0 {number(y + 19)}H{width}", "grid"),
        ]
        y += 24
        for row in rows:
            parts += [
                label(left - 8, y + 11, shorten(row.variant, left - 8, 11), "small", "end"),
                box(left, y + 2, scale.at(row.value) - left, 11, f"fill {looks[row.variant].colour}", _told(row)),
                whisker(scale.at(row.low), scale.at(row.high), y + 7.5, cap=3),
                label(width, y + 11, percent(row.value), "small figure", "end"),
            ]
            y += 17
        y += 12
    return drawing(width, y, f"{name}: a bar per variant for {', '.join(groups)}", *parts)


def language_pair(row: MetricRow) -> tuple[str, str] | None:
    """The languages of question and passage where the slice is a pair, as `question en → passage zh`; else None."""
    found = _LANGUAGE_PAIR.fullmatch(row.slice)
    return (found[1], found[2]) if found else None


def draw_matrix(rows: Sequence[MetricRow], variant: str, width: int = 310) -> str:
    """A cell per language pair: questions down, passages across; the darker, the higher; missing pairs show –.

    As wide as `width`, wider where a cell would have no room for its figure.
    """
    cells = {pair: row for row in rows if (pair := language_pair(row)) is not None}
    asked, found = (sorted({pair[side] for pair in cells}) for side in (0, 1))
    left, top = 74.0, 40.0
    step = max(min((width - left) / len(found), 64.0), 36.0)
    high = min(step, 38.0)
    parts = [label(left, 14, "passage →", "axis"), label(left - 10, top - 8, "question ↓", "axis", "end")]
    for i, language in enumerate(found):
        parts.append(label(left + step * (i + 0.5), top - 8, shorten(language, step, 12), "name", "middle"))
    for j, question in enumerate(asked):
        y = top + high * j
        parts.append(label(left - 10, y + high / 2 + 4, shorten(question, left - 12), "name", "end"))
        for i, passage in enumerate(found):
            row, x = cells.get((question, passage)), left + step * i
            if row is not None:
                shade = f' fill-opacity="{0.06 + 0.54 * row.value:.3f}" rx="3"'
                parts.append(box(x + 1, y + 1, step - 2, high - 2, "heat", f"{row.slice}: {_told(row)}", shade))
            parts.append(
                label(x + step / 2, y + high / 2 + 4, "–" if row is None else percent(row.value), "", "middle")
            )
    return drawing(left + step * len(found), top + high * len(asked) + 2, f"{variant}: language pairs", *parts)


def draw_outcomes(found: Outcomes, width: int = 320) -> str:
    """How the queries part into won, tied and lost, as one bar; won is left, lost is right."""
    counts = {"won": found.won, "tied": found.tied, "lost": found.lost}
    total, x, parts = max(sum(counts.values()), 1), 0.0, []
    for kind, count in counts.items():
        length = width * count / total
        parts.append(box(x, 0, length, 8, kind, f"{count} {kind}"))
        x += length
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return drawing(width, 8, f"{found.variant} against {found.baseline}: {told}", *parts, kind="cell")


def _told(row: MetricRow) -> str:
    return f"{with_interval(row)}, {row.queries} queries"


def _label_width(names: Sequence[str], width: int) -> float:
    return min(max(width_of(name) for name in names) + 14, (0.36 if width > 500 else 0.42) * width)


def _grid(scale: Scale, top: float, bottom: float, width: int) -> str:
    ticks = linear_ticks(scale.low, scale.high, 5 if width > 500 else 4)
    lines = "".join(stroke(f"M{number(scale.at(tick))} {number(top)}V{number(bottom)}", "grid") for tick in ticks)
    return lines + "".join(label(scale.at(t), bottom + 18, f"{100 * t:g}", "axis", "middle") for t in ticks)
