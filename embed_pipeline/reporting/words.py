"""Figures in plain words: verdicts, measures, calibration, what using a variant costs.

Belongs here: the sentences of the page, how numbers are written there and in a terminal. Does not belong here: the
terminal's tables (terminal), markup.
"""

from datetime import UTC, datetime

from embed_pipeline.evaluation.calibration import Calibration
from embed_pipeline.evaluation.comparison import Verdict
from embed_pipeline.evaluation.measures import MEASURE_WORDS, Measure
from embed_pipeline.evaluation.returned_labels import ReturnChoice
from embed_pipeline.reporting.metrics_table import MetricRow

MISSING = "–"

SIGNS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "no evidence": "○"}


def percent(value: float) -> str:
    """82.9 for .829."""
    return f"{100 * value:.1f}"


def points(difference: float, digits: int = 1) -> str:
    """+12.3 or −4.0, with a real minus sign."""
    return f"{100 * difference:+.{digits}f}".replace("-", "−")


def amount(value: float | None, digits: int = 1) -> str:
    """A figure with thousands separated, small ones with two digits that count; – for None."""
    if value is None:
        return MISSING
    small = 0 < abs(value) < 0.1**digits * 5
    return f"{value:.2g}" if small else f"{value:,.{digits}f}"


def with_interval(row: MetricRow) -> str:
    """82.9 % [80.1, 85.6]."""
    return f"{percent(row.value)} % [{percent(row.low)}, {percent(row.high)}]"


def describe_measure(measure: Measure) -> str:
    """What a measure means, without its name."""
    return MEASURE_WORDS[measure.name].format(k=measure.cutoff)


def describe_verdict(row: MetricRow, comparisons: int) -> str:
    """The sentence after the variant's name; `comparisons` is how many p was corrected for. Empty without a verdict."""
    if (
        row.verdict is None
        or row.difference is None
        or row.difference_low is None
        or row.difference_high is None
        or row.p_adjusted is None
        or row.detectable is None
    ):
        return ""
    found = f"{points(row.difference)} points, 95 % interval {points(row.difference_low)} to "
    found += f"{points(row.difference_high)}, {format_p(row.p_adjusted)}"
    if comparisons > 1:
        found += f" after correction for {comparisons} comparisons"
    least = percent(row.detectable)
    if row.verdict == "no evidence":
        return (
            f"shows no evidence of a difference to {row.baseline}: {found}. These queries would have shown a "
            f"difference of {least} points or more; a smaller one would mostly stay hidden."
        )
    return f"is {row.verdict} than {row.baseline}: {found}; these queries could have shown {least} points."


def describe_calibration(calibration: Calibration) -> str:
    """From which score on to answer, and what that gives on validation and on test."""
    wanted = f"{100 * calibration.wanted_precision:.0f} %"
    if calibration.threshold is None or calibration.validation_precision is None:
        return (
            f"No score is right {wanted} of the time on the {calibration.validation_queries:,} validation questions: "
            "to be that sure, answer none."
        )
    first = (
        f"Answer only from score {score(calibration.threshold)} on: right "
        f"{100 * calibration.validation_precision:.0f} % of the time on validation (wanted: {wanted}), where it "
        f"answers {100 * calibration.validation_coverage:.0f} % of {calibration.validation_queries:,} questions"
    )
    asked = f"{calibration.test_queries:,} questions"
    if calibration.test_precision is None:
        return f"{first}; on test it answers none of {asked}."
    bounds = ""
    if calibration.test_low is not None and calibration.test_high is not None:
        bounds = f" [{100 * calibration.test_low:.0f}–{100 * calibration.test_high:.0f}]"
    return (
        f"{first}; on test it answers {100 * calibration.test_coverage:.0f} % of {asked} and is right "
        f"{100 * calibration.test_precision:.0f} %{bounds}."
    )


def describe_returned(returned: ReturnChoice) -> str:
    """How many hits to return, and what that gives on test."""
    rule, test, fixed = returned.rule, returned.test, returned.fixed_test
    first = f"the first {returned.fixed}" if returned.fixed > 1 else "the first alone"
    does = (
        f"on test that is {test.returned:.1f} a question, precision {percent(test.precision)}, recall "
        f"{percent(test.recall)}, F1 {percent(test.f1)} [{percent(test.f1_low)}–{percent(test.f1_high)}]"
    )
    if rule.gap is None or returned.difference is None or returned.p_value is None:
        asked = f"{returned.validation_queries:,} validation questions"
        return f"Return {first}: on {asked} no other rule was better with evidence; {does}."
    return (
        f"Return those whose score lies at most {score(rule.gap)} below the first's, {rule.at_most} at most: {does}. "
        f"Always {first} gives F1 {percent(fixed.f1)}: {points(returned.difference)}, {format_p(returned.p_value)}."
    )


def format_p(p_value: float) -> str:
    """`p=.042`, `p<.001`, `p=1`."""
    if p_value < 0.001:
        return "p<.001"
    return "p=1" if p_value > 0.9995 else f"p={p_value:.3f}".replace("0.", ".")


def bare_p(p_value: float) -> str:
    """.042 or <.001, for a column that is called p."""
    return format_p(p_value).removeprefix("p").removeprefix("=")


def format_cost(cost: float | None) -> str:
    """US dollars of encoding corpus and queries once: `free`, `<$0.0001`, `$0.0123`; – where it is not known."""
    if cost is None:
        return "–"
    if cost == 0:
        return "free"
    return "<$0.0001" if cost < 0.0001 else f"${cost:.4f}"


def format_milliseconds(value: float | None) -> str:
    """`3.2` below ten, else `45`; – where it was not measured."""
    if value is None:
        return "–"
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def format_precision(row: MetricRow) -> str:
    """`bf16`, or `bf16/fp32` where weights were trained in the first and texts encoded in the second; – for neither."""
    names = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    found = [names.get(name, name) for name in (row.precision, row.dtype) if name]
    return "/".join(dict.fromkeys(found)) or "–"


def moment(time: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def score(value: float) -> str:
    """A score with three digits that count: .623, 17.2."""
    text = f"{value:.3g}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
