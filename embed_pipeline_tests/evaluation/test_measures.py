"""Laws of the measures; oracles: pytrec_eval called directly, and the definitions written out by hand."""

import math
import random

import pytest
import pytrec_eval

from embed_pipeline.evaluation.measures import (
    CUTOFFS,
    MEASURES,
    Measure,
    ceiling,
    ceilings,
    measure_queries,
    parse_measure,
)
from embed_pipeline.records import Hit, Judgment

TREC_NAMES = {"hit_rate": "success", "recall": "recall", "precision": "P", "map": "map_cut", "ndcg": "ndcg_cut"}


def make_hits(query_id: str, *passage_ids: str) -> list[Hit]:
    return [Hit(query_id, passage_id, rank, 1 / rank) for rank, passage_id in enumerate(passage_ids, start=1)]


def values_of(results) -> dict[tuple[str, str], float]:
    return {(result.query_id, str(result.measure)): result.value for result in results}


def random_case(seed: int) -> tuple[list[Hit], list[Judgment], list[str]]:
    chance = random.Random(seed)
    corpus = [f"p{i:02d}" for i in range(30)]
    query_ids = [f"q{i}" for i in range(25)]
    judgments, hits = [], []
    for query_id in query_ids:
        relevant = chance.sample(corpus, chance.randint(1, 12))
        judgments += [Judgment(query_id, passage_id, chance.randint(1, 3)) for passage_id in relevant]
        judgments += [Judgment(query_id, passage_id, 0) for passage_id in corpus if passage_id not in relevant][:3]
        found = chance.sample(corpus, chance.choice([0, 1, 4, 10, 20]))
        hits += [Hit(query_id, passage_id, rank, 0.5) for rank, passage_id in enumerate(found, start=1)]
    chance.shuffle(hits)
    return hits, judgments, query_ids


def by_definition(measure: Measure, ranking: list[str], grades: dict[str, int]) -> float:
    k, relevant = measure.cutoff, {passage_id for passage_id, grade in grades.items() if grade >= 1}
    top = [passage_id in relevant for passage_id in ranking[:k]]
    gains = [grades.get(passage_id, 0) for passage_id in ranking[:k]]
    best = sorted(grades.values(), reverse=True)[:k]
    match measure.name:
        case "precise":
            return float(relevant.issubset(ranking[:k]))
        case "hit_rate":
            return float(any(top))
        case "recall":
            return sum(top) / len(relevant)
        case "precision":
            return sum(top) / k
        case "mrr":
            return next((1 / (i + 1) for i, hit in enumerate(top) if hit), 0.0)
        case "map":
            return sum(sum(top[: i + 1]) / (i + 1) for i, hit in enumerate(top) if hit) / len(relevant)
        case "ndcg":
            dcg, ideal = (sum(g / math.log2(i + 2) for i, g in enumerate(gain)) for gain in (gains, best))
            return dcg / ideal


@pytest.mark.parametrize("seed", range(4))
def test_every_measure_equals_its_definition(seed):
    hits, judgments, query_ids = random_case(seed)
    ranking = {q: [h.passage_id for h in sorted(hits, key=lambda h: h.rank) if h.query_id == q] for q in query_ids}
    grades = {q: {j.passage_id: j.grade for j in judgments if j.query_id == q} for q in query_ids}
    results = measure_queries(hits, judgments, query_ids)
    assert len(results) == len(query_ids) * len(MEASURES) == 25 * 35
    for result in results:
        expected = by_definition(result.measure, ranking[result.query_id], grades[result.query_id])
        assert result.value == pytest.approx(expected, abs=1e-9), result


@pytest.mark.parametrize("seed", range(4))
def test_every_measure_equals_trec_eval(seed):
    hits, judgments, query_ids = random_case(seed)
    grades = {q: {j.passage_id: j.grade for j in judgments if j.query_id == q} for q in query_ids}
    found = values_of(measure_queries(hits, judgments, query_ids))
    for cutoff in CUTOFFS:
        run = {
            q: {h.passage_id: 100.0 - h.rank for h in hits if h.query_id == q and h.rank <= cutoff} for q in query_ids
        }
        names = {f"{trec}.{cutoff}" for trec in TREC_NAMES.values()} | {"recip_rank"}
        theirs = pytrec_eval.RelevanceEvaluator(grades, names).evaluate(run)
        for query_id in query_ids:
            trec = theirs.get(query_id, {})
            for name, trec_name in TREC_NAMES.items():
                expected = trec.get(f"{trec_name}_{cutoff}", 0.0)
                assert found[query_id, f"{name}@{cutoff}"] == pytest.approx(expected, abs=1e-9)
            assert found[query_id, f"mrr@{cutoff}"] == pytest.approx(trec.get("recip_rank", 0.0), abs=1e-9)


