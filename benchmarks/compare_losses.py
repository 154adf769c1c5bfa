"""Our losses beside FlagEmbedding's own trainer: the same rows, base, epochs, lengths and threads; time and quality.

    python benchmarks/compare_losses.py DATA_FOLDER [--set NAME] [--rows N] [--epochs E] [--kinds K ...] [--work FOLDER]

DATA_FOLDER holds folders of .json.gz files with queries, corpus and relevant_docs. Negatives are mined with the base,
once; quality is that of the test split.
"""

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from os import environ
from pathlib import Path

import numpy as np

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.mining.candidates import MiningCorpus
from embed_pipeline.mining.groups import write_groups
from embed_pipeline.mining.negatives import mine
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.training.finetune import FinetuneJob, torchrun_command, worker_environment
from embed_pipeline.training.settings import TrainingSettings

ROOT = Path(__file__).parents[1]
ENCODER: Mapping[str, Mapping[str, object]] = {
    "banking77": {"query_max_length": 64, "passage_max_length": 64},
    "cmrc2018": {"query_max_length": 64, "passage_max_length": 128},
    "toyhom_neike": {"query_max_length": 128, "passage_max_length": 128},
}
KINDS = ("flagembedding", "in_batch", "mined", "auto")


@dataclass(frozen=True)
class RetrievalSet:
    """Queries, passages and what answers what."""

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant: dict[str, list[str]]


@dataclass(frozen=True)
class Quality:
    """Means over the test queries."""

    hit_at_1: float
    ndcg_at_10: float


@dataclass(frozen=True)
class Spent:
    """Seconds from where the trainer was ready, and processor seconds of the whole process, its start included."""

    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=list(ENCODER), default="banking77")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--test-queries", type=int, default=1000)
    parser.add_argument("--kinds", nargs="*", choices=[*KINDS, "sample", "corpus"], default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp())
    train, test = (_read(arguments.data / arguments.set / f"{name}.json.gz") for name in ("train", "test"))
    rows = sorted(random.Random(arguments.seed).sample(sorted(train.queries), min(arguments.rows, len(train.queries))))
    encoder = EncoderSettings.model_validate({"model": "bundled-english", "pooling": "mean", **ENCODER[arguments.set]})
    base = load_local_encoder(encoder)
    _write_inputs(work, train, rows, encoder, negatives=arguments.group - 1)
    print(
        f"{arguments.set}: {len(rows)} rows, {arguments.epochs} epochs, batch {arguments.batch}, {arguments.group} each"
    )
    _print("as it is", None, _evaluate(encoder, base.directory, test, arguments.test_queries))
    for kind in arguments.kinds:
        settings = TrainingSettings.model_validate(
            {
                "candidates": kind,
                "train_group_size": arguments.group,
                "learning_rate": arguments.rate,
                "epochs": arguments.epochs,
                "batch_size": arguments.batch,
                "precision": arguments.precision,
                "vocabulary_extension": {"unknown_limit": 0.02},
                "seed": arguments.seed,
            }
        )
        output = work / kind
        spent = _train(work, output, base.directory, base.settings, settings)
        _print(kind, spent, _evaluate(base.settings, output, test, arguments.test_queries))


def _print(name: str, spent: Spent | None, quality: Quality) -> None:
    figures = f"{spent.wall:.0f} s, cpu {spent.processor:.0f} s" if spent else ""
    print(f"{name:<16}{figures:>20}  hit@1 {quality.hit_at_1:.4f}  nDCG@10 {quality.ndcg_at_10:.4f}", flush=True)


def _read(path: Path) -> RetrievalSet:
    content = json.loads(gzip.decompress(path.read_bytes()))
    return RetrievalSet(content["queries"], content["corpus"], content["relevant_docs"])


def _write_inputs(work: Path, train: RetrievalSet, rows: list[str], settings: EncoderSettings, negatives: int) -> None:
    encoder = load_local_encoder(settings)
    passages = [Passage(key, text) for key, text in sorted(train.corpus.items())]
    queries = [Query(key, train.queries[key], "train") for key in rows]
    mined = mine(
        MiningCorpus.of(passages, encoder.encode_passages([passage.text for passage in passages])),
        queries,
        encoder.encode_queries([query.text for query in queries]),
        [Judgment(key, passage_id) for key in rows for passage_id in train.relevant[key]],
        MiningSettings.model_validate(
            {"range_end": min(200, len(passages)), "number": negatives, "margin_relative": None}
        ),
    )
    write_groups(mined.groups, work / "groups.jsonl")
    with (work / "corpus.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": p.id, "text": p.text}, ensure_ascii=False) + "\n" for p in passages)


def _train(work: Path, output: Path, base: Path, encoder: EncoderSettings, settings: TrainingSettings) -> Spent:
    """Train in a process of its own. On a busy machine the processor's seconds say more than the clock's."""
    before = _children_seconds()
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        job = FinetuneJob(
            groups=work / "groups.jsonl",
            corpus=work / "corpus.jsonl",
            base=base,
            work=Path(temporary),
            output=output,
            encoder=encoder,
            training=settings,
            device="cpu",
        )
        job_file = Path(temporary) / "job.json"
        job_file.write_text(job.model_dump_json(), encoding="utf-8")
        process = subprocess.Popen(
            torchrun_command(job_file, processes=1),
            env={**environ, **worker_environment(threads=int(environ.get("OMP_NUM_THREADS", "1")))},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = time.monotonic()
        for line in process.stdout or ():
            if line.startswith("candidates:"):
                ready = time.monotonic()
                print(f"  {line.strip()}", flush=True)
        if process.wait():
            sys.exit(f"training ended with status {process.returncode}")
        return Spent(time.monotonic() - ready, _children_seconds() - before)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _evaluate(settings: EncoderSettings, folder: Path, test: RetrievalSet, most: int) -> Quality:
    encoder = load_local_encoder(settings, directory=folder)
    ids = sorted(test.corpus)
    keys = sorted(random.Random(0).sample(sorted(test.queries), min(most, len(test.queries))))
    scores = (
        encoder.encode_queries([test.queries[key] for key in keys])
        @ encoder.encode_passages([test.corpus[key] for key in ids]).T
    )
    gains, hits = [], []
    discounts = 1 / np.log2(np.arange(2, 12))
    for key, row in zip(keys, scores, strict=True):
        best = [ids[at] in test.relevant[key] for at in np.argsort(-row, kind="stable")[:10]]
        ideal = discounts[: min(10, len(test.relevant[key]))].sum()
        gains.append(float((np.array(best) * discounts[: len(best)]).sum() / ideal))
        hits.append(best[0])
    return Quality(float(np.mean(hits)), float(np.mean(gains)))


if __name__ == "__main__":
    main()
