"""FlagEmbedding's plain recipe against ours: equal base, rows, epochs, lengths and batch, side by side in one run.

    python benchmarks/train_side_by_side.py DATA_FOLDER [--only NAME ...] [--rows N] [--seeds N] [--work FOLDER]

DATA_FOLDER holds banking77, cmrc2018 and toyhom_neike. Both sides start from the bundled encoder with the missing
characters of the training texts added. Plain: hard negatives as FlagEmbedding's script draws them (7 at random from
ranks 2 to 200, anything but the row's own positives), its trainer as released, started by torchrun. Ours: the trainer
of this package under the recipe in TASKS, whose candidates need no mined negatives (mining.number: 0); `longer` is the
same with as many epochs, or as many trainings whose weights are averaged, as fit into the plain side's time. A training
has one core, as many run at a time as there are cores. The test split is searched over the whole corpus, with the
vectors alone; `+ whitened`, with the vectors whitened by a power that was chosen on validation queries; and `+ hybrid`,
with the clauses' and the TF-IDF score beside the vectors, weighed on validation queries. The seconds of both count the
choice. Results are kept in the work folder: a run that was stopped goes on where it was.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from embed_pipeline.adaptation.adapter import LinearAdapter
from embed_pipeline.adaptation.linear import Asked
from embed_pipeline.adaptation.settings import AdaptationSettings
from embed_pipeline.adaptation.whitening import whiten
from embed_pipeline.dataset.formats import RetrievalDataset, write_dataset
from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.encoding.bundled import bundled_english_directory
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.evaluation.comparison import compare
from embed_pipeline.evaluation.measures import Measure, measure_queries
from embed_pipeline.evaluation.weighing import weigh
from embed_pipeline.merging.mixing import merge_weights
from embed_pipeline.mining.groups import positive_groups, write_groups
from embed_pipeline.project.recipes import TrainingSettings
from embed_pipeline.records import Hit, Split
from embed_pipeline.retrieval.hybrid import VECTORS_ALONE, HybridRetriever, HybridSettings, HybridWeights
from embed_pipeline.retrieval.index import build_index
from embed_pipeline.retrieval.search import top_k
from embed_pipeline.retrieval.tfidf import TfidfSettings, build_tfidf_index, tfidf_top_k
from embed_pipeline.training.finetune import FinetuneJob, torchrun_command, worker_environment
from embed_pipeline.training.vocabulary import extend_vocabulary, missing_characters

ROOT = Path(__file__).parents[1]
EPOCHS, LEARNING_RATE, TEMPERATURE, GROUP = 2, 2e-4, 0.02, 8
_THREADS = 1
"""Of a training: a core for each, as many at a time as there are cores."""


@dataclass(frozen=True)
class Longer:
    """What our recipe makes of more time: epochs of a training, and trainings of other seeds averaged in weights."""

    epochs: int = EPOCHS
    trainings: int = 1


@dataclass(frozen=True)
class Task:
    """One data set of the comparison: its files by split, token limits, and the measure that decides."""

    files: Mapping[str, str]
    rows: int
    """Training queries, the same for both sides."""
    query_length: int
    passage_length: int
    headline: Measure
    batch: int
    """Queries a step, the same for both sides; 32 of 8 passages of 256 tokens took the plain side over 21 GB."""
    training: Mapping[str, Any]
    """What our recipe sets beside the common budget; chosen on validation queries, never on test."""
    longer: "Longer"
    """What ends before the plain side does."""


TASKS = {
    "banking77": Task(
        {"train": "train", "test": "test"},
        *(600, 64, 32, Measure("hit_rate", 1), 32),
        {"candidates": "corpus", "temperature": 0.03},
        Longer(epochs=3),
    ),
    "cmrc2018": Task(
        {"train": "train", "val": "validation", "test": "test"},
        *(300, 48, 128, Measure("ndcg", 10), 16),
        {"candidates": "in_batch", "freeze_embeddings": True},
        Longer(trainings=4),
    ),
    "toyhom_neike": Task(
        {"train": "train", "val": "validation", "test": "test"},
        *(300, 96, 128, Measure("ndcg", 10), 16),
        {"candidates": "in_batch", "freeze_embeddings": True},
        Longer(trainings=4),
    ),
}
HELD_OUT, HITS = 500, 20
ARMS, KINDS = ("plain", "ours", "longer"), ("whitened", "hybrid")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rows", type=int, help="training queries; left out: as many as the task says")
    parser.add_argument("--split", choices=["validation", "test"], default="test", help="queries that are searched")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=ARMS)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="beside the vectors alone")
    parser.add_argument("--work", type=Path, default=ROOT / ".embed_pipeline" / "side_by_side")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(_THREADS)  # read when torch is loaded, here and in the pool
    for name in arguments.only:
        task = replace(TASKS[name], rows=arguments.rows or TASKS[name].rows)
        work = arguments.work.absolute() / f"{name}-{task.rows}-{arguments.split}"
        trial = prepare(name, task, arguments.data, work, arguments.split)
        # What was chosen on the very queries that are measured proves nothing.
        kinds = [] if arguments.split == "validation" else arguments.kinds
        sides = measure_sides(name, trial, work, arguments.arms, kinds, arguments.seeds)
        show(name, {**sides, "TF-IDF": [measure_ngrams(trial)]})


def measure_sides(
    name: str, trial: "Trial", work: Path, arms: Sequence[str], kinds: Sequence[str], seeds: int
) -> dict[str, list[dict[str, Any]]]:
    """The results per arm, one per seed; a training is measured on one core, as many at a time as there are cores."""
    asked = [(arm, seed, work / f"{arm}-{seed}.json") for seed in range(seeds) for arm in arms]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [
            pool.submit(measure_arm, arm, trial, seed, kinds, result)
            for arm, seed, result in asked
            if not is_measured(result, kinds)
        ]
        for future in running:
            future.result()
    found = {(arm, seed): json.loads(result.read_text(encoding="utf-8")) for arm, seed, result in asked}
    for (arm, seed), result in found.items():
        print(summary(name, arm, seed, result), flush=True)
    marks = {"vectors": "", **{kind: f" + {kind}" for kind in kinds}}
    return {
        arm + mark: [found[arm, seed][kind] for seed in range(seeds)] for kind, mark in marks.items() for arm in arms
    }


def is_measured(result: Path, kinds: Sequence[str]) -> bool:
    """Whether a training's figures are kept, with everything that is asked for."""
    found = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    return all("chosen" in found.get(kind, ()) for kind in ("vectors", *kinds))


