"""Laws of intervals, tests and verdicts; oracle: scipy.stats, one column at a time."""

import time

import numpy as np
import pytest
from scipy import stats

from embed_pipeline.evaluation.comparison import compare, compare_queries, compare_variants, summarise
from embed_pipeline.evaluation.measures import MEASURES, Measure, QueryMeasure
from embed_pipeline.significance import (
    SignificanceSettings,
    adjust_p_values,
    bootstrap_intervals,
    detectable_difference,
    mcnemar_p_value,
    sign_flip_p_values,
)
from embed_pipeline_tests.stopwatch import fastest

PRECISE_5 = Measure("precise", 5)
NDCG_10 = Measure("ndcg", 10)
QUICK = SignificanceSettings(resamples=999)
SETTINGS = SignificanceSettings()


def coin_flips(share: float, queries: int, seed: int) -> dict[str, float]:
    drawn = np.random.default_rng(seed).random(queries) < share
    return {f"q{i:04d}": float(value) for i, value in enumerate(drawn)}


def test_the_interval_is_scipys_percentile_interval():
    values = np.random.default_rng(1).random((80, 3))
    found = bootstrap_intervals(values, SETTINGS)
    for column in range(3):
        theirs = stats.bootstrap(
            (values[:, column],),
            np.mean,
            n_resamples=SETTINGS.resamples,
            method="percentile",
            rng=np.random.default_rng(SETTINGS.seed),
        ).confidence_interval
        assert [found.low[column], found.high[column]] == pytest.approx([theirs.low, theirs.high], abs=1e-9)


def test_batches_of_draws_do_not_change_the_interval():
    values = np.random.default_rng(1).random((300, 1))
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(SETTINGS.seed)
    ).confidence_interval
    found = bootstrap_intervals(values, SignificanceSettings(resamples=40_000))  # 12 M draws: two batches
    assert [found.low[0], found.high[0]] == pytest.approx([theirs.low, theirs.high], abs=1e-9)


def test_a_higher_confidence_is_a_wider_interval_that_holds_its_share_of_the_means():
    values = np.random.default_rng(1).random((80, 1))
    deviation = values.std() / np.sqrt(80)
    widths = []
    for confidence in (0.5, 0.8, 0.95):
        found = bootstrap_intervals(values, SignificanceSettings(confidence=confidence))
        widths.append(found.high[0] - found.low[0])
        assert widths[-1] == pytest.approx(2 * stats.norm.ppf((1 + confidence) / 2) * deviation, rel=0.05)
    assert widths == sorted(widths)


@pytest.mark.parametrize("queries", [5, 9])
def test_p_of_few_queries_is_scipys_exact_p(queries):
    differences = np.random.default_rng(2).normal(0.4, 1, (queries, 2))
    found = sign_flip_p_values(differences, SETTINGS)
    for column in range(2):
        theirs = stats.permutation_test(
            (differences[:, column],), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert found[column] == pytest.approx(theirs.pvalue, abs=1e-12)


def test_p_of_many_queries_is_near_scipys():
    differences = np.random.default_rng(3).normal(0.13, 1, (200, 1))
    theirs = stats.permutation_test(
        (differences[:, 0],),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        n_resamples=9999,
        rng=np.random.default_rng(5),
    )
    assert sign_flip_p_values(differences, SETTINGS)[0] == pytest.approx(theirs.pvalue, abs=0.015)


def test_five_more_queries_of_234_at_best_reach_p_06():
    """The case of the published table: five wins and no loss is no evidence, whatever the percentage looks like."""
    baseline = {f"q{i}": 0.0 for i in range(234)}
    result = compare(PRECISE_5, baseline, {q: float(i < 5) for i, q in enumerate(baseline)})
    assert result.p_value == pytest.approx(2 / 2**5, abs=0.01)
    assert result.verdict == "no evidence"
    assert result.low >= 0


def test_equal_variants_have_p_1_and_no_verdict():
    values = coin_flips(0.5, 100, seed=0)
    result = compare(PRECISE_5, values, values)
    assert (result.difference, result.low, result.high, result.p_value, result.verdict) == (0, 0, 0, 1, "no evidence")


def test_swapping_the_sides_turns_the_verdict_round():
    weak, strong = coin_flips(0.3, 300, seed=1), coin_flips(0.8, 300, seed=2)
    forth, back = compare(PRECISE_5, weak, strong), compare(PRECISE_5, strong, weak)
    assert (forth.verdict, back.verdict) == ("better", "worse")
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=1e-12)
    assert back.p_value == forth.p_value


