"""The course of a training as one picture of panels. No display, no reading of logs, as in plots.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

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
