"""What two libraries' plain recipes make of the bundled encoder, against ours: side by side in one run.

    python benchmarks/train_side_by_side.py DATA_FOLDER [--only NAME ...] [--rows N] [--seeds N] [--work FOLDER]

DATA_FOLDER holds banking77, cmrc2018, toyhom_neike, xquad and raw_docs, whose Chinese `statutes` and French `act` are
asked about offline (a sentence taken out of a passage, a heading); `disease` is the workbook shipped here. Every side
starts from the bundled encoder with its prompts and sees the same rows, at the same lengths. FlagEmbedding: hard
negatives as its script draws them (at random from ranks 2 to 200, anything but the row's own positives), its trainer
as released, started by torchrun. sentence-transformers: `mine_hard_negatives` with a margin of 95 % of the positive's
score, CachedMultipleNegativesRankingLoss, no duplicates in a batch; where mining leaves less than half of the pairs,
all pairs without mined negatives. Both train the whole model at the rate of their documentation. Ours: what
`training: auto` comes to. One training at a time, all with as many threads; seconds count mining and the start of the
process. The test split is searched over a draw of --corpus passages (relevant ones stay), with the vectors alone, `+
fused`, with TF-IDF and BM25 by their ranks, and, `+ hybrid`, with the clauses', the TF-IDF and, for labels, the
classifier's score beside them, hubness taken off, weighed on validation queries. Results are kept in the work folder:
a run that was stopped goes on where it was.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from embed_pipeline.dataset.cleaning import clean_workbooks
from embed_pipeline.dataset.facts import data_facts
from embed_pipeline.dataset.formats import CORPUS_FILE, RetrievalDataset, read_passages, write_dataset
from embed_pipeline.dataset.pairs import clean_pairs
from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.documents.passages import write_passages
from embed_pipeline.documents.reading import read_document
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.encoding.encoder import BUNDLED, EncoderSettings
from embed_pipeline.encoding.local import LocalEncoder, load_local_encoder
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline.encoding.precision import native_precision
from embed_pipeline.encoding.tokens import token_counter
from embed_pipeline.evaluation.comparison import compare
from embed_pipeline.evaluation.measures import Measure, measure_queries
from embed_pipeline.evaluation.weighing import weigh
from embed_pipeline.mining.groups import positive_groups, write_groups
from embed_pipeline.project.automatic_training import choose_training
from embed_pipeline.project.recipes import TrainingSettings
from embed_pipeline.records import Hit, Split
from embed_pipeline.retrieval.classifier import ClassifierRetriever, ClassifierSettings, fit_classifier, is_learnable
from embed_pipeline.retrieval.faiss_index import build_index
from embed_pipeline.retrieval.fusion import reciprocal_rank_fusion
from embed_pipeline.retrieval.hubness import measure_hubness
from embed_pipeline.retrieval.hybrid import VECTORS_ALONE, HybridRetriever, HybridSettings, HybridWeights
from embed_pipeline.retrieval.lexical import LexicalSettings, build_lexical_index, lexical_top_k
from embed_pipeline.retrieval.ranking import Ranking
from embed_pipeline.retrieval.search import top_k
from embed_pipeline.retrieval.tfidf import TfidfSettings, build_tfidf_index, tfidf_top_k
from embed_pipeline.synthesis.assembling import assemble_dataset
from embed_pipeline.synthesis.generation import synthesise
from embed_pipeline.synthesis.settings import SynthesisSettings
from embed_pipeline.training.finetune import FinetuneJob, torchrun_command, worker_environment

ROOT = Path(__file__).parents[1]
SHARES = {"train": 0.4, "validation": 0.1, "test": 0.5, "seed": 0}
HELD_OUT, HITS = 200, 20
"""Validation queries that weights are chosen on, hits a query."""
QUERY_PROMPT, PASSAGE_PROMPT = "query: ", "passage: "


@dataclass(frozen=True)
class Task:
    """One data set of the comparison: its files by split, token limits, and the measure that decides."""

    files: Mapping[str, Split | None]
    """By name; None: split by a hash. Empty: the repository's own data set."""
    language: str
    query_length: int
    passage_length: int
    headline: Measure
    documents: str | None = None
    """A pattern of documents below the data folder that are cut and asked about offline, in place of the files."""


