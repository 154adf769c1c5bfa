"""Plots as PNG bytes, for asset metadata and for people who want a file.

Belongs here: drawing with matplotlib, without a display. Does not belong here: reading logs or rows. Text in plots is
ASCII: a font with Chinese characters is not everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from embed_pipeline.evaluation.calibration import ScoreDistribution
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.exporting.parity import Parity, Speed
from embed_pipeline.merging.promotion import MergePoint, Promotion
from embed_pipeline.reporting.metrics_table import MetricRow, row_of_today
from embed_pipeline.reporting.report_data import HistoryPoint
from embed_pipeline.retrieval.hybrid import Weighing

if TYPE_CHECKING:
    from matplotlib.patches import Rectangle
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT = "#1f6f8b", "#c26a2e"

# Okabe and Ito's colours, told apart by colour-blind people too; with the shape of the mark none is met twice.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
_SHAPES = ("o", "s", "D", "^", "v", "P", "X", "<")


def plot_measure(rows: Sequence[MetricRow], measure: Measure) -> bytes:
    """A PNG with a bar per variant, its bootstrap interval and the ceiling; the best variant on top.

    `rows` are of one data set and split; other measures are ignored.

    Raises:
        ValueError: no row has the measure, or rows are of several data sets or splits.
    """
    chosen = sorted((row for row in rows if row.at == measure), key=lambda row: (row.value, row.variant))
    if not chosen or len({(row.dataset, row.split) for row in chosen}) > 1:
        raise ValueError(
            f"a plot of {measure} needs rows of one data set and split, found {len(chosen)} rows of several"
        )
    figure, axes = new_figure(width=7.0, height=1.4 + 0.45 * len(chosen))
    values = [100 * row.value for row in chosen]
    axes.barh(range(len(chosen)), values, color=INK, height=0.6)
    bounds = [100 * row.low for row in chosen], [100 * row.high for row in chosen]
    axes.hlines(range(len(chosen)), *bounds, color="#111111", linewidth=2)
    for edge in bounds:
        axes.plot(edge, range(len(chosen)), "|", color="#111111", markersize=9, markeredgewidth=2)
    axes.set_yticks(range(len(chosen)), labels=[_ascii(row.variant) for row in chosen])
    asked = row_of_today(chosen)
    axes.axvline(100 * asked.ceiling, color=ACCENT, linestyle="--", linewidth=1.0)
    axes.set(xlim=(0, 105), xlabel=f"{measure}, % of {asked.queries} queries; line: interval; dashed: ceiling")
    axes.set_title(_ascii(f"{chosen[0].dataset} / {chosen[0].split}"))
    return to_png(figure)


def plot_history(points: Sequence[HistoryPoint], measure: Measure) -> bytes:
    """A PNG with a line and an interval band per variant over the UTC time of its evaluations.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError(f"a history of {measure} needs at least one evaluation, found none; evaluate a variant first")
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    figure, axes = new_figure(width=7.0, height=4.0)
    times = sorted({point.evaluated_at.astimezone(UTC) for point in points})
    for i, variant in enumerate(sorted({point.variant for point in points})):
        found = sorted((p for p in points if p.variant == variant), key=lambda point: point.evaluated_at)
        x = [float(date2num(point.evaluated_at.astimezone(UTC))) for point in found]
        bounds = [100 * point.low for point in found], [100 * point.high for point in found]
        colour, shape, name = _COLOURS[i % len(_COLOURS)], _SHAPES[i % len(_SHAPES)], _ascii(variant)
        values = [100 * point.value for point in found]
        axes.plot(x, values, linewidth=1.6, markersize=5, color=colour, marker=shape, label=name)
        axes.fill_between(x, *bounds, color=colour, alpha=0.12, linewidth=0)
        axes.vlines(x, *bounds, color=colour, linewidth=1.0, alpha=0.5)
    if len(times) == 1:
        axes.set_xticks([float(date2num(times[0]))], labels=[f"{times[0]:%Y-%m-%d %H:%M}"])
    else:
        locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    axes.set(xlabel="evaluated (UTC)", ylabel=f"{measure}, %, with intervals")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_png(figure)


def plot_score_distribution(distribution: ScoreDistribution, threshold: float | None) -> bytes:
    """A PNG with the shares of relevant (up) and hardest irrelevant passages (down) per score, and the threshold."""
    figure, axes = new_figure(width=7.0, height=3.4)
    left = distribution.edges[:-1]
    widths = [high - low for low, high in zip(left, distribution.edges[1:], strict=True)]
    sides = (distribution.positives, 1, INK, "relevant"), (distribution.negatives, -1, ACCENT, "hardest irrelevant")
    for counts, sign, colour, name in sides:
        total = sum(counts) or 1
        heights = [sign * 100 * count / total for count in counts]
        label = f"{name} ({sum(counts)})"
        axes.bar(left, heights, widths, align="edge", color=colour, label=label, edgecolor="white", linewidth=0.4)
    axes.axhline(0, color="#555555", linewidth=0.8)
    if threshold is not None:
        axes.axvline(threshold, color="#111111", linestyle="--", linewidth=1.2, label=f"answer from {threshold:.3g}")
    axes.set(xlabel="score", ylabel="% of passages, up and down")
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.legend(frameon=False, fontsize=8)
    return to_png(figure)


