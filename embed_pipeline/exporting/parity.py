"""What a format loses against the model it was made from, whether that is too much, and which format to deploy.

Belongs here: the measurement, the rule, its record and table. Does not belong here: writing formats (formats).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.evaluation.comparison import compare_variants
from embed_pipeline.evaluation.latency import measure_latency, measure_throughput
from embed_pipeline.evaluation.measures import Measure, QueryMeasure
from embed_pipeline.evaluation.measuring import HITS_PER_QUERY, measure_hits
from embed_pipeline.exporting.settings import ExportSettings, Format
from embed_pipeline.records import EVALUATED_SPLIT
from embed_pipeline.retrieval.index import build_index
from embed_pipeline.retrieval.ranking import Ranking
from embed_pipeline.retrieval.search import top_k

PARITY_FILE = "parity.json"
ORIGINAL = "original"
LOWEST_COSINE: Mapping[Format, float] = {"onnx": 0.9999, "float16": 0.999}
"""What promises the same numbers, up to rounding, must keep them for every text; 8 bits promise answers alone."""
_ALIKE = 0.05
"""Formats within this share of the fastest count as equally fast; then the smallest is taken."""


@dataclass(frozen=True, slots=True)
class Parity:
    """One format against the original, over the test queries and all passages."""

    format: Format
    megabytes: float
    mean_cosine: float
    lowest_cosine: float
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
    """What an encoder does on a data set: its vectors, its ranking of the test queries, what that scores."""

    queries: np.ndarray
    passages: np.ndarray
    ranking: Ranking
    scores: tuple[QueryMeasure, ...]


def measure_encoder(encoder: Encoder, dataset: RetrievalDataset) -> Measured:
    """Encode the test queries and all passages, search, measure.

    Raises:
        ValueError: the data set has no test queries, so nobody could say what is lost.
    """
    asked = dataset.queries_of(EVALUATED_SPLIT)
    if not asked:
        raise ValueError("export: expected test questions to hold a format against, found none. Give the set some.")
    queries = encoder.encode_queries([query.text for query in asked])
    passages = encoder.encode_passages([passage.text for passage in dataset.passages])
    index = build_index([passage.id for passage in dataset.passages], passages, encoder_fingerprint=encoder.fingerprint)
    ranking = top_k(index, [query.id for query in asked], queries, HITS_PER_QUERY)
    return Measured(queries, passages, ranking, measure_hits(dataset, EVALUATED_SPLIT, ranking.hits()))


def compare(
    original: Measured, found: Measured, name: Format, *, megabytes: float, headline: Measure, settings: ExportSettings
) -> Parity:
    """What the format loses, and whether it is refused for it."""
    cosines = np.concatenate([_cosines(original.queries, found.queries), _cosines(original.passages, found.passages)])
    (comparison,) = [
        one for one in compare_variants(original.scores, {name: found.scores})[name] if one.measure == headline
    ]
    first, shared = _agreement(original.ranking, found.ranking)
    # Rounded once, so that what is decided on is what is shown.
    lost, lowest = round(-100 * comparison.difference, 4), round(float(cosines.min()), 6)
    refused = None
    if lowest < LOWEST_COSINE.get(name, -1.0):
        refused = f"its lowest cosine to the original is {lowest:.4f}, at least {LOWEST_COSINE[name]} is wanted"
    elif lost > settings.points_lost:
        refused = f"it loses {lost:.1f} points of {headline}, at most {settings.points_lost:g} are allowed"
    return Parity(
        format=name,
        megabytes=round(megabytes, 2),
        mean_cosine=round(float(cosines.mean()), 6),
        lowest_cosine=lowest,
        same_first_hit=round(first, 4),
        shared_hits=round(shared, 4),
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


def write_parity(found: Sequence[Parity], directory: Path, *, headline: Measure, queries: int) -> None:
    """Write parity.json; equal measurements give equal bytes."""
    content = {"headline": str(headline), "test_queries": queries, "formats": [asdict(one) for one in found]}
    (directory / PARITY_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_parity(directory: Path) -> tuple[Parity, ...]:
    """What each format loses, of an `exported_model` artifact, in the order of the recipe."""
    content = json.loads((directory / PARITY_FILE).read_text(encoding="utf-8"))
    return tuple(Parity(**one) for one in content["formats"])


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left, right = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.where(norms > 0, (left * right).sum(axis=1) / np.where(norms > 0, norms, 1.0), 0.0)


def _agreement(original: Ranking, found: Ranking) -> tuple[float, float]:
    first, shared = [], []
    for one, other in zip(original.queries, found.queries, strict=True):
        best = one.passage_ids[:10]
        first.append(one.passage_ids[:1] == other.passage_ids[:1])
        shared.append(len(set(best) & set(other.passage_ids[:10])) / max(len(best), 1))
    return float(np.mean(first)), float(np.mean(shared))
