import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from embed_pipeline.evaluation.measures import Measure, measure_queries
from embed_pipeline.records import Hit, Judgment, Passage, Query
from embed_pipeline.reporting.outcomes import VariantResult, collect_outcomes
from embed_pipeline.reporting.page import render_page
from embed_pipeline_tests.reporting.metric_rows import ROW, compared

PASSAGES = [Passage(f"p{i}", text) for i, text in enumerate(["高血压", "脂肪肝", "糖尿病"])]
QUERIES = [Query(f"q{i}", text, "test") for i, text in enumerate(["有点脂肪肝", "血压 <b>150/95</b>", "血糖6.8", "肝"])]
JUDGMENTS = [Judgment("q0", "p1"), Judgment("q1", "p0"), Judgment("q2", "p2"), Judgment("q3", "p1")]


def make_result(variant: str, returned: dict[str, list[str]]) -> VariantResult:
    hits = [Hit(q, p, rank, 1 / rank) for q, found in returned.items() for rank, p in enumerate(found, start=1)]
    return VariantResult(variant, measure_queries(hits, JUDGMENTS, [query.id for query in QUERIES]), hits)


BASELINE = make_result("bm25", {"q0": ["p1"], "q1": ["p2", "p0"], "q3": ["p1"]})
VARIANT = make_result("tuned", {"q0": ["p0", "p1"], "q1": ["p0"], "q2": ["p2"], "q3": ["p1"]})


def collect(baseline=BASELINE, variant=VARIANT, limit: int = 20):
    return collect_outcomes(
        baseline,
        variant,
        dataset="disease",
        split="test",
        queries=QUERIES,
        passages=PASSAGES,
        judgments=JUDGMENTS,
        measure=Measure("precise", 1),
        limit=limit,
    )


class Tags(HTMLParser):
    VOID = frozenset({"meta", "link", "br", "rect", "path"})

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"


def test_won_lost_and_tied_are_every_query():
    found = collect()
    assert (found.won, found.lost, found.tied) == (2, 1, 1)
    assert [outcome.query_id for outcome in found.won_examples] == ["q1", "q2"]
    (lost,) = found.lost_examples
    assert (lost.query, lost.relevant) == ("有点脂肪肝", ("脂肪肝",))
    assert [(item.text, item.relevant) for item in lost.baseline_returned] == [("脂肪肝", True)]
    assert [(item.text, item.relevant) for item in lost.variant_returned] == [("高血压", False)]


def test_the_limit_cuts_examples_and_no_counts():
    found = collect(limit=1)
    assert (found.won, len(found.won_examples)) == (2, 1)


def test_swapping_the_sides_swaps_won_and_lost():
    there, back = collect(), collect(VARIANT, BASELINE)
    assert (back.won, back.lost) == (there.lost, there.won)


def test_other_queries_are_refused():
    partial = VariantResult("tuned", [r for r in VARIANT.query_measures if r.query_id != "q0"], VARIANT.hits)
    with pytest.raises(ValueError, match="share 3 of 4 queries"):
        collect(variant=partial)


def make_page() -> str:
    rows = [ROW, compared(replace(ROW, variant="tuned", value=0.62), 0.12, 0.001, checkpoint_digest="c" * 64)]
    return render_page(rows, [collect()])


def test_the_page_is_well_formed_and_loads_nothing():
    page, tags = make_page(), Tags()
    tags.feed(page)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags.seen}
    assert not any(name in {"src", "href"} for _, attributes in tags.seen for name in attributes)
    assert not re.search(r"url\(|@import|https?://", page)


def test_the_page_shows_verdict_interval_and_lineage():
    page = make_page()
    for text in ("+12.0 better", "[+8.0, +16.0] p=.001", "c" * 64, "a" * 64, "2 queries won, 1 lost, 1 tied", "零样本"):
        assert text in page
    assert "prefers-color-scheme: dark" in page


def test_texts_are_escaped():
    page = make_page()
    assert "<b>150" not in page
    assert "&lt;b&gt;150/95&lt;/b&gt;" in page


def test_equal_rows_give_an_equal_page():
    assert make_page() == make_page()


def test_an_empty_table_gives_a_page_that_says_so():
    assert "nothing was evaluated" in render_page([])
