"""What `embed-pipeline serve` costs on top of its encoder: python benchmarks/serve_under_load.py [--work FOLDER]

Makes a project of the shipped English questions, serves the bundled encoder in a process of its own and asks it over
127.0.0.1: large requests against the same encoder in batches, single queries against the same encoder one by one, then
queries at a stated rate while a run replaces what is served. Exit code 1 if a bound is missed. One thread of torch each
(OMP_NUM_THREADS says otherwise), so that on two cores the client has one of its own. Every loop is bounded.
"""

import argparse
import csv
import http.client
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np  # noqa: E402

from embed_pipeline.encoding.encoder import Encoder  # noqa: E402

VARIANT = "faq_en/e5"
LEAST_THROUGHPUT, MOST_LATENCY = 0.9, 1.2
ALIKE = 0.999
"""Least cosine to the encoder's own vector: in bfloat16 it depends on what goes through the model beside a text."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / ".embed_pipeline" / "serve_under_load")
    parser.add_argument("--texts", type=int, default=512, help="of one round of large requests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=200, help="asked one by one")
    parser.add_argument("--seconds", type=float, default=30.0, help="of queries at a rate, and again with the run")
    options = parser.parse_args()
    work = options.work.absolute()
    write_project(work)
    command(work, "run")
    encoder = load_encoder(work)
    chance, texts = random.Random(0), read_texts()
    many = [chance.choice(texts) for _ in range(options.texts)]
    short = [text for text in texts if len(text) < 100]
    queries = [chance.choice(short) for _ in range(options.queries)]
    with serving(work) as port:
        kept = [
            compare_throughput(encoder, port, many, rounds=options.rounds),
            compare_latency(encoder, port, queries),
            compare_load(encoder, work, port, short, seconds=options.seconds, chance=chance),
        ]
    sys.exit(0 if all(kept) else 1)


def compare_throughput(encoder: Encoder, port: int, texts: Sequence[str], *, rounds: int) -> bool:
    """Texts a second in batches and through the service, in turn; whether the service's median is high enough."""
    expected = encoder.encode_passages(texts)
    portions = [range(start, min(start + 64, len(texts))) for start in range(0, len(texts), 64)]

    def ask(portion: range) -> None:
        body = {"model": f"{VARIANT}-passage", "input": [texts[at] for at in portion]}
        check(Client(port).embed(body), expected[portion.start : portion.stop])

    alone, served = [], []
    for _ in range(rounds):
        alone.append(len(texts) / seconds_of(lambda: encoder.encode_passages(texts)))
        with ThreadPoolExecutor(4) as pool:
            served.append(len(texts) / seconds_of(lambda: list(pool.map(ask, portions))))
    share = statistics.median(served) / statistics.median(alone)
    rates = [" ".join(f"{rate:.1f}" for rate in found) for found in (alone, served)]
    print(
        f"texts/s: encoder {rates[0]}; served, 4 clients, 64 texts a request {rates[1]}; share {share:.2f}", flush=True
    )
    return share >= LEAST_THROUGHPUT


def compare_latency(encoder: Encoder, port: int, queries: Sequence[str]) -> bool:
    """Milliseconds of one query, encoded here and through the service, in turn; whether the medians are near."""
    client, alone, served = Client(port), [], []
    for query in queries:
        began = time.perf_counter()
        vector = encoder.encode_queries([query])
        between = time.perf_counter()
        found = client.embed({"model": f"{VARIANT}-query", "input": query})
        served.append(time.perf_counter() - between)
        alone.append(between - began)
        check(found, vector)
    share = statistics.median(served) / statistics.median(alone)
    print(f"one query, ms: encoder {in_words(alone)}; served {in_words(served)}; share of p50 {share:.2f}", flush=True)
    return share <= MOST_LATENCY


def compare_load(
    encoder: Encoder, work: Path, port: int, queries: Sequence[str], *, seconds: float, chance: random.Random
) -> bool:
    """Queries at half the rate that one after another have, first alone, then while a run replaces the index.

    Times count from when a query was due, so that waiting behind others is in them. Whether every query was answered
    rightly, and from the old index and the new one.
    """
    vectors = dict(zip(queries, encoder.encode_queries(queries), strict=True))
    rate = 0.5 / statistics.median(seconds_of(lambda q=q: encoder.encode_queries([q])) for q in queries[:50])
    digests: set[str] = set()
    with ThreadPoolExecutor(64) as pool:
        local = threading.local()

        def ask(query: str, due: float) -> float:
            local.client = getattr(local, "client", None) or Client(port)
            found = local.client.embed({"model": f"{VARIANT}-query", "input": query})
            check(found, vectors[query][None])
            digests.add(local.client.digest)
            return time.perf_counter() - due

        def load(until: threading.Event | None) -> list[float]:
            due, end, asked = time.perf_counter(), time.perf_counter() + seconds, []
            while due < end or (until is not None and not until.is_set() and due < end + 300):
                time.sleep(max(0.0, due - time.perf_counter()))
                asked.append(pool.submit(ask, chance.choice(queries), due))
                due += chance.expovariate(rate)
            return [one.result() for one in asked]

        quiet = load(None)
        print(f"{rate:.1f} queries/s, {len(quiet)} asked, ms: {in_words(quiet)}", flush=True)
        replaced = threading.Event()
        run = threading.Thread(target=lambda: (replace(work), time.sleep(10), replaced.set()))
        run.start()
        busy = load(replaced)
        run.join()
    told = f"{len(busy)} asked, ms: {in_words(busy)}; answers of {len(digests)} indexes"
    print(f"the same beside a run and the reload, {told}")
    return len(digests) == 2


