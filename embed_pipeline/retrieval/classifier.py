"""A classifier over the train questions: what answered questions like this one answers this one too.

Belongs here: fitting it, its scores, its files, the retriever over it. Does not belong here: how its score is weighed
beside the others (hybrid.py).

Kernel ridge regression from questions to the passages that answer them, one column a passage: coefficients
(K + penalty · I)⁻¹ Y, where K is the cosine of two questions' n-grams, plus, where vectors are asked for, the cosine
of their vectors about the mean, and Y is 1 where a passage answers a question. Source: Rifkin and Klautau 2004, "In
Defense of One-Vs-All Classification"; scikit-learn, KernelRidge. It says nothing of a passage that no train question
is about.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.dataset.sampling import draw_by_hash
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.records import Hit, Judgment, Passage, Query
from embed_pipeline.retrieval.ranking import Ranking, check_k, rank_passages
from embed_pipeline.retrieval.tfidf import (
    TfidfIndex,
    TfidfSettings,
    build_tfidf_index,
    queries_per_batch,
    read_tfidf_index,
    tfidf_scores,
    write_tfidf_index,
)

QUESTIONS_PER_PASSAGE = 1.5
"""Train questions that an answered passage must have on average, for there to be something to learn."""
MAX_QUESTIONS = 8_000
"""Of more, so many are drawn: the matrix between questions grows with their square (8,000: 512 MB)."""
MAX_COEFFICIENTS = 20_000_000
DESCRIPTION_FILE = "classifier.json"
COEFFICIENTS_FILE = "coefficients.npy"
VECTORS_FILE = "vectors.npy"
MEAN_FILE = "mean.npy"
NGRAMS_FOLDER = "ngrams"


class ClassifierSettings(BaseModel):
    """How questions are compared and how closely the train questions are followed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    penalty: float = Field(
        default=0.1,
        gt=0,
        description="Of the ridge regression; a larger one follows single questions less closely.",
    )
    vectors: bool = Field(
        default=False,
        description="hybrid: questions are compared by vectors too; every train question is encoded.",
    )


@dataclass(frozen=True)
class ClassifierIndex:
    """A fitted classifier over train questions."""

    questions: TfidfIndex
    """The n-grams of the train questions."""
    passage_ids: tuple[str, ...]
    """The passages that it can find, sorted."""
    coefficients: np.ndarray
    """float32 (questions, passages)."""
    mean: np.ndarray | None = None
    """float32 (dimension): the mean vector of the train questions."""
    vectors: np.ndarray | None = None
    """float32 (questions, dimension): theirs about the mean, of length 1; None: compared by n-grams alone."""

    @cached_property
    def of_ngrams(self) -> np.ndarray:
        """float64 (questions, passages): what a question's likeness to each train question is multiplied by."""
        return self.coefficients.astype(np.float64)

    @cached_property
    def of_vectors(self) -> np.ndarray | None:
        """float64 (dimension, passages): what a question's vector about the mean is multiplied by."""
        return None if self.vectors is None else self.vectors.T.astype(np.float64) @ self.of_ngrams


def is_learnable(dataset: RetrievalDataset) -> bool:
    """Whether train questions share answers, so that one tells about another."""
    return _share_passages(_answers(dataset))