@pytest.mark.parametrize("lift", [0.0, 0.04, 0.08, 0.12])
def test_no_verdict_without_a_small_p_and_an_interval_on_one_side(lift):
    for seed in range(8):
        result = compare(
            PRECISE_5,
            coin_flips(0.5, 150, seed),
            coin_flips(0.5 + lift, 150, seed + 100),
            SignificanceSettings(resamples=999),
        )
        decided = result.verdict != "no evidence"
        assert decided == (result.p_adjusted <= 0.05 and not result.low <= 0 <= result.high)
        if decided:
            assert (result.verdict == "better") == (result.difference > 0)


def test_equal_systems_are_called_different_in_about_one_of_twenty_tables():
    generator = np.random.default_rng(7)
    calm = generator.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(120, 400))
    false_alarms = (sign_flip_p_values(calm, SignificanceSettings(resamples=1999)) <= 0.05).mean()
    assert 0.01 <= false_alarms <= 0.09


def test_the_order_of_queries_changes_nothing():
    a, b = coin_flips(0.4, 80, 1), coin_flips(0.6, 80, 2)
    assert compare(PRECISE_5, a, b) == compare(PRECISE_5, dict(reversed(a.items())), dict(reversed(b.items())))


def test_different_queries_are_refused():
    with pytest.raises(ValueError, match="1 queries shared"):
        compare(PRECISE_5, {"q1": 1.0, "q2": 0.0}, {"q1": 1.0, "q3": 0.0})


def test_a_missing_value_is_refused():
    results = [QueryMeasure("q1", measure, 1.0) for measure in MEASURES]
    with pytest.raises(ValueError, match="every query with every measure once"):
        summarise([*results, QueryMeasure("q2", PRECISE_5, 1.0)])
    with pytest.raises(ValueError, match="every query with every measure once"):
        summarise([])


def test_a_summary_holds_the_mean_inside_its_interval():
    results = [QueryMeasure(q, PRECISE_5, value) for q, value in coin_flips(0.7, 234, 3).items()]
    (summary,) = summarise(results)
    assert summary.value == pytest.approx(np.mean([result.value for result in results]))
    assert summary.low < summary.value < summary.high
    assert summary.queries == 234


def test_a_table_of_three_variants_takes_under_two_seconds():
    generator = np.random.default_rng(0)
    variants = [
        [QueryMeasure(f"q{i:03d}", measure, float(generator.random())) for i in range(600) for measure in MEASURES]
        for _ in range(3)
    ]

    def table() -> None:
        for variant in variants:
            summarise(variant)
            compare_queries(variants[0], variant)

    # 0.6 s on an idle core; a shared one counts its waits for memory.
    assert fastest(table, clock=time.process_time) < 4


def results_of(values: np.ndarray, measure: Measure = NDCG_10) -> list[QueryMeasure]:
    return [QueryMeasure(f"q{i:04d}", measure, float(value)) for i, value in enumerate(values)]


@pytest.mark.parametrize("hit_like", [True, False])
def test_two_rankers_of_equal_quality_are_called_different_in_at_most_5_percent_of_1000_test_sets(hit_like):
    generator = np.random.default_rng(11)
    called = 0
    for _ in range(1000):
        difficulty = generator.random(120)
        sides = [np.clip(difficulty + generator.normal(0, 0.3, 120), 0, 1) for _ in range(2)]
        if hit_like:
            sides = [(side > 0.5).astype(float) for side in sides]
        (found,) = compare_queries(results_of(sides[0]), results_of(sides[1]), SignificanceSettings(resamples=499))
        called += found.verdict != "no evidence"
    assert 0 < called <= 50


