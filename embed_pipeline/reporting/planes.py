"""Drawings with two axes, as SVG: history, what quality costs, score distributions.

Belongs here: these drawings. Does not belong here: bars and matrices (charts), pieces of SVG (svg), which
points are drawn (page).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from embed_pipeline.evaluation.calibration import ScoreDistribution
from embed_pipeline.reporting.metrics_table import MetricRow
from embed_pipeline.reporting.report_data import HistoryPoint
from embed_pipeline.reporting.svg import (
    Look,
    Scale,
    box,
    drawing,
    label,
    linear_ticks,
    log_ticks,
    marker,
    number,
    shorten,
    stroke,
    whisker,
    width_of,
)
from embed_pipeline.reporting.words import amount, moment, percent, score, with_interval

_LEFT, _TOP, _BOTTOM, _LINE, _DATE = 36.0, 12.0, 40.0, 15.0, 76.0


def draw_history(points: Sequence[HistoryPoint], looks: Mapping[str, Look], width: int) -> str:
    """A line with its interval as a band per variant over the UTC time of its evaluations; one point is a dot."""
    ordered = sorted(points, key=lambda point: (point.variant, point.evaluated_at))
    variants = sorted({point.variant for point in ordered})
    named, height = _room_for(variants, width), _height_for(len(variants))
    times = sorted({point.evaluated_at.astimezone(UTC) for point in ordered})
    across = Scale(times[0].timestamp(), times[-1].timestamp(), _LEFT + 14, width - named - 14)
    up = _quality_scale([p.low for p in ordered], [p.high for p in ordered], height)
    bands, lines, ends = [], [], []
    for variant in variants:
        found, look = [point for point in ordered if point.variant == variant], looks[variant]
        places = [(across.at(point.evaluated_at.timestamp()), point) for point in found]
        if len(found) > 1:
            edge = [f"{number(x)} {number(up.at(p.high))}" for x, p in places]
            edge += [f"{number(x)} {number(up.at(p.low))}" for x, p in reversed(places)]
            bands.append(stroke(f"M{'L'.join(edge)}Z", f"band {look.colour}"))
            line = "L".join(f"{number(x)} {number(up.at(p.value))}" for x, p in places)
            lines.append(stroke(f"M{line}", f"line {look.colour}"))
        else:
            x, only = places[0]
            bands.append(whisker(up.at(only.low), up.at(only.high), x, f"whisker {look.colour}", upright=True))
        for x, p in places:
            told = f"{variant}, {moment(p.evaluated_at)}: {percent(p.value)} [{percent(p.low)}, {percent(p.high)}]"
            lines.append(marker(x, up.at(p.value), look.shape, f"dot {look.colour}", told))
        ends.append((up.at(found[-1].value), variant))
    frame = [_quality_axis(up, width - named), *_dates(times, across, height)]
    names = [
        label(width - named, y + 4, shorten(variant, named, 13), f"tag {looks[variant].colour}")
        for y, variant in _apart(ends, _TOP, height - _BOTTOM)
    ]
    return drawing(width, height, "headline measure over time, a line per variant", *frame, *bands, *lines, *names)


@dataclass(frozen=True, slots=True)
class CostPoint:
    """What a variant reaches, and at what cost; `worst` is where a line from the cost ends."""

    row: MetricRow
    cost: float
    worst: float | None
    told: str


def latency_points(rows: Sequence[MetricRow]) -> tuple[CostPoint, ...]:
    """Milliseconds a query of the rows that have a latency: the median, and the 95th percentile."""
    return tuple(
        CostPoint(
            row,
            row.latency_p50_ms,
            row.latency_p95_ms,
            f"p50 {amount(row.latency_p50_ms)} ms, p95 {amount(row.latency_p95_ms)} ms",
        )
        for row in rows
        if row.latency_p50_ms
    )


def training_points(rows: Sequence[MetricRow], seconds: Mapping[str, float]) -> tuple[CostPoint, ...]:
    """Seconds of training by variant, at least 1: a logarithm has no place for what was not trained."""
    trained = [(row, seconds.get(row.variant, 0.0)) for row in rows]
    return tuple(CostPoint(row, max(1.0, took), None, f"trained for {amount(took)} s") for row, took in trained)


def pareto_best(points: Sequence[CostPoint]) -> tuple[CostPoint, ...]:
    """The points that no other one equals or beats in both, and beats in one; outdated ones are compared with none."""

    def beats(other: CostPoint, point: CostPoint) -> bool:
        sides = (other.cost, -other.row.value), (point.cost, -point.row.value)
        return sides[0] != sides[1] and all(a <= b for a, b in zip(*sides, strict=True))

    current = [point for point in points if not point.row.outdated]
    return tuple(point for point in current if not any(beats(other, point) for other in current))


def draw_cost_quality(points: Sequence[CostPoint], looks: Mapping[str, Look], width: int, axis: str) -> str:
    """A mark per point over its cost (logarithmic) with a line to its worst, upright its interval; rings: Pareto-best.

    Raises:
        ValueError: there are no points.
    """
    if not points:
        raise ValueError(f"quality against {axis} needs a point, found none; draw no plot")
    named, height = _room_for([point.row.variant for point in points], width), _height_for(len(points))
    reach = [point.cost for point in points] + [point.worst for point in points if point.worst]
    across = Scale(min(reach) / 1.4, max(reach) * 1.4, _LEFT + 6, width - named - 8, logarithmic=True)
    up = _quality_scale([point.row.low for point in points], [point.row.high for point in points], height)
    parts = [_quality_axis(up, width - named), *_cost_axis(across, height)]
    parts.append(label(width - named, height - 6, f"{axis} (logarithmic)", "axis", "end"))
    ends, best = [], pareto_best(points)
    for point in sorted(points, key=lambda point: (point.row.variant, point.cost)):
        row, look, x, y = point.row, looks[point.row.variant], across.at(point.cost), up.at(point.row.value)
        told = f"{row.variant}: {with_interval(row)}, {point.told}{', Pareto-best' if point in best else ''}"
        if point.worst:
            parts.append(stroke(f"M{number(x)} {number(y)}H{number(across.at(point.worst))}", f"tail {look.colour}"))
        parts.append(whisker(up.at(row.low), up.at(row.high), x, f"whisker {look.colour}", upright=True))
        if point in best:
            parts.append(stroke(f"M{number(x - 9)} {number(y)}a9 9 0 1 0 18 0a9 9 0 1 0 -18 0", f"line {look.colour}"))
        parts.append(marker(x, y, look.shape, f"dot {look.colour}", told))
        ends.append((y, row.variant))
    for y, variant in _apart(ends, _TOP, height - _BOTTOM):
        parts.append(label(width - named, y + 4, shorten(variant, named, 13), f"tag {looks[variant].colour}"))
    return drawing(width, height, f"quality against {axis}, a point per variant", *parts)


def draw_distribution(found: ScoreDistribution, threshold: float | None, variant: str, width: int = 310) -> str:
    """Shares of relevant passages upwards, of the hardest irrelevant ones downwards; a line at the threshold.

    The axis is as long as edges and threshold need, so that the line is always on it.
    """
    height, middle = 212.0, 106.0
    bounds = [found.edges[0], found.edges[-1], *([] if threshold is None else [threshold])]
    across = Scale(min(bounds), max(bounds), 8, width - 8)
    shares = [_shares(found.positives), _shares(found.negatives)]
    top = max([share for side in shares for share in side] or [0.0]) or 1.0
    parts = []
    for side, kind, name in ((0, "relevant", "relevant"), (1, "irrelevant", "hardest irrelevant")):
        for i, share in enumerate(shares[side]):
            left, right = across.at(found.edges[i]), across.at(found.edges[i + 1])
            length = share / top * (middle - 36)
            y = middle - length if side == 0 else middle
            told = f"{name}, score {score(found.edges[i])} to {score(found.edges[i + 1])}: {100 * share:.1f} %"
            if share > 0:
                parts.append(box(left + 0.5, y, right - left - 1, length, kind, told))
    parts.append(stroke(f"M8 {number(middle)}H{number(width - 8)}", "zero"))
    totals = f"{sum(found.positives):,}", f"{sum(found.negatives):,}"
    parts.append(label(8, 11, f"▲ {totals[0]} relevant passages", "side"))
    parts.append(label(8, 2 * middle - 20, f"▼ {totals[1]} hardest irrelevant", "side"))
    for tick in linear_ticks(across.low, across.high, 5):
        parts.append(label(across.at(tick), height - 2, score(tick), "axis", "middle"))
    if threshold is not None:
        x = across.at(threshold)
        end = "end" if x > 0.5 * width else "start"
        parts.append(stroke(f"M{number(x)} 18V{number(height - 14)}", "threshold", f"threshold {score(threshold)}"))
        shift = -5 if end == "end" else 5
        parts.append(label(x + shift, 27, f"answer from {score(threshold)}", "group", end))
    return drawing(width, height, f"{variant}: scores of relevant and of the hardest irrelevant passages", *parts)


def _quality_scale(lows: Sequence[float], highs: Sequence[float], height: float) -> Scale:
    """From below the lowest to above the highest bound, inside 0 to 1; upwards."""
    room = max(0.06 * (max(highs) - min(lows)), 0.01)
    return Scale(max(min(lows) - room, 0.0), min(max(highs) + room, 1.0), height - _BOTTOM, _TOP)


def _quality_axis(up: Scale, right: float) -> str:
    ticks = linear_ticks(up.low, up.high, 5)
    lines = "".join(stroke(f"M{number(_LEFT)} {number(up.at(tick))}H{number(right)}", "grid") for tick in ticks)
    return lines + "".join(label(_LEFT - 6, up.at(t) + 4, f"{100 * t:g}", "axis", "end") for t in ticks)


def _cost_axis(across: Scale, height: float) -> list[str]:
    """Grid and ticks of a logarithmic axis, as many as have room."""
    parts, free = [], 0.0
    for tick in log_ticks(across.low, across.high):
        x, told = across.at(tick), f"{tick:,g}"
        half = width_of(told, 11) / 2
        parts.append(stroke(f"M{number(x)} {number(_TOP)}V{number(height - _BOTTOM)}", "grid"))
        if x - half >= free:
            parts.append(label(x, height - _BOTTOM + 16, told, "axis", "middle"))
            free = x + half + 5
    return parts


def _dates(times: Sequence[datetime], across: Scale, height: float) -> list[str]:
    """Evaluations on the axis, as many as have room; with their time where two are of one day."""
    pattern = "%Y-%m-%d" if len({time.date() for time in times}) == len(times) else "%m-%d %H:%M"
    parts, taken = [], []
    for time in (times[-1], *times[:-1]):  # the newest is named whatever happens
        x = across.at(time.timestamp())
        parts.append(stroke(f"M{number(x)} {number(_TOP)}V{number(height - _BOTTOM + 4)}", "grid"))
        if all(abs(x - other) >= _DATE for other in taken):
            parts.append(label(x, height - _BOTTOM + 20, time.strftime(pattern), "axis", "middle"))
            taken.append(x)
    return parts


def _height_for(names: int) -> float:
    return max(300.0, _TOP + _BOTTOM + _LINE * names)


def _room_for(names: Sequence[str], width: int) -> float:
    return min(max(width_of(name, 13) for name in names) + 10, 0.32 * width)


def _apart(wanted: Sequence[tuple[float, str]], top: float, bottom: float) -> list[tuple[float, str]]:
    """Names at about their heights, a line apart and inside top and bottom where they fit."""
    placed: list[tuple[float, str]] = []
    for y, name in sorted(wanted):
        placed.append((max(y, placed[-1][0] + _LINE if placed else top), name))
    limit = bottom
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = (min(placed[i][0], limit), placed[i][1])
        limit = placed[i][0] - _LINE
    return placed


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]
