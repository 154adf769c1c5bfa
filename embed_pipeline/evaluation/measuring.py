"""What one variant scores: on its own test queries, between languages, on a general suite; and what using it takes.

Belongs here: searching, measuring and writing the files of the evaluation's artifacts. Does not belong here: the
measures (measures.py).
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.hosted import HostedEncoder
from embed_pipeline.evaluation.calibration import (
    Calibration,
    ScoreDistribution,
    calibrate,
    distribute_scores,
    first_hits,
)
from embed_pipeline.evaluation.latency import Profile, measure_latency, measure_throughput, summarise_latency
from embed_pipeline.evaluation.measures import Measure, QueryMeasure, canonical_passages, measure_queries
from embed_pipeline.evaluation.query_metrics import read_query_metrics, write_hits, write_query_metrics
from embed_pipeline.evaluation.returned_labels import (
    ReturnChoice,
    ReturnFigures,
    ReturnRule,
    choose_returned,
    rank_hits,
)
from embed_pipeline.records import CHOSEN_ON, EVALUATED_SPLIT, LANGUAGE, Hit, Passage, Query, Split
from embed_pipeline.retrieval.distinct import without_copies
from embed_pipeline.retrieval.searching import Search, encoded_queries, model_below, open_retriever, write_search_index

METRICS_FILE = "query_metrics.jsonl"
HITS_FILE = "hits.jsonl"
BASE_METRICS_FILE = "base_query_metrics.jsonl"
CALIBRATION_FILE = "calibration.json"
RETURNED_FILE = "returned.json"
SCORES_FILE = "scores.json"
LANGUAGE_PAIRS_FOLDER = "language_pairs"
PAIR_MEASURE = Measure("mrr", 10)
HITS_PER_QUERY = 20


@dataclass(frozen=True)
class LanguagePair:
    """What the queries of one language scored on the passages of one language."""

    query_language: str
    passage_language: str
    query_measures: tuple[QueryMeasure, ...]

    def __str__(self) -> str:
        return f"question {self.query_language} → passage {self.passage_language}"


def measure_own_queries(
    search: Search, index: Path, dataset: RetrievalDataset, out: Path, *, wanted_precision: float
) -> tuple[QueryMeasure, ...]:
    """Search and measure the test queries, and write all files of `query_metrics` into `out`."""
    canonical = canonical_passages(dataset.passages)
    retriever = without_copies(open_retriever(search, index), canonical)
    hits = retriever.search(dataset.queries_of(EVALUATED_SPLIT), HITS_PER_QUERY)
    measured = measure_hits(dataset, EVALUATED_SPLIT, hits)
    write_query_metrics(measured, out / METRICS_FILE)
    write_hits(hits, out / HITS_FILE)
    relevant = _relevant(dataset, canonical)
    distribution = distribute_scores(hits, relevant)
    (out / SCORES_FILE).write_text(json.dumps(distribution and asdict(distribution)) + "\n", encoding="utf-8")
    validation = dataset.queries_of(CHOSEN_ON)
    if validation:
        held_out = retriever.search(validation, HITS_PER_QUERY)
        calibration = calibrate(
            first_hits(held_out, relevant),
            first_hits(hits, relevant),
            wanted_precision=wanted_precision,
            validation_queries=len(validation),
            test_queries=len(dataset.queries_of(EVALUATED_SPLIT)),
        )
        (out / CALIBRATION_FILE).write_text(json.dumps(asdict(calibration), indent=1) + "\n", encoding="utf-8")
        chosen_on, tested = (
            [query.id for query in dataset.queries_of(split) if relevant[query.id]]
            for split in (CHOSEN_ON, EVALUATED_SPLIT)
        )
        returned = choose_returned(
            rank_hits(chosen_on, held_out, relevant, canonical), rank_hits(tested, hits, relevant, canonical)
        )
        if returned:
            (out / RETURNED_FILE).write_text(json.dumps(asdict(returned), indent=1) + "\n", encoding="utf-8")
    if search.retriever != "classifier":  # which knows answers, whatever their language, and no other passages
        _measure_language_pairs(search, dataset, out / LANGUAGE_PAIRS_FOLDER)
    return measured


def measure_elsewhere(search: Search, dataset: RetrievalDataset) -> tuple[QueryMeasure, ...]:
    """What the variant scores on the test queries of another data set, whose index is not kept."""
    return measure_split(search, dataset, EVALUATED_SPLIT)


def measure_split(search: Search, dataset: RetrievalDataset, split: Split) -> tuple[QueryMeasure, ...]:
    """What the variant scores on the queries of a split; the index is not kept."""
    return measure_hits(
        dataset, split, _search_passages(search, dataset.passages, dataset.queries_of(split), HITS_PER_QUERY)
    )


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration of a `query_metrics` artifact; None where there are no validation queries."""
    path = folder / CALIBRATION_FILE
    return Calibration(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def read_returned(folder: Path) -> ReturnChoice | None:
    """How many hits to return, of a `query_metrics` artifact.

    None where queries have one relevant passage, where there are no validation queries, and in older artifacts.
    """
    path = folder / RETURNED_FILE
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"rule": ReturnRule, "test": ReturnFigures, "fixed_test": ReturnFigures}
    return ReturnChoice(**{name: kinds[name](**value) if name in kinds else value for name, value in found.items()})