NDCG = Measure("ndcg", 10)
TASKS = {
    "banking77": Task({"train": "train", "test": "test"}, "en", 48, 16, Measure("hit_rate", 1)),
    "cmrc2018": Task({"train": "train", "val": "validation", "test": "test"}, "zh", 32, 64, NDCG),
    "disease": Task({}, "zh", 96, 16, Measure("precise", 5)),
    "toyhom_neike": Task({"train": "train", "val": "validation", "test": "test"}, "zh", 48, 64, NDCG),
    "xquad": Task({"en": None}, "en", 32, 96, NDCG),
    "statutes": Task({}, "zh", 64, 256, NDCG, documents="raw_docs/zh_*.md"),
    "act": Task({}, "fr", 64, 256, NDCG, documents="raw_docs/fr_*.md"),
}
ARMS = ("FlagEmbedding", "sentence-transformers", "ours", "zero-shot")


@dataclass(frozen=True)
class Budget:
    """What is the same for every side, and what the libraries' recipes are given."""

    rows: int
    epochs: float
    batch: int
    rate: float
    negatives: int
    threads: int
    corpus: int
    tested: int
    ours: Mapping[str, Any]
    """Training settings that are tried in place of what auto chose."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=ARMS)
    parser.add_argument("--rows", type=int, default=300, help="training queries, drawn by a hash of their ids")
    parser.add_argument("--epochs", type=float, default=2, help="of the libraries' recipes")
    parser.add_argument("--batch", type=int, default=16, help="of the libraries' recipes")
    parser.add_argument("--rate", type=float, default=2e-5, help="of the libraries' recipes")
    parser.add_argument("--negatives", type=int, default=1, help="a query, of the libraries' recipes")
    parser.add_argument("--threads", type=int, default=1, help="of a training and of encoding")
    parser.add_argument("--ours", default="{}", help='settings to try in place of auto\'s, as {"epochs": 2}')
    parser.add_argument("--split", choices=["validation", "test"], default="test", help="queries that are searched")
    parser.add_argument("--corpus", type=int, default=1000, help="passages that are searched, relevant ones among them")
    parser.add_argument("--tested", type=int, default=400, help="test queries, drawn by a hash of their ids")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / ".embed_pipeline" / "side_by_side")
    asked = parser.parse_args()
    os.environ |= worker_environment(threads=asked.threads)  # read when torch is loaded, in a process for each side
    numbers = (asked.epochs, asked.batch, asked.rate, asked.negatives, asked.threads, asked.corpus, asked.tested)
    budget = Budget(asked.rows, *numbers, yaml.safe_load(asked.ours))
    for name in asked.only:
        key = hashlib.sha256(repr(budget).encode()).hexdigest()[:8]
        work = asked.work.absolute() / f"{name}-{asked.rows}-{asked.split}-{key}"
        trial = Trial(TASKS[name], read_task(asked.data, name, budget, asked.split, work), asked.split, budget)
        show(name, measure_arms(name, trial, work, asked.arms, asked.seeds))


@dataclass(frozen=True)
class Trial:
    """What every side of a task starts from."""

    task: Task
    dataset: RetrievalDataset
    split: Split
    budget: Budget

    @property
    def settings(self) -> EncoderSettings:
        """The bundled encoder with its prompts, which a library's folder does not state."""
        return EncoderSettings(
            model=BUNDLED,
            pooling="mean",
            query_instruction=QUERY_PROMPT,
            passage_instruction=PASSAGE_PROMPT,
            query_max_length=self.task.query_length,
            passage_max_length=self.task.passage_length,
        )

    @property
    def base(self) -> Path:
        return resolve_model(self.settings)


