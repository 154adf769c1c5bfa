"""The trade-off between target and general quality over a sweep of mixtures, as a PNG.

Belongs here: this one plot. Does not belong here: choosing a mixture (merging/promotion.py).
"""

from collections.abc import Sequence

from embed_pipeline.merging.promotion import MergePoint, Promotion
from embed_pipeline.reporting.plots import ACCENT, INK, new_figure, to_png


def plot_trade_off(
    points: Sequence[MergePoint], promotion: Promotion, *, allowed_loss: float, kept_gain: float
) -> bytes:
    """A PNG: target over general measure, one mark per alpha, the region of both bounds shaded, the promoted ringed.

    Equal points give equal bytes, whatever their order.

    Raises:
        ValueError: there are no points, or the promoted alpha is not among them.
    """
    ordered = sorted(points, key=lambda point: point.alpha)
    chosen = [point for point in ordered if point.alpha == promotion.alpha]
    if not chosen:
        raise ValueError(f"a trade-off needs the promoted alpha {promotion.alpha:g} among its {len(ordered)} points")
    figure, axes = new_figure(width=7.0, height=4.0)
    general, target = [100 * point.general for point in ordered], [100 * point.target for point in ordered]
    axes.plot(general, target, color=INK, marker="o", markersize=4, linewidth=1.2)
    for point in ordered:
        at = (100 * point.general, 100 * point.target)
        axes.annotate(f"{point.alpha:g}", at, textcoords="offset points", xytext=(6, 4), fontsize=8)
    base, tuned = ordered[0], ordered[-1]
    axes.margins(0.12)
    floor = 100 * (base.general - allowed_loss)
    wanted = 100 * (base.target + kept_gain * (tuned.target - base.target))
    # The region runs out of the picture at the top right; without fixed limits it would stretch the picture.
    right, top = max(axes.get_xlim()[1], floor), max(axes.get_ylim()[1], wanted)
    limits = (min(axes.get_xlim()[0], floor), right), (min(axes.get_ylim()[0], wanted), top)
    axes.fill_between([floor, right], wanted, top, color=INK, alpha=0.10, linewidth=0, label="both bounds kept")
    axes.plot(
        100 * chosen[0].general,
        100 * chosen[0].target,
        "o",
        color=ACCENT,
        markersize=13,
        markerfacecolor="none",
        markeredgewidth=2,
        label=f"promoted: {promotion.promoted}, alpha {promotion.alpha:g}",
    )
    axes.set(xlim=limits[0], ylim=limits[1], xlabel="general suite, %", ylabel="target validation, %")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_png(figure)