def plot_score_gaps(gaps: Sequence[float], *, bins: int = 40) -> bytes:
    """A PNG of how far negatives score below the weakest positive of their query; left of 0 they score above it.

    Equal gaps give equal bytes; without any the plot says so.
    """
    import numpy as np

    figure, axes = new_figure(width=7.0, height=3.0)
    axes.set(xlabel="score of the weakest positive minus score of the negative", ylabel="negatives")
    if not gaps:
        axes.text(0.5, 0.5, "no negative was mined", transform=axes.transAxes, ha="center", color="#555555")
        axes.set(xticks=[], yticks=[])
        return to_png(figure)
    counts, edges = np.histogram(gaps, bins=bins)
    colours = [ACCENT if right <= 0 else INK for right in edges[1:]]
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours, edgecolor="white", linewidth=0.4)
    axes.axvline(0, color="#111111", linestyle="--", linewidth=1.0)
    return to_png(figure)


def plot_latency_quality(rows: Sequence[MetricRow], measure: Measure) -> bytes:
    """A PNG with a point per variant: quality with interval over the latency of a query, p50 with a line to p95.

    Variants without a latency are left out; without any the plot says so. Other measures than `measure` are ignored.
    """
    figure, axes = new_figure(width=7.0, height=4.0)
    chosen = sorted((row for row in rows if row.at == measure), key=lambda row: row.variant)
    looks = {row.variant: (_COLOURS[i % len(_COLOURS)], _SHAPES[i % len(_SHAPES)]) for i, row in enumerate(chosen)}
    found = [(row, row.latency_p50_ms) for row in chosen if row.latency_p50_ms]
    axes.set(ylabel=f"{measure}, %, with intervals")
    if not found:
        axes.text(0.5, 0.5, "no latency was measured", transform=axes.transAxes, ha="center", color="#555555")
        axes.set(xticks=[], yticks=[])
        return to_png(figure)
    for row, latency in found:
        colour, shape = looks[row.variant]
        if row.latency_p95_ms:
            axes.hlines(100 * row.value, latency, row.latency_p95_ms, color=colour, linewidth=2, alpha=0.4)
        axes.vlines(latency, 100 * row.low, 100 * row.high, color=colour, linewidth=1.4)
        axes.plot(latency, 100 * row.value, shape, color=colour, markersize=7, label=_ascii(row.variant))
    axes.set(xscale="log", xlabel="ms per query, p50 (line: to p95)")
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_png(figure)


def plot_formats(found: Sequence[Parity], speeds: Mapping[str, Speed]) -> bytes:
    """A PNG with a point per format: points lost with interval over the milliseconds of a question; a cross: refused.

    Formats without a speed are left out; the dashed line is the original's speed. Without a point the plot says so.
    """
    figure, axes = new_figure(width=7.0, height=3.6)
    timed = [(i, one, speeds[one.format].query_ms) for i, one in enumerate(found) if one.format in speeds]
    axes.set(ylabel="points lost, with intervals")
    if not timed:
        axes.text(0.5, 0.5, "no speed was measured", transform=axes.transAxes, ha="center", color="#555555")
        axes.set(xticks=[], yticks=[])
        return to_png(figure)
    axes.axhline(0, color="#555555", linewidth=0.8)
    if "original" in speeds:
        axes.axvline(speeds["original"].query_ms, color=ACCENT, linestyle="--", linewidth=1.2, label="original")
    for i, one, milliseconds in timed:
        colour, label = _COLOURS[i % len(_COLOURS)], f"{one.format}, {one.megabytes:.0f} MB"
        axes.vlines(milliseconds, one.low, one.high, color=colour, linewidth=1.4)
        shape = _SHAPES[i % len(_SHAPES)] if one.refused is None else "x"
        axes.plot(milliseconds, one.points_lost, shape, color=colour, markersize=7, label=label)
    axes.set(xscale="log", xlabel="ms per query")
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_png(figure)


