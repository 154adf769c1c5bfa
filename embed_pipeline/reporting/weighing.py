"""What every pair of weights of a hybrid variant scored on validation, as a PNG.

Belongs here: this one plot. Does not belong here: choosing the weights (retrieval/hybrid_weights.py).
"""

from typing import TYPE_CHECKING

import numpy as np

from embed_pipeline.reporting.plots import ACCENT, new_figure, to_png
from embed_pipeline.retrieval.hybrid_weights import Weighing

if TYPE_CHECKING:
    from matplotlib.patches import Rectangle


def plot_weighing(weighing: Weighing) -> bytes:
    """A PNG: a row per weight of the parts, a column per lexical weight, each cell the measure in percent.

    The darker the better; the chosen pair is framed. Equal sweeps give equal bytes.
    """
    rows = sorted({point.parts for point in weighing.points})
    columns = sorted({point.lexical for point in weighing.points})
    values = np.full((len(rows), len(columns)), np.nan)
    for point in weighing.points:
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
    axes.set_title(f"{weighing.measure} on validation, %; framed: chosen")
    return to_png(figure)


def _frame(at: tuple[float, float]) -> "Rectangle":
    from matplotlib.patches import Rectangle

    return Rectangle(at, 1, 1, fill=False, edgecolor=ACCENT, linewidth=3)
