"""From how a variant searches to its index on disk, and to the retriever over it: the stage's two entries.

Belongs here: which index and which retriever a kind means. Does not belong here: how each works (its own module), what
is searched for (evaluation).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from embed_pipeline.dataset.formats import CORPUS_FILE, RetrievalDataset, read_passages, write_passage_line
from embed_pipeline.encoding.encoder import Encoder, EncoderBehind, RefusedTextsError
from embed_pipeline.encoding.pair_scores import CachedPairScorer, PairScorer
from embed_pipeline.encoding.vector_cache import CachedEncoder
from embed_pipeline.records import Passage
from embed_pipeline.retrieval.classifier import (
    ClassifierRetriever,
    ClassifierSettings,
    fit_classifier,
    is_learnable,
    read_classifier,
    write_classifier,
)
from embed_pipeline.retrieval.faiss_index import (
    ADDED_AT_ONCE,
    RECALL_AT,
    IndexSettings,
    build_index,
    read_index,
    recall_against_exact,
    write_index,
)
from embed_pipeline.retrieval.fusion import FusionSettings
from embed_pipeline.retrieval.hubness import measure_hubness, read_hubness, write_hubness
from embed_pipeline.retrieval.hybrid import HybridRetriever, HybridSettings, HybridWeights, split_query
from embed_pipeline.retrieval.lexical import (
    LexicalSettings,
    build_lexical_index,
    read_lexical_index,
    write_lexical_index,
)
from embed_pipeline.retrieval.search import (
    DenseRetriever,
    FusedRetriever,
    LexicalRetriever,
    RerankedRetriever,
    Retriever,
    SecondStage,
    TfidfRetriever,
)
from embed_pipeline.retrieval.tfidf import TfidfSettings, build_tfidf_index, read_tfidf_index, write_tfidf_index

RECALL_DETAIL = f"recall_at_{RECALL_AT}_against_exact"
"""What an index that is not exact finds of what an exact one finds."""
DENSE_FOLDER = "dense"
LEXICAL_FOLDER = "bm25"
NGRAMS_FOLDER = "tfidf"
_NAMED_PASSAGES = 3
CLASSIFIER_FOLDER = "classifier"
RetrieverKind = Literal["dense", "bm25", "tfidf", "classifier", "word2vec", "fused", "hybrid"]
_LEXICAL_PARTS: dict[RetrieverKind, Literal["bm25", "tfidf"]] = {"fused": "bm25", "hybrid": "tfidf"}
"""What lies beside the vectors, in a folder of the lexical retriever's name."""


@dataclass(frozen=True)
class Search:
    """How one variant searches texts of a language; `encoder` is None for a variant without vectors."""

    retriever: RetrieverKind
    language: str
    encoder: Encoder | None
    device: Literal["cpu", "cuda"] = "cpu"
    weights: HybridWeights | None = None
    """hybrid: what the scores weigh; None while only the index is built or the weights are being chosen."""
    fusion: FusionSettings | None = None
    """fused: how the ranks become one."""
    hybrid: HybridSettings | None = None
    """hybrid: the weights that are tried."""
    rerank: SecondStage | None = None
    """A second stage: the index then holds the passages' texts."""
    scorer: PairScorer | None = None
    """What the second stage scores with; None while only the index is built."""
    index: IndexSettings = field(default_factory=IndexSettings)
    """How the vectors are indexed, where there are any."""

    @property
    def learns_from_questions(self) -> bool:
        """Whether its index holds a classifier over train questions, where these share answers, or hubness."""
        weighs = self.hybrid and (self.hybrid.fitted_classifier or self.hybrid.measures_hubness)
        return self.retriever == "classifier" or bool(weighs)

    @property
    def hybrid_settings(self) -> HybridSettings:
        """Those of a hybrid variant; raises ValueError for any other."""
        return _needed(self.hybrid, "hybrid")

    def uncached(self) -> "Search":
        """The same with every text going through the models, to see how long that takes."""
        scorer = self.scorer.scorer if isinstance(self.scorer, CachedPairScorer) else self.scorer
        return replace(self, encoder=_uncached(self.encoder), scorer=scorer)

    def in_language(self, language: str) -> "Search":
        """The same for texts of another language."""
        return replace(self, language=language)


