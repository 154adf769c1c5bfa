"""Laws of the report: whole, honest, escaped, alone."""

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser

import pytest

from embed_pipeline.evaluation.calibration import Calibration, ScoreDistribution
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.evaluation.returned_labels import ReturnChoice, ReturnFigures, ReturnRule
from embed_pipeline.reporting.metrics_table import BASE_MODEL, MetricRow
from embed_pipeline.reporting.outcomes import Outcomes, QueryOutcome, Returned
from embed_pipeline.reporting.page import render_page
from embed_pipeline.reporting.report_data import DatasetReport, HistoryPoint, VariantScores
from embed_pipeline.reporting.terminal import HEADLINE
from embed_pipeline_tests.reporting.metric_rows import ROW, compared
from embed_pipeline_tests.reporting.test_outcomes import collect

EVIL = "</script><b>x</b>\"'&"
BM25 = replace(ROW, variant="bm25", value=0.5)
TUNED = compared(
    replace(ROW, variant="tuned", value=0.62, low=0.58, high=0.66, checkpoint_digest="c" * 64),
    0.12,
    0.001,
    cost_usd=0.0184,
    latency_p50_ms=12.5,
    latency_p95_ms=48.2,
    passages_per_second=1412.4,
    dimension=384,
    max_length=512,
)
MISS = compared(replace(ROW, variant="tfidf", value=0.51), 0.01, 0.4)
OWN = (BM25, TUNED, MISS)
REST = (
    replace(TUNED, slice="language: en", value=0.411, queries=41),
    replace(BM25, slice="language: zh", value=0.322, queries=559),
    replace(TUNED, slice="labels: 2", value=0.233, queries=77),
    replace(TUNED, slice="question en → passage zh", measure="mrr", cutoff=10, value=0.717),
    replace(TUNED, measured_on="cmrc2018", value=0.544, baseline=BASE_MODEL),
)
CALIBRATION = Calibration(0.9, 0.62, 300, 0.46, 0.9, 600, 0.43, 0.88, 0.80, 0.94)
REPORT = DatasetReport(
    dataset="disease",
    description="患者问题",
    rows=(*OWN, *REST),
    history=tuple(
        HistoryPoint(name, ROW.evaluated_at - timedelta(days=days), 0.345 + days / 1000, 0.3, 0.4)
        for name in ("bm25", "tuned")
        for days in (9, 0)
    ),
    scores=(VariantScores("tuned", ScoreDistribution((0.0, 0.5, 1.0), (1, 8), (7, 2)), CALIBRATION),),
    outcomes=(collect(),),
    word_map='<svg viewBox="0 0 9 9"><text>头痛</text></svg>',
)


class Page(HTMLParser):
    """The tags of a page, what is open at its end, and the text that people see."""

    VOID = frozenset({"meta", "link", "br", "wbr", "img"})

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def render(**changes) -> str:
    return render_page(replace(REPORT, **changes))


def test_the_page_is_well_formed_loads_nothing_and_runs_nothing():
    page = render()
    tags = Page(page)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in tags.seen}
    targets = [value for _, found in tags.seen for name, value in found.items() if name in {"src", "href"}]
    assert targets and all(target.startswith("#") for target in targets)
    assert not any(name.startswith("on") for _, found in tags.seen for name in found)
    assert not re.search(r"url\(|@import|https?://", page)


def test_every_entry_of_the_contents_leads_to_a_section_and_every_id_is_single():
    tags = Page(render())
    ids = [found["id"] for _, found in tags.seen if "id" in found]
    links = [found["href"].removeprefix("#") for tag, found in tags.seen if tag == "a"]
    assert sorted(ids) == sorted(links) == sorted(set(ids))


@pytest.mark.parametrize("row", [*OWN, *REST], ids=lambda row: f"{row.variant} {row.slice} {row.measured_on}")
def test_every_row_is_shown_with_its_value(row: MetricRow):
    with_it, without = Page(render()).text, Page(render(rows=tuple(r for r in REPORT.rows if r != row))).text
    shown = f"{100 * row.value:.1f}"
    assert with_it.count(shown) > without.count(shown)


def test_differences_intervals_and_costs_are_shown():
    text = Page(render()).text
    for figure in ("+12.0", "[+8.0, +16.0]", "58.0 – 66.0", "0.018", "12.5", "48.2", "1,412", "384", "512", ".001"):
        assert figure in text
    assert "c" * 64 in text and "a" * 64 in text and "零样本" in text


def test_a_verdict_is_told_in_plain_words():
    text = Page(render()).text
    assert (
        "tuned is better than bm25: +12.0 points, 95 % interval +8.0 to +16.0, p=.002 after correction for 2 "
        "comparisons; these queries could have shown 3.7 points." in text
    )
    assert "tfidf shows no evidence of a difference to bm25" in text
    assert "would have shown a difference of 3.7 points or more" in text
    assert "bm25 is the baseline: 50.0 %" in text


