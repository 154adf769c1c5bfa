import pytest

from embed_pipeline.evaluation.measures import Measure, measure_queries
from embed_pipeline.records import Hit, Judgment, Passage, Query
from embed_pipeline.reporting.outcomes import Outcomes, VariantResult, collect_outcomes

PASSAGES = [Passage(f"p{i}", text) for i, text in enumerate(["高血压", "脂肪肝", "糖尿病"])]
QUERIES = [Query(f"q{i}", text, "test") for i, text in enumerate(["有点脂肪肝", "血压 <b>150/95</b>", "血糖6.8", "肝"])]
JUDGMENTS = [Judgment("q0", "p1"), Judgment("q1", "p0"), Judgment("q2", "p2"), Judgment("q3", "p1")]


def make_result(variant: str, returned: dict[str, list[str]]) -> VariantResult:
    hits = [Hit(q, p, rank, 1 / rank) for q, found in returned.items() for rank, p in enumerate(found, start=1)]
    return VariantResult(variant, measure_queries(hits, JUDGMENTS, [query.id for query in QUERIES]), hits)


BASELINE = make_result("bm25", {"q0": ["p1"], "q1": ["p2", "p0"], "q3": ["p1"]})
VARIANT = make_result("tuned", {"q0": ["p0", "p1"], "q1": ["p0"], "q2": ["p2"], "q3": ["p1"]})


def collect(baseline: VariantResult = BASELINE, variant: VariantResult = VARIANT, limit: int = 20) -> Outcomes:
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
    assert (back.won, back.lost, back.tied) == (there.lost, there.won, there.tied)
    assert {o.query_id for o in back.won_examples} == {o.query_id for o in there.lost_examples}


def test_a_variant_neither_wins_nor_loses_against_itself():
    found = collect(BASELINE, BASELINE)
    assert (found.won, found.lost, found.tied) == (0, 0, len(QUERIES))


def test_other_queries_are_refused():
    partial = VariantResult("tuned", [r for r in VARIANT.query_measures if r.query_id != "q0"], VARIANT.hits)
    with pytest.raises(ValueError, match="share 3 of 4 queries"):
        collect(variant=partial)


def test_a_hit_on_a_copy_of_what_was_judged_is_right_and_two_judged_copies_are_one_answer():
    found = collect_outcomes(
        make_result("bm25", {"q1": ["p0"]}),
        make_result("tuned", {"q1": ["p2"]}),
        dataset="disease",
        split="test",
        queries=QUERIES,
        passages=[*PASSAGES, Passage("p8", "高血压"), Passage("p9", "高血压")],
        judgments=[*JUDGMENTS[:1], Judgment("q1", "p8"), Judgment("q1", "p9"), *JUDGMENTS[2:]],
        measure=Measure("precise", 1),
    )
    (lost,) = found.lost_examples
    assert lost.relevant == ("高血压",)
    assert [(item.text, item.relevant) for item in lost.baseline_returned] == [("高血压", True)]