def read_scores(folder: Path) -> ScoreDistribution | None:
    """The score distribution of a `query_metrics` artifact; None where nothing was found."""
    found = json.loads((folder / SCORES_FILE).read_text(encoding="utf-8"))
    return ScoreDistribution(**{name: tuple(values) for name, values in found.items()}) if found else None


def read_language_pairs(folder: Path) -> Iterator[LanguagePair]:
    """The language pairs of a `query_metrics` artifact, by name; none where all passages are of one language."""
    for path in sorted((folder / LANGUAGE_PAIRS_FOLDER).glob("*.jsonl")):
        query_language, _, passage_language = path.stem.partition("-")
        yield LanguagePair(query_language, passage_language, read_query_metrics(path))


def profile_variant(search: Search, index: Path, dataset: RetrievalDataset) -> Profile:
    """What using the variant takes; a few texts go through the model again for it, past the cache.

    A hosted encoder is not asked again: it sends its first queries one by one, and their latency counts. A second stage
    behind it is timed with the vectors that are known, and both percentiles are added.
    """
    live, queries = search.uncached(), dataset.queries_of(EVALUATED_SPLIT)
    texts = [passage.text for passage in dataset.passages]
    encoder, model = live.encoder, model_below(live.encoder)
    if isinstance(model, HostedEncoder):
        asked = [query.text for split in (EVALUATED_SPLIT, CHOSEN_ON) for query in dataset.queries_of(split)]
        latency = summarise_latency(model.request_milliseconds(texts=1))
        if search.rerank and latency:
            known = open_retriever(replace(search, scorer=live.scorer), index)
            latency = latency.plus(measure_latency(lambda query: known.search([query], HITS_PER_QUERY), queries))
        cost = model.cost_of([*texts, *encoded_queries(search, asked)])
        throughput = model.texts_per_second()
    else:
        retriever = open_retriever(live, index)
        latency = measure_latency(lambda query: retriever.search([query], HITS_PER_QUERY), queries)
        throughput = measure_throughput(encoder.encode_passages, texts) if encoder else None
        cost = 0.0
    return Profile(
        cost_usd=cost,
        latency_p50_ms=latency and latency.p50_ms,
        latency_p95_ms=latency and latency.p95_ms,
        passages_per_second=throughput,
        dimension=encoder.dimension if encoder else None,
        max_length=_max_length(model),
    )


def measure_hits(dataset: RetrievalDataset, split: Split, hits: Sequence[Hit]) -> tuple[QueryMeasure, ...]:
    """What the hits of a split's queries score on every measure."""
    query_ids = [query.id for query in dataset.queries_of(split)]
    return measure_queries(hits, dataset.judgments, query_ids, canonical=canonical_passages(dataset.passages))


def _relevant(dataset: RetrievalDataset, canonical: Mapping[str, str]) -> Mapping[str, frozenset[str]]:
    """Relevant passage ids by query id, each as the one that stands for its text."""
    return {
        query: frozenset(canonical.get(passage, passage) for passage, grade in grades.items() if grade > 0)
        for query, grades in dataset.relevant().items()
    }


def _measure_language_pairs(search: Search, dataset: RetrievalDataset, out: Path) -> None:
    by_language: defaultdict[str, list[Passage]] = defaultdict(list)
    for passage in dataset.passages:
        by_language[passage.attributes.get(LANGUAGE, "")].append(passage)
    if len(by_language) < 2 or "" in by_language:
        return
    out.mkdir()
    queries = [query for query in dataset.queries_of(EVALUATED_SPLIT) if LANGUAGE in query.attributes]
    for language, passages in sorted(by_language.items()):
        ids = {passage.id for passage in passages}
        judgments = [judgment for judgment in dataset.judgments if judgment.passage_id in ids]
        answered = {judgment.query_id for judgment in judgments if judgment.grade > 0}
        asked = [query for query in queries if query.id in answered]
        hits = _search_passages(search.in_language(language), passages, asked, PAIR_MEASURE.cutoff)
        measured = measure_queries(
            hits,
            judgments,
            [query.id for query in asked],
            measures=[PAIR_MEASURE],
            canonical=canonical_passages(passages),
        )
        language_of = {query.id: query.attributes[LANGUAGE] for query in asked}
        for query_language in sorted(set(language_of.values())):
            own = [result for result in measured if language_of[result.query_id] == query_language]
            write_query_metrics(own, out / f"{query_language}-{language}.jsonl")


def _search_passages(search: Search, passages: Sequence[Passage], queries: Sequence[Query], k: int) -> tuple[Hit, ...]:
    with tempfile.TemporaryDirectory() as folder:
        write_search_index(search, passages, Path(folder))
        return without_copies(open_retriever(search, Path(folder)), canonical_passages(passages)).search(queries, k)


def _max_length(encoder: object) -> int | None:
    settings = getattr(encoder, "settings", None)
    if isinstance(settings, EncoderSettings):
        return settings.query_max_length
    return encoder.settings.max_length if isinstance(encoder, HostedEncoder) else None
