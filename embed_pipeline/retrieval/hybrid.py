"""Scores of a passage made into one: the whole question's, the best of its parts, the lexical, the classifier's.

Belongs here: a question in its parts, the scores of candidates, the weights and their file, the weighted sum as a
ranking. Does not belong here: how the weights are chosen (evaluation/weighing.py), rank fusion (fusion.py).

score(q, p) = cos(q, p) + parts · max over the clauses c of q of cos(c, p) + lexical · tfidf(q, p) + classifier · how
far train questions like q were answered by p - hubness · the mean cosine of p to questions that it does not answer
(hubness.py). All but one are cosines where the encoder's vectors have length 1 and the classifier's is about 0 to 1, so
that they need no common scale first. Source of the sum: Bruch, Gai and Ingber 2023,
"An Analysis of Fusion Functions for Hybrid Retrieval"; of the maximum: Khattab and Zaharia 2020, "ColBERT", over
clauses in place of tokens.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.records import Hit, Query
from embed_pipeline.retrieval.classifier import ClassifierIndex, ClassifierSettings, classifier_scores
from embed_pipeline.retrieval.faiss_index import PassageIndex
from embed_pipeline.retrieval.ranking import (
    SCORE_DECIMALS,
    RankedQuery,
    Ranking,
    check_k,
    rank_passages,
    reach_texts,
    unite_copies,
)
from embed_pipeline.retrieval.search import check_encoder, top_texts
from embed_pipeline.retrieval.tfidf import TfidfIndex, queries_per_batch, rank_scores, tfidf_scores

# Marks that end a clause or stand between two things of a list, in Chinese and in English. Not the comma of 1,000 and
# not the point of 3.5; white space alone only between two Chinese characters.
WEIGHTS_FILE = "hybrid_weights.json"


class HybridSettings(BaseModel):
    """Whose vectors are searched with, and which weights of the other scores are tried on validation queries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dense: str = Field(
        min_length=1, description="A dense variant of the same data set, trained or not; its score has weight 1."
    )
    part_weights: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 0.75, 1.0),
        description="Tried weights of the best clause's score; 0 alone: questions are not cut, no clause is encoded.",
    )
    lexical_weights: tuple[float, ...] = Field(
        (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0),
        description="Tried weights of the TF-IDF score over character n-grams.",
    )
    classifier_weights: tuple[float, ...] = Field(
        (0.0, 0.1, 0.2, 0.5, 1.0, 2.0),
        description="Tried weights of the classifier over the train questions; it is there where they share answers. "
        "0 alone: none is fitted.",
    )
    hubness_weights: tuple[float, ...] = Field(
        (0.0, 0.5, 0.75),
        description="Tried weights of a passage's mean cosine to train questions that it does not answer, which is "
        "taken off. 0 alone: none is measured, no train question is encoded.",
    )
    classifier: ClassifierSettings = Field(ClassifierSettings(), description="How that classifier is fitted.")
    depth: int = Field(100, ge=1, description="Hits of each score, and of each clause, that become candidates.")

    @property
    def fitted_classifier(self) -> ClassifierSettings | None:
        """How a classifier is fitted; None where no weight but 0 is tried for one."""
        return self.classifier if max(self.classifier_weights) > 0 else None

    @property
    def measures_hubness(self) -> bool:
        """Whether a weight but 0 is tried for it."""
        return max(self.hubness_weights) > 0

    @field_validator("part_weights", "lexical_weights", "classifier_weights", "hubness_weights")
    @classmethod
    def _check_weights(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if not weights or sorted(set(weights)) != list(weights) or weights[0] < 0:
            raise ValueError(f"expected ascending weights of 0 or more without doubles, found {list(weights)}")
        return weights


@dataclass(frozen=True, slots=True)
class HybridWeights:
    """The weights of the clauses', the lexical and the classifier's score, and of what is taken off for hubness.

    The whole question's has 1.
    """

    parts: float
    lexical: float
    classifier: float = 0.0
    hubness: float = 0.0


VECTORS_ALONE = HybridWeights(0.0, 0.0)
ALL_SCORES = HybridWeights(1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class WeighedPoint:
    """Weights and what they scored on the validation queries, 0 to 1."""

    parts: float
    lexical: float
    classifier: float
    hubness: float
    value: float

    @property
    def weights(self) -> HybridWeights:
        return HybridWeights(self.parts, self.lexical, self.classifier, self.hubness)


@dataclass(frozen=True, slots=True)
class Weighing:
    """The sweep over all weights, the measure that decided, and the weights that were chosen."""

    measure: str
    points: tuple[WeighedPoint, ...]
    chosen: WeighedPoint

    @classmethod
    def of(cls, measure: str, points: Sequence[WeighedPoint]) -> Self:
        """The best is chosen; of equally good ones the smallest sum of weights, then the smallest of the parts."""
        best = max(points, key=lambda one: (round(one.value, 6), -sum(astuple(one.weights)), -one.parts, -one.lexical))
        return cls(measure, tuple(points), best)

    @property
    def weights(self) -> HybridWeights:
        """The weights that were chosen."""
        return self.chosen.weights


def write_weighing(weighing: Weighing, directory: Path) -> None:
    """Write hybrid_weights.json; equal content gives equal bytes."""
    (directory / WEIGHTS_FILE).write_text(json.dumps(asdict(weighing), indent=1) + "\n", encoding="utf-8")


def read_weighing(directory: Path) -> Weighing:
    """The sweep written there."""
    content = json.loads((directory / WEIGHTS_FILE).read_text(encoding="utf-8"))
    points = [WeighedPoint(**{"hubness": 0.0, **point}) for point in (*content["points"], content["chosen"])]
    return Weighing(content["measure"], tuple(points[:-1]), points[-1])


_CUT = re.compile(r"[，。、；;？?！!\r\n|]|,(?!\d)|(?<!\d),|\.(?=\s|$|[^\x00-\x7f])|(?<=[一-鿿])\s+(?=[一-鿿])")
_SAYS = re.compile(r"\w")
MIN_CHARACTERS = 2
MAX_PARTS = 32


def split_query(text: str) -> tuple[str, ...]:
    """The clauses of a text in order, each once, at most MAX_PARTS; a text of one clause has none.

    A clause of fewer than MIN_CHARACTERS letters and digits says too little to be searched for and is left out.
    """
    clauses = [clause.strip() for clause in _CUT.split(text)]
    parts = tuple(dict.fromkeys(clause for clause in clauses if len(_SAYS.findall(clause)) >= MIN_CHARACTERS))
    return parts[:MAX_PARTS] if len(parts) > 1 else ()


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """What each score says about the candidates of one query; float64, side by side with passage_ids."""

    query_id: str
    passage_ids: tuple[str, ...]
    whole: np.ndarray
    parts: np.ndarray
    """Of a query of one clause the same as whole."""
    lexical: np.ndarray
    classifier: np.ndarray
    """0 where there is no classifier, or where it does not know the passage."""
    hubness: np.ndarray
    """0 where it was not measured."""

    def rank(self, weights: HybridWeights, k: int) -> RankedQuery:
        """The k best by the weighted sum, then by passage id."""
        return rank_passages(self.query_id, self.passage_ids, self._sums(np.array(astuple(weights))), k)

    def rank_under_all(self, weights: np.ndarray, k: int) -> tuple[list[tuple[str, ...]], np.ndarray]:
        """The different rankings, ids of the k best each, that (n, 4) weights lead to, and which of them each does."""
        by_id = np.array(sorted(range(len(self.passage_ids)), key=lambda at: self.passage_ids[at]), dtype=np.int64)
        sums = np.round(self._sums(weights.T[..., None])[:, by_id], SCORE_DECIMALS)
        best = by_id[np.argsort(-sums, axis=1, kind="stable")[:, :k]]
        different, which = np.unique(best, axis=0, return_inverse=True)
        return [tuple(self.passage_ids[at] for at in row) for row in different.tolist()], which.reshape(-1)

    def _sums(self, weights: np.ndarray) -> np.ndarray:
        """The weighted sum per candidate: of one set of weights (4), or a row for each of (4, n, 1)."""
        parts, lexical, classifier, hubness = weights
        found = self.whole + parts * self.parts + lexical * self.lexical
        return found + classifier * self.classifier - hubness * self.hubness


def rank_candidates(scored: Iterable[CandidateScores], weights: HybridWeights, k: int) -> Ranking:
    """The k best candidates of every query under the weights; scored once, they can be ranked under any."""
    return Ranking(tuple(one.rank(weights, k) for one in scored))


@dataclass(frozen=True)
class HybridRetriever:
    """Finds passages by the weighted sum; candidates are the first `depth` of each score, or k where that is more."""

    index: PassageIndex
    encoder: Encoder
    lexical: TfidfIndex
    weights: HybridWeights
    depth: int = 100
    device: Literal["cpu", "cuda"] = "cpu"
    classifier: ClassifierIndex | None = None
    hubness: np.ndarray | None = None
    """float64 (passages), in the order of the index."""
    canonical: Mapping[str, str] = field(default_factory=dict)
    """Copies of a passage → the id that stands for its text: `depth` and k then count texts."""

    def __post_init__(self) -> None:
        """Raises ValueError when the two indexes are of different passages."""
        if self.index.passage_ids != self.lexical.passage_ids:
            raise ValueError(
                f"hybrid search: the vectors are of {len(self.index.passage_ids)} passages, the n-grams of "
                f"{len(self.lexical.passage_ids)}, or their order differs. Build the index again."
            )

    def search(self, queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
        """See Retriever; raises ValueError when the index was built with another encoder."""
        check_k(k)
        scored = self.score(queries, max(k, self.depth), self.weights)
        if not self.canonical:
            return rank_candidates(scored, self.weights, k).hits()
        ranked = (one.rank(self.weights, len(one.passage_ids)) for one in scored)
        return Ranking(tuple(unite_copies(one, k, self.canonical) for one in ranked)).hits()

    def score(
        self, queries: Sequence[Query], depth: int, needed: HybridWeights = ALL_SCORES
    ) -> Iterator[CandidateScores]:
        """The candidates of every query with their scores, in the order of the queries.

        What weighs 0 in `needed` is not computed: without parts no clause is encoded, and the scores of the parts are
        those of the whole.
        """
        check_encoder(self.index, self.encoder)
        size = queries_per_batch(self.lexical)
        for start in range(0, len(queries), size):
            yield from self._score_batch(queries[start : start + size], depth, needed)

    @cached_property
    def _row_of(self) -> Mapping[str, int]:
        return {passage_id: row for row, passage_id in enumerate(self.index.passage_ids)}

    @cached_property
    def _known_rows(self) -> np.ndarray:
        known = self.classifier.passage_ids if self.classifier else ()
        return np.array([self._row_of[passage_id] for passage_id in known], dtype=np.int64)

    @cached_property
    def _known_copies(self) -> int:
        known = self.classifier.passage_ids if self.classifier else ()
        return sum(passage_id in self.canonical for passage_id in known)

    def _score_batch(self, queries: Sequence[Query], depth: int, needed: HybridWeights) -> Iterator[CandidateScores]:
        clauses = [split_query(query.text) if needed.parts else () for query in queries]
        questions = dict.fromkeys(query.text for query in queries)
        parts = dict.fromkeys(part for own in clauses for part in own if part not in questions)
        texts, vectors = [*questions, *parts], self.encoder.encode_queries(list(questions))
        if parts:  # by themselves: beside a long question each would be padded to its length
            vectors = np.concatenate([vectors, self.encoder.encode_queries(list(parts))])
        found = top_texts(self.index, texts, vectors, depth, self.canonical, device=self.device).queries
        dense = {text: (vector, one.passage_ids) for text, vector, one in zip(texts, vectors, found, strict=True)}
        asked_texts = [query.text for query in queries]
        cosines = tfidf_scores(self.lexical, asked_texts)
        words = reach_texts(
            rank_scores(self.lexical, queries, cosines, depth),
            lambda rows, k: rank_scores(self.lexical, [queries[row] for row in rows], cosines[list(rows), :], k),
            depth,
            self.canonical,
        )
        answers = np.zeros((len(queries), 0))
        if self.classifier and needed.classifier:
            whole = np.stack([dense[text][0] for text in asked_texts])
            answers = classifier_scores(self.classifier, asked_texts, whole)
        for at, (query, own) in enumerate(zip(queries, clauses, strict=True)):
            candidates = {*words[at].passage_ids, *(id_ for text in (query.text, *own) for id_ in dense[text][1])}
            likely = self._known_rows[np.argsort(-answers[at], kind="stable")[: depth + self._known_copies]]
            rows = np.union1d([self._row_of[passage_id] for passage_id in candidates], likely).astype(np.int64)
            if not rows.size:
                yield CandidateScores(query.id, (), *np.zeros((5, 0)))
                continue
            passages = self.index.faiss_index.reconstruct_batch(rows).astype(np.float64)
            asked = np.stack([dense[text][0] for text in (query.text, *own)]).astype(np.float64)
            similar = asked @ passages.T
            answered = np.zeros(len(self.index.passage_ids) if answers.size else len(rows))
            if answers.size:
                answered[self._known_rows] = answers[at]
                answered = answered[rows]
            yield CandidateScores(
                query.id,
                tuple(self.index.passage_ids[row] for row in rows.tolist()),
                whole=similar[0],
                parts=similar[1:].max(axis=0) if own else similar[0],
                lexical=cosines[[at], :][:, rows].toarray()[0],
                classifier=answered,
                hubness=np.zeros(len(rows)) if self.hubness is None else self.hubness[rows],
            )