@dataclass(frozen=True)
class Trial:
    """What both sides of a task start from: rows, base weights, and the base's vectors, which plain alone searches."""

    task: Task
    dataset: RetrievalDataset
    split: Split
    settings: EncoderSettings
    query_vectors: np.ndarray
    passage_vectors: np.ndarray
    encoding_seconds: float


def prepare(name: str, task: Task, data: Path, work: Path, split: Split) -> Trial:
    """Read the rows, extend the bundled encoder's vocabulary, encode with it what mining searches."""
    dataset = read_task(data, name, task, work)
    settings = EncoderSettings(
        model=str(make_base(dataset, work / "base")),
        pooling="mean",
        query_max_length=task.query_length,
        passage_max_length=task.passage_length,
    )
    if not (work / "base.npz").exists():
        started, encoder = time.monotonic(), load_local_encoder(settings)
        queries = encoder.encode_queries([query.text for query in dataset.queries_of("train")])
        passages = encoder.encode_passages([passage.text for passage in dataset.passages])
        np.savez(work / "base.npz", queries=queries, passages=passages, seconds=time.monotonic() - started)
    kept = np.load(work / "base.npz")
    return Trial(task, dataset, split, settings, kept["queries"], kept["passages"], float(kept["seconds"]))


def read_task(data: Path, name: str, task: Task, work: Path) -> RetrievalDataset:
    """The data set with the task's number of training queries, chosen by a hash of their ids.

    Where no validation file is, the next ones by hash are the validation queries.
    """
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    entries = [{"file": f"{file}.json.gz", "split": split} for file, split in task.files.items()]
    for entry in entries:
        shutil.copyfile(data / name / entry["file"], folder / entry["file"])
    settings = {"description": name, "pairs": entries, "variants": ["plain"]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    dataset = clean_pairs(folder, read_dataset_settings(folder)).dataset
    train = sorted(dataset.queries_of("train"), key=lambda query: hashlib.sha256(query.id.encode()).digest())
    others = [query for query in dataset.queries if query.split != "train"]
    if not dataset.queries_of("validation"):
        others += [replace(query, split="validation") for query in train[task.rows : task.rows + HELD_OUT]]
    queries = (*train[: task.rows], *others)
    kept = {query.id for query in queries}
    judgments = tuple(judgment for judgment in dataset.judgments if judgment.query_id in kept)
    return replace(dataset, queries=queries, judgments=judgments)


def make_base(dataset: RetrievalDataset, directory: Path) -> Path:
    """The bundled encoder, with the characters of the training texts that it does not know."""
    if not directory.exists():
        texts = [q.text for q in dataset.queries_of("train")] + [p.text for p in dataset.passages]
        characters = missing_characters(bundled_english_directory(), texts, min_count=2)
        extend_vocabulary(bundled_english_directory(), characters, directory, seed=0)
    return directory


def measure_arm(arm: str, trial: Trial, seed: int, kinds: Sequence[str], result: Path) -> None:
    """Train one side and write its seconds and its value per query of the split."""
    work = result.with_suffix("")
    shutil.rmtree(work, ignore_errors=True)
    (work / "model").mkdir(parents=True)
    train = {"plain": train_plain, "ours": train_ours, "longer": train_longer}[arm]
    started = time.monotonic()
    mining = train(trial, work, seed)
    seconds = time.monotonic() - started
    if mining:  # the base's vectors, which were made once for all seeds
        seconds, mining = seconds + trial.encoding_seconds, mining + trial.encoding_seconds
    common = {"mining_seconds": mining, "measure": str(trial.task.headline)}
    found = evaluate(trial, work / "model", kinds)
    content = {kind: {**common, "seconds": seconds + one["choosing_seconds"], **one} for kind, one in found.items()}
    result.write_text(json.dumps(content), encoding="utf-8")
    shutil.rmtree(work)


def train_plain(trial: Trial, work: Path, seed: int) -> float:
    """FlagEmbedding's trainer as released, on negatives drawn as its script draws them; returns the mining seconds."""
    started = time.monotonic()
    _write_plain_groups(trial, work / "train.jsonl", seed)
    mined = time.monotonic() - started
    options = {
        "model_name_or_path": trial.settings.model,
        "train_data": work / "train.jsonl",
        "cache_path": work / "cache",
        "output_dir": work / "model",
        "train_group_size": GROUP,
        "query_max_len": trial.settings.query_max_length,
        "passage_max_len": trial.settings.passage_max_length,
        "learning_rate": LEARNING_RATE,
        "num_train_epochs": EPOCHS,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": trial.task.batch,
        "temperature": TEMPERATURE,
        "sentence_pooling_method": "mean",
        "normalize_embeddings": True,
        "knowledge_distillation": False,
        "dataloader_drop_last": True,
        "use_cpu": True,
        "bf16": _precision() == "bfloat16",
        "seed": seed,
        "save_strategy": "no",
        "logging_steps": 50,
        "report_to": "none",
        "disable_tqdm": True,
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    torchrun = torchrun_command(work, processes=1)[:-2]  # without our worker and its job
    _run([*torchrun, "FlagEmbedding.finetune.embedder.encoder_only.base", *flags], work)
    return mined


def train_longer(trial: Trial, work: Path, seed: int) -> float:
    """What the task makes of more time."""
    longer = trial.task.longer
    if longer.trainings == 1:
        return train_ours(trial, work, seed, epochs=longer.epochs)
    models = []
    for number in range(longer.trainings):
        part = work / str(number)
        (part / "model").mkdir(parents=True)
        train_ours(trial, part, longer.trainings * seed + number, epochs=longer.epochs)
        models.append(part / "model")
    merge_weights(models, [1 / len(models)] * len(models), work / "model")
    return 0.0


def train_ours(trial: Trial, work: Path, seed: int, *, epochs: int = EPOCHS) -> float:
    """Our trainer on groups of positives alone; returns the mining seconds, which are none."""
    dataset = trial.dataset
    groups = positive_groups(dataset.queries_of("train"), dataset.passages, dataset.judgments)
    write_groups(groups, work / "groups.jsonl")
    write_dataset(dataset, work)
    budget = {
        "epochs": epochs,
        "batch_size": trial.task.batch,
        "learning_rate": LEARNING_RATE,
        "warmup_share": 0.1,
        "temperature": TEMPERATURE,
        "train_group_size": GROUP,
        "precision": _precision(),
        "seed": seed,
    }
    (work / "scratch").mkdir()
    job = FinetuneJob(
        groups=work / "groups.jsonl",
        corpus=work / "corpus.jsonl",
        base=Path(trial.settings.model),
        work=work / "scratch",
        output=work / "model",
        encoder=trial.settings,
        validation=None,
        progress=None,
        tensorboard=None,
        save_steps=1000,  # of no effect without a folder for progress
        training=TrainingSettings.model_validate({**budget, **trial.task.training}),
        device="cpu",
    )
    (work / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    _run(torchrun_command(work / "job.json", processes=1), work)
    return 0.0


def evaluate(trial: Trial, model: Path, kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By kind of search the measure by query of the split, what was chosen on validation, and the seconds it took."""
    dataset, encoder = trial.dataset, load_local_encoder(trial.settings, directory=model)
    vectors = encoder.encode_passages([passage.text for passage in dataset.passages])
    tested = encoder.encode_queries([query.text for query in dataset.queries_of(trial.split)])
    found = {"vectors": {"values": measure_vectors(trial, vectors, tested), "chosen": "", "choosing_seconds": 0.0}}
    if "whitened" in kinds:
        started = time.monotonic()
        adapter, power = choose_whitening(dataset, encoder, vectors)
        found["whitened"] = {"chosen": f"power {power:g}", "choosing_seconds": time.monotonic() - started}
        mapped = adapter.apply("passage", vectors), adapter.apply("query", tested)
        found["whitened"]["values"] = measure_vectors(trial, *mapped)
    if "hybrid" in kinds:
        started, retriever = time.monotonic(), open_hybrid(dataset, encoder, vectors)
        weights = choose_weights(trial, retriever)
        found["hybrid"] = {
            "chosen": f"parts {weights.parts:g}, lexical {weights.lexical:g}",
            "choosing_seconds": time.monotonic() - started,
        }
        hits = replace(retriever, weights=weights).search(dataset.queries_of(trial.split), HITS)
        found["hybrid"]["values"] = measure(trial, hits)
    return found


def choose_whitening(
    dataset: RetrievalDataset, encoder: LocalEncoder, vectors: np.ndarray
) -> tuple[LinearAdapter, float]:
    """The adapter and its power, chosen on validation."""
    row_of, relevant = {passage.id: row for row, passage in enumerate(dataset.passages)}, dataset.relevant()
    asked = dataset.queries_of("validation")
    rows = [sorted(row_of[passage] for passage, grade in relevant[query.id].items() if grade > 0) for query in asked]
    found = whiten(
        vectors,
        encoder.encode_queries([query.text for query in dataset.queries_of("train")]),
        validation=Asked(encoder.encode_queries([query.text for query in asked]), rows),
        powers=AdaptationSettings(method="whiten").powers,
        encoder_fingerprint=encoder.fingerprint,
    )
    return found.adapter, found.power


def open_hybrid(dataset: RetrievalDataset, encoder: LocalEncoder, vectors: np.ndarray) -> HybridRetriever:
    """The search by vectors, clauses and n-grams, with the weight of the vectors alone."""
    index = build_index([p.id for p in dataset.passages], vectors, encoder_fingerprint=encoder.fingerprint)
    ngrams = build_tfidf_index(dataset.passages, TfidfSettings())
    return HybridRetriever(index, encoder, ngrams, VECTORS_ALONE, depth=HybridSettings(dense="ours").depth)


def choose_weights(trial: Trial, retriever: HybridRetriever) -> HybridWeights:
    """The weights that are best on validation."""
    settings = HybridSettings(dense="ours")
    scored = list(retriever.score(trial.dataset.queries_of("validation"), settings.depth))
    return weigh(scored, trial.dataset, trial.task.headline, settings).weights


def measure_vectors(trial: Trial, passages: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """The measure by query of the split, from its vectors and the corpus's."""
    index = build_index([p.id for p in trial.dataset.passages], passages, encoder_fingerprint="measured once")
    return measure(trial, top_k(index, [q.id for q in trial.dataset.queries_of(trial.split)], queries, HITS).hits())


def measure(trial: Trial, hits: Sequence[Hit]) -> dict[str, float]:
    """The measure by query of the split."""
    ids = [query.id for query in trial.dataset.queries_of(trial.split)]
    found = measure_queries(hits, trial.dataset.judgments, ids, measures=[trial.task.headline])
    return {value.query_id: value.value for value in found}


def measure_ngrams(trial: Trial) -> dict[str, Any]:
    """TF-IDF alone, which is not trained: what the hybrid search has to beat."""
    index = build_tfidf_index(trial.dataset.passages, TfidfSettings())
    hits = tfidf_top_k(index, trial.dataset.queries_of(trial.split), HITS).hits()
    return {"seconds": 0.0, "mining_seconds": 0.0, "values": measure(trial, hits)}


def show(name: str, sides: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Each arm over all seeds: mean and spread, seconds; against plain the difference and its p, paired by query."""
    table = Table(title=f"{name}, {TASKS[name].headline}", title_justify="left")
    for header in ("recipe", "mean", "spread", "seconds", "of them mining", "difference to plain", "p", "time"):
        table.add_column(header, justify="left" if header == "recipe" else "right")
    for arm, results in sides.items():
        means = [100 * float(np.mean(list(result["values"].values()))) for result in results]
        mean, spread = f"{np.mean(means):.1f}", f"{min(means):.1f} to {max(means):.1f}"
        seconds, mining = (f"{_mean(results, key):.0f}" for key in ("seconds", "mining_seconds"))
        against = (
            _against(TASKS[name].headline, sides["plain"], results)
            if "plain" in sides and arm != "plain"
            else ("", "", "")
        )
        table.add_row(arm, mean, spread, seconds, mining, *against)
    Console(width=120).print(table)


def _against(
    measure: Measure, plain: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]
) -> tuple[str, str, str]:
    base, changed = (
        {query: float(np.mean([result["values"][query] for result in side])) for query in side[0]["values"]}
        for side in (plain, ours)
    )
    found = compare(measure, base, changed)
    interval = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return interval, f"{found.p_value:.4f}", f"x{_mean(ours, 'seconds') / _mean(plain, 'seconds'):.2f}"


def _mean(results: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([result[key] for result in results]))


def summary(name: str, arm: str, seed: int, result: Mapping[str, Any]) -> str:
    """One line about one training."""
    parts = [f"{name} {arm} seed {seed}, {result['vectors']['measure']}, {result['vectors']['seconds']:.0f} s:"]
    for kind, found in result.items():
        chosen = f" ({found['chosen']})" if found["chosen"] else ""
        parts.append(f"{kind} {100 * float(np.mean(list(found['values'].values()))):.2f}{chosen}")
    return " ".join(parts)


def _write_plain_groups(trial: Trial, path: Path, seed: int) -> None:
    dataset, positives, chance = trial.dataset, defaultdict(list), random.Random(seed)
    texts = {passage.id: passage.text for passage in dataset.passages}
    for judgment in dataset.judgments:
        if judgment.grade > 0:
            positives[judgment.query_id].append(texts[judgment.passage_id])
    with path.open("w", encoding="utf-8") as file:
        for query, vector in zip(dataset.queries_of("train"), trial.query_vectors, strict=True):
            own = set(positives[query.id])
            ranked = np.argsort(-(trial.passage_vectors @ vector), kind="stable")[2:200]
            near = [t for t in (dataset.passages[row].text for row in ranked) if t not in own and t != query.text]
            drawn = chance.sample(near, min(GROUP - 1, len(near)))
            group = {"query": query.text, "pos": positives[query.id], "neg": drawn}
            file.write(json.dumps(group, ensure_ascii=False) + "\n")


def _precision() -> str:
    import torch

    # bfloat16 is faster only where the processor computes with it.
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _run(command: Sequence[str], work: Path) -> None:
    environment = {**os.environ, **worker_environment(threads=_THREADS)}
    with (work / "log.txt").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, env=environment, stdout=log, stderr=log, cwd=work, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command[:6])} ended with {code}:\n" + (work / "log.txt").read_text()[-3000:])


if __name__ == "__main__":
    main()
