"""How long mining over a large corpus takes, and how much memory: python benchmarks/mine_large_corpus.py

Writes random vectors of length 1 for the passages to a file in portions, then mines hard negatives for the queries with
the vectors mapped from it. Twenty groups are checked against a full sort.
"""

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from embed_pipeline.mining.candidates import MiningCorpus
from embed_pipeline.mining.groups import write_groups
from embed_pipeline.mining.negatives import MinedNegatives, mine
from embed_pipeline.mining.report import report_mined
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Judgment, Passage, Query

PORTION = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--range-end", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        vectors = write_vectors(Path(folder) / "vectors.npy", options.passages, options.dimension)
        print(f"vectors: {vectors.nbytes / 1e6:.0f} MB in a file", flush=True)
        memory = MemoryWatch()
        passages = [Passage(f"p{at:07}", f"passage number {at}") for at in range(options.passages)]
        queries = [Query(f"q{at:05}", f"question {at}", "train") for at in range(options.queries)]
        chance = np.random.default_rng(1)
        answers = chance.choice(options.passages, size=options.queries, replace=False)
        noise = chance.standard_normal((options.queries, options.dimension), dtype=np.float32)
        query_vectors = _unit(vectors[np.sort(answers)][np.argsort(np.argsort(answers))] + 0.08 * noise)
        judgments = [Judgment(f"q{at:05}", f"p{answer:07}") for at, answer in enumerate(answers)]
        print(f"texts and queries: {memory.told()}", flush=True)
        start = time.perf_counter()
        corpus = MiningCorpus.of(passages, vectors)
        print(f"corpus: {time.perf_counter() - start:.1f} s, {memory.told()}", flush=True)
        start = time.perf_counter()
        settings = MiningSettings(range_end=options.range_end)
        mined = mine(corpus, queries, query_vectors, judgments, settings)
        print(f"mined {len(mined.groups)} groups: {time.perf_counter() - start:.1f} s, {memory.told()}", flush=True)
        start = time.perf_counter()
        report = report_mined(mined, corpus, queries, query_vectors, settings)
        write_groups(mined.groups, Path(folder) / "groups.jsonl")
        print(f"report: {time.perf_counter() - start:.1f} s, {memory.told()}", flush=True)
        print(f"negatives {report.negatives}, hardness {report.hardness_against_random}")
        print(f"checked {check(mined, vectors, query_vectors, answers)} groups against a full sort")


class MemoryWatch:
    """The largest memory of this process's own, looked at ten times a second: without pages of mapped files, which the
    system drops whenever it needs them."""

    def __init__(self) -> None:
        self._own = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def told(self) -> str:
        """Both peaks so far."""
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return f"peak {self._own / 1e6:.0f} MB own, {resident:.0f} MB resident with mapped pages"

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while status.is_file():
            lines = status.read_text(encoding="utf-8").splitlines()
            own = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
            self._own = max(self._own, own)
            time.sleep(0.1)


def write_vectors(path: Path, count: int, dimension: int) -> np.ndarray:
    """float32 (count, dimension), unit length, mapped from the file; the same for the same arguments."""
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dimension))
    chance = np.random.default_rng(0)
    for start in range(0, count, PORTION):
        rows = min(PORTION, count - start)
        vectors[start : start + rows] = _unit(chance.standard_normal((rows, dimension), dtype=np.float32))
        vectors.flush()
    return np.load(path, mmap_mode="r")


def check(mined: MinedNegatives, vectors: np.ndarray, query_vectors: np.ndarray, answers: np.ndarray) -> int:
    """How many groups were looked at; raises ValueError where negatives are not the best within the margin."""
    looked_at = range(0, len(mined.groups), max(1, len(mined.groups) // 20))
    for at in looked_at:
        scores = np.concatenate([vectors[i : i + PORTION] @ query_vectors[at] for i in range(0, len(vectors), PORTION)])
        highest = 0.95 * scores[answers[at]]
        order = [int(i) for i in np.argsort(-scores)[:500] if i != answers[at] and scores[i] <= highest]
        expected = [f"p{i:07}" for i in order[: len(mined.groups[at].negative_ids)]]
        if list(mined.groups[at].negative_ids) != expected:
            raise ValueError(f"group {at}: expected {expected}, found {mined.groups[at].negative_ids}")
    return len(looked_at)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
