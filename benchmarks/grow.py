"""What each step costs a passage as the corpus grows: python benchmarks/grow.py --sizes 10000 100000 1000000

Makes data sets of made-up words (Zipf's law, a tenth near duplicates, a question for every tenth passage) and gives
them to the functions that the assets call. Every step has a process of its own; vectors come from a table in place of a
model, so that what is measured is everything but the model. Prints seconds of the clock, seconds and microseconds a
passage of the processor, which other work on the machine moves less, and peak memory: own, without pages of mapped
files, which the system drops when it needs them.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.mine_large_corpus import MemoryWatch
from embed_pipeline.dataset.formats import (
    CORPUS_FILE,
    JUDGMENTS_FILE,
    QUERIES_FILE,
    PassageFile,
    read_dataset,
    read_passages,
)
from embed_pipeline.records import EVALUATED_SPLIT, Hit

PAIRS_FILE = "pairs.json"
QUERIES_PER_PASSAGE = 0.1
ASKED, NEIGHBOURS, PORTION = 200, 10, 65_536
ROUNDS = 5
_TABLE, _CENTRES = 65_536, 16_384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--words", type=int, default=30, help="of a passage, on average")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--kinds", nargs="+", default=["sq8", "IVF{lists},PQ48"], help="index: {lists} is 4 √passages")
    parser.add_argument("--asked", type=int, default=ASKED, help="index: queries of a round")
    parser.add_argument("--folder", type=Path, help="keep the data there, to be found again; left out: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as work:
        for size in options.sizes:
            data = (options.folder or Path(work)) / f"{size}x{options.words}"
            if not (data / QUERIES_FILE).is_file():
                _alone(make_data, data, size, options.words)
            if "clean" in options.steps:
                _alone(make_pairs, data)
            for step in options.steps:
                _alone(measure, step, data, Path(work), size, options)


def _alone(work: Callable[..., None], *arguments: object) -> None:
    """In a process that does nothing else, so that its peak of memory is its own; a failure ends the others not."""
    child = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    child.start()
    child.join()
    if child.exitcode:
        print(f"{work.__name__} {arguments[0]}: failed with {child.exitcode}", flush=True)


def measure(step: str, data: Path, work: Path, size: int, options: argparse.Namespace) -> None:
    """Run a step and print a line for each of its parts."""
    watch = MemoryWatch()
    with tempfile.TemporaryDirectory(dir=work) as out:
        started, used = time.perf_counter(), _processor_seconds()
        for part, count in STEPS[step](data, Path(out), options):
            seconds, own = time.perf_counter() - started, _processor_seconds() - used
            note = count if isinstance(count, str) else f"{count:,}"
            figures = f"{seconds:9.2f} s {own:9.2f} s own {1e6 * own / size:9.1f} µs a passage"
            print(f"{size:>11,} {step:7} {part:24} {figures}  {watch.told()}  {note}", flush=True)
            started, used = time.perf_counter(), _processor_seconds()


Parts = Iterator[tuple[str, int | str]]
"""What was done since the part before, and what came of it."""


def clean(data: Path, out: Path, options: argparse.Namespace) -> Parts:
    """A file of pairs becomes a data set."""
    from embed_pipeline.dataset.cleaning import write_cleaned
    from embed_pipeline.dataset.pairs import clean_pairs

    cleaned = clean_pairs(data, _settings())
    yield "read, split, held out", cleaned.counts.queries
    write_cleaned(cleaned, out)
    yield "write", sum(path.stat().st_size for path in out.iterdir())


def cut(data: Path, out: Path, options: argparse.Namespace) -> Parts:
    """Documents become passages; letters are counted in place of tokens, a fourth of them each."""
    from benchmarks.chunk_many_passages import make_document
    from embed_pipeline.documents.passages import write_passages
    from embed_pipeline.documents.settings import DocumentSettings

    size = int(data.name.partition("x")[0])
    made = [make_document(number) for number in range(20)]
    yield "(20 documents made)", len(made)
    settings = DocumentSettings(files=("x",), passage_tokens=64, heading_in_text=True)
    done = 0

    def documents() -> Iterator[object]:
        # Another first heading makes other passages of the same sentences.
        number = 0
        while done < size:
            yield _renamed(made[number % len(made)], f"{number:07}")
            number += 1

    def tell(passages: int) -> None:
        nonlocal done
        done = passages

    counts = write_passages(documents(), settings, lambda ts: [len(t) // 4 for t in ts], out, progress=tell)
    yield "cut", f"{counts.passages:,} passages of {counts.documents:,} documents"


def _renamed(document: object, number: str) -> object:
    from dataclasses import replace

    blocks = tuple(replace(b, headings=(number, *b.headings[1:])) for b in document.blocks)  # type: ignore[attr-defined]
    return replace(document, file=f"{number}.md", blocks=blocks)  # type: ignore[type-var]


def audit(data: Path, out: Path, options: argparse.Namespace) -> Parts:
    """The audits of `cleaned_qa`, as its checks call them."""
    from embed_pipeline.dataset.audit import (
        compared_passages,
        describe_labels,
        find_contradictions,
        find_duplicate_passages,
        find_leaks,
        measure_shift,
    )
    from embed_pipeline.dataset.facts import data_facts

    dataset = read_dataset(data)
    yield "(read)", len(dataset.queries)
    yield "facts", data_facts(dataset).passages
    yield "leaks", len(find_leaks(dataset, 0.85))
    yield "labels", len(describe_labels(dataset).only_held_out)
    shift = measure_shift(dataset, dataset.queries_of("train"), dataset.queries_of("test"))
    yield "shift", f"{shift.length.distance:.4f}"
    yield "contradictions", len(find_contradictions(dataset, 0.85))
    compared = compared_passages(len(dataset.passages))
    found = find_duplicate_passages(dataset.passages, compared=compared)
    yield "near-equal passages", f"{len(found):,} of {len(compared):,}"


def cache(data: Path, out: Path, options: argparse.Namespace) -> Parts:
    """Vectors of all passages kept, found again, written by two at once, and thrown away."""
    from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache

    encoder, kept = TableEncoder(options.dimension), VectorCache(out)
    texts = [passage.text for passage in read_passages(data / CORPUS_FILE)]
    yield "(read)", len(texts)
    for part in ("insert", "look up"):
        cached = CachedEncoder(encoder, kept)
        for start in range(0, len(texts), PORTION):
            cached.encode_passages(texts[start : start + PORTION])
        size = sum(path.stat().st_size for path in out.glob("*.sqlite*"))
        yield part, f"{cached.encoded:,} encoded, {cached.served:,} found, {size / len(texts):,.0f} bytes a passage"
    some = texts[: min(len(texts), 100_000)]
    yield "(pause)", 0
    writers = [
        multiprocessing.get_context("spawn").Process(target=_write_some, args=(out, some[half::2], options.dimension))
        for half in (0, 1)
    ]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    yield "two writers", f"{len(some):,} texts, exit codes {[one.exitcode for one in writers]}"
    yield "gc", kept.gc(keep=())


def _write_some(folder: Path, texts: list[str], dimension: int) -> None:
    from embed_pipeline.encoding.vector_cache import CachedEncoder, VectorCache

    CachedEncoder(TableEncoder(dimension, weights="other"), VectorCache(folder)).encode_passages(texts)


def index(data: Path, out: Path, options: argparse.Namespace) -> Parts:
    """Each kind of index built, read, and searched beside Faiss alone."""
    import faiss

    from embed_pipeline.retrieval.faiss_index import INDEX_FILE, IndexSettings, read_index
    from embed_pipeline.retrieval.search import top_k
    from embed_pipeline.retrieval.searching import Search, write_search_index

    encoder, passages = TableEncoder(options.dimension), PassageFile(data / CORPUS_FILE)
    lists = round(4 * len(passages) ** 0.5)
    some = [passages[at] for at in range(0, len(passages), -(-len(passages) // options.asked))]
    vectors, ids = encoder.encode_queries([one.text for one in some]), [one.id for one in some]
    yield "(read)", len(ids)
    for kind in options.kinds:
        name = kind.format(lists=lists)
        settings = IndexSettings(kind=name)
        search = Search("dense", "en", encoder, index=settings)
        folder = out / hashlib.sha256(name.encode()).hexdigest()
        folder.mkdir()
        found = write_search_index(search, passages, folder)
        yield f"{name} built", str(found)
        opened = read_index(folder)
        yield f"{name} read", f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:,.0f} MB"
        bare = faiss.read_index(str(folder / INDEX_FILE))
        yield f"{name} read, bare", faiss.omp_get_max_threads()
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(_seconds(partial(bare.search, vectors, NEIGHBOURS)))
            ours.append(_seconds(partial(top_k, opened, ids, vectors, NEIGHBOURS)))
        ratio = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))[ROUNDS // 2]
        each = [f"{1000 * sorted(times)[ROUNDS // 2] / len(ids):.3f} ms" for times in (ours, theirs)]
        yield f"{name} searched", f"a query {each[0]}, bare Faiss {each[1]}, ratio {ratio:.3f} (median of {ROUNDS})"


def mine(data: Path, out: Path, options: argparse.Namespace) -> Parts:
    """Negatives for a thousand questions, by exact search."""
    from embed_pipeline.mining.candidates import MiningCorpus, encode_to_file
    from embed_pipeline.mining.negatives import mine as mine_negatives
    from embed_pipeline.mining.report import report_mined
    from embed_pipeline.mining.settings import MiningSettings

    encoder, dataset, settings = TableEncoder(options.dimension), read_dataset(data), MiningSettings()
    queries = dataset.queries_of("train")[:800]
    yield "(read)", len(dataset.passages)
    texts = [passage.text for passage in dataset.passages]
    vectors = encode_to_file(encoder.encode_passages, texts, encoder.dimension, out / "passages.npy")
    yield "(vectors to a file)", vectors.nbytes
    corpus = MiningCorpus.of(dataset.passages, vectors)
    yield "corpus", len(corpus.unique)
    query_vectors = encoder.encode_queries([query.text for query in queries])
    mined = mine_negatives(corpus, queries, query_vectors, dataset.judgments, settings)
    yield "mine", f"{len(mined.groups):,} groups"
    yield "report", report_mined(mined, corpus, queries, query_vectors, settings).negatives


def report(data: Path, out: Path, options: argparse.Namespace) -> Parts:
    """Figures, slices and examples of a variant with 20 hits per test query, as evaluation and report make them."""
    from embed_pipeline.evaluation.measures import Measure
    from embed_pipeline.evaluation.measuring import HITS_PER_QUERY, measure_hits, measure_own_queries
    from embed_pipeline.evaluation.query_metrics import read_hits, read_query_metrics
    from embed_pipeline.evaluation.slices import slice_queries
    from embed_pipeline.reporting.outcomes import VariantResult, collect_outcomes
    from embed_pipeline.retrieval import searching

    dataset = read_dataset(data)
    yield "(read)", len(dataset.passages)
    chance = random.Random(0)
    answer = {judgment.query_id: judgment.passage_id for judgment in dataset.judgments}
    ids = [passage.id for passage in dataset.passages]

    def hits(chosen: Sequence[object], k: int) -> list[Hit]:
        found = []
        for query in chosen:
            drawn = dict.fromkeys([answer[query.id]] * chance.randint(0, 1) + chance.choices(ids, k=k))  # type: ignore[attr-defined]
            order = sorted(drawn, key=lambda _: chance.random())[:k]
            found += [Hit(query.id, one, rank, 1 - rank / 100) for rank, one in enumerate(order, start=1)]  # type: ignore[attr-defined]
        return found

    class Drawn:
        def search(self, queries: Sequence[object], k: int) -> list[Hit]:
            return hits(queries, k)

    import embed_pipeline.evaluation.measuring as measuring

    measuring.open_retriever = lambda *_: Drawn()  # type: ignore[assignment]
    search = searching.Search("bm25", "en", None)
    measured = measure_own_queries(search, out, dataset, out, wanted_precision=0.9)
    yield "query metrics", len(measured)
    yield "slices", len(slice_queries(dataset, EVALUATED_SPLIT))
    other = hits(dataset.queries_of(EVALUATED_SPLIT), HITS_PER_QUERY)
    base = VariantResult("base", measure_hits(dataset, EVALUATED_SPLIT, other), other)
    result = VariantResult("it", read_query_metrics(out / "query_metrics.jsonl"), read_hits(out / "hits.jsonl"))
    yield "(base)", len(result.hits)
    parts = {"queries": dataset.queries, "passages": dataset.passages, "judgments": dataset.judgments}
    found = collect_outcomes(base, result, dataset="x", split=EVALUATED_SPLIT, measure=Measure("ndcg", 10), **parts)
    yield "won and lost", found.won + found.lost


STEPS: dict[str, Callable[[Path, Path, argparse.Namespace], Parts]] = {
    "clean": clean,
    "cut": cut,
    "audit": audit,
    "cache": cache,
    "index": index,
    "mine": mine,
    "report": report,
}


class TableEncoder:
    """Implements Encoder: a text's vector is the sum of three rows of tables, chosen by its checksums, of length 1.

    The same text as a query differs in one of the rows.
    """

    def __init__(self, dimension: int, *, weights: str = "table") -> None:
        self.dimension = dimension
        self.fingerprint = hashlib.sha256(f"{weights} {dimension}".encode()).hexdigest()
        self.query_fingerprint = self.passage_fingerprint = self.fingerprint
        chance = np.random.default_rng(0)
        self._centres = chance.standard_normal((_CENTRES, dimension), dtype=np.float32)
        self._noise = 0.5 * chance.standard_normal((_TABLE, dimension), dtype=np.float32)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Those of the passages, with another last row."""
        return self._encode(texts, last=1)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (texts, dimension)."""
        return self._encode(texts, last=0)

    def _encode(self, texts: Sequence[str], *, last: int) -> np.ndarray:
        digests = [text.encode() for text in texts]
        first = np.array([zlib.crc32(one) for one in digests], dtype=np.int64)
        second = np.array([zlib.adler32(one) for one in digests], dtype=np.int64)
        vectors = self._centres[first % _CENTRES] + self._noise[first // _CENTRES % _TABLE]
        vectors += self._noise[(second + last) * 40_503 % _TABLE]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_data(folder: Path, size: int, words: int) -> None:
    """corpus.jsonl, queries.jsonl and judgments.jsonl as cleaned_qa has them."""
    chance = random.Random(size)
    folder.mkdir(parents=True, exist_ok=True)
    syllables = ["".join(pair) for pair in product("bcdfghlmnprstv", "aeiou")]
    lexicon = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(20_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(lexicon) + 1)))
    asked: list[tuple[str, str, str]] = []
    before = ""
    with (folder / CORPUS_FILE).open("w", encoding="utf-8") as file:
        for at in range(size):
            count = max(4, round(chance.gauss(words, words / 4)))
            chosen = chance.choices(lexicon, cum_weights=weights, k=count)
            text = f"{before} {chosen[0]}" if before and chance.random() < 0.1 else " ".join(chosen)
            before = text if chance.random() < 0.5 else before
            name = f"p-{at:012x}"
            file.write(json.dumps({"id": name, "text": text}) + "\n")
            if chance.random() < QUERIES_PER_PASSAGE:
                start = chance.randrange(max(1, count - 12))
                asked.append((f"q-{at:016x}", " ".join([*chosen[start : start + 12], lexicon[-1 - at % 9000]]), name))
    with (folder / QUERIES_FILE).open("w") as queries, (folder / JUDGMENTS_FILE).open("w") as judgments:
        for name, text, passage in asked:
            split = chance.choices(("train", "validation", "test"), (8, 1, 1))[0]
            queries.write(json.dumps({"id": name, "text": text, "split": split}) + "\n")
            judgments.write(json.dumps({"query_id": name, "passage_id": passage, "grade": 1}) + "\n")


def make_pairs(folder: Path) -> None:
    """The same as one file of pairs."""
    dataset = read_dataset(folder)
    content = {
        "queries": {query.id: query.text for query in dataset.queries},
        "corpus": {passage.id: passage.text for passage in dataset.passages},
        "relevant_docs": {judgment.query_id: [judgment.passage_id] for judgment in dataset.judgments},
    }
    (folder / PAIRS_FILE).write_text(json.dumps(content), encoding="utf-8")


def _settings() -> object:
    from embed_pipeline.dataset.settings import DatasetSettings

    return DatasetSettings.model_validate(
        {
            "description": "benchmark",
            "pairs": [{"file": PAIRS_FILE}],
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
            "variants": ["bm25"],
        }
    )


def _seconds(work: Callable[[], object]) -> float:
    started = _processor_seconds()
    work()
    return _processor_seconds() - started


def _processor_seconds() -> float:
    """Of this process and of those that it started and that ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


if __name__ == "__main__":
    main()
