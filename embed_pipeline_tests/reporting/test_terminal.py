import io
from dataclasses import replace

from rich.console import Console

from embed_pipeline.evaluation.measures import MEASURES, Measure
from embed_pipeline.reporting.metrics_table import BASE_MODEL, MetricRow
from embed_pipeline.reporting.terminal import format_metrics, print_metrics
from embed_pipeline.reporting.words import format_cost, format_milliseconds, format_p
from embed_pipeline_tests.reporting.metric_rows import ROW, compared


def make_rows(dataset: str = "disease") -> list[MetricRow]:
    rows = []
    for variant, value, p_value in (
        ("bm25", 0.62, None),
        ("minilm_zeroshot", 0.389, 0.2),
        ("minilm_tuned", 0.829, 1e-4),
    ):
        for measure in MEASURES:
            row = replace(ROW, dataset=dataset, measured_on=dataset, variant=variant, value=value)
            row = replace(row, measure=measure.name, cutoff=measure.cutoff)
            rows.append(row if p_value is None else compared(row, value - 0.62, p_value))
    return rows


def printed(rows: list[MetricRow]) -> str:
    file = io.StringIO()
    print_metrics(rows, file=file)
    return file.getvalue()


def test_a_pipe_gets_no_colour_codes_and_at_most_120_columns():
    text = printed(make_rows())
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_at_100_columns_every_figure_is_whole():
    console = Console(width=100, file=io.StringIO(), record=True, color_system=None)
    console.print(*format_metrics(make_rows()))
    text = console.export_text()
    assert "…" not in text
    assert all(word in text for word in ("minilm_zeroshot", "+20.9 better", "[+16.9, +24.9] p<.001", "no evidence"))


def test_variants_are_ordered_by_the_headline_and_the_ceiling_comes_last():
    text = printed(make_rows()).partition("evidence on")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    starts = [
        line.split()[0] for line in lines if line.split()[0] in {"bm25", "minilm_zeroshot", "minilm_tuned", "ceiling"}
    ]
    assert starts == ["minilm_zeroshot", "bm25", "minilm_tuned", "ceiling"]


def test_the_best_of_a_column_is_bold_and_no_other():
    (table,) = format_metrics(make_rows())
    assert [cell.style for cell in table.columns[1].cells] == ["", "", "bold"]


def test_every_data_set_and_split_has_its_own_table():
    rows = [*make_rows("finance"), *make_rows(), *(replace(row, split="validation") for row in make_rows())]
    titles = [table.title for table in format_metrics(rows)]
    assert [str(title).split(" · 6")[0] for title in titles] == [
        "disease · test",
        "disease · validation",
        "finance · test",
    ]


def test_a_variant_without_a_measure_shows_a_dash_and_no_zero():
    rows = [row for row in make_rows() if not (row.variant == "bm25" and row.measure == "ndcg")]
    line = next(line for line in printed(rows).splitlines() if "bm25" in line and "against" not in line)
    assert "–" in line


def test_no_rows_say_so():
    assert printed([]) == "No metrics yet.\n"


def test_a_variant_name_is_no_markup():
    assert "[red]x" in printed([replace(ROW, variant="[red]x")])


def test_small_p_is_never_printed_as_zero():
    assert [format_p(p) for p in (0.00009, 0.001, 0.042, 0.2, 1.0)] == ["p<.001", "p=.001", "p=.042", "p=.200", "p=1"]


def test_the_evidence_table_holds_p_before_and_after_correction_ceiling_share_cost_and_latency():
    profile = {"cost_usd": 0.0123, "latency_p50_ms": 4.21, "latency_p95_ms": 61.0, "dimension": 384, "max_length": 192}
    rows = [replace(row, **profile) if row.variant == "minilm_zeroshot" else row for row in make_rows()]
    line = next(line for line in printed(rows).partition("evidence on")[2].splitlines() if "minilm_zeroshot" in line)
    shown = ["40 %", "45.0–55.0", ".200", ".400", "3.7", "$0.0123", "4.2", "61", "384", "192"]
    assert [cell for cell in shown if cell not in line] == []


def test_the_headline_of_a_data_set_is_what_its_tables_are_about():
    file = io.StringIO()
    print_metrics(make_rows(), headlines={"disease": Measure("ndcg", 10)}, file=file)
    assert "evidence on ndcg@10" in file.getvalue() and "ndcg@10" in file.getvalue().partition("evidence on")[0]


def test_a_general_suite_is_a_table_of_its_own_and_never_mixes_with_the_data_sets_figures():
    suite = replace(ROW, measured_on="general_en", measure="ndcg", cutoff=10, value=0.123)
    lost = replace(compared(suite, -0.21, 0.001), baseline=BASE_MODEL)
    text = printed([*make_rows(), lost])
    before, _, after = text.partition("general suite, ndcg@10")
    assert "12.3" not in before and "12.3" in after and "-21.0 worse" in after and "[-25.0, -17.0]" in after


def test_slices_stay_out_of_the_tables():
    assert printed([*make_rows(), replace(ROW, slice="labels: 2", value=0.987)]) == printed(make_rows())


def test_what_is_free_or_unknown_is_said():
    assert [format_cost(cost) for cost in (None, 0.0, 0.00001, 1.5)] == ["–", "free", "<$0.0001", "$1.5000"]
    assert [format_milliseconds(value) for value in (None, 3.21, 45.4)] == ["–", "3.2", "45"]
