"""BM25: the row that every comparison has, because on short label corpora it beats many an embedding model.

Belongs here: the lexical index, its files, its top-k. Does not belong here: cutting words (encoding/words.py), the
order of equal scores (ranking.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from embed_pipeline.encoding.words import word_cutter
from embed_pipeline.records import Passage, Query
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking, check_k, rank_passages

if TYPE_CHECKING:
    import bm25s

DESCRIPTION_FILE = "lexical.json"
BM25_DIRECTORY = "bm25"


class LexicalSettings(BaseModel):
    """How texts become words and how much repeated words and long passages count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: str = Field(
        default="zh",
        pattern="^[a-z]{2,3}$",
        description='ISO 639 code: "zh" cuts words with jieba, any other at spaces and punctuation.',
    )
    k1: float = Field(default=1.5, ge=0, description="How fast a repeated word stops counting.")
    b: float = Field(default=0.75, ge=0, le=1, description="How much a long passage is held against it, 0 to 1.")


@dataclass(frozen=True, slots=True)
class LexicalIndex:
    """The word scores of a corpus; bm25 is None where no passage has a word."""

    bm25: "bm25s.BM25 | None"
    passage_ids: tuple[str, ...]
    settings: LexicalSettings


def build_lexical_index(passages: Sequence[Passage], settings: LexicalSettings) -> LexicalIndex:
    """The index of the passages' words, the same bytes for the same passages; no passages give an index without hits.

    Source: bm25s, method "lucene" (Kamphuis et al. 2020), in float64.
    """
    import bm25s

    cut = word_cutter(settings.language)
    words_of = [cut(passage.text) for passage in passages]
    vocabulary = {word: at for at, word in enumerate(sorted({word for words in words_of for word in words}))}
    bm25 = None
    if vocabulary:
        bm25 = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene", dtype="float64", backend="numpy")
        token_ids = [[vocabulary[word] for word in words] for words in words_of]
        bm25.index((token_ids, vocabulary), create_empty_token=False, show_progress=False)
    return LexicalIndex(bm25=bm25, passage_ids=tuple(passage.id for passage in passages), settings=settings)


def lexical_top_k(index: LexicalIndex, queries: Sequence[Query], k: int) -> Ranking:
    """The at most k best passages of every query, by BM25 score rounded to six decimals, then by passage id.

    A score of 0 is no hit: a passage that shares no word with the query is left out, so a query may have fewer than
    k hits or none.
    """
    check_k(k)
    cut = word_cutter(index.settings.language)
    ranked = []
    for query in queries:
        word_ids = index.bm25.get_tokens_ids(cut(query.text)) if index.bm25 is not None else []
        if index.bm25 is None or not word_ids:
            ranked.append(RankedQuery(query.id, (), ()))
            continue
        scores = index.bm25.get_scores_from_ids(word_ids)
        found = _candidates(scores, k)
        ranked.append(rank_passages(query.id, [index.passage_ids[at] for at in found], scores[found], k))
    return Ranking(tuple(ranked))


def write_lexical_index(index: LexicalIndex, directory: Path) -> None:
    """Writes lexical.json (settings, passage ids) and the arrays of BM25 into the directory; nothing is pickled."""
    directory.mkdir(parents=True, exist_ok=True)
    if index.bm25 is not None:
        index.bm25.save(directory / BM25_DIRECTORY, show_progress=False, allow_pickle=False)
    content = {
        "settings": index.settings.model_dump(),
        "has_words": index.bm25 is not None,
        "passage_ids": index.passage_ids,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    (directory / DESCRIPTION_FILE).write_text(text, encoding="utf-8")


def read_lexical_index(directory: Path) -> LexicalIndex:
    """The index written there, with the settings it was built with."""
    import bm25s

    content = json.loads((directory / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    bm25 = None
    if content["has_words"]:
        bm25 = bm25s.BM25.load(directory / BM25_DIRECTORY, show_progress=False, allow_pickle=False)
    return LexicalIndex(
        bm25=bm25,
        passage_ids=tuple(content["passage_ids"]),
        settings=LexicalSettings.model_validate(content["settings"]),
    )


def _candidates(scores: np.ndarray, k: int) -> np.ndarray:
    """The positions that score above 0 and reach the k-th best score after rounding."""
    positive = np.flatnonzero(scores > 0)
    if len(positive) <= k:
        return positive
    kth = np.partition(scores[positive], -k)[-k]
    return positive[scores[positive] >= kth - 1e-6]
