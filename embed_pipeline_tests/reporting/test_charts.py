"""Laws of the drawings: any text is well-formed SVG, nothing leaves the frame, more is drawn further."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from embed_pipeline.evaluation.calibration import ScoreDistribution
from embed_pipeline.reporting import charts, planes
from embed_pipeline.reporting.metrics_table import MetricRow
from embed_pipeline.reporting.report_data import HistoryPoint
from embed_pipeline.reporting.svg import (
    COLOURS,
    Scale,
    choose_looks,
    linear_ticks,
    log_ticks,
    number,
    shorten,
    width_of,
)
from embed_pipeline_tests.reporting.metric_rows import ROW, compared
from embed_pipeline_tests.reporting.test_outcomes import collect

HOSTILE = ["</svg><script>alert(1)</script>", "\"'&<b>", "微调 \x00\x08 模型", "", "a" * 300, "bm25"]


def make_rows(names: list[str] = HOSTILE) -> list[MetricRow]:
    values = [0.1 + 0.8 * i / max(len(names) - 1, 1) for i in range(len(names))]
    timed = {"latency_p50_ms": 12.0, "latency_p95_ms": 40.0}
    return [
        compared(replace(ROW, value=v, low=v - 0.03, high=v + 0.03, **timed), v - 0.5, 0.001, variant=name)
        for name, v in zip(names, values, strict=True)
    ]


def make_history(names: list[str] = HOSTILE, evaluations: int = 3) -> list[HistoryPoint]:
    return [
        HistoryPoint(name, ROW.evaluated_at + timedelta(hours=7 * step), 0.5, 0.4, 0.6)
        for name in names
        for step in range(evaluations)
    ]


def make_pairs(languages: list[str], variant: str = "m") -> list[MetricRow]:
    return [
        replace(ROW, variant=variant, measure="mrr", cutoff=10, slice=f"question {a} → passage {b}")
        for a in languages
        for b in languages
        if a != b
    ]


DISTRIBUTION = ScoreDistribution((0.0, 0.25, 0.5, 0.75, 1.0), (0, 1, 5, 9), (4, 6, 2, 0))
LOOKS = choose_looks(HOSTILE, "bm25")
DRAWINGS = {
    "bars": lambda width: charts.draw_bars(make_rows(), LOOKS, width),
    "interval": lambda width: charts.draw_interval(make_rows()[0], LOOKS[HOSTILE[0]], width),
    "difference": lambda width: charts.draw_difference(make_rows()[0], charts.difference_scale(make_rows(), width)),
    "axis": lambda width: charts.draw_difference_axis(charts.difference_scale(make_rows(), width)),
    "slices": lambda width: charts.draw_slices(dict.fromkeys(HOSTILE, make_rows()), LOOKS, HOSTILE[0], width),
    "matrix": lambda width: charts.draw_matrix(make_pairs(HOSTILE), HOSTILE[0], width),
    "history": lambda width: planes.draw_history(make_history(), LOOKS, width),
    "one evaluation": lambda width: planes.draw_history(make_history(evaluations=1), LOOKS, width),
    "latency": lambda width: planes.draw_cost_quality(planes.latency_points(make_rows()), LOOKS, width, "ms"),
    "training": lambda width: planes.draw_cost_quality(
        planes.training_points(make_rows(), {HOSTILE[0]: 90.0}), LOOKS, width, "seconds"
    ),
    "distribution": lambda width: planes.draw_distribution(DISTRIBUTION, 0.6, HOSTILE[0], width),
}


@pytest.mark.parametrize("width", [350, 640])
@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_every_drawing_is_well_formed_whatever_the_names_are(name, width):
    drawn = DRAWINGS[name](width)
    root = ET.fromstring(drawn)
    allowed = {"svg", "path", "rect", "text", "title"}
    assert {element.tag for element in root.iter()} <= allowed
    assert root.get("aria-label")
    assert drawn == DRAWINGS[name](width)
    assert not re.search(r"nan|inf\b", drawn)


@pytest.mark.parametrize("width", [350, 640])
@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_no_rectangle_or_text_starts_outside_the_drawing(name, width):
    root = ET.fromstring(DRAWINGS[name](width))
    wide, high = float(root.get("width", "")), float(root.get("height", ""))
    for element in root.iter():
        if element.tag in {"rect", "text"}:
            x, y = float(element.get("x", "")), float(element.get("y", ""))
            assert 0 <= x <= wide and 0 <= y <= high
            assert x + float(element.get("width", 0)) <= wide + 0.1
            assert y + float(element.get("height", 0)) <= high + 0.1


@pytest.mark.parametrize("threshold", [-3.0, 0.0, 0.6, 1.0, 27.4])
def test_the_threshold_is_on_the_axis(threshold):
    root = ET.fromstring(planes.draw_distribution(DISTRIBUTION, threshold, "m", 310))
    (line,) = [e for e in root.iter("path") if e.get("class") == "threshold"]
    x = float(re.match(r"M([\d.]+) ", line.get("d", ""))[1])
    (axis,) = [e for e in root.iter("path") if e.get("class") == "zero"]
    left, right = map(float, re.fullmatch(r"M([\d.]+) [\d.]+H([\d.]+)", axis.get("d", "")).groups())
    assert left <= x <= right
    starts = [float(e.get("x", "")) for e in root.iter("rect")]
    ends = [float(e.get("x", "")) + float(e.get("width", "")) for e in root.iter("rect")]
    assert (x > max(ends) + 10) == (threshold > 1)  # clear of the bars only where it is beyond the scores
    assert (x < min(starts) - 10) == (threshold < 0)


def test_no_threshold_draws_no_line():
    assert "threshold" not in planes.draw_distribution(DISTRIBUTION, None, "m")


@pytest.mark.parametrize("edges", [(0.0, 1.0), (0.5, 0.5)])
def test_a_distribution_of_nothing_can_be_drawn(edges):
    assert ET.fromstring(planes.draw_distribution(ScoreDistribution(edges, (0,), (0,)), None, "m")) is not None


def test_positives_are_above_the_axis_and_negatives_below():
    root = ET.fromstring(planes.draw_distribution(DISTRIBUTION, None, "m"))
    up = [e for e in root.iter("rect") if e.get("class") == "relevant"]
    down = [e for e in root.iter("rect") if e.get("class") == "irrelevant"]
    middle = min(float(e.get("y", "")) for e in down)
    assert all(float(e.get("y", "")) + float(e.get("height", "")) == pytest.approx(middle, abs=0.11) for e in up)
    shares = [count / sum(DISTRIBUTION.positives) for count in DISTRIBUTION.positives if count]
    heights = [float(e.get("height", "")) for e in up]
    assert heights == pytest.approx([heights[-1] * share / shares[-1] for share in shares], abs=0.1)


def test_bars_are_as_long_as_their_values_from_zero_on():
    rows = make_rows(["a", "b", "c", "d"])
    root = ET.fromstring(charts.draw_bars(rows, choose_looks("abcd", None), 640))
    lengths = [float(e.get("width", "")) for e in root.iter("rect")]
    assert lengths == pytest.approx([lengths[0] * row.value / rows[0].value for row in rows], abs=0.6)


def test_a_difference_is_on_its_side_of_zero_and_coloured_by_its_interval():
    rows = [compared(ROW, difference, 0.001) for difference in (-0.3, 0.01, 0.2)]
    scale = charts.difference_scale(rows)
    kinds = [re.search(r'class="dot (\w+)" x="([\d.]+)"', charts.draw_difference(row, scale)) for row in rows]
    assert [kind and kind[1] for kind in kinds] == ["bad", "open", "good"]
    places = [float(kind[2]) + 4 for kind in kinds if kind]
    assert places[0] < scale.at(0) < places[1] < places[2]


def test_a_row_without_comparison_draws_no_difference():
    assert charts.draw_difference(ROW, charts.difference_scale([ROW])) == ""


def test_a_language_pair_without_a_row_shows_a_dash_and_no_zero():
    drawn = charts.draw_matrix(make_pairs(["en", "zh"]), "m")
    assert drawn.count(">–<") == 2
    assert drawn.count(">50.0<") == 2


def test_a_matrix_of_many_languages_grows_so_that_every_figure_has_room():
    few, many = (ET.fromstring(charts.draw_matrix(make_pairs(list(names)), "m")) for names in ("ab", "abcdefghijkl"))
    assert float(few.get("width", "")) <= 310 < float(many.get("width", ""))
    assert min(float(e.get("width", "")) for e in many.iter("rect")) > width_of("99.9")


@pytest.mark.parametrize("slice_", ["all", "language: en", "labels: 2"])
def test_other_slices_are_no_language_pair(slice_):
    assert charts.language_pair(replace(ROW, slice=slice_)) is None


def test_latency_of_nothing_is_refused():
    with pytest.raises(ValueError, match="quality against ms needs a point"):
        planes.draw_cost_quality(planes.latency_points([ROW]), choose_looks(["minilm"], None), 640, "ms")


def test_a_ring_marks_what_no_other_variant_beats_in_quality_and_cost():
    rows = [replace(ROW, variant=name, value=value) for name, value in zip("abcd", (0.4, 0.6, 0.5, 0.6), strict=True)]
    points = planes.training_points(rows, {"b": 100.0, "c": 200.0, "d": 100.0})
    assert [point.row.variant for point in planes.pareto_best(points)] == ["a", "b", "d"]
    drawn = planes.draw_cost_quality(points, choose_looks("abcd", None), 640, "seconds")
    assert drawn.count("a9 9 0 1 0 18") == drawn.count(", Pareto-best") == 3


def test_an_outdated_variant_beats_none_and_has_no_ring():
    rows = [replace(ROW, variant=name, value=value) for name, value in zip("ab", (0.4, 0.6), strict=True)]
    points = planes.training_points([rows[0], replace(rows[1], outdated="other data")], {})
    assert [point.row.variant for point in planes.pareto_best(points)] == ["a"]


def test_the_ceiling_is_that_of_the_test_questions_of_today():
    before = replace(ROW, variant="a", value=0.9, ceiling=0.95, outdated="other data")
    rows = [before, replace(ROW, variant="b", ceiling=0.71)]
    assert "ceiling 71.0" in charts.draw_bars(rows, choose_looks("ab", None), 640)
    assert "ceiling 95.0" in charts.draw_bars(rows[:1], choose_looks("ab", None), 640)


def test_the_variants_of_one_measure_can_all_be_told_apart():
    names = [f"v{i}" for i in range(2 * COLOURS)]
    looks = choose_looks(names, "v0")
    assert len({(look.colour, look.shape % 6) for look in looks.values()}) == len(names)
    assert looks["v0"].colour == "cb"


def test_another_baseline_score_changes_no_colour():
    assert choose_looks(["b", "a", "bm25"], "bm25") == choose_looks(["a", "bm25", "b", "a"], "bm25")


def test_outcomes_fill_the_bar():
    root = ET.fromstring(charts.draw_outcomes(collect(), 320))
    assert sum(float(e.get("width", "")) for e in root.iter("rect")) == pytest.approx(320, abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.35, 0.02), (3, 41), (0.61, 0.62), (5, 5)])
def test_ticks_are_round_evenly_spaced_and_inside(low, high):
    ticks = linear_ticks(low, high, 5)
    assert ticks and all(low <= tick <= high for tick in ticks) and len(ticks) <= 7
    assert len({round(b - a, 9) for a, b in pairwise(ticks)}) <= 1


def test_log_ticks_are_inside():
    assert log_ticks(3, 400) == (5, 10, 20, 50, 100, 200)
    assert log_ticks(0.5, 5000) == (1, 10, 100, 1000)


def test_a_scale_stops_at_its_ends_and_is_the_middle_without_extent():
    scale = Scale(1, 100, 0, 200, logarithmic=True)
    assert [scale.at(v) for v in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 200])
    assert Scale(3, 3, 10, 20).at(3) == 15


def test_shortened_texts_fit_and_whole_ones_stay():
    assert shorten("微调模型", 100) == "微调模型"
    assert width_of(shorten("微调模型" * 9, 100)) <= 100
    assert shorten("微调模型" * 9, 100).endswith("…")


def test_coordinates_have_one_decimal_and_no_negative_zero():
    assert [number(v) for v in (1.0, 1.26, -0.04, -2.5, 100)] == ["1", "1.3", "0", "-2.5", "100"]
