"""The losses as arithmetic: against cross-entropy, against FlagEmbedding's own, and where masks leave little."""

import math

import pytest
import torch
from FlagEmbedding.abc.finetune.embedder.AbsModeling import AbsEmbedderModel

from embed_pipeline.training.loss import (
    contrastive_losses,
    cut_vectors,
    distillation_losses,
    matryoshka_weights,
    ranked_distillation_losses,
)

SEED = torch.Generator().manual_seed(0)


def _one_hot(targets: list[int], width: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(targets), width).bool()


def test_one_positive_per_query_is_cross_entropy_over_the_candidates() -> None:
    scores = torch.randn(6, 11, generator=SEED)
    targets = [3, 0, 10, 3, 7, 1]
    positives = _one_hot(targets, 11)
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor(targets), reduction="none")
    assert torch.allclose(contrastive_losses(scores, positives, ~positives), expected, atol=1e-6)


def test_two_positives_are_each_held_against_the_negatives_alone() -> None:
    positives = torch.tensor([[True, True, False]])
    expected = (math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(-1.0))) / 2
    found = contrastive_losses(torch.tensor([[2.0, 1.0, 0.0]]), positives, ~positives)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_true_positive_is_never_pushed_down() -> None:
    scores = torch.tensor([[0.5, 3.0, 1.0, -1.0]], requires_grad=True)
    positives = torch.tensor([[True, True, False, False]])
    contrastive_losses(scores, positives, ~positives).sum().backward()
    assert scores.grad is not None
    assert (scores.grad[0, :2] < 0).all() and (scores.grad[0, 2:] > 0).all()


def test_a_candidate_that_is_neither_positive_nor_negative_takes_no_part() -> None:
    positives, negatives = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    low, high = (contrastive_losses(torch.tensor([[1.0, 0.5, x]]), positives, negatives) for x in (-9.0, 90.0))
    assert low.item() == high.item()


@pytest.mark.parametrize(("positive", "negative"), [(True, False), (False, True), (False, False)])
def test_a_query_with_nothing_to_tell_apart_has_no_loss_and_no_gradient(positive: bool, negative: bool) -> None:
    scores = torch.tensor([[40.0, -40.0]], requires_grad=True)
    contrastive_losses(scores, torch.full((1, 2), positive), torch.full((1, 2), negative)).sum().backward()
    assert scores.grad is not None and (scores.grad == 0).all()


def test_scores_of_any_size_give_a_finite_loss() -> None:
    scores = torch.tensor([[-5000.0, 5000.0]], requires_grad=True)
    loss = contrastive_losses(scores, torch.tensor([[True, False]]), torch.tensor([[False, True]])).sum()
    loss.backward()
    assert loss.item() == pytest.approx(10000.0)
    assert scores.grad is not None and torch.isfinite(scores.grad).all()


def test_kl_div_is_flagembeddings() -> None:
    student, teacher = torch.randn(5, 4, generator=SEED), torch.randn(5, 4, generator=SEED)
    expected = AbsEmbedderModel.distill_loss("kl_div", torch.softmax(teacher, dim=1), student)
    assert distillation_losses(student, teacher).mean().item() == pytest.approx(float(expected), abs=1e-6)


def test_m3_kd_loss_is_flagembeddings_where_each_query_has_one_positive() -> None:
    queries, group = 3, 4
    scores = torch.randn(queries, queries * group, generator=SEED)
    own = torch.randn(queries, group, generator=SEED).sort(dim=1, descending=True).values
    teacher = torch.full_like(scores, -math.inf)
    for query in range(queries):
        teacher[query, query * group : (query + 1) * group] = own[query]
    positives = _one_hot([query * group for query in range(queries)], queries * group)
    expected = AbsEmbedderModel.distill_loss("m3_kd_loss", torch.softmax(own, dim=1), scores, group)
    found = ranked_distillation_losses(scores, teacher, positives, ~positives)
    assert found.mean().item() == pytest.approx(float(expected), abs=1e-5)


def test_m3_kd_loss_never_holds_one_positive_against_another() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    teacher = torch.tensor([[1.0, -math.inf, 1.0]])
    positives = torch.tensor([[True, True, False]])
    ranked_distillation_losses(scores, teacher, positives, ~positives).sum().backward()
    assert scores.grad is not None and scores.grad[0, 1] == 0


def test_distillation_has_no_gradient_where_student_and_teacher_agree() -> None:
    scores = torch.tensor([[1.0, 2.0, 9.0]], requires_grad=True)
    distillation_losses(scores, torch.tensor([[4.0, 5.0, -math.inf]])).sum().backward()
    assert scores.grad is not None and torch.allclose(scores.grad, torch.zeros(1, 3), atol=1e-6)


def test_distillation_ignores_passages_the_teacher_did_not_score() -> None:
    teacher = torch.tensor([[4.0, 1.0, -math.inf]])
    low, high = (distillation_losses(torch.tensor([[1.0, 2.0, other]]), teacher) for other in (-5.0, 50.0))
    assert low.item() == high.item()


def test_a_query_the_teacher_did_not_score_has_no_distillation() -> None:
    assert distillation_losses(torch.tensor([[1.0, 2.0]]), torch.full((1, 2), -math.inf)).item() == 0


def test_a_colder_teacher_asks_for_a_sharper_student() -> None:
    teacher = torch.tensor([[0.9, 0.8]])
    loss = [distillation_losses(torch.tensor([[20.0, 0.0]]), teacher, temperature).item() for temperature in (1, 0.01)]
    assert loss[1] < 0.01 < loss[0]


def test_the_weights_of_the_lengths_sum_to_one_and_include_the_full_length() -> None:
    assert matryoshka_weights((), None, 32) == {32: 1.0}
    assert matryoshka_weights((16, 8), (0.5, 0.5), 32) == {32: 0.5, 16: 0.25, 8: 0.25}


def test_a_length_beyond_the_encoders_is_refused() -> None:
    with pytest.raises(ValueError, match="expected lengths below the encoder's 32, found 48"):
        matryoshka_weights((48,), None, 32)


def test_a_cut_vector_is_normalised_after_the_cut() -> None:
    cut = cut_vectors(torch.tensor([[3.0, 4.0, 12.0]]), 2, normalize=True)
    assert torch.allclose(cut, torch.tensor([[0.6, 0.8]]))
