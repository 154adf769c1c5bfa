"""FlagEmbedding's model and data feeding, with every passage of the corpus as a candidate.

On a label corpus most in-batch batches hold another query's copy of a true label as a negative. Here the whole corpus
is encoded once per step; all true positives of a query are rewarded and none of them is ever its negative. Imported by
the worker process alone, therefore torch stands at the top.
"""

from collections.abc import Sequence

import torch
from FlagEmbedding.abc.finetune.embedder.AbsModeling import EmbedderOutput
from FlagEmbedding.finetune.embedder.encoder_only.base.modeling import BiEncoderOnlyEmbedderModel
from FlagEmbedding.finetune.embedder.encoder_only.base.trainer import EncoderOnlyEmbedderTrainer
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.mining.negatives import TrainingGroup
from embed_pipeline.records import Passage


def multi_positive_loss(scores: Tensor, positives: Tensor) -> Tensor:
    """Mean over queries of the mean over a query's positives of -log softmax(positive against all negatives).

    scores: float (queries, passages), already divided by the temperature. positives: bool, same shape, at least one
    True in each row. With one positive a row this is cross-entropy over the corpus.
    """
    scores = scores.float()
    negatives = torch.logsumexp(scores.masked_fill(positives, -torch.inf), dim=1, keepdim=True)
    losses = torch.nn.functional.softplus(negatives - scores).masked_fill(~positives, 0.0)
    return (losses.sum(dim=1) / positives.sum(dim=1)).mean()


def distillation_loss(scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Cross-entropy from the teacher's softmax to ours, over the passages the teacher scored (the others are -inf)."""
    unscored = torch.isinf(teacher_scores)
    targets = torch.softmax(teacher_scores, dim=1)
    log_probabilities = torch.log_softmax(scores.float().masked_fill(unscored, -torch.inf), dim=1)
    return -(targets * log_probabilities.masked_fill(unscored, 0.0)).sum(dim=1).mean()


class WholeCorpusModel(BiEncoderOnlyEmbedderModel):
    """FlagEmbedding's bi-encoder whose passages are the whole corpus, shared by the queries of the batch."""

    def forward(
        self,
        queries: dict[str, Tensor],
        passages: dict[str, Tensor],
        positives: Tensor,
        teacher_scores: Tensor | None = None,
    ) -> EmbedderOutput:
        """The loss of a batch: (queries, passages) similarities over the temperature against `positives`."""
        scores = self.compute_score(self.encode(queries), self.encode(passages))
        loss = multi_positive_loss(scores, positives)
        if teacher_scores is not None:
            loss = loss + distillation_loss(scores, teacher_scores)
        return EmbedderOutput(loss=loss)


class QueryDataset(Dataset):
    """Tokenised training queries, each with the corpus rows of its positives (passages of equal text included)."""

    def __init__(
        self,
        groups: Sequence[TrainingGroup],
        passages: Sequence[Passage],
        tokenizer: PreTrainedTokenizerBase,
        settings: EncoderSettings,
    ) -> None:
        rows_by_text: dict[str, list[int]] = {}
        for row, passage in enumerate(passages):
            rows_by_text.setdefault(passage.text, []).append(row)
        row_by_id = {passage.id: row for row, passage in enumerate(passages)}
        texts = [settings.format_text("query", group.query) for group in groups]
        self.input_ids = tokenizer(texts, truncation=True, max_length=settings.query_max_length)["input_ids"]
        self.positives = [[row for text in group.positives for row in rows_by_text[text]] for group in groups]
        self.teacher_scores = [
            {
                row_by_id[passage_id]: score
                for passage_id, score in (
                    *zip(group.positive_ids, group.positive_scores, strict=True),
                    *zip(group.negative_ids, group.negative_scores, strict=True),
                )
            }
            for group in groups
        ]
        for group, rows in zip(groups, self.positives, strict=True):
            if len(set(rows)) == len(passages):
                raise ValueError(
                    f"query {group.query_id}: every passage of the corpus is its positive, so there is nothing to "
                    "learn from. Remove the query or add passages."
                )

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, item: int) -> dict[str, object]:
        return {
            "input_ids": self.input_ids[item],
            "positives": self.positives[item],
            "teacher_scores": self.teacher_scores[item],
        }


class WholeCorpusCollator:
    """Pads the queries of a batch and adds the corpus, padded once for the whole run."""

    def __init__(
        self,
        passages: Sequence[Passage],
        tokenizer: PreTrainedTokenizerBase,
        settings: EncoderSettings,
        *,
        with_teacher: bool,
    ) -> None:
        texts = [settings.format_text("passage", passage.text) for passage in passages]
        self.tokenizer = tokenizer
        self.with_teacher = with_teacher
        self.passages = dict(
            tokenizer(texts, truncation=True, max_length=settings.passage_max_length, padding=True, return_tensors="pt")
        )

    def __call__(self, items: Sequence[dict]) -> dict[str, object]:
        corpus_size = len(self.passages["input_ids"])
        positives = torch.zeros(len(items), corpus_size, dtype=torch.bool)
        for row, item in enumerate(items):
            positives[row, item["positives"]] = True
        # Few different shapes: memory of one step is reused by the next instead of fragmenting (0.6 GB less).
        queries = self.tokenizer.pad(
            {"input_ids": [item["input_ids"] for item in items]}, pad_to_multiple_of=16, return_tensors="pt"
        )
        batch: dict[str, object] = {"queries": dict(queries), "passages": self.passages, "positives": positives}
        if self.with_teacher:
            teacher = torch.full((len(items), corpus_size), -torch.inf)
            for row, item in enumerate(items):
                for column, score in item["teacher_scores"].items():
                    teacher[row, column] = score
            batch["teacher_scores"] = teacher
        return batch


class LengthGroupedTrainer(EncoderOnlyEmbedderTrainer):
    """FlagEmbedding's trainer, drawing batches of queries of similar length from a seeded order."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, QueryDataset):
            raise TypeError(f"expected a QueryDataset, found {type(dataset).__name__}")
        return LengthGroupedSampler(
            self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps,
            lengths=[len(ids) for ids in dataset.input_ids],
            generator=torch.Generator().manual_seed(self.args.seed),
        )
