import struct
from dataclasses import replace
from datetime import timedelta

import pytest

from embed_pipeline.evaluation.calibration import ScoreDistribution
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.reporting.plots import (
    plot_history,
    plot_latency_quality,
    plot_measure,
    plot_score_distribution,
)
from embed_pipeline.reporting.report_data import HistoryPoint
from embed_pipeline_tests.reporting.metric_rows import ROW

ROWS = [ROW, replace(ROW, variant="微调", value=0.8, low=0.7, high=0.9)]
HISTORY = [
    HistoryPoint(name, ROW.evaluated_at + timedelta(days=days), 0.5, 0.4, 0.6)
    for name in ("minilm", "微调")
    for days in range(3)
]
DISTRIBUTION = ScoreDistribution((0.0, 0.5, 1.0), (1, 8), (7, 2))
MEASURE = Measure("precise", 5)


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def test_a_plot_grows_with_its_variants():
    one, two = (size_of(plot_measure(ROWS[:count], Measure("precise", 5))) for count in (1, 2))
    assert one[0] == two[0]
    assert one[1] < two[1]


@pytest.mark.parametrize("rows", [[], [ROW, replace(ROW, dataset="finance")]])
def test_a_plot_of_nothing_or_of_two_data_sets_is_refused(rows):
    with pytest.raises(ValueError, match="one data set and split"):
        plot_measure(rows, Measure("precise", 5))


def test_the_ceiling_of_a_plot_is_that_of_today():
    before = replace(ROW, value=0.2, low=0.1, high=0.3, outdated="other data")
    pictures = [
        {plot_measure([replace(before, ceiling=old), replace(ROWS[1], ceiling=new)], MEASURE) for old in (0.5, 0.9)}
        for new in (0.95, 0.98)
    ]
    assert [len(found) for found in pictures] == [1, 1] and pictures[0] != pictures[1]


def test_a_history_is_a_png_whatever_the_order_of_points():
    assert size_of(plot_history(HISTORY, MEASURE))[0] == 840
    assert plot_history(HISTORY, MEASURE) == plot_history(HISTORY[::-1], MEASURE)


def test_a_single_evaluation_can_be_drawn():
    assert size_of(plot_history(HISTORY[:1], MEASURE))


def test_a_history_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one evaluation"):
        plot_history([], MEASURE)


def test_another_threshold_is_another_picture():
    pictures = {plot_score_distribution(DISTRIBUTION, threshold) for threshold in (None, 0.2, 0.6, 3.0)}
    assert len(pictures) == 4
    assert all(size_of(picture) for picture in pictures)


def test_scores_of_nothing_can_be_drawn():
    assert size_of(plot_score_distribution(ScoreDistribution((0.0, 1.0), (0,), (0,)), None))


def test_latency_against_quality_leaves_other_measures_out():
    timed = [replace(row, latency_p50_ms=8.0, latency_p95_ms=20.0) for row in ROWS]
    other = replace(timed[0], cutoff=1, value=0.1)
    assert plot_latency_quality([*timed, other], MEASURE) == plot_latency_quality(timed, MEASURE)
    assert plot_latency_quality(timed, MEASURE) != plot_latency_quality(timed[:1], MEASURE)


def test_no_latency_gives_a_plot_that_says_so():
    assert size_of(plot_latency_quality(ROWS, MEASURE)) == size_of(plot_latency_quality([], MEASURE))
