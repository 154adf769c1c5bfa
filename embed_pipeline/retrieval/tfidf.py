"""TF-IDF over character n-grams: the lexical row that needs no word cutter, so it reads every language alike.

Belongs here: the n-gram index, its files, its top-k. Does not belong here: words and BM25 (lexical.py), the order of
equal scores (ranking.py).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embed_pipeline.encoding.words import fold
from embed_pipeline.records import Passage, Query
from embed_pipeline.retrieval.ranking import SCORE_DECIMALS, RankedQuery, Ranking, check_k, rank_passages

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfVectorizer

DESCRIPTION_FILE = "tfidf.json"
IDF_FILE = "idf.npy"
POSTINGS_FILE = "postings.npz"

_RUN = re.compile(r"[^\W_]+")
_MAX_QUERIES_PER_BATCH = 256
_MAX_SCORES_PER_BATCH = 16_000_000


class TfidfSettings(BaseModel):
    """Which n-grams are counted and how much a repeated one counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_n: int = Field(
        default=1,
        ge=1,
        description="Characters of the shortest n-gram. 1 for every language: one Chinese character can be a word, and "
        "one Latin letter is in nearly every text, so its idf leaves it little weight.",
    )
    max_n: int = Field(
        default=3,
        ge=1,
        description="Characters of the longest n-gram: most Chinese words have one to three, and three Latin letters "
        "tell most stems apart. 4 and 5 found no more on English or Chinese training questions, at twice the size.",
    )
    sublinear_tf: bool = Field(default=True, description="Count an n-gram that occurs t times as 1 + ln(t), not as t.")

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.min_n > self.max_n:
            raise ValueError(
                f"tfidf settings: min_n must be at most max_n, found {self.min_n} and {self.max_n}. Swap them."
            )
        return self


@dataclass(frozen=True)
class TfidfIndex:
    """The n-gram weights of a corpus.

    postings is float64 (n-grams, passages): column i is passage_ids[i], of length 1, or 0 where it has no n-gram.
    ngrams are sorted; row j of postings and idf[j] belong to ngrams[j].
    """

    ngrams: tuple[str, ...]
    idf: np.ndarray
    postings: "csr_array"
    passage_ids: tuple[str, ...]
    settings: TfidfSettings

    @cached_property
    def vectorizer(self) -> "TfidfVectorizer":
        """Texts to weights over the n-grams of the index; made once, since that takes longer than a search."""
        return _vectorizer(self.settings, self)


def cut_ngrams(text: str, settings: TfidfSettings) -> list[str]:
    """The n-grams inside every run of letters and digits, NFKC and lower-cased; a shorter run counts as a whole."""
    ngrams = []
    for run in _RUN.findall(fold(text)):
        if len(run) < settings.min_n:
            ngrams.append(run)
        for n in range(settings.min_n, min(settings.max_n, len(run)) + 1):
            ngrams.extend(run[start : start + n] for start in range(len(run) - n + 1))
    return ngrams


def build_tfidf_index(passages: Sequence[Passage], settings: TfidfSettings) -> TfidfIndex:
    """The index of the passages' n-grams, the same bytes for the same passages; no passages give one without hits.

    Source: scikit-learn, TfidfVectorizer: tf * (1 + ln((1 + passages) / (1 + passages with it))), rows of length 1.
    """
    from scipy.sparse import csr_array

    texts = [passage.text for passage in passages]
    ngrams: list[str] = []
    idf, postings = np.zeros(0), csr_array((0, len(passages)), dtype=np.float64)
    if any(_RUN.search(fold(text)) for text in texts):
        vectorizer = _vectorizer(settings)
        postings = csr_array(vectorizer.fit_transform(texts).T)
        postings.sort_indices()
        ngrams, idf = vectorizer.get_feature_names_out().tolist(), vectorizer.idf_
    passage_ids = tuple(passage.id for passage in passages)
    return TfidfIndex(ngrams=tuple(ngrams), idf=idf, postings=postings, passage_ids=passage_ids, settings=settings)


