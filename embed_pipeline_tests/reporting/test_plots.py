import struct
from dataclasses import replace

import pytest

from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.reporting.plots import LossPoint, plot_loss_curve, plot_measure
from embed_pipeline_tests.reporting.metric_rows import ROW

POINTS = [LossPoint(step, 4 / (1 + step), 2e-4) for step in range(5)]
ROWS = [ROW, replace(ROW, variant="微调", value=0.8, low=0.7, high=0.9)]


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def test_a_loss_curve_is_a_png_whatever_the_order_of_points():
    assert size_of(plot_loss_curve(POINTS))[0] == 840
    assert plot_loss_curve(POINTS) == plot_loss_curve(POINTS[::-1])


def test_another_loss_is_another_picture():
    assert plot_loss_curve(POINTS) != plot_loss_curve(
        [replace(point, loss=point.loss * point.step) for point in POINTS]
    )


def test_a_single_point_without_learning_rate_can_be_drawn():
    assert size_of(plot_loss_curve([LossPoint(1, 0.5)]))


def test_a_loss_curve_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one point"):
        plot_loss_curve([])


def test_a_plot_grows_with_its_variants():
    one, two = (size_of(plot_measure(ROWS[:count], Measure("precise", 5))) for count in (1, 2))
    assert one[0] == two[0]
    assert one[1] < two[1]


@pytest.mark.parametrize("rows", [[], [ROW, replace(ROW, dataset="finance")]])
def test_a_plot_of_nothing_or_of_two_data_sets_is_refused(rows):
    with pytest.raises(ValueError, match="one data set and split"):
        plot_measure(rows, Measure("precise", 5))
