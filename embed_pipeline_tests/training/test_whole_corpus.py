"""The loss over the whole corpus: cross-entropy where there is one positive, blind to the other positives elsewhere."""

import math

import pytest
import torch
from transformers import AutoTokenizer

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.records import Passage
from embed_pipeline.training.whole_corpus import QueryDataset, distillation_loss, multi_positive_loss
from embed_pipeline_tests.small_project import encoder_settings, write_model


def test_one_positive_per_query_is_cross_entropy_over_the_corpus() -> None:
    scores = torch.randn(6, 11, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([3, 0, 10, 3, 7, 1])
    positives = torch.nn.functional.one_hot(targets, 11).bool()
    expected = torch.nn.functional.cross_entropy(scores, targets)
    assert multi_positive_loss(scores, positives).item() == pytest.approx(expected.item(), abs=1e-6)


def test_two_positives_are_each_held_against_the_negatives_alone() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0]])
    positives = torch.tensor([[True, True, False]])
    expected = (math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(-1.0))) / 2
    assert multi_positive_loss(scores, positives).item() == pytest.approx(expected, abs=1e-6)


def test_a_true_positive_is_never_pushed_down() -> None:
    scores = torch.tensor([[0.5, 3.0, 1.0, -1.0]], requires_grad=True)
    multi_positive_loss(scores, torch.tensor([[True, True, False, False]])).backward()
    gradient = scores.grad
    assert gradient is not None
    assert (gradient[0, :2] < 0).all()
    assert (gradient[0, 2:] > 0).all()


def test_distillation_has_no_gradient_where_student_and_teacher_agree() -> None:
    scores = torch.tensor([[1.0, 2.0, 9.0]], requires_grad=True)
    distillation_loss(scores, torch.tensor([[4.0, 5.0, -math.inf]])).backward()
    assert scores.grad is not None
    assert torch.allclose(scores.grad, torch.zeros(1, 3), atol=1e-6)


def test_distillation_ignores_passages_the_teacher_did_not_score() -> None:
    teacher = torch.tensor([[4.0, 1.0, -math.inf]])
    low, high = (distillation_loss(torch.tensor([[1.0, 2.0, other]]), teacher) for other in (-5.0, 50.0))
    assert low.item() == high.item()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return AutoTokenizer.from_pretrained(write_model(tmp_path_factory.mktemp("model")))


def _group(positive: str) -> TrainingGroup:
    return TrainingGroup("q", "我高血压", (positive,), ("高血压",), (0.9,), (), (), ())


def test_passages_of_equal_text_are_positives_alike(tokenizer) -> None:
    passages = [Passage("a", "高血压"), Passage("b", "痛风"), Passage("c", "高血压")]
    settings = EncoderSettings.model_validate(encoder_settings("unused"))
    assert QueryDataset([_group("a")], passages, tokenizer, settings)[0]["positives"] == [0, 2]


def test_a_query_whose_positives_are_the_whole_corpus_is_refused(tokenizer) -> None:
    settings = EncoderSettings.model_validate(encoder_settings("unused"))
    with pytest.raises(ValueError, match="query q: every passage of the corpus is its positive"):
        QueryDataset([_group("a")], [Passage("a", "高血压")], tokenizer, settings)
