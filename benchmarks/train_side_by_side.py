"""FlagEmbedding's plain recipe against ours: equal base, rows, epochs, lengths and batch, side by side in one run.

    python benchmarks/train_side_by_side.py DATA_FOLDER [--only NAME ...] [--rows N] [--seeds N] [--work FOLDER]

DATA_FOLDER holds banking77, cmrc2018 and toyhom_neike. Both sides start from the bundled encoder with the missing
characters of the training texts added. Plain: hard negatives as FlagEmbedding's script draws them (7 at random from
ranks 2 to 200, anything but the row's own positives), its trainer as released, started by torchrun. Ours: the miner and
the trainer of this package under the recipe in OURS. The test split is searched over the whole corpus. Results are kept
in the work folder: a run that was stopped goes on where it was.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from embed_pipeline.dataset.formats import RetrievalDataset, write_dataset
from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.encoding.bundled import bundled_directory
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.evaluation.comparison import compare
from embed_pipeline.evaluation.measures import Measure, measure_queries
from embed_pipeline.mining.groups import write_groups
from embed_pipeline.mining.negatives import mine_negatives
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.recipes import TrainingSettings
from embed_pipeline.retrieval.index import build_index
from embed_pipeline.retrieval.search import DenseRetriever
from embed_pipeline.training.finetune import FinetuneJob, torchrun_command, worker_environment
from embed_pipeline.training.vocabulary import extend_vocabulary, missing_characters

ROOT = Path(__file__).parents[1]
EPOCHS, BATCH, LEARNING_RATE, GROUP = 2, 32, 2e-4, 8


@dataclass(frozen=True)
class Task:
    """One data set of the comparison: its files by split, token limits, and the measure that decides."""

    files: Mapping[str, str]
    query_length: int
    passage_length: int
    headline: Measure
    plain_batch: int
    """32, or what fits into memory: 8 passages a query at 256 tokens took over 21 GB with 32."""


TASKS = {
    "banking77": Task({"train": "train", "test": "test"}, 64, 32, Measure("hit_rate", 1), 32),
    "cmrc2018": Task({"train": "train", "val": "validation", "test": "test"}, 48, 256, Measure("ndcg", 10), 16),
    "toyhom_neike": Task({"train": "train", "val": "validation", "test": "test"}, 128, 192, Measure("ndcg", 10), 16),
}
OURS: Mapping[str, Any] = {
    "mining": {"range_start": 0, "range_end": 50, "number": GROUP - 1, "margin_relative": 0.95},
    "training": {"candidates": "in_batch", "temperature": 0.02, "train_group_size": GROUP, "group_by_length": True},
}
OURS_OF: Mapping[str, Mapping[str, Any]] = {"banking77": {"candidates": "corpus", "temperature": 0.03}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rows", type=int, default=1500, help="training queries, the same for both sides")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="*", choices=["plain", "ours"], default=["plain", "ours"])
    parser.add_argument("--work", type=Path, default=ROOT / ".embed_pipeline" / "side_by_side")
    arguments = parser.parse_args()
    for name in arguments.only:
        work = arguments.work.absolute() / f"{name}-{arguments.rows}"
        dataset = read_task(arguments.data, name, work, rows=arguments.rows)
        base = make_base(dataset, work / "base")
        for seed in range(arguments.seeds):
            for arm in arguments.arms:
                result = work / f"{arm}-{seed}.json"
                if not result.exists():
                    measure_arm(arm, TASKS[name], dataset, base, seed, result)
                print(summary(name, arm, seed, json.loads(result.read_text(encoding="utf-8"))), flush=True)
        if len(arguments.arms) == 2:
            show(
                name,
                [
                    [json.loads((work / f"{arm}-{s}.json").read_text()) for s in range(arguments.seeds)]
                    for arm in arguments.arms
                ],
            )


def read_task(data: Path, name: str, work: Path, *, rows: int) -> RetrievalDataset:
    """The data set with at most `rows` training queries, chosen by a hash of their ids."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    entries = [{"file": f"{file}.json.gz", "split": split} for file, split in TASKS[name].files.items()]
    for entry in entries:
        shutil.copyfile(data / name / entry["file"], folder / entry["file"])
    settings = {"description": name, "pairs": entries, "variants": ["plain"]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    dataset = clean_pairs(folder, read_dataset_settings(folder)).dataset
    train = sorted(dataset.queries_of("train"), key=lambda query: hashlib.sha256(query.id.encode()).digest())[:rows]
    kept = {query.id for query in train} | {query.id for query in dataset.queries if query.split != "train"}
    return replace(
        dataset,
        queries=tuple(query for query in dataset.queries if query.id in kept),
        judgments=tuple(judgment for judgment in dataset.judgments if judgment.query_id in kept),
    )


def make_base(dataset: RetrievalDataset, directory: Path) -> Path:
    """The bundled encoder, with the characters of the training texts that it does not know."""
    if not directory.exists():
        texts = [q.text for q in dataset.queries_of("train")] + [p.text for p in dataset.passages]
        characters = missing_characters(bundled_directory(), texts, min_count=2)
        extend_vocabulary(bundled_directory(), characters, directory, seed=0)
    return directory


def measure_arm(arm: str, task: Task, dataset: RetrievalDataset, base: Path, seed: int, result: Path) -> None:
    """Train one side and write its seconds and its value per test query."""
    work = result.with_suffix("")
    shutil.rmtree(work, ignore_errors=True)
    (work / "model").mkdir(parents=True)
    settings = EncoderSettings(
        model=str(base), pooling="mean", query_max_length=task.query_length, passage_max_length=task.passage_length
    )
    started = time.monotonic()
    train = train_plain if arm == "plain" else train_ours
    mined = train(dataset, settings, work, seed, result.parent.name.partition("-")[0])
    seconds = time.monotonic() - started
    values = evaluate(dataset, settings, work / "model", task.headline)
    content = {"seconds": seconds, "mining_seconds": mined, "measure": str(task.headline), "values": values}
    result.write_text(json.dumps(content), encoding="utf-8")
    shutil.rmtree(work)


def train_plain(dataset: RetrievalDataset, settings: EncoderSettings, work: Path, seed: int, name: str) -> float:
    """FlagEmbedding's trainer as released, on negatives drawn as its script draws them; returns the mining seconds."""
    started = time.monotonic()
    _write_plain_groups(dataset, settings, work / "train.jsonl", seed)
    mined = time.monotonic() - started
    command = [
        *torchrun_command(work, processes=1)[:-2],
        *("FlagEmbedding.finetune.embedder.encoder_only.base", "--model_name_or_path", settings.model),
        *("--train_data", str(work / "train.jsonl"), "--cache_path", str(work / "cache")),
        *("--train_group_size", str(GROUP), "--query_max_len", str(settings.query_max_length)),
        *("--passage_max_len", str(settings.passage_max_length), "--output_dir", str(work / "model")),
        *("--learning_rate", str(LEARNING_RATE), "--num_train_epochs", str(EPOCHS), "--warmup_steps", "0.1"),
        *(
            "--per_device_train_batch_size",
            str(TASKS[name].plain_batch),
            "--temperature",
            "0.02",
            "--sentence_pooling_method",
            "mean",
        ),
        *("--normalize_embeddings", "True", "--knowledge_distillation", "False", "--use_cpu", "True"),
        *("--save_strategy", "no", "--seed", str(seed), "--report_to", "none", "--disable_tqdm", "True"),
        *("--logging_steps", "50", "--bf16", str(_precision() == "bfloat16"), "--dataloader_drop_last", "True"),
    ]
    _run(command, work)
    return mined


def train_ours(dataset: RetrievalDataset, settings: EncoderSettings, work: Path, seed: int, name: str) -> float:
    """Our miner and our trainer; returns the mining seconds."""
    started = time.monotonic()
    queries, vectors, passage_vectors = _encode_training(dataset, settings)
    mining = MiningSettings(**{**OURS["mining"], "seed": seed})
    groups = mine_negatives(queries, vectors, dataset.passages, passage_vectors, dataset.judgments, mining)
    write_groups(groups, work / "groups.jsonl")
    write_dataset(dataset, work)
    mined = time.monotonic() - started
    budget = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": LEARNING_RATE, "warmup_share": 0.1}
    training = {**budget, **OURS["training"], **OURS_OF.get(name, {}), "seed": seed, "precision": _precision()}
    (work / "scratch").mkdir()
    job = FinetuneJob(
        groups=work / "groups.jsonl",
        corpus=work / "corpus.jsonl",
        base=Path(settings.model),
        work=work / "scratch",
        output=work / "model",
        encoder=settings,
        training=TrainingSettings.model_validate(training),
        device="cpu",
    )
    (work / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    _run(torchrun_command(work / "job.json", processes=1), work)
    return mined


def evaluate(dataset: RetrievalDataset, settings: EncoderSettings, model: Path, measure: Measure) -> dict[str, float]:
    """The measure by test query, searched over the whole corpus."""
    encoder = load_local_encoder(settings, directory=model)
    vectors = encoder.encode_passages([passage.text for passage in dataset.passages])
    index = build_index([p.id for p in dataset.passages], vectors, encoder_fingerprint=encoder.fingerprint)
    queries = dataset.queries_of("test")
    hits = DenseRetriever(index, encoder, "cpu").search(queries, 20)
    found = measure_queries(hits, dataset.judgments, [query.id for query in queries], measures=[measure])
    return {value.query_id: value.value for value in found}


def show(name: str, sides: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """The two sides over all seeds: mean and spread, difference with interval and p paired by query, seconds."""
    table = Table(title=f"{name}, {sides[0][0]['measure']}", title_justify="left")
    for header in ("recipe", "mean", "spread", "seconds", "of them mining"):
        table.add_column(header, justify="left" if header == "recipe" else "right")
    for arm, results in zip(("plain", "ours"), sides, strict=True):
        means = [100 * float(np.mean(list(result["values"].values()))) for result in results]
        seconds, mining = (np.mean([result[key] for result in results]) for key in ("seconds", "mining_seconds"))
        table.add_row(
            arm, f"{np.mean(means):.1f}", f"{min(means):.1f}-{max(means):.1f}", f"{seconds:.0f}", f"{mining:.0f}"
        )
    Console().print(table)
    plain, ours = ({q: float(np.mean([r["values"][q] for r in side])) for q in side[0]["values"]} for side in sides)
    measure = Measure(*_parts(sides[0][0]["measure"]))
    found = compare(measure, plain, ours)
    ratio = np.mean([r["seconds"] for r in sides[1]]) / np.mean([r["seconds"] for r in sides[0]])
    interval = f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    print(f"difference {100 * found.difference:+.1f} {interval}, p {found.p_value:.4f}, time x{ratio:.2f}\n")


def summary(name: str, arm: str, seed: int, result: Mapping[str, Any]) -> str:
    """One line about one training."""
    mean = 100 * float(np.mean(list(result["values"].values())))
    return f"{name} {arm} seed {seed}: {result['measure']} {mean:.2f}, {result['seconds']:.0f} s"


def _parts(text: str) -> tuple[Any, int]:
    name, _, cutoff = text.partition("@")
    return name, int(cutoff)


def _encode_training(dataset: RetrievalDataset, settings: EncoderSettings):
    encoder, queries = load_local_encoder(settings), dataset.queries_of("train")
    vectors = encoder.encode_queries([query.text for query in queries])
    return queries, vectors, encoder.encode_passages([passage.text for passage in dataset.passages])


def _write_plain_groups(dataset: RetrievalDataset, settings: EncoderSettings, path: Path, seed: int) -> None:
    queries, vectors, passage_vectors = _encode_training(dataset, settings)
    positives, chance = defaultdict(list), random.Random(seed)
    texts = {passage.id: passage.text for passage in dataset.passages}
    for judgment in dataset.judgments:
        if judgment.grade > 0:
            positives[judgment.query_id].append(texts[judgment.passage_id])
    with path.open("w", encoding="utf-8") as file:
        for query, vector in zip(queries, vectors, strict=True):
            own = set(positives[query.id])
            ranked = np.argsort(-(passage_vectors @ vector), kind="stable")[2:200]
            near = [t for t in (dataset.passages[row].text for row in ranked) if t not in own and t != query.text]
            drawn = chance.sample(near, min(GROUP - 1, len(near)))
            file.write(
                json.dumps({"query": query.text, "pos": positives[query.id], "neg": drawn}, ensure_ascii=False) + "\n"
            )


def _precision() -> str:
    import torch

    # bfloat16 is faster only where the processor computes with it.
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _run(command: Sequence[str], work: Path) -> None:
    environment = {**os.environ, **worker_environment(threads=int(os.environ.get("OMP_NUM_THREADS", "1")))}
    with (work / "log.txt").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, env=environment, stdout=log, stderr=log, cwd=work, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command[:6])} ended with {code}:\n" + (work / "log.txt").read_text()[-3000:])


if __name__ == "__main__":
    main()