def write_search_index(
    search: Search, passages: Sequence[Passage], directory: Path, *, questions: RetrievalDataset | None = None
) -> dict[str, object]:
    """Write the index of the passages into the directory; returns what is in it and what it took.

    Of `questions` the train split teaches a search that `learns_from_questions`; without them a hybrid search has
    neither classifier nor hubness.

    Raises:
        ValueError: a classifier was asked for, and there is nothing to learn; or a passage cannot be encoded.
    """
    if search.rerank is not None:
        with (directory / CORPUS_FILE).open("w", encoding="utf-8") as file:
            for passage in passages:
                write_passage_line(passage, file)
        return write_search_index(replace(search, rerank=None), passages, directory, questions=questions)
    found: dict[str, object] = {"passages": len(passages), "kind": search.retriever}
    if search.retriever in _LEXICAL_PARTS:
        lexical = _lexical_part(search)
        write_search_index(lexical, passages, directory / lexical.retriever)
        wanted = search.hybrid.fitted_classifier if search.hybrid else None
        if wanted and questions and is_learnable(questions):
            fitted = fit_classifier(questions, wanted, search.encoder)
            write_classifier(fitted, directory / CLASSIFIER_FOLDER)
        dense = write_search_index(dense_part(search), passages, directory / DENSE_FOLDER)
        if search.hybrid and search.hybrid.measures_hubness and questions:
            encoder, index = _needed(search.encoder, "encoder"), read_index(directory / DENSE_FOLDER)
            if (hubness := measure_hubness(index, questions, encoder)) is not None:
                write_hubness(hubness, directory)
            dense |= encoding_counts(encoder)
        return {**dense, "kind": search.retriever}
    if search.retriever == "bm25":
        write_lexical_index(build_lexical_index(passages, LexicalSettings(language=search.language)), directory)
        return found
    if search.retriever == "classifier":
        fitted = fit_classifier(_needed(questions, "train questions"), ClassifierSettings())
        write_classifier(fitted, directory)
        return {**found, "train_questions": len(fitted.questions.passage_ids), "learnt": len(fitted.passage_ids)}
    if search.retriever == "tfidf":
        write_tfidf_index(build_tfidf_index(passages, TfidfSettings()), directory)
        return found
    encoder = _needed(search.encoder, "encoder")
    vectors = EncodedPassages(encoder, passages)
    if len(passages) <= ADDED_AT_ONCE:  # asked for once, in their order
        vectors = next(vectors.blocks(), np.empty(vectors.shape, dtype=np.float32))
    index = build_index(
        [passage.id for passage in passages],
        vectors,
        encoder_fingerprint=encoder.fingerprint,
        settings=search.index,
    )
    write_index(index, directory)
    if index.kind != "flat":
        found[RECALL_DETAIL] = round(recall_against_exact(index, vectors), 4)
    return {**found, "kind": index.kind, "dimension": index.dimension, **encoding_counts(encoder)}


@dataclass(frozen=True, slots=True)
class EncodedPassages:
    """Implements Vectors: what an encoder makes of passages, encoded or found in the cache when it is asked for.

    Memory holds a block of texts and vectors, so put an encoder with a cache before it: blocks are gone through more
    than once.
    """

    encoder: Encoder
    passages: Sequence[Passage]

    @property
    def shape(self) -> tuple[int, int]:
        """See Vectors."""
        return len(self.passages), self.encoder.dimension

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        """See Vectors; raises ValueError where the encoder refuses texts, with the places of their passages."""
        found = np.empty((len(wanted), self.encoder.dimension), dtype=np.float32)
        for start in range(0, len(wanted), ADDED_AT_ONCE):
            some = wanted[start : start + ADDED_AT_ONCE].tolist()
            found[start : start + ADDED_AT_ONCE] = self._encode([self.passages[at] for at in some])
        return found

    def blocks(self) -> Iterator[np.ndarray]:
        """See Vectors; raises as `rows`."""
        passages = iter(self.passages)
        while portion := list(islice(passages, ADDED_AT_ONCE)):
            yield self._encode(portion)

    def _encode(self, passages: Sequence[Passage]) -> np.ndarray:
        try:
            return self.encoder.encode_passages([passage.text for passage in passages])
        except RefusedTextsError as error:
            if not error.refused:
                raise
            raise ValueError(f"{', '.join(_places(passages, error.refused))}: {error}") from error


