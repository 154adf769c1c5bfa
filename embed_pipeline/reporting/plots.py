"""Plots as PNG bytes, for asset metadata and for people who want a file.

Belongs here: drawing with matplotlib, without a display. Does not belong here: reading logs or rows. Text in plots is
ASCII: a font with Chinese characters is not everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.reporting.metric_row import MetricRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _ACCENT = "#1f6f8b", "#c26a2e"


@dataclass(frozen=True, slots=True)
class LossPoint:
    """What the trainer reported at one step."""

    step: int
    loss: float
    learning_rate: float | None = None


def plot_loss_curve(points: Sequence[LossPoint], *, title: str = "Training loss") -> bytes:
    """A PNG of loss, and learning rate where reported, over steps; equal points give equal bytes.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError("a loss curve needs at least one point, found none; did the trainer log a step?")
    figure, axes = _new_figure(width=7.0, height=3.6)
    ordered = sorted(points, key=lambda point: point.step)
    axes.plot(
        [p.step for p in ordered], [p.loss for p in ordered], color=_INK, marker="o", markersize=2.5, linewidth=1.4
    )
    axes.set(title=_ascii(title), xlabel="step", ylabel="loss")
    axes.yaxis.label.set_color(_INK)
    rates = [(p.step, p.learning_rate) for p in ordered if p.learning_rate is not None]
    if rates:
        right = axes.twinx()
        right.plot(
            [step for step, _ in rates], [rate for _, rate in rates], color=_ACCENT, linewidth=1.0, linestyle="--"
        )
        right.set_ylabel("learning rate", color=_ACCENT)
        right.spines["top"].set_visible(False)
        right.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    return _to_png(figure)


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
    figure, axes = _new_figure(width=7.0, height=1.4 + 0.45 * len(chosen))
    values = [100 * row.value for row in chosen]
    axes.barh(range(len(chosen)), values, color=_INK, height=0.6)
    bounds = [100 * row.low for row in chosen], [100 * row.high for row in chosen]
    axes.hlines(range(len(chosen)), *bounds, color="#111111", linewidth=2)
    for edge in bounds:
        axes.plot(edge, range(len(chosen)), "|", color="#111111", markersize=9, markeredgewidth=2)
    axes.set_yticks(range(len(chosen)), labels=[_ascii(row.variant) for row in chosen])
    axes.axvline(100 * chosen[0].ceiling, color=_ACCENT, linestyle="--", linewidth=1.0)
    axes.set(xlim=(0, 105), xlabel=f"{measure}, % of {chosen[0].queries} queries; line: interval; dashed: ceiling")
    axes.set_title(_ascii(f"{chosen[0].dataset} / {chosen[0].split}"))
    return _to_png(figure)


def _new_figure(*, width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")  # not pyplot: no global state to leak
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _to_png(figure: "Figure") -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # the version would change the bytes
    return buffer.getvalue()


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")
