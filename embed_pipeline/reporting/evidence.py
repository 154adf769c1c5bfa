"""What stands behind the metrics table: how sure a difference is, what using a variant takes, what it forgot.

Belongs here: these tables for a terminal. Does not belong here: the metrics table itself (terminal).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.reporting.metrics_table import ALL_QUERIES, MetricRow

if TYPE_CHECKING:
    from rich.table import Table

FORGETTING = Measure("ndcg", 10)


def format_evidence_tables(rows: Sequence[MetricRow], *, headline: Measure) -> "tuple[Table, ...]":
    """The table of evidence and cost and, where there is a general suite, that of forgetting; rows of one data set."""
    own = [row for row in rows if row.covers_own_queries and row.at == headline]
    suites = [row for row in rows if row.measured_on != row.dataset and row.slice == ALL_QUERIES]
    lost = [row for row in suites if row.at == FORGETTING]
    tables = (_evidence_table(own, headline), _forgetting_table(lost)) if lost else (_evidence_table(own, headline),)
    return tables if own else ()


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


def format_p(p_value: float) -> str:
    """`p=.042`, `p<.001`, `p=1`."""
    if p_value < 0.001:
        return "p<.001"
    return "p=1" if p_value > 0.9995 else f"p={p_value:.3f}".replace("0.", ".")


_COLUMNS: Sequence[tuple[str, Callable[[MetricRow], str]]] = (
    ("of the\nceiling", lambda row: f"{100 * row.ceiling_share:.0f} %"),
    ("95 %\ninterval", lambda row: f"{100 * row.low:.1f}–{100 * row.high:.1f}"),
    ("p\nplain", lambda row: _p(row.p_value)),
    ("p\nHolm", lambda row: _p(row.p_adjusted)),
    ("detect-\nable", lambda row: "" if row.detectable is None else f"{100 * row.detectable:.1f}"),
    ("cost", lambda row: format_cost(row.cost_usd)),
    ("query ms\np50", lambda row: format_milliseconds(row.latency_p50_ms)),
    ("\np95", lambda row: format_milliseconds(row.latency_p95_ms)),
    ("passages\nper s", lambda row: "–" if row.passages_per_second is None else f"{row.passages_per_second:.0f}"),
    ("dimen-\nsions", lambda row: "–" if row.dimension is None else str(row.dimension)),
    ("preci-\nsion", lambda row: format_precision(row)),
    ("max\ntokens", lambda row: "–" if row.max_length is None else str(row.max_length)),
)


def _p(value: float | None) -> str:
    return "" if value is None else format_p(value).removeprefix("p").removeprefix("=")


def _named(row: MetricRow) -> str:
    return f"{row.variant} ({row.outdated})" if row.outdated else row.variant


def _evidence_table(rows: Sequence[MetricRow], headline: Measure) -> "Table":
    table = _new_table(f"evidence on {headline}, and what using a variant takes", "variant")
    for title, _ in _COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: (row.value, row.variant)):
        table.add_row(_named(row), *(cell(row) for _, cell in _COLUMNS))
    return table


def _forgetting_table(rows: Sequence[MetricRow]) -> "Table":
    table = _new_table(f"general suite, {FORGETTING}: what training cost elsewhere", "variant")
    for title in ("measured on", "value", "against its base model", "95 % interval", "p"):
        table.add_column(title, justify="left" if title == "measured on" else "right", no_wrap=True)
    for row in sorted(rows, key=lambda row: (row.measured_on, row.value, row.variant)):
        lost = ("", "", "")
        if row.difference is not None and row.difference_low is not None and row.difference_high is not None:
            interval = f"[{100 * row.difference_low:+.1f}, {100 * row.difference_high:+.1f}]"
            lost = (f"{100 * row.difference:+.1f} {row.verdict}", interval, _p(row.p_adjusted))
        table.add_row(_named(row), row.measured_on, f"{100 * row.value:.1f}", *lost)
    return table


def _new_table(title: str, first: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column(first, overflow="fold")
    return table