def measure_arms(
    name: str, trial: Trial, work: Path, arms: Sequence[str], seeds: int
) -> dict[str, list[dict[str, Any]]]:
    """The results per arm, one per seed, each measured in a process of its own, one after the other."""
    found: dict[str, list[dict[str, Any]]] = {
        "TF-IDF": [nothing_chosen(trial, by_ngrams(trial).hits())],
        "BM25": [nothing_chosen(trial, by_words(trial).hits())],
    }
    if is_learnable(trial.dataset):
        fitted = ClassifierRetriever(fit_classifier(trial.dataset, ClassifierSettings()))
        found["classifier"] = [nothing_chosen(trial, fitted.search(trial.dataset.queries_of(trial.split), HITS))]
    for seed in range(seeds):
        for arm in arms:
            result = work / f"{arm}-{seed}.json"
            if not result.exists():
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                    pool.submit(measure_arm, arm, trial, seed, result).result()
            content = json.loads(result.read_text(encoding="utf-8"))
            values = {kind: f"{_mean_value(one):.2f} {one['chosen']}".strip() for kind, one in content.items()}
            print(name, arm, "seed", seed, f"{content['vectors']['seconds']:.0f} s:", values, flush=True)
            for kind, one in content.items():
                found.setdefault(arm if kind == "vectors" else f"{arm} + {kind}", []).append(one)
    return found


def read_task(data: Path, name: str, budget: Budget, split: Split, work: Path) -> RetrievalDataset:
    """The data set with the budget's training queries, chosen by a hash of their ids, and its draw of the corpus.

    Where no validation file is, the next queries by hash are the validation queries; at most HELD_OUT are.
    """
    dataset = _read_whole(data, name, work)
    train = _by_hash(dataset.queries_of("train"))
    held_out = _by_hash(dataset.queries_of("validation")) or [
        replace(query, split="validation") for query in train[budget.rows :]
    ]
    tested = _by_hash(dataset.queries_of("test"))[: budget.tested] if split == "test" else []
    queries = (*train[: budget.rows], *held_out[:HELD_OUT], *tested)
    kept = {query.id for query in queries}
    judgments = tuple(judgment for judgment in dataset.judgments if judgment.query_id in kept)
    relevant = {judgment.passage_id for judgment in judgments}
    others = [passage for passage in _by_hash(dataset.passages) if passage.id not in relevant]
    drawn = relevant | {passage.id for passage in others[: max(0, budget.corpus - len(relevant))]}
    passages = tuple(passage for passage in dataset.passages if passage.id in drawn)
    return RetrievalDataset(tuple(sorted(queries, key=lambda query: query.id)), passages, judgments)