def test_a_hand_example_gives_the_figures_on_paper():
    hits = make_hits("q", "a", "x", "b")
    values = values_of(measure_queries(hits, [Judgment("q", "a"), Judgment("q", "b")], ["q"]))
    assert {name: values["q", name] for name in ("precise@2", "precise@3", "recall@2", "precision@2", "mrr@1")} == {
        "precise@2": 0.0,
        "precise@3": 1.0,
        "recall@2": 0.5,
        "precision@2": 0.5,
        "mrr@1": 1.0,
    }
    assert values["q", "map@3"] == pytest.approx((1 + 2 / 3) / 2)
    assert values["q", "ndcg@3"] == pytest.approx((1 + 0.5) / (1 + 1 / math.log2(3)))


def test_a_query_without_hits_scores_zero_and_stays_in_the_denominator():
    results = measure_queries(make_hits("q1", "a"), [Judgment("q1", "a"), Judgment("q2", "a")], ["q1", "q2"])
    assert {result.value for result in results if result.query_id == "q2"} == {0.0}
    assert sum(result.query_id == "q2" for result in results) == len(MEASURES)


def test_rank_decides_and_equal_scores_cannot_reorder():
    hits = [Hit("q", "b", 1, 0.5), Hit("q", "a", 2, 0.5), Hit("q", "c", 3, 0.9)]
    for relevant, position in (("b", 1), ("a", 2), ("c", 3)):
        values = values_of(measure_queries(reversed(hits), [Judgment("q", relevant)], ["q"]))
        assert values["q", "mrr@10"] == 1 / position


def test_precise_at_1_has_ceiling_zero_where_every_query_has_two_labels():
    judgments = [Judgment("q", "a"), Judgment("q", "b")]
    assert ceiling(Measure("precise", 1), judgments, ["q"]) == 0.0
    assert ceiling(Measure("precise", 2), judgments, ["q"]) == 1.0


def test_ceilings_follow_from_the_number_of_labels_alone():
    sizes = {"q1": 1, "q2": 2, "q3": 7}
    judgments = [Judgment(q, f"p{i}") for q, size in sizes.items() for i in range(size)]
    found = ceilings(judgments, list(sizes))
    for cutoff in CUTOFFS:
        within = [min(size, cutoff) for size in sizes.values()]
        share = sum(w / size for w, size in zip(within, sizes.values(), strict=True)) / 3
        assert found[Measure("precise", cutoff)] == pytest.approx(sum(size <= cutoff for size in sizes.values()) / 3)
        assert found[Measure("precision", cutoff)] == pytest.approx(sum(w / cutoff for w in within) / 3)
        assert found[Measure("recall", cutoff)] == pytest.approx(share)
        assert found[Measure("map", cutoff)] == pytest.approx(share)
        assert [found[Measure(name, cutoff)] for name in ("hit_rate", "mrr", "ndcg")] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("seed", range(3))
def test_no_ranking_exceeds_the_ceiling(seed):
    hits, judgments, query_ids = random_case(seed)
    results = measure_queries(hits, judgments, query_ids)
    for measure, best in ceilings(judgments, query_ids).items():
        assert sum(r.value for r in results if r.measure == measure) / len(query_ids) <= best + 1e-12


def test_a_hit_on_a_passage_of_equal_text_counts_and_the_second_copy_takes_no_rank():
    judgments = [Judgment("q", "a"), Judgment("q", "b")]
    canonical = {"a": "a", "a-copy": "a"}
    values = values_of(measure_queries(make_hits("q", "a-copy", "a", "b"), judgments, ["q"], canonical=canonical))
    assert values["q", "precise@2"] == 1.0
    plain = values_of(measure_queries(make_hits("q", "a-copy", "a", "b"), judgments, ["q"]))
    assert plain["q", "precise@2"] == 0.0


def test_two_judged_copies_of_one_passage_are_one_label():
    judgments = [Judgment("q", "a"), Judgment("q", "a-copy")]
    assert ceilings(judgments, ["q"], canonical={"a-copy": "a"})[Measure("precise", 1)] == 1.0


@pytest.mark.parametrize("judgments", [[], [Judgment("q", "a", 0)]])
def test_an_unjudged_query_is_refused(judgments):
    with pytest.raises(ValueError, match=r"needs a relevant passage .* first q\."):
        measure_queries(make_hits("q", "a"), judgments, ["q"])


def test_a_repeated_query_id_is_refused():
    with pytest.raises(ValueError, match="unique"):
        measure_queries([], [Judgment("q", "a")], ["q", "q"])


@pytest.mark.parametrize("second", [Hit("q", "b", 1, 0.1), Hit("q", "a", 2, 0.1)])
def test_two_hits_of_one_rank_or_passage_are_refused(second):
    with pytest.raises(ValueError, match="query q: hits must differ"):
        measure_queries([Hit("q", "a", 1, 0.2), second], [Judgment("q", "a")], ["q"])


def test_no_queries_give_no_values():
    assert measure_queries([], [], []) == ()


def test_a_measure_survives_its_name():
    assert [parse_measure(str(measure)) for measure in MEASURES] == list(MEASURES)
    assert str(Measure("precise", 5)) == "precise@5"


@pytest.mark.parametrize("text", ["precise", "precise@", "precise@0", "precise@-1", "accuracy@1", "precise@5.0"])
def test_an_unknown_measure_is_refused(text):
    with pytest.raises(ValueError, match="measure must be one of"):
        parse_measure(text)