def tfidf_top_k(index: TfidfIndex, queries: Sequence[Query], k: int) -> Ranking:
    """The at most k best passages of every query, by cosine rounded to six decimals, then by passage id.

    A score that rounds to 0 is no hit, so a query may have fewer than k hits or none. Queries are scored in batches:
    memory is bounded by the batch, not by their number.
    """
    check_k(k)
    batch = queries_per_batch(index)
    ranked: list[RankedQuery] = []
    for start in range(0, len(queries), batch):
        part = queries[start : start + batch]
        ranked += rank_scores(index, part, tfidf_scores(index, [query.text for query in part]), k)
    return Ranking(tuple(ranked))


def rank_scores(index: TfidfIndex, queries: Sequence[Query], scores: "csr_array", k: int) -> list[RankedQuery]:
    """What tfidf_top_k finds for queries whose tfidf_scores are known."""
    bounds = zip(queries, scores.indptr[:-1], scores.indptr[1:], strict=True)
    return [
        _rank(index, query.id, scores.indices[start:end], scores.data[start:end], k) for query, start, end in bounds
    ]


def queries_per_batch(index: TfidfIndex) -> int:
    """How many queries are scored at once, so that memory is bounded at any size of the corpus."""
    return max(1, min(_MAX_QUERIES_PER_BATCH, _MAX_SCORES_PER_BATCH // max(1, len(index.passage_ids))))


def tfidf_scores(index: TfidfIndex, texts: Sequence[str]) -> "csr_array":
    """The cosine of every text with every passage, float64 (texts, passages); what shares no n-gram is left out."""
    from scipy.sparse import csr_array

    if not index.ngrams:
        return csr_array((len(texts), len(index.passage_ids)), dtype=np.float64)
    return csr_array(csr_array(index.vectorizer.transform(texts)) @ index.postings)


def write_tfidf_index(index: TfidfIndex, directory: Path) -> None:
    """Writes tfidf.json (settings, passage ids, n-grams), idf.npy and postings.npz; nothing is pickled."""
    from scipy.sparse import save_npz

    directory.mkdir(parents=True, exist_ok=True)
    content = {"settings": index.settings.model_dump(), "passage_ids": index.passage_ids, "ngrams": index.ngrams}
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    (directory / DESCRIPTION_FILE).write_text(text, encoding="utf-8")
    np.save(directory / IDF_FILE, index.idf, allow_pickle=False)
    save_npz(directory / POSTINGS_FILE, index.postings)


def read_tfidf_index(directory: Path) -> TfidfIndex:
    """The index written there; raises ValueError when its three files do not belong together."""
    from scipy.sparse import csr_array, load_npz

    content = json.loads((directory / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    idf = np.load(directory / IDF_FILE, allow_pickle=False)
    postings = csr_array(load_npz(directory / POSTINGS_FILE))  # load_npz never unpickles
    expected = (len(content["ngrams"]), len(content["passage_ids"]))
    if postings.shape != expected or idf.shape != expected[:1]:
        raise ValueError(
            f"{directory}: {DESCRIPTION_FILE} states {expected[0]} n-grams and {expected[1]} passages, found weights "
            f"of shape {postings.shape} and {idf.shape}. The files are of different indexes; build it again."
        )
    return TfidfIndex(
        ngrams=tuple(content["ngrams"]),
        idf=idf,
        postings=postings,
        passage_ids=tuple(content["passage_ids"]),
        settings=TfidfSettings.model_validate(content["settings"]),
    )


def _vectorizer(settings: TfidfSettings, index: TfidfIndex | None = None) -> "TfidfVectorizer":
    """One that is still to be fitted, or the one that the index was built with."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer=partial(cut_ngrams, settings=settings),  # pyright: ignore[reportArgumentType] (str or callable)
        sublinear_tf=settings.sublinear_tf,
        vocabulary=None if index is None else list(index.ngrams),
    )
    if index is not None:
        vectorizer.idf_ = index.idf
    return vectorizer


def _rank(index: TfidfIndex, query_id: str, passages: np.ndarray, scores: np.ndarray, k: int) -> RankedQuery:
    """Ranks what reaches the k-th best score after rounding, so that a tie at the cut is broken by id, not by place."""
    lowest = 0.5 * 10**-SCORE_DECIMALS
    if len(scores) > k:
        lowest = max(lowest, float(np.partition(scores, -k)[-k]) - 10**-SCORE_DECIMALS)
    found = scores > lowest
    return rank_passages(query_id, [index.passage_ids[at] for at in passages[found].tolist()], scores[found], k)