def _places(passages: Sequence[Passage], positions: Iterable[int]) -> Iterator[str]:
    for at in islice(positions, _NAMED_PASSAGES):
        file = passages[at].attributes.get("file")
        yield f"passage {passages[at].id}" + (f" of {file}" if file else "")


def open_retriever(search: Search, directory: Path) -> Retriever:
    """The retriever over an index that `write_search_index` wrote."""
    if search.rerank is not None:
        texts = {passage.id: passage.text for passage in read_passages(directory / CORPUS_FILE)}
        first_stage, scorer = open_retriever(replace(search, rerank=None), directory), _needed(search.scorer, "scorer")
        return RerankedRetriever(first_stage, scorer, texts, top_k=search.rerank.top_k, keep=search.rerank.keep)
    if search.retriever == "fused":
        fusion = _needed(search.fusion, "fusion")
        parts = (
            open_retriever(_lexical_part(search), directory / LEXICAL_FOLDER),
            open_retriever(dense_part(search), directory / DENSE_FOLDER),
        )
        return FusedRetriever(parts, depth=fusion.depth, rank_constant=fusion.rank_constant)
    if search.retriever == "hybrid":
        return open_hybrid(search, directory, _needed(search.weights, "hybrid (chosen weights)"))
    if search.retriever == "bm25":
        return LexicalRetriever(read_lexical_index(directory))
    if search.retriever == "tfidf":
        return TfidfRetriever(read_tfidf_index(directory))
    if search.retriever == "classifier":
        return ClassifierRetriever(read_classifier(directory))
    return DenseRetriever(read_index(directory), _needed(search.encoder, "encoder"), search.device)


def open_hybrid(search: Search, directory: Path, weights: HybridWeights) -> HybridRetriever:
    """The same for a hybrid variant under any weights; its scores can be had one by one."""
    fitted, index = directory / CLASSIFIER_FOLDER, read_index(directory / DENSE_FOLDER)
    return HybridRetriever(
        index,
        _needed(search.encoder, "encoder"),
        read_tfidf_index(directory / NGRAMS_FOLDER),
        weights,
        depth=search.hybrid_settings.depth,
        device=search.device,
        classifier=read_classifier(fitted) if fitted.exists() else None,
        hubness=read_hubness(directory, index.passage_ids),
    )


def encoded_queries(search: Search, texts: Sequence[str]) -> tuple[str, ...]:
    """What goes through the encoder to search for the texts: they, and behind them a hybrid's clauses."""
    if search.weights is None or search.weights.parts == 0:
        return tuple(texts)
    return (*texts, *(part for text in texts for part in split_query(text)))


def model_below(encoder: Encoder | None) -> Encoder | None:
    """The encoder that an adaptation was put behind; any other is itself."""
    return encoder.encoder if isinstance(encoder, EncoderBehind) else encoder


def encoding_counts(encoder: Encoder | None) -> dict[str, object]:
    """How many texts went through the model and how many came from the cache, where there is one."""
    model = model_below(encoder)
    if not isinstance(model, CachedEncoder):
        return {}
    return {"texts_encoded": model.encoded, "texts_from_cache": model.served}


def _lexical_part(search: Search) -> Search:
    return replace(search, retriever=_LEXICAL_PARTS[search.retriever], encoder=None)


def dense_part(search: Search) -> Search:
    """The same with the vectors alone; the encoder is at hand already, only the kind of index changes."""
    return replace(search, retriever="dense", fusion=None, hybrid=None)


def _uncached(encoder: Encoder | None) -> Encoder | None:
    if isinstance(encoder, EncoderBehind):
        return encoder.around(_uncached(encoder.encoder) or encoder.encoder)
    return encoder.encoder if isinstance(encoder, CachedEncoder) else encoder


Part = TypeVar("Part")


def _needed(part: Part | None, name: str) -> Part:
    if part is None:
        raise ValueError(f"searching needs {name}, found none. Name it in the recipe, or choose another retriever.")
    return part
