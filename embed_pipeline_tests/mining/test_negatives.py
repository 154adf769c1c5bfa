"""Laws of mining on small random vectors; the oracle is a full sort of the score matrix."""

import numpy as np
import pytest
from pydantic import ValidationError

from embed_pipeline.mining.candidates import MiningCorpus
from embed_pipeline.mining.groups import TrainingGroup, write_groups
from embed_pipeline.mining.negatives import CandidateTally, MinedNegatives, mine
from embed_pipeline.mining.report import MiningReport, report_mined
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Judgment, Passage, Query

OPEN = MiningSettings(range_end=10, number=5, margin_relative=None)


class Case:
    def __init__(self, queries: int = 12, passages: int = 40, dimension: int = 6, seed: int = 0):
        generator = np.random.default_rng(seed)
        self.queries = [Query(f"q{i:02d}", f"question {i}", "train") for i in range(queries)]
        self.passages = [Passage(f"p{i:02d}", f"passage {i}") for i in range(passages)]
        self.query_vectors = self.unit(generator.normal(size=(queries, dimension)))
        self.passage_vectors = self.unit(generator.normal(size=(passages, dimension)))
        self.judgments = []
        for row, query in enumerate(self.queries):
            near = np.argsort(-self.query_vectors[row] @ self.passage_vectors.T)[: 1 + row % 3]
            self.judgments += [Judgment(query.id, f"p{i:02d}") for i in near]

    @staticmethod
    def unit(vectors: np.ndarray) -> np.ndarray:
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def positives(self, query_id: str) -> set[str]:
        return {judgment.passage_id for judgment in self.judgments if judgment.query_id == query_id}

    def mine(self, settings: MiningSettings = OPEN) -> tuple[TrainingGroup, ...]:
        corpus = MiningCorpus.of(self.passages, self.passage_vectors)
        return mine(corpus, self.queries, self.query_vectors, self.judgments, settings).groups

    def report(self, groups: tuple[TrainingGroup, ...], settings: MiningSettings = OPEN) -> MiningReport:
        corpus = MiningCorpus.of(self.passages, self.passage_vectors)
        return report_mined(
            MinedNegatives(groups, CandidateTally()), corpus, self.queries, self.query_vectors, settings
        )


@pytest.mark.parametrize("start", [0, 3])
def test_top_negatives_are_the_nearest_non_positives_in_the_range(start):
    case = Case()
    settings = MiningSettings(range_start=start, range_end=20, number=5, margin_relative=None)
    for row, group in enumerate(case.mine(settings)):
        order = np.argsort(-case.query_vectors[row].astype(np.float64) @ case.passage_vectors.astype(np.float64).T)
        others = [f"p{i:02d}" for i in order if f"p{i:02d}" not in case.positives(group.query_id)]
        assert list(group.negative_ids) == others[start : start + 5]
        assert set(group.positive_ids) == case.positives(group.query_id)
        assert list(group.negative_scores) == sorted(group.negative_scores, reverse=True)