def new_figure(*, width: float, height: float) -> "tuple[Figure, Axes]":
    """An empty drawing in the style of all plots; width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")  # not pyplot: no global state to leak
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def to_png(figure: "Figure") -> bytes:
    """The drawing as PNG; the same drawing gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # the version would change the bytes
    return buffer.getvalue()


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def plot_trade_off(
    points: Sequence[MergePoint], promotion: Promotion, *, allowed_loss: float, kept_gain: float
) -> bytes:
    """A PNG: target over the loss of the general suite that lost most, one mark per alpha, the promoted ringed.

    The region of both bounds is shaded.

    Equal points give equal bytes, whatever their order.

    Raises:
        ValueError: there are no points, or the promoted alpha is not among them.
    """
    ordered = sorted(points, key=lambda point: point.alpha)
    chosen = [point for point in ordered if point.alpha == promotion.alpha]
    if not chosen:
        raise ValueError(f"a trade-off needs the promoted alpha {promotion.alpha:g} among its {len(ordered)} points")
    figure, axes = new_figure(width=7.0, height=4.0)
    base, tuned = ordered[0], ordered[-1]
    general, target = [-100 * point.lost(base) for point in ordered], [100 * point.target for point in ordered]
    axes.plot(general, target, color=INK, marker="o", markersize=4, linewidth=1.2)
    for point, x, y in zip(ordered, general, target, strict=True):
        axes.annotate(f"{point.alpha:g}", (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8)
    axes.margins(0.12)
    floor = -100 * allowed_loss
    wanted = 100 * (base.target + kept_gain * (tuned.target - base.target))
    # The region runs out of the picture at the top right; without fixed limits it would stretch the picture.
    right, top = max(axes.get_xlim()[1], floor), max(axes.get_ylim()[1], wanted)
    limits = (min(axes.get_xlim()[0], floor), right), (min(axes.get_ylim()[0], wanted), top)
    axes.fill_between([floor, right], wanted, top, color=INK, alpha=0.10, linewidth=0, label="both bounds kept")
    axes.plot(
        -100 * chosen[0].lost(base),
        100 * chosen[0].target,
        "o",
        color=ACCENT,
        markersize=13,
        markerfacecolor="none",
        markeredgewidth=2,
        label=f"promoted: {promotion.promoted}, alpha {promotion.alpha:g}",
    )
    axes.set(
        xlim=limits[0], ylim=limits[1], xlabel="general suite that lost most, points", ylabel="target validation, %"
    )
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_png(figure)


_INK = "#1f6f8b"
_PANELS = {
    "loss": "loss",
    "validation": "validation",
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "queries_per_second": "queries per second",
}


@dataclass(frozen=True, slots=True)
class TrainingPoint:
    """What was logged at one step."""

    step: int
    loss: float
    validation: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    queries_per_second: float | None = None


def plot_training(points: Sequence[TrainingPoint]) -> bytes:
    """A PNG with a panel over the steps for each figure that was logged; equal points give equal bytes.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError("a picture of a training needs at least one logged step, found none; did it take a step?")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ordered = sorted(points, key=lambda point: point.step)
    curves = {
        name: [(point.step, getattr(point, name)) for point in ordered if getattr(point, name) is not None]
        for name in _PANELS
    }
    shown = {name: curve for name, curve in curves.items() if curve}
    figure = Figure(figsize=(7.0, 1.7 * len(shown)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, curve) in zip(panels, shown.items(), strict=True):
        axes.plot(*zip(*curve, strict=True), color=_INK, marker="o", markersize=2.5, linewidth=1.4)
        axes.set_ylabel(_PANELS[name], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
    panels[-1].set_xlabel("step")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def plot_weighing(weighing: Weighing) -> bytes:
    """A PNG: a row per weight of the parts, a column per lexical weight, each cell the measure in percent.

    Shown is what goes with the chosen weights of the classifier and of hubness. The darker the better; the chosen pair
    is framed. Equal sweeps give equal bytes.
    """
    others = (weighing.chosen.classifier, weighing.chosen.hubness)
    points = [point for point in weighing.points if (point.classifier, point.hubness) == others]
    rows = sorted({point.parts for point in points})
    columns = sorted({point.lexical for point in points})
    values = np.full((len(rows), len(columns)), np.nan)
    for point in points:
        values[rows.index(point.parts), columns.index(point.lexical)] = 100 * point.value
    figure, axes = new_figure(width=2.0 + 0.8 * len(columns), height=1.4 + 0.45 * len(rows))
    axes.grid(visible=False)
    axes.imshow(values, cmap="GnBu", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        colour = "white" if value > middle else "black"
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
    at = columns.index(weighing.chosen.lexical) - 0.5, rows.index(weighing.chosen.parts) - 0.5
    axes.add_patch(_frame(at))
    axes.set_yticks(range(len(rows)), labels=[f"{weight:g}" for weight in rows])
    axes.set_xticks(range(len(columns)), labels=[f"{weight:g}" for weight in columns])
    axes.set(xlabel="weight of the lexical score", ylabel="weight of the best clause")
    names = ("classifier's weight", "hubness's")
    with_others = "".join(f", {name} {weight:g}" for name, weight in zip(names, others, strict=True) if weight)
    axes.set_title(f"{weighing.measure} on validation, %; framed: chosen{with_others}")
    return to_png(figure)


def _frame(at: tuple[float, float]) -> "Rectangle":
    from matplotlib.patches import Rectangle

    return Rectangle(at, 1, 1, fill=False, edgecolor=ACCENT, linewidth=3)