def replace(work: Path) -> None:
    """Add a question with a passage of its own and run."""
    with (work / "data" / "faq_en" / "faq.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(
            ["q999", "May I take a dog along?", "A dog may ride in a basket that closes.", "riding"]
        )
    command(work, "run")


class Client:
    """One connection to the service that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.digest = ""

    def embed(self, body: Mapping[str, Any]) -> np.ndarray:
        """The vectors of an answer.

        Raises:
            RuntimeError: it was another answer.
        """
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/v1/embeddings", json.dumps(body), headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"expected 200, found {answer.status}: {text[:300]!r}")
        self.digest = answer.headers["X-Checkpoint-Digest"]
        return np.array([one["embedding"] for one in json.loads(text)["data"]], dtype=np.float32)


def check(found: np.ndarray, expected: np.ndarray) -> None:
    """Raises RuntimeError where a vector is another text's, or one is missing."""
    if found.shape != expected.shape or (found * expected).sum(axis=1).min() < ALIKE:
        raise RuntimeError(f"expected the encoder's {expected.shape} vectors, found {found.shape} others")


def seconds_of(work: Any) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_words(seconds: Sequence[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return f"p50 {p50:.1f}, p99 {p99:.1f}"


def read_texts() -> list[str]:
    """Questions and passages of the two shipped English sets."""
    with (ROOT / "data" / "faq_en" / "faq.csv").open(encoding="utf-8", newline="") as file:
        found = [text for row in csv.DictReader(file) for text in (row["question"], row["context"])]
    general = json.loads((ROOT / "data" / "general_en" / "general_en.json").read_text(encoding="utf-8"))
    return list(dict.fromkeys([*found, *general["queries"].values(), *general["corpus"].values()]))


def write_project(work: Path) -> None:
    """The shipped English questions with the bundled encoder as it is."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(ROOT / "data" / "faq_en", work / "data" / "faq_en")
    (work / "data" / "recipes").mkdir()
    for name in ("bm25", "e5"):
        shutil.copyfile(ROOT / "data" / "recipes" / f"{name}.yaml", work / "data" / "recipes" / f"{name}.yaml")
    settings = work / "data" / "faq_en" / "dataset.yaml"
    text = re.sub(r"^variants.*\n", "", settings.read_text(encoding="utf-8"), flags=re.M)
    settings.write_text(f"{text}variants: [bm25, e5]\n", encoding="utf-8")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(ROOT / name, work / name)


def load_encoder(work: Path) -> Encoder:
    """The variant's encoder without the vector cache, its weights in memory."""
    from embed_pipeline.assembly.variant_encoder import load_variant_encoder
    from embed_pipeline.defs.resources import PipelineResource

    graph = PipelineResource(data=str(work / "data"), home=str(work / ".embed_pipeline")).graph()
    encoder = load_variant_encoder(graph, graph.project.variant_named(VARIANT), lambda one: one)
    if encoder is None:
        raise ValueError(f"{VARIANT}: expected a variant with an encoder")
    encoder.encode_queries(["warm-up"])
    return encoder


def command(work: Path, *arguments: str) -> None:
    """Do a command of embed-pipeline in the project, quietly; raises CalledProcessError where it fails."""
    subprocess.run(words(*arguments), cwd=work, env=environment(), check=True, stdout=subprocess.DEVNULL)


@contextmanager
def serving(work: Path) -> Iterator[int]:
    """The port of the service in a process of its own, ended afterwards."""
    process = subprocess.Popen(
        words("serve", VARIANT, "--port", "0"), cwd=work, env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = re.search(r"http://127.0.0.1:(\d+)", process.stdout.readline())
        if address is None:
            raise RuntimeError("expected the service's address in its first line, found none")
        yield int(address[1])
    finally:
        process.terminate()
        process.wait(60)


def words(*arguments: str) -> list[str]:
    """A command of embed-pipeline as the shell has it."""
    return [sys.executable, "-m", "embed_pipeline", *arguments]


def environment() -> dict[str, str]:
    """This process's without settings of another project."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("EMBED_PIPELINE_", "DAGSTER_"))}
    return own | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


if __name__ == "__main__":
    main()
