"""The metrics table as people read it in a terminal, and what stands behind it.

Belongs here: rows to rich tables: of figures, of how sure a difference is and what using a variant takes, of what it
forgot. Does not belong here: reading rows, computing figures, how a number is written (words).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING

from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.reporting.metrics_table import ALL_QUERIES, FORGETTING, MetricRow
from embed_pipeline.reporting.words import bare_p, format_cost, format_milliseconds, format_p, format_precision

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

HEADLINE = Measure("precise", 5)

SHOWN: tuple[Measure, ...] = (
    *(Measure("precise", cutoff) for cutoff in (1, 2, 3, 5, 10)),
    Measure("hit_rate", 1),
    Measure("recall", 5),
    Measure("mrr", 10),
    Measure("ndcg", 10),
)

WIDTH_WITHOUT_TERMINAL = 120


def print_metrics(
    rows: Sequence[MetricRow], *, headlines: Mapping[str, Measure] | None = None, file: IO[str] | None = None
) -> None:
    """Prints the tables of every data set and split; into a pipe 120 columns wide and without colour codes.

    `headlines` by data set; HEADLINE for those it lacks.
    """
    from embed_pipeline.console import SafeConsole

    console = SafeConsole(file=file)
    if not console.is_terminal:
        console = SafeConsole(file=file, width=WIDTH_WITHOUT_TERMINAL, color_system=None)
    if not rows:
        console.print("No metrics yet.")
    for dataset, split in sorted({(row.dataset, row.split) for row in rows}):
        own = [row for row in rows if (row.dataset, row.split) == (dataset, split)]
        headline = (headlines or {}).get(dataset, HEADLINE)
        for table in (*format_metrics(own, headline=headline), *format_evidence_tables(own, headline=headline)):
            console.print(table)


def format_metrics(
    rows: Sequence[MetricRow], *, measures: Sequence[Measure] = SHOWN, headline: Measure = HEADLINE
) -> "tuple[Table, ...]":
    """A table per (data set, split), ordered by name; rows are variants, the best on the headline measure last.

    Figures are percent; the best of a column is bold, the last line is the ceiling. The last column is the difference
    to the baseline on the headline measure with verdict, interval and p. `rows`: one per variant and measure; those of
    slices and general suites are left out. Outdated rows come first, and say so in place of a difference.
    """
    tables: dict[tuple[str, str], dict[str, dict[Measure, MetricRow]]] = {}
    for row in rows:
        if row.covers_own_queries:
            tables.setdefault((row.dataset, row.split), {}).setdefault(row.variant, {})[row.at] = row
    return tuple(
        _format_table(f"{dataset} · {split}", variants, measures, headline)
        for (dataset, split), variants in sorted(tables.items())
    )


def format_evidence_tables(rows: Sequence[MetricRow], *, headline: Measure) -> "tuple[Table, ...]":
    """The table of evidence and cost and, where there is a general suite, that of forgetting; rows of one data set."""
    own = [row for row in rows if row.covers_own_queries and row.at == headline]
    suites = [row for row in rows if row.measured_on != row.dataset and row.slice == ALL_QUERIES]
    lost = [row for row in suites if row.at == FORGETTING]
    tables = (_evidence_table(own, headline), _forgetting_table(lost)) if lost else (_evidence_table(own, headline),)
    return tables if own else ()


def format_percent(value: float) -> str:
    """76.9 for .769."""
    return f"{100 * value:.1f}"


def format_difference(row: MetricRow) -> str:
    """`+12.3`, in points; empty for the baseline."""
    return "" if row.difference is None else _points(row.difference)


def format_evidence(row: MetricRow) -> str:
    """`[+9.1, +15.4] p<.001`, in points, p corrected for the number of variants; empty for the baseline."""
    if row.difference_low is None or row.difference_high is None or row.p_adjusted is None:
        return ""
    return f"[{_points(row.difference_low)}, {_points(row.difference_high)}] {format_p(row.p_adjusted)}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _format_table(
    title: str, variants: Mapping[str, Mapping[Measure, MetricRow]], measures: Sequence[Measure], headline: Measure
) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Outdated figures stand beside the others and have no part in what is said of those.
    current = {name: found for name, found in variants.items() if not _outdated(found)} or variants
    any_row = next(iter(next(iter(current.values())).values()))
    baseline = next((row.baseline for found in variants.values() for row in found.values() if row.baseline), None)
    shown = [measure for measure in measures if any(measure in found for found in variants.values())]
    best = {m: max((found[m].value for found in current.values() if m in found), default=None) for m in shown}
    table = Table(
        title=f"{title} · {any_row.queries} queries"
        + (f" · synthetic: {any_row.synthetic}" if any_row.synthetic else ""),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_style="bold",
        show_footer=True,
    )
    table.add_column("variant", footer="ceiling", overflow="fold")
    named = ""
    for measure in shown:
        label = measure.name.replace("_rate", "") if measure.name != named else ""
        named = measure.name
        ceiling = next(found[measure].ceiling for found in (*current.values(), *variants.values()) if measure in found)
        table.add_column(f"{label}\n@{measure.cutoff}", footer=format_percent(ceiling), justify="right", no_wrap=True)
    table.add_column(f"{headline}\nagainst {baseline or 'no baseline'}")
    ordered = sorted(
        variants.items(),
        key=lambda item: (not _outdated(item[1]), item[1][headline].value if headline in item[1] else -1, item[0]),
    )
    for variant, found in ordered:
        cells: list[Text] = []
        for measure in shown:
            text = format_percent(found[measure].value) if measure in found else "–"
            is_best = measure in found and found[measure].value == best[measure] and len(current) > 1
            style = "dim" if _outdated(found) else "bold" if is_best else ""
            cells.append(Text(text, style=style))
        table.add_row(Text(variant), *cells, _verdict_cell(variant, baseline, found.get(headline)))
    return table


def _outdated(found: Mapping[Measure, MetricRow]) -> str | None:
    return next((row.outdated for row in found.values()), None)


def _verdict_cell(variant: str, baseline: str | None, row: MetricRow | None) -> "Text":
    from rich.text import Text

    if row is not None and row.outdated:
        return Text(f"{row.outdated}: not compared", style="yellow")
    if row is None or row.verdict is None:
        return Text("baseline" if variant == baseline else "", style="dim")
    style = {"better": "bold green", "worse": "bold red", "no evidence": "yellow"}[row.verdict]
    return Text.assemble(format_difference(row), " ", (row.verdict, style), "\n", format_evidence(row))


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
    return "" if value is None else bare_p(value)


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