def fit_classifier(
    dataset: RetrievalDataset, settings: ClassifierSettings, encoder: Encoder | None = None
) -> ClassifierIndex:
    """The classifier of the train questions; `encoder` is asked for their vectors where the settings want them.

    Of more than MAX_QUESTIONS a draw is taken, by a hash of their ids; of more passages than MAX_COEFFICIENTS allows
    those of the most questions.

    Raises:
        ValueError: train questions share no answers (`is_learnable`).
    """
    answers = _answers(dataset)
    if not _share_passages(answers):
        raise ValueError(
            "classifier: expected train questions that share answers (labels, or several questions about a passage), "
            f"found {len(answers)} answers among {len({judgment.passage_id for judgment in answers})} passages. Use "
            "retriever tfidf or dense for this data set."
        )
    from sklearn.kernel_ridge import KernelRidge

    answered = {judgment.query_id for judgment in answers}
    asked = [query for query in dataset.queries_of("train") if query.id in answered]
    asked = draw_by_hash(asked, MAX_QUESTIONS, lambda query: query.id)
    row_of = {query.id: row for row, query in enumerate(asked)}
    answers = [judgment for judgment in answers if judgment.query_id in row_of]
    often = Counter(judgment.passage_id for judgment in answers)
    kept = sorted(often, key=lambda passage: (-often[passage], passage))[: MAX_COEFFICIENTS // len(asked)]
    column_of = {passage: column for column, passage in enumerate(sorted(kept))}
    truth = np.zeros((len(asked), len(column_of)))
    for judgment in answers:
        if judgment.passage_id in column_of:
            truth[row_of[judgment.query_id], column_of[judgment.passage_id]] = 1.0
    texts = [query.text for query in asked]
    questions = build_tfidf_index([Passage(query.id, query.text) for query in asked], TfidfSettings())
    kernel, mean, vectors = tfidf_scores(questions, texts).toarray(), None, None
    if settings.vectors and encoder is not None:
        encoded = encoder.encode_queries(texts)
        mean = encoded.mean(axis=0)
        vectors = _about(encoded, mean)
        kernel += vectors.astype(np.float64) @ vectors.T
    ridge = KernelRidge(alpha=settings.penalty, kernel="precomputed")  # pyright: ignore[reportArgumentType] (a float)
    fitted = ridge.fit(kernel, truth)
    return ClassifierIndex(questions, tuple(column_of), fitted.dual_coef_.astype(np.float32), mean, vectors)


def classifier_scores(index: ClassifierIndex, texts: Sequence[str], vectors: np.ndarray | None = None) -> np.ndarray:
    """How far each passage that the classifier knows answers each text, about 0 to 1: float64 (texts, passages).

    vectors is float32 (texts, dimension); asked for where the index has vectors.
    """
    # A sparse product: a dense one wakes the threads of BLAS, which spin and take the processor from the encoder's.
    found = tfidf_scores(index.questions, texts) @ index.of_ngrams
    if index.of_vectors is not None and index.mean is not None and vectors is not None:
        found = found + _about(vectors, index.mean).astype(np.float64) @ index.of_vectors
    return found


@dataclass(frozen=True, slots=True)
class ClassifierRetriever:
    """Finds the passages that answered train questions with the same n-grams; never one that answered none."""

    index: ClassifierIndex

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever."""
        check_k(k)
        size, ranked = queries_per_batch(self.index.questions), []
        for start in range(0, len(queries), size):
            part = queries[start : start + size]
            scores = classifier_scores(self.index, [query.text for query in part])
            ranked += [
                rank_passages(query.id, self.index.passage_ids, row, k) for query, row in zip(part, scores, strict=True)
            ]
        return Ranking(tuple(ranked)).hits()


def write_classifier(index: ClassifierIndex, directory: Path) -> None:
    """Write the passages, the coefficients, the n-grams of the questions and, if there are, their vectors."""
    directory.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"passage_ids": index.passage_ids}, ensure_ascii=False, indent=1) + "\n"
    (directory / DESCRIPTION_FILE).write_text(content, encoding="utf-8")
    write_tfidf_index(index.questions, directory / NGRAMS_FOLDER)
    np.save(directory / COEFFICIENTS_FILE, index.coefficients, allow_pickle=False)
    if index.vectors is not None and index.mean is not None:
        np.save(directory / VECTORS_FILE, index.vectors, allow_pickle=False)
        np.save(directory / MEAN_FILE, index.mean, allow_pickle=False)


def read_classifier(directory: Path) -> ClassifierIndex:
    """The classifier written there."""
    content = json.loads((directory / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    has_vectors = (directory / VECTORS_FILE).exists()
    return ClassifierIndex(
        read_tfidf_index(directory / NGRAMS_FOLDER),
        tuple(content["passage_ids"]),
        np.load(directory / COEFFICIENTS_FILE, allow_pickle=False),
        np.load(directory / MEAN_FILE, allow_pickle=False) if has_vectors else None,
        np.load(directory / VECTORS_FILE, allow_pickle=False) if has_vectors else None,
    )


def _answers(dataset: RetrievalDataset) -> list[Judgment]:
    train = {query.id for query in dataset.queries_of("train")}
    return [judgment for judgment in dataset.judgments if judgment.grade > 0 and judgment.query_id in train]


def _share_passages(answers: Sequence[Judgment]) -> bool:
    return len(answers) >= QUESTIONS_PER_PASSAGE * max(1, len({judgment.passage_id for judgment in answers}))


def _about(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    moved = vectors - mean
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