@pytest.mark.parametrize("word", ["better", "worse", "no evidence"])
def test_no_verdict_is_told_that_no_row_has(word):
    kept = tuple(row for row in OWN if row.verdict != word)
    assert word not in Page(render(rows=kept)).text
    assert word in Page(render(rows=(*kept, replace(MISS, verdict=word)))).text


def test_every_verdict_has_a_sign_besides_its_colour():
    text = Page(render()).text
    assert "▲ better" in text and "○ no evidence" in text


def test_what_was_not_measured_is_a_dash_and_no_zero():
    page = render(rows=(BM25,), history=(), scores=(), outcomes=())
    (line,) = re.findall(r"<tr><th scope=\"row\">.*?</tr>", page.split("<tbody>")[1].split("</tbody>")[0], re.DOTALL)
    cells = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", line, re.DOTALL)]
    assert cells[3:] == ["–"] * 9
    assert "Speed and quality" not in page


def test_a_variant_without_a_measure_shows_a_dash():
    both = (BM25, replace(BM25, measure="mrr", cutoff=10, value=0.4567), TUNED)
    table = render(rows=both).split("<h3>Every measure</h3>")[1].split("</table>")[0]
    tuned = next(line for line in table.split("<tr>") if "tuned" in line and "<td" in line)
    assert re.findall(r"<td[^>]*>([^<]*)", tuned) == ["–", "–", "–", "62.0", "–", "–", "–", "–", "–"]


def test_a_variant_that_was_not_compared_says_why():
    alone = replace(ROW, variant="other data")
    assert "the two were measured on different data" in Page(render(rows=(*OWN, alone))).text
    assert "there is no baseline to compare with" in Page(render(rows=(BM25,))).text


def test_forgetting_is_red_only_when_the_interval_is_below_zero():
    suite = replace(TUNED, measured_on="cmrc2018", baseline=BASE_MODEL, difference=-0.06)
    forgot = replace(suite, difference_low=-0.1, difference_high=-0.02)
    unsure = replace(suite, difference_low=-0.1, difference_high=0.01)
    assert "▼ forgot" in Page(render(rows=(*OWN, forgot))).text
    assert "▼ forgot" not in Page(render(rows=(*OWN, unsure))).text
    assert "68.0" in Page(render(rows=(*OWN, forgot))).text  # .62 now, .06 lost


def test_parts_of_a_general_suite_are_not_mixed_with_the_whole():
    whole = replace(TUNED, measured_on="xquad", baseline=BASE_MODEL, value=0.544)
    text = Page(render(rows=(*OWN, whole, replace(whole, slice="language: en", value=0.633)))).text
    assert "xquad precise@5" in text and "xquad, language: en precise@5" in text


def test_slices_tell_how_many_queries_they_have():
    text = Page(render()).text
    assert "41 queries" in text and "559 queries" in text and "77 queries" in text
    assert "1 query" in Page(render(rows=(*OWN, replace(TUNED, slice="labels: 3", queries=1)))).text


def test_history_is_in_utc():
    text = Page(render()).text
    assert "2026-11-11 03:00 UTC" in text and "2026-11-20 03:00 UTC" in text


def test_calibration_is_told_in_words():
    text = Page(render()).text
    assert "Answer only from score .62 on: right 90 % of the time on validation" in text
    assert "on test it answers 43 % of 600 questions and is right 88 % [80–94]" in text
    never = replace(CALIBRATION, threshold=None, validation_precision=None, test_precision=None)
    assert "answer none" in Page(render(scores=(VariantScores("tuned", None, never),))).text


def test_how_many_hits_to_return_is_told_in_words():
    gap = ReturnFigures(2.33, 0.542, 0.526, 0.492, 0.46, 0.523)
    first = ReturnFigures(1.0, 0.59, 0.423, 0.465, 0.429, 0.5)
    chosen = ReturnChoice(ReturnRule(0.137, 4), 1, 401, 591, gap, first, 0.027, 0.011, 0.044, 0.0008)
    told = Page(render(scores=(VariantScores("tuned", None, CALIBRATION, chosen),))).text
    assert "Return those whose score lies at most .137 below the first's, 4 at most: on test that is 2.3 a" in told
    assert (
        "precision 54.2, recall 52.6, F1 49.2 [46.0–52.3]. Always the first alone gives F1 46.5: +2.7, p<.001." in told
    )
    fixed = replace(chosen, rule=ReturnRule(None, 1), test=first, difference=None, p_value=None)
    told = Page(render(scores=(VariantScores("tuned", None, None, fixed),))).text
    assert "Return the first alone: on 401 validation questions no other rule was better with evidence; on test" in told