@pytest.mark.parametrize("sampling", ["top", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_no_positive_is_ever_a_negative_nor_is_its_text(sampling, seed):
    case = Case(seed=seed)
    for row, judgment in enumerate(tuple(case.judgments)):  # every positive has a copy with other width and case
        original = case.passages[int(judgment.passage_id[1:])]
        case.passages.append(Passage(f"c{row:02d}", f"  {original.text.upper()}\u3000"))
        case.passage_vectors = np.vstack([case.passage_vectors, case.passage_vectors[int(judgment.passage_id[1:])]])
    settings = MiningSettings(range_end=60, number=50, margin_relative=None, sampling=sampling)
    for group in case.mine(settings):
        positive_texts = {text.strip().lower() for text in group.positives}
        assert not positive_texts & {text.strip().lower() for text in group.negatives}
        assert len({text.strip().lower() for text in group.negatives}) == len(group.negatives)
        assert len(group.negatives) == 40 - len(positive_texts)


def test_positives_are_united_over_all_rows_of_a_query():
    case = Case()
    before = {group.query_id: group for group in case.mine()}
    nearest = before["q00"].negative_ids[0]
    case.judgments.append(Judgment("q00", nearest))  # a later row of the sheet
    after = {group.query_id: group for group in case.mine()}
    assert nearest in after["q00"].positive_ids
    assert nearest not in after["q00"].negative_ids
    assert {q: g for q, g in after.items() if q != "q00"} == {q: g for q, g in before.items() if q != "q00"}


def test_the_positive_of_a_query_of_equal_text_is_no_negative():
    case = Case()
    nearest = case.mine()[0].negative_ids[0]
    case.queries.append(Query("q99", "QUESTION  0", "train"))
    case.query_vectors = np.vstack([case.query_vectors, case.query_vectors[0]])
    case.judgments.append(Judgment("q99", nearest))
    group = case.mine()[0]
    assert nearest not in group.negative_ids
    assert nearest not in group.positive_ids


def test_a_passage_judged_irrelevant_may_be_a_negative():
    case = Case()
    nearest = case.mine()[0].negative_ids[0]
    case.judgments.append(Judgment("q00", nearest, grade=0))
    assert case.mine()[0].negative_ids[0] == nearest


@pytest.mark.parametrize("sampling", ["top", "random"])
def test_the_same_seed_gives_the_same_bytes(tmp_path, sampling):
    settings = MiningSettings(range_end=30, number=5, margin_relative=None, sampling=sampling, seed=4)
    write_groups(Case().mine(settings), tmp_path / "a")
    write_groups(reversed(Case().mine(settings)), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_another_seed_draws_other_negatives():
    drawn = [Case().mine(MiningSettings(range_end=30, number=5, sampling="random", seed=seed)) for seed in (1, 2)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("sampling", ["top", "random"])
def test_adding_queries_moves_no_other_group(sampling):
    settings = MiningSettings(range_end=20, number=5, margin_relative=None, sampling=sampling)
    large, small = Case(), Case()
    small.queries, small.query_vectors = small.queries[3:7], small.query_vectors[3:7]
    assert small.mine(settings) == large.mine(settings)[3:7]


def test_the_order_of_passages_changes_nothing():
    case, turned = Case(), Case()
    turned.passages, turned.passage_vectors = turned.passages[::-1], turned.passage_vectors[::-1]
    assert turned.mine() == case.mine()


def test_both_margins_hold_against_the_weakest_positive():
    case = Case()
    settings = MiningSettings(range_end=30, number=30, margin_absolute=0.2, margin_relative=0.7)
    groups = case.mine(settings)
    assert any(group.negatives for group in groups)
    for group in groups:
        weakest = min(group.positive_scores)
        assert all(score <= min(weakest - 0.2, 0.7 * weakest) + 1e-4 for score in group.negative_scores)
        free = case.mine(MiningSettings(range_end=30, number=30, margin_relative=None))
        kept = next(other for other in free if other.query_id == group.query_id)
        within = [s for s in kept.negative_scores if s <= min(weakest - 0.2, 0.7 * weakest) - 1e-4]
        assert len(group.negatives) >= len(within)  # and nothing more was thrown away


def test_a_share_of_a_negative_score_lies_below_it():
    assert MiningSettings(margin_relative=0.9).highest_score(-0.5) == pytest.approx(-0.55)
    assert MiningSettings(margin_relative=0.9).highest_score(0.5) == pytest.approx(0.45)


def test_a_relative_range_is_the_absolute_one_of_the_same_size():
    case = Case(passages=40)
    relative = MiningSettings(range_start=0.1, range_end=0.5, number=30, margin_relative=None)
    absolute = MiningSettings(range_start=4, range_end=20, number=30, margin_relative=None)
    assert case.mine(relative) == case.mine(absolute)


def test_candidates_that_run_short_give_fewer_and_no_repeats():
    case = Case(queries=3, passages=6)
    groups = case.mine(MiningSettings(range_end=50, number=50, margin_relative=None))
    assert [len(group.negatives) for group in groups] == [5, 4, 3]
    report = case.report(groups, MiningSettings(range_end=50, number=5, margin_relative=None))
    assert report.groups_by_negatives == ((3, 1), (4, 1), (5, 1))
    assert report.short_groups == 2


def test_a_query_without_positives_has_no_group():
    case = Case()
    case.judgments = [judgment for judgment in case.judgments if judgment.query_id != "q05"]
    assert "q05" not in {group.query_id for group in case.mine()}
    case.judgments = []
    assert case.mine() == ()


def test_a_positive_outside_the_corpus_is_refused():
    case = Case()
    case.judgments.append(Judgment("q00", "p-gone"))
    with pytest.raises(ValueError, match="query q00 is judged on passage p-gone"):
        case.mine()


def test_repeated_ids_are_refused():
    case = Case()
    case.passages[1] = case.passages[0]
    with pytest.raises(ValueError, match="1 passage ids repeat"):
        case.mine()
    case = Case()
    case.queries[1] = case.queries[0]
    with pytest.raises(ValueError, match="1 query ids repeat"):
        case.mine()


def test_the_report_tells_hard_negatives_from_random_ones():
    case = Case(queries=40, passages=80)
    settings = MiningSettings(range_end=80, number=5, margin_relative=None)

    def report(groups):
        return case.report(groups, settings)

    hard = report(case.mine(settings))
    drawn = report(case.mine(settings.model_copy(update={"sampling": "random"})))
    assert hard.hardness_against_random is not None and hard.hardness_against_random > 0.5
    assert drawn.hardness_against_random is not None and abs(drawn.hardness_against_random) < 0.15
    assert hard.above_positive_share == 0.0  # here the positives are the nearest passages
    assert report(case.mine(settings)) == hard
    assert hard.to_json()["groups_by_negatives"] == {"5": 40}


def test_the_report_counts_negatives_above_the_weakest_positive():
    case = Case()
    farthest = np.argmin(case.query_vectors @ case.passage_vectors.T, axis=1)
    case.judgments = [Judgment(q.id, f"p{row:02d}") for q, row in zip(case.queries, farthest, strict=True)]
    report = case.report(case.mine())
    assert report.above_positive_share == 1.0


def test_a_report_on_nothing_has_no_means():
    case = Case()
    report = case.report(())
    assert (report.queries, report.groups, report.mean_negative_score, report.hardness_against_random) == (
        12,
        0,
        None,
        None,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"range_start": 5, "range_end": 5},
        {"range_start": 0.5, "range_end": 0.2},
        {"range_end": 0},
        {"range_end": 1.0},
        {"range_end": 2.5},
        {"range_start": -1},
        {"range_end": True},
        {"number": -1},
        {"margin_relative": 1.5},
        {"margin_absolute": -0.1},
        {"sampling": "first"},
        {"samples": 3},
    ],
)
def test_settings_that_mean_nothing_are_refused(fields):
    with pytest.raises(ValidationError):
        MiningSettings(**fields)


def test_a_range_that_is_empty_in_this_corpus_is_refused():
    with pytest.raises(ValueError, match="ranks 30 to 20 in a corpus of 40"):
        Case().mine(MiningSettings(range_start=30, range_end=0.5))


def test_settings_survive_json():
    for settings in (MiningSettings(range_start=1, range_end=0.25), MiningSettings(range_start=2, range_end=9)):
        assert MiningSettings.model_validate_json(settings.model_dump_json()) == settings
