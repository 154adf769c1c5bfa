"""What a format loses against the model it was made from, whether that is too much, and which format to deploy.

Belongs here: the measurement, the rule, its record and table. Does not belong here: writing formats (formats).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.cross_encoder import TextPair
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.pair_scores import PairScorer
from embed_pipeline.evaluation.latency import SAMPLED_QUERIES, measure_latency, measure_throughput, spread
from embed_pipeline.evaluation.measures import Measure, QueryMeasure, canonical_passages
from embed_pipeline.evaluation.measuring import HITS_PER_QUERY, measure_hits
from embed_pipeline.exporting.settings import ExportSettings, Format
from embed_pipeline.exporting.vectors import VectorForm, compare_on, shared_hits
from embed_pipeline.records import EVALUATED_SPLIT, Query
from embed_pipeline.retrieval.distinct import without_copies
from embed_pipeline.retrieval.faiss_index import build_index
from embed_pipeline.retrieval.fusion import ranking_of_hits
from embed_pipeline.retrieval.ranking import Ranking
from embed_pipeline.retrieval.search import RerankedRetriever, top_texts

PARITY_FILE = "parity.json"
ORIGINAL = "original"
LOWEST_COSINE: Mapping[Format, float] = {"onnx": 0.9999, "float16": 0.999}
LARGEST_GAP: Mapping[Format, float] = {"onnx": 0.001}
"""What promises the same numbers, up to rounding, keeps them for every text or pair; 8 bits promise answers alone."""
_ALIKE = 0.05
"""Formats within this share of the fastest count as equally fast; then the smallest is taken."""


@dataclass(frozen=True, slots=True)
class Parity:
    """One format against the original, over the test queries and all passages."""

    format: Format
    megabytes: float
    mean_cosine: float | None
    lowest_cosine: float | None
    """None for a static model, whose vectors lie in a space of their own, and for a cross-encoder."""
    largest_gap: float | None
    """Of a cross-encoder: the largest distance between two scores of one pair."""
    same_first_hit: float
    """Share of the test queries with the same best passage."""
    shared_hits: float
    """Share of the original's first ten passages that are among the format's, the mean over queries."""
    points_lost: float
    """Of the headline measure, from 0 to 100; `low` to `high` is its 95 % interval, paired by query."""
    low: float
    high: float
    refused: str | None
    """Why it is not handed out; None: it is."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a format takes on this machine, as it was when it was built."""

    name: str
    query_ms: float
    texts_per_second: float


@dataclass(frozen=True)
class Measured:
    """What a model does on a data set: its outputs, its ranking of the test queries, what that scores."""

    outputs: np.ndarray
    """Vectors (queries and then passages, dimension), or a cross-encoder's scores (pairs,)."""
    ranking: Ranking
    scores: tuple[QueryMeasure, ...]


def measure_encoder(encoder: Encoder, dataset: RetrievalDataset) -> Measured:
    """Encode the test queries and all passages, search, measure.

    Raises:
        ValueError: the data set has no test queries, so nobody could say what is lost.
    """
    asked = _test_queries(dataset)
    queries = encoder.encode_queries([query.text for query in asked])
    passages = encoder.encode_passages([passage.text for passage in dataset.passages])
    index = build_index([passage.id for passage in dataset.passages], passages, encoder_fingerprint=encoder.fingerprint)
    canonical = canonical_passages(dataset.passages)
    ranking = top_texts(index, [query.id for query in asked], queries, HITS_PER_QUERY, canonical)
    scores = measure_hits(dataset, EVALUATED_SPLIT, ranking.hits())
    return Measured(np.concatenate([queries, passages]), ranking, scores)


def measure_pairs(scorer: PairScorer, retriever: RerankedRetriever, dataset: RetrievalDataset) -> Measured:
    """Order the first stage's hits of the test queries by the scorer, measure.

    Raises:
        ValueError: as `measure_encoder`.
    """
    asked, kept = _test_queries(dataset), _KeptScores(scorer)
    found = without_copies(replace(retriever, scorer=kept), canonical_passages(dataset.passages))
    hits = found.search(asked, HITS_PER_QUERY)
    ranking = ranking_of_hits([query.id for query in asked], hits)
    return Measured(kept.scores, ranking, measure_hits(dataset, EVALUATED_SPLIT, hits))


class _KeptScores:
    """A scorer whose last answer can be read afterwards."""

    def __init__(self, scorer: PairScorer) -> None:
        self.scorer = scorer
        self.scores = np.empty(0, dtype=np.float32)

    @property
    def fingerprint(self) -> str:
        return self.scorer.fingerprint

    def score(self, pairs: Sequence[TextPair]) -> np.ndarray:
        self.scores = self.scorer.score(pairs)
        return self.scores