def test_won_and_lost_queries_are_shown_with_what_each_variant_returned():
    text = Page(render()).text
    assert "2 queries won, 1 lost, 1 tied" in text
    assert "有点脂肪肝" in text and "脂肪肝 ✓" in text


def test_the_word_map_goes_in_as_it_is():
    assert REPORT.word_map and REPORT.word_map in render()
    assert "Word map" not in render(word_map=None)


def test_every_text_from_outside_is_escaped():
    outcome = QueryOutcome("q", EVIL, (EVIL,), 0.0, 1.0, (Returned(EVIL, False),), (Returned(EVIL, True),))
    evil = compared(replace(ROW, variant=EVIL, recipe={"note": EVIL}, run_id=EVIL, latency_p50_ms=3.0), 0.1, 0.001)
    page = render_page(
        DatasetReport(
            dataset="disease",
            description=EVIL,
            rows=(
                *OWN,
                evil,
                replace(evil, slice=f"{EVIL}: {EVIL}"),
                replace(evil, slice=f"question {EVIL} → passage {EVIL}", measure="mrr", cutoff=10),
                replace(evil, measured_on=EVIL, baseline=BASE_MODEL),
            ),
            history=(HistoryPoint(EVIL, ROW.evaluated_at, 0.5, 0.4, 0.6),),
            scores=(VariantScores(EVIL, ScoreDistribution((0.0, 1.0), (1,), (1,)), CALIBRATION),),
            outcomes=(Outcomes("disease", "test", EVIL, EVIL, HEADLINE, 1, 0, 0, (outcome,), (outcome,)),),
            word_map=None,
        )
    )
    tags = Page(page)
    assert tags.open == []
    assert not {"script"} & {tag for tag, _ in tags.seen}
    assert "<b>x" not in page and "</script" not in page
    assert EVIL in unescape(tags.text)


def test_no_text_from_outside_is_a_command_for_who_prints_the_page():
    hidden = "a\x1b[2J\x9b31m\r\u202eb"
    row = compared(replace(ROW, variant=hidden, recipe={"note": hidden}, run_id=hidden, latency_p50_ms=3.0), 0.1, 0.001)
    outcome = QueryOutcome("q", hidden, (hidden,), 0.0, 1.0, (Returned(hidden, False),), (Returned(hidden, True),))
    page = render(
        description=hidden,
        rows=(*OWN, row, replace(row, measured_on=hidden, baseline=BASE_MODEL)),
        history=(HistoryPoint(hidden, ROW.evaluated_at, 0.5, 0.4, 0.6),),
        outcomes=(Outcomes("disease", "test", hidden, hidden, HEADLINE, 1, 0, 0, (outcome,), (outcome,)),),
        word_map=f"<p>{hidden}</p>",
    )
    assert not {"\x1b", "\x9b", "\r", "\u202e"} & set(page)
    assert page.count("\\x1b[2J") > 10 and "<p>a\\x1b[2J" in page, "markup stays markup"


def test_equal_input_gives_equal_bytes_and_the_order_of_history_does_not_matter():
    assert render() == render() == render(history=REPORT.history[::-1])


def test_a_report_without_rows_says_so():
    page = render(rows=(), history=(), scores=(), outcomes=())
    assert "nothing was evaluated" in page
    assert Page(page).open == []


def test_a_report_with_slices_only_does_not_break():
    assert "nothing was evaluated" in render(rows=REST)


def test_another_headline_is_shown_everywhere():
    other = tuple(replace(row, measure="mrr", cutoff=10) for row in OWN)
    page = render_page(replace(REPORT, rows=other), headline=Measure("mrr", 10))
    assert "tuned is better than bm25" in Page(page).text
    assert "mrr@10 in percent" in Page(page).text


def test_the_head_of_the_page_tells_of_the_questions_of_today_where_the_best_figure_is_outdated():
    before = replace(ROW, variant="tuned", value=0.9, queries=777, ceiling=0.95, outdated="other data")
    text = Page(render(rows=(before, replace(BM25, queries=612, ceiling=0.71)), outcomes=(), scores=())).text
    assert "questions asked612the split test" in text and "ceiling71.0 %" in text


def test_rows_of_another_data_set_are_refused():
    with pytest.raises(ValueError, match="found finance"):
        replace(REPORT, rows=(replace(ROW, dataset="finance"),))


def test_a_history_point_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        HistoryPoint("m", ROW.evaluated_at.replace(tzinfo=None), 0.5, 0.4, 0.6)


def test_light_dark_print_and_chinese_are_cared_for():
    page = render()
    for promise in (
        "@media screen and (prefers-color-scheme: dark)",
        "@media print",
        "Noto Sans CJK SC",
        "PingFang SC",
        "max-width: 640px",
    ):
        assert promise in page