@pytest.mark.parametrize("seed", range(10))
def test_a_planted_gain_of_5_points_on_2000_queries_is_found(seed):
    generator = np.random.default_rng(seed)
    baseline = (generator.random(2000) < 0.5).astype(float)
    gained = np.where((baseline == 0) & (generator.random(2000) < 0.14), 1.0, baseline)
    variant = np.where((baseline == 1) & (generator.random(2000) < 0.04), 0.0, gained)
    (found,) = compare_queries(results_of(baseline, PRECISE_5), results_of(variant, PRECISE_5), QUICK)
    assert found.verdict == "better" and found.difference == pytest.approx(0.05, abs=0.02)
    assert found.detectable < found.difference + 0.02


def test_mcnemars_p_is_the_exact_sign_flip_p_of_the_queries_that_differ():
    generator = np.random.default_rng(4)
    for _ in range(20):
        differences = generator.choice([-1.0, 0.0, 1.0], size=12)
        assert mcnemar_p_value(differences) == pytest.approx(sign_flip_p_values(differences[:, None], SETTINGS)[0])


def test_mcnemars_p_of_a_hand_example():
    assert mcnemar_p_value(np.array([1.0] * 9 + [-1.0] + [0.0] * 90)) == pytest.approx(22 / 1024)
    assert mcnemar_p_value(np.zeros(7)) == 1


def test_holms_correction_of_a_hand_example():
    assert adjust_p_values([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert adjust_p_values([0.6, 0.7]) == (1.0, 1.0)
    assert adjust_p_values([]) == ()


def test_the_correction_is_for_the_number_of_variants():
    generator = np.random.default_rng(5)
    baseline = generator.random(100)
    variants = {f"v{i}": results_of(np.clip(baseline + generator.normal(0, 0.2, 100), 0, 1)) for i in range(5)}
    together = compare_variants(results_of(baseline), variants, QUICK)
    plain = [found[0].p_value for found in together.values()]
    assert plain == [compare_queries(results_of(baseline), values, QUICK)[0].p_value for values in variants.values()]
    assert [found[0].p_adjusted for found in together.values()] == pytest.approx(adjust_p_values(plain))
    assert all(found[0].verdict == "no evidence" for found in together.values() if found[0].p_adjusted > 0.05)


def test_of_twenty_variants_that_only_differ_by_chance_hardly_ever_one_is_called_better():
    generator = np.random.default_rng(6)
    alarms = 0
    for _ in range(60):
        base = generator.random(80)
        variants = {f"v{i:02d}": results_of(base + generator.normal(0, 0.1, 80)) for i in range(20)}
        found = compare_variants(results_of(base), variants, SignificanceSettings(resamples=1999))
        alarms += any(comparison[0].verdict != "no evidence" for comparison in found.values())
    assert alarms <= 7  # 5 % of 60 is 3; 7 and more have a chance of 2 %


def test_a_true_difference_of_the_detectable_size_is_found_in_about_80_percent_of_test_sets():
    generator = np.random.default_rng(8)
    spread, queries = 0.4, 200
    planned = detectable_difference(generator.normal(0, spread, 20_000), SETTINGS)
    size = planned * np.sqrt(20_000 / queries)
    samples = generator.normal(size, spread, (queries, 500))
    found = (sign_flip_p_values(samples, SignificanceSettings(resamples=1999)) <= 0.05).mean()
    assert 0.74 <= found <= 0.86


def test_the_detectable_difference_is_never_less_than_the_fewest_queries_that_can_decide():
    assert detectable_difference(np.zeros(234), SETTINGS) == pytest.approx(6 / 234)
    assert mcnemar_p_value(np.array([1.0] * 6)) <= 0.05 < mcnemar_p_value(np.array([1.0] * 5))
    assert detectable_difference(np.zeros(3), SETTINGS) == 1.0