def compare(
    original: Measured, found: Measured, name: Format, *, megabytes: float, headline: Measure, settings: ExportSettings
) -> Parity:
    """What the format loses, and whether it is refused for it."""
    comparison = compare_on(headline, original.scores, found.scores)
    pairs = list(zip(original.ranking.queries, found.ranking.queries, strict=True))
    # Rounded once, so that what is decided on is what is shown.
    lost = round(-100 * comparison.difference, 4)
    mean_cosine, lowest, gap = _distance(original.outputs, found.outputs)
    refused = None
    if gap is not None and gap > LARGEST_GAP.get(name, np.inf):
        refused = f"a score is {gap:.4f} from the original's, at most {LARGEST_GAP[name]} is allowed"
    elif lowest is not None and lowest < LOWEST_COSINE.get(name, -1.0):
        refused = f"its lowest cosine to the original is {lowest:.4f}, at least {LOWEST_COSINE[name]} is wanted"
    elif lost > settings.points_lost:
        refused = f"it loses {lost:.1f} points of {headline}, at most {settings.points_lost:g} are allowed"
    return Parity(
        format=name,
        megabytes=round(megabytes, 2),
        mean_cosine=mean_cosine,
        lowest_cosine=lowest,
        largest_gap=gap,
        same_first_hit=round(mean(one.passage_ids[:1] == other.passage_ids[:1] for one, other in pairs), 4),
        shared_hits=round(mean(shared_hits(*pair) for pair in pairs), 4),
        points_lost=lost + 0.0,
        low=round(-100 * comparison.high, 4) + 0.0,
        high=round(-100 * comparison.low, 4) + 0.0,
        refused=refused,
    )


def measure_speed(name: str, encoder: Encoder, dataset: RetrievalDataset) -> Speed:
    """Milliseconds of one question and texts a second, over a sample."""
    latency = measure_latency(lambda query: encoder.encode_queries([query.text]), dataset.queries_of(EVALUATED_SPLIT))
    throughput = measure_throughput(encoder.encode_passages, [passage.text for passage in dataset.passages])
    return Speed(name, latency.p50_ms if latency else 0.0, throughput or 0.0)


def measure_pair_speed(name: str, scorer: PairScorer, retriever: RerankedRetriever, dataset: RetrievalDataset) -> Speed:
    """Milliseconds of one question's first hits, and pairs a second, over a sample; the first stage is left out."""
    queries, first = spread(_test_queries(dataset), SAMPLED_QUERIES), retriever.first_stage
    pairs: dict[str, list[TextPair]] = {query.id: [] for query in queries}
    text_of = {query.id: query.text for query in queries}
    for hit in first.search(queries, retriever.top_k):
        pairs[hit.query_id].append(TextPair(text_of[hit.query_id], retriever.texts[hit.passage_id]))
    latency = measure_latency(lambda query: scorer.score(pairs[query.id]), queries)
    milliseconds = latency.p50_ms if latency else 0.0
    return Speed(name, milliseconds, round(1000 * retriever.top_k / max(milliseconds, 1e-6), 2))


def choose_format(found: Sequence[Parity], speeds: Sequence[Speed]) -> Format | None:
    """The fastest for one question of those handed out, of equally fast ones the smallest; None: there is none.

    Half precision is for GPUs and has no speed on a CPU; it is taken only where nothing else is.
    """
    handed_out = [one for one in found if one.refused is None]
    took = {speed.name: speed.query_ms for speed in speeds}
    timed = [one for one in handed_out if one.format in took]
    if not timed:
        return handed_out[0].format if handed_out else None
    fastest = min(took[one.format] for one in timed)
    alike = [one for one in timed if took[one.format] <= fastest * (1 + _ALIKE)]
    return min(alike, key=lambda one: (one.megabytes, one.format)).format


def write_parity(
    found: Sequence[Parity], vectors: Sequence[VectorForm], directory: Path, *, headline: Measure, queries: int
) -> None:
    """Write parity.json; equal measurements give equal bytes."""
    content = {
        "headline": str(headline),
        "test_queries": queries,
        "formats": [asdict(one) for one in found],
        "vectors": [asdict(one) for one in vectors],
    }
    (directory / PARITY_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_parity(directory: Path) -> tuple[Parity, ...]:
    """What each format loses, of an `exported_model` artifact, in the order of the recipe."""
    content = json.loads((directory / PARITY_FILE).read_text(encoding="utf-8"))
    return tuple(Parity(**one) for one in content["formats"])


def read_vector_forms(directory: Path) -> tuple[VectorForm, ...]:
    """What shorter and smaller vectors lose, of the same artifact; none of a cross-encoder."""
    content = json.loads((directory / PARITY_FILE).read_text(encoding="utf-8"))
    return tuple(VectorForm(**one) for one in content["vectors"])


def _test_queries(dataset: RetrievalDataset) -> list[Query]:
    asked = list(dataset.queries_of(EVALUATED_SPLIT))
    if not asked:
        raise ValueError("export: expected test questions to hold a format against, found none. Give the set some.")
    return asked


def _distance(original: np.ndarray, found: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Mean and lowest cosine of vectors, largest gap of scores; None for what does not apply."""
    if original.ndim == 1:
        return None, None, round(float(np.abs(original - found).max(initial=0.0)), 6)
    if original.shape != found.shape:
        return None, None, None
    left, right = original.astype(np.float64), found.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.where(norms > 0, (left * right).sum(axis=1) / np.where(norms > 0, norms, 1.0), 0.0)
    return round(float(cosines.mean()), 6), round(float(cosines.min()), 6), None
