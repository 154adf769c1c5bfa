"""NUDGE against brute force: no gamma on a fine line does better, and nothing moves without a reason."""

import numpy as np
import pytest

from embed_pipeline.adaptation.nudge import GRID, ShiftedCorpus, Variant, shift_corpus
from embed_pipeline.adaptation.ranks import best_ranks, explain_reach, hit_rate

VARIANTS: tuple[Variant, ...] = ("nudge_m", "nudge_n")
Rows = list[list[int]]


class Case:
    """A tiny corpus with noisy queries; some have two answers, the last passages have no training query."""

    def __init__(self, seed: int, *, passages: int = 14, dimension: int = 6) -> None:
        chance = np.random.default_rng(seed)
        self.corpus = chance.standard_normal((passages, dimension)).astype(np.float32)
        self.offset = 2.5 * chance.standard_normal(dimension)
        self.train, self.train_rows = self._ask(chance, 30, passages - 4)
        self.validation, self.validation_rows = self._ask(chance, 20, passages)

    def _ask(self, chance: np.random.Generator, count: int, among: int) -> tuple[np.ndarray, Rows]:
        rows = [sorted({int(row) for row in chance.integers(0, among, 1 + at % 2)}) for at in range(count)]
        noise = chance.standard_normal((count, self.corpus.shape[1]))
        asked = np.array([self.corpus[own].mean(axis=0) for own in rows]) + self.offset + noise
        return (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32), rows

    def shift(self, variant: Variant) -> ShiftedCorpus:
        return shift_corpus(
            self.corpus,
            variant=variant,
            train_queries=self.train,
            train_relevant=self.train_rows,
            validation_queries=self.validation,
            validation_relevant=self.validation_rows,
        )

    def move(self, variant: Variant, gamma: float) -> np.ndarray:
        """The formulas of the paper, one passage at a time in double precision."""
        moved = []
        for row, vector in enumerate(self.corpus.astype(np.float64)):
            vector = vector / np.linalg.norm(vector)
            asked = [query for query, own in zip(self.train, self.train_rows, strict=True) if row in own]
            total = np.sum(asked, axis=0, dtype=np.float64) if asked else np.zeros_like(vector)
            if total.any() and variant == "nudge_m":
                vector = vector + gamma * total / np.linalg.norm(total)
            elif total.any() and gamma:
                goal = total / np.linalg.norm(total)
                if vector @ goal >= 1 - gamma / 2:
                    vector = goal
                else:  # the point of the circle through vector and goal at the chord's length
                    across = goal - (vector @ goal) * vector
                    angle = 2 * np.arcsin(np.sqrt(gamma) / 2)
                    vector = np.cos(angle) * vector + np.sin(angle) * across / np.linalg.norm(across)
            moved.append(vector)
        return np.array(moved)

    def measure(self, corpus: np.ndarray) -> float:
        first = [
            max(scores[own]) >= max(score for row, score in enumerate(scores) if row not in own)
            for scores, own in zip(self.validation.astype(np.float64) @ corpus.T, self.validation_rows, strict=True)
        ]
        return float(np.mean(first))


@pytest.mark.parametrize("seed", range(8))
def test_nudge_m_finds_a_gamma_that_no_point_of_a_fine_line_beats(seed: int) -> None:
    case = Case(seed)
    shifted = case.shift("nudge_m")
    line = [case.measure(case.move("nudge_m", gamma)) for gamma in np.linspace(0, 20, 801)]
    assert shifted.validation_before == pytest.approx(case.measure(case.move("nudge_m", 0)))
    assert shifted.validation_after == pytest.approx(case.measure(case.move("nudge_m", shifted.gamma)))
    assert shifted.validation_after >= max(line) - 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_nudge_n_takes_the_smallest_of_the_best_gammas_of_the_grid(seed: int) -> None:
    case = Case(seed)
    shifted = case.shift("nudge_n")
    measured = [case.measure(case.move("nudge_n", gamma)) for gamma in GRID]
    assert shifted.gamma == GRID[int(np.argmax(measured))]
    assert shifted.validation_after == pytest.approx(max(measured))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_vectors_are_those_of_the_formula_and_the_input_is_left_alone(variant: Variant) -> None:
    case = Case(3)
    kept = case.corpus.copy()
    shifted = case.shift(variant)
    assert shifted.gamma > 0
    np.testing.assert_allclose(shifted.vectors, case.move(variant, shifted.gamma), atol=1e-5)
    np.testing.assert_array_equal(case.corpus, kept)
    assert shifted.vectors.dtype == np.float32


def test_nudge_n_stays_on_the_sphere_and_inside_gamma() -> None:
    case = Case(3)
    shifted = case.shift("nudge_n")
    np.testing.assert_allclose(np.linalg.norm(shifted.vectors, axis=1), 1, atol=1e-5)
    distances = ((shifted.vectors - case.move("nudge_n", 0)) ** 2).sum(axis=1)
    assert distances.max() <= shifted.gamma + 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_passages_without_a_training_query_never_move(variant: Variant) -> None:
    case = Case(3)
    shifted = case.shift(variant)
    np.testing.assert_allclose(shifted.vectors[-4:], case.move(variant, 0)[-4:], atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_reach_nothing_moves_and_the_reason_has_figures(variant: Variant) -> None:
    case = Case(0)
    case.validation_rows = [[10 + at % 4] for at in range(20)]
    shifted = case.shift(variant)
    assert shifted.gamma == 0
    np.testing.assert_allclose(shifted.vectors, case.move(variant, 0), atol=1e-6)
    assert "0 of 4 validation answers (0.0 %)" in shifted.explanation
    assert "gamma is 0" in shifted.explanation


def test_reach_counts_answers_and_queries() -> None:
    reach = explain_reach([[0], [0, 1]], [[1, 5], [6], [6]], passages=9)
    assert (reach.moved, reach.answers, reach.answers_with_training_query) == (2, 3, 1)
    assert (reach.queries, reach.queries_in_reach, reach.share) == (3, 1, pytest.approx(1 / 3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_corpus_of_several_blocks_gives_what_one_block_gives(variant: Variant) -> None:
    whole = Case(5).shift(variant)
    padded = Case(5)
    padded.corpus = np.concatenate([padded.corpus, np.zeros((20_000, 6), dtype=np.float32)])
    padded.validation = np.concatenate([padded.validation] * 20)
    padded.validation_rows = padded.validation_rows * 20
    shifted = padded.shift(variant)
    assert shifted.gamma == pytest.approx(whole.gamma, abs=1e-6)
    assert shifted.validation_after == pytest.approx(whole.validation_after)


def test_ranks_ignore_the_other_answers_of_a_query() -> None:
    corpus = np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]], dtype=np.float32)
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    assert best_ranks(queries, corpus, [[1, 2], [0, 1]]).tolist() == [2, 3]
    assert hit_rate(best_ranks(queries, corpus, [[0], [3]])) == 1


@pytest.mark.parametrize("relevant", [[[0]], [[0], []], [[0], [9]]], ids=["too few", "empty", "outside"])
def test_rows_that_do_not_fit_are_refused(relevant: Rows) -> None:
    corpus = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="adaptation"):
        best_ranks(corpus[:2], corpus, relevant)