def _read_whole(data: Path, name: str, work: Path) -> RetrievalDataset:
    if TASKS[name].documents:
        return _ask_documents(data, TASKS[name], work / name)
    if not TASKS[name].files:
        folder = ROOT / "data" / name
        return clean_workbooks(folder, read_dataset_settings(folder)).dataset
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    entries: list[dict[str, str]] = []
    for file, split in TASKS[name].files.items():
        shutil.copyfile(data / name / f"{file}.json.gz", folder / f"{file}.json.gz")
        entries.append({"file": f"{file}.json.gz", **({"split": split} if split else {})})
    settings = {"description": name, "pairs": entries, "variants": ["e5"]}
    if None in TASKS[name].files.values():
        settings["split"] = SHARES
    (folder / "dataset.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return clean_pairs(folder, read_dataset_settings(folder)).dataset


def _ask_documents(data: Path, task: Task, folder: Path) -> RetrievalDataset:
    """The documents cut at their articles, and a sentence taken out of each passage, or its heading, for a question."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = DocumentSettings(files=("*",), cut="article", passage_tokens=task.passage_length)
    documents = [read_document(path, path.name, settings.limits) for path in sorted(data.glob(str(task.documents)))]
    count_tokens = token_counter(resolve_model(EncoderSettings(model=BUNDLED, pooling="mean")))
    write_passages(documents, settings, count_tokens, folder)
    passages = tuple(read_passages(folder / CORPUS_FILE))
    asked = synthesise(
        passages, SynthesisSettings.model_validate({"round_trip": None, "split": SHARES}), language=task.language
    )
    return assemble_dataset(passages, asked.questions)


def _by_hash(records: Sequence[Any]) -> list[Any]:
    return sorted(records, key=lambda record: hashlib.sha256(record.id.encode()).digest())


def measure_arm(arm: str, trial: Trial, seed: int, result: Path) -> None:
    """Train one side and write its seconds and its value per query of the split."""
    work = result.with_suffix("")
    shutil.rmtree(work, ignore_errors=True)
    (work / "model").mkdir(parents=True)
    train = {"FlagEmbedding": train_flagembedding, "sentence-transformers": train_sentence_transformers}.get(arm)
    started = time.monotonic()
    if train:
        train(trial, work, seed)
    elif arm == "ours":
        train_ours(trial, work, seed)
    seconds = time.monotonic() - started if arm != "zero-shot" else 0.0
    found = evaluate(trial, trial.base if arm == "zero-shot" else work / "model")
    content = {kind: {**one, "seconds": seconds + one["choosing_seconds"]} for kind, one in found.items()}
    result.write_text(json.dumps(content), encoding="utf-8")
    shutil.rmtree(work)


def train_flagembedding(trial: Trial, work: Path, seed: int) -> None:
    """FlagEmbedding's trainer as released, on negatives drawn as its script draws them."""
    _write_drawn_groups(trial, work / "train.jsonl", seed)
    options = {
        "model_name_or_path": trial.base,
        "train_data": work / "train.jsonl",
        "cache_path": work / "cache",
        "output_dir": work / "model",
        "train_group_size": 1 + trial.budget.negatives,
        "query_max_len": trial.task.query_length,
        "passage_max_len": trial.task.passage_length,
        "learning_rate": trial.budget.rate,
        "num_train_epochs": trial.budget.epochs,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": trial.budget.batch,
        "temperature": 0.02,
        "sentence_pooling_method": "mean",
        "normalize_embeddings": True,
        "knowledge_distillation": False,
        "dataloader_drop_last": True,
        "use_cpu": True,
        "bf16": _has_bfloat16(),
        "seed": seed,
        "save_strategy": "no",
        "logging_steps": 50,
        "report_to": "none",
        "disable_tqdm": True,
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    torchrun = torchrun_command(work, processes=1)[:-2]  # without our worker and its job
    _run([*torchrun, "FlagEmbedding.finetune.embedder.encoder_only.base", *flags], work)


def train_sentence_transformers(trial: Trial, work: Path, seed: int) -> None:
    """The recipe of its documentation: mined negatives with a margin of 95 %, a cached loss, no duplicates."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from sentence_transformers.util import mine_hard_negatives

    model = SentenceTransformer(str(trial.base), device="cpu")
    model.max_seq_length = max(trial.task.query_length, trial.task.passage_length)
    pairs = [{"anchor": query, "positive": one} for query, own in _pairs(trial) for one in own]
    mined = mine_hard_negatives(
        Dataset.from_list(pairs),
        model,
        corpus=[PASSAGE_PROMPT + passage.text for passage in trial.dataset.passages],
        num_negatives=trial.budget.negatives,
        relative_margin=0.05,
        sampling_strategy="top",
        output_format="n-tuple",
        batch_size=32,
        verbose=False,
    )
    print("  sentence-transformers mined", len(mined), "rows of", len(pairs), "pairs", flush=True)
    if len(mined) < len(pairs) / 2:  # of cosines as alike as this encoder's, a margin of 95 % leaves few or none
        mined = Dataset.from_list(pairs)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work / "scratch"),
        num_train_epochs=trial.budget.epochs,
        per_device_train_batch_size=trial.budget.batch,
        learning_rate=trial.budget.rate,
        warmup_steps=0.1,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        use_cpu=True,
        bf16=_has_bfloat16(),
        seed=seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=16)
    SentenceTransformerTrainer(model=model, args=arguments, train_dataset=mined, loss=loss).train()
    model.save_pretrained(str(work / "model"))


def train_ours(trial: Trial, work: Path, seed: int) -> None:
    """Our trainer with what auto chooses, on groups of positives alone."""
    dataset = trial.dataset
    groups = positive_groups(dataset.queries_of("train"), dataset.passages, dataset.judgments)
    write_groups(groups, work / "groups.jsonl")
    write_dataset(dataset, work)
    layers = json.loads((trial.base / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    chosen = choose_training(data_facts(dataset), layers=layers, device="cpu").training
    settings = {**chosen.model_dump(mode="json"), "seed": seed, **trial.budget.ours}
    (work / "scratch").mkdir()
    job = FinetuneJob(
        groups=work / "groups.jsonl",
        corpus=work / "corpus.jsonl",
        base=trial.base,
        work=work / "scratch",
        output=work / "model",
        encoder=trial.settings,
        validation=None,
        progress=None,
        tensorboard=None,
        save_steps=1000,  # of no effect without a folder for progress
        training=TrainingSettings.model_validate(settings),
        device="cpu",
    )
    (work / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    _run(torchrun_command(work / "job.json", processes=1), work)


def evaluate(trial: Trial, model: Path) -> dict[str, dict[str, Any]]:
    """By kind of search the measure by query of the split, what was chosen on validation, and the seconds it took."""
    dataset, encoder = trial.dataset, load_local_encoder(trial.settings, directory=model)
    vectors = encoder.encode_passages([passage.text for passage in dataset.passages])
    asked = dataset.queries_of(trial.split)
    tested = encoder.encode_queries([query.text for query in asked])
    index = build_index([p.id for p in dataset.passages], vectors, encoder_fingerprint=encoder.fingerprint)
    nearest = top_k(index, [query.id for query in asked], tested, HITS)
    found = {"vectors": nothing_chosen(trial, nearest.hits())}
    fused = reciprocal_rank_fusion([nearest, by_ngrams(trial), by_words(trial)], HITS)
    found["fused"] = nothing_chosen(trial, fused.hits())
    if trial.split == "test":  # what was chosen on the very queries that are measured proves nothing
        started, retriever = time.monotonic(), open_hybrid(dataset, encoder, vectors)
        weights = choose_weights(trial, retriever)
        found["hybrid"] = {
            "chosen": f"({', '.join(f'{name} {weight:g}' for name, weight in asdict(weights).items())})",
            "choosing_seconds": time.monotonic() - started,
            "values": measure(trial, replace(retriever, weights=weights).search(asked, HITS)),
        }
    return found


def open_hybrid(dataset: RetrievalDataset, encoder: LocalEncoder, vectors: np.ndarray) -> HybridRetriever:
    """The search by vectors, clauses, n-grams and a classifier, with the weight of the vectors alone."""
    index = build_index([p.id for p in dataset.passages], vectors, encoder_fingerprint=encoder.fingerprint)
    ngrams = build_tfidf_index(dataset.passages, TfidfSettings())
    fitted = fit_classifier(dataset, ClassifierSettings()) if is_learnable(dataset) else None
    depth = HybridSettings(dense="ours").depth
    hubness = measure_hubness(index, dataset, encoder)
    return HybridRetriever(index, encoder, ngrams, VECTORS_ALONE, depth=depth, classifier=fitted, hubness=hubness)


def choose_weights(trial: Trial, retriever: HybridRetriever) -> HybridWeights:
    """The weights that are best on validation."""
    settings = HybridSettings(dense="ours")
    scored = list(retriever.score(trial.dataset.queries_of("validation"), settings.depth))
    return weigh(scored, trial.dataset, trial.task.headline, settings).weights


def measure(trial: Trial, hits: Sequence[Hit]) -> dict[str, float]:
    """The measure by query of the split."""
    ids = [query.id for query in trial.dataset.queries_of(trial.split)]
    found = measure_queries(hits, trial.dataset.judgments, ids, measures=[trial.task.headline])
    return {value.query_id: value.value for value in found}


def nothing_chosen(trial: Trial, hits: Sequence[Hit]) -> dict[str, Any]:
    """The result of a search in which nothing is chosen."""
    return {"seconds": 0.0, "choosing_seconds": 0.0, "chosen": "", "values": measure(trial, hits)}


def by_ngrams(trial: Trial) -> Ranking:
    index = build_tfidf_index(trial.dataset.passages, TfidfSettings())
    return tfidf_top_k(index, trial.dataset.queries_of(trial.split), HITS)


def by_words(trial: Trial) -> Ranking:
    index = build_lexical_index(trial.dataset.passages, LexicalSettings(language=trial.task.language))
    return lexical_top_k(index, trial.dataset.queries_of(trial.split), HITS)


def show(name: str, arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Each arm over all seeds: mean and spread, seconds; against it our vectors alone and with all scores beside them.

    Differences and their p are paired by query, over the mean of the seeds.
    """
    table = Table(title=f"{name}, {TASKS[name].headline}", title_justify="left")
    ours = [arm for arm in ("ours", "ours + hybrid") if arm in arms]
    for header in (
        "recipe",
        "mean",
        "spread",
        "seconds",
        *(part for arm in ours for part in (f"{arm} against it", "p")),
    ):
        table.add_column(header, justify="left" if header == "recipe" else "right")
    for arm, results in arms.items():
        means = [_mean_value(result) for result in results]
        seconds = float(np.mean([result["seconds"] for result in results]))
        against = (
            part
            for own in ours
            for part in (_against(TASKS[name].headline, results, arms[own]) if own != arm else ("", ""))
        )
        spread = f"{min(means):.1f} to {max(means):.1f}"
        table.add_row(arm, f"{np.mean(means):.1f}", spread, f"{seconds:.0f}", *against)
    Console(width=140).print(table)


def _against(
    measure: Measure, other: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    base, changed = (
        {query: float(np.mean([result["values"][query] for result in side])) for query in side[0]["values"]}
        for side in (other, ours)
    )
    found = compare(measure, base, changed)
    interval = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return interval, f"{found.p_value:.4f}"


def _mean_value(result: Mapping[str, Any]) -> float:
    return 100 * float(np.mean(list(result["values"].values())))


def _pairs(trial: Trial) -> list[tuple[str, list[str]]]:
    """Each train query with its positives, prompts before them."""
    texts, positives = {passage.id: passage.text for passage in trial.dataset.passages}, defaultdict(list)
    for judgment in trial.dataset.judgments:
        if judgment.grade > 0:
            positives[judgment.query_id].append(PASSAGE_PROMPT + texts[judgment.passage_id])
    return [(QUERY_PROMPT + query.text, positives[query.id]) for query in trial.dataset.queries_of("train")]


def _write_drawn_groups(trial: Trial, path: Path, seed: int) -> None:
    chance, encoder = random.Random(seed), load_local_encoder(trial.settings, directory=trial.base)
    passages = [PASSAGE_PROMPT + passage.text for passage in trial.dataset.passages]
    vectors = encoder.encode_passages([passage.text for passage in trial.dataset.passages])
    queries = encoder.encode_queries([query.text for query in trial.dataset.queries_of("train")])
    with path.open("w", encoding="utf-8") as file:
        for (query, positives), vector in zip(_pairs(trial), queries, strict=True):
            ranked = np.argsort(-(vectors @ vector), kind="stable")[2:200]
            near = [passages[row] for row in ranked if passages[row] not in positives]
            drawn = chance.sample(near, min(trial.budget.negatives, len(near)))
            file.write(json.dumps({"query": query, "pos": positives, "neg": drawn}, ensure_ascii=False) + "\n")


def _has_bfloat16() -> bool:
    return native_precision("cpu").name == "bfloat16"


def _run(command: Sequence[str], work: Path) -> None:
    with (work / "log.txt").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, stdout=log, stderr=log, cwd=work, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command[:6])} ended with {code}:\n" + (work / "log.txt").read_text()[-3000:])


if __name__ == "__main__":
    main()
