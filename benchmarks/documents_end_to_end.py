"""Real documents from files to a trained encoder and its row, with a chat server of the tests as the model.

    python benchmarks/documents_end_to_end.py FOLDER [--work FOLDER]

FOLDER holds zh_*.md, fr_*.md and en_*.pdf; each language becomes a data set through `embed-pipeline init`. The run is
killed (kill -9) when half of the questions of the first data set are answered and started again; then the figures are
printed: calls, repeated calls, seconds. The server takes its questions from the passages' words, so the retrieval
figures say that the path works and nothing about a real model's questions.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from embed_pipeline_tests.chat_server import ChatServer  # noqa: E402
from embed_pipeline_tests.question_writer import write_question  # noqa: E402

LANGUAGES = {"zh": "zh_*.md", "fr": "fr_*.md", "en": "en_*.pdf"}
ENCODER = {"model": "bundled-english", "pooling": "mean", "query_max_length": 64, "passage_max_length": 256}
TUNED = {
    "description": "all-MiniLM-L6-v2 trained on the written questions",
    "encoder": ENCODER,
    "mining": {"range_end": 50, "number": 3},
    "training": {
        "candidates": "in_batch",
        "train_group_size": 2,
        "learning_rate": 2.0e-4,
        "epochs": 1,
        "batch_size": 32,
        "temperature": 0.03,
        "precision": "bfloat16",
        "vocabulary_extension": {"unknown_limit": 0.02, "min_count": 2},
    },
}
RECIPES = {
    "bm25": {"description": "BM25 over words", "retriever": "bm25"},
    "tfidf": {"description": "TF-IDF over character n-grams", "retriever": "tfidf"},
    "minilm": {"description": "all-MiniLM-L6-v2, zero-shot", "encoder": ENCODER},
    "tuned": TUNED,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / ".embed_pipeline" / "documents_end_to_end")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    with ChatServer(write_question, delay_seconds=0.02) as server:
        datasets = write_project(arguments.folder, work, f"{server.url}/v1")
        started = time.monotonic()
        estimate = command(work, "run", "--dataset", datasets[0])
        kill_when(estimate, lambda: len(server.answered) >= 200)
        print(f"killed after {len(server.answered)} answers; the next run goes on", flush=True)
        code = command(work, "run").wait()
        asked = Counter(json.dumps(call.body, sort_keys=True) for call in server.calls)
        repeated = sum(count - 1 for count in asked.values())
        print(f"{len(asked)} different calls, {repeated} made twice, {time.monotonic() - started:.0f} s")
    sys.exit(code)


def write_project(source: Path, work: Path, url: str) -> list[str]:
    """A data set per language, made by `embed-pipeline init` and given the chat server; returns their names."""
    (work / "data" / "recipes").mkdir(parents=True)
    for name, recipe in RECIPES.items():
        _write_yaml(work / "data" / "recipes" / f"{name}.yaml", recipe)
    names = []
    for language, pattern in LANGUAGES.items():
        folder, name = work / "raw" / language, f"documents_{language}"
        folder.mkdir(parents=True)
        for path in sorted(source.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
        command(work, "init", name, "--from", str(folder)).wait()
        settings = yaml.safe_load((work / "data" / name / "dataset.yaml").read_text(encoding="utf-8"))
        chat = {"service": "compatible", "model": "stand-in", "base_url": url, "usd_per_million_prompt_tokens": 0.25}
        settings["synthesis"] = {"generator": "chat", "chat": chat, "styles": ["question", "keyword"]}
        settings["variants"] = list(RECIPES)
        _write_yaml(work / "data" / name / "dataset.yaml", settings)
        names.append(name)
    return names


def command(work: Path, *arguments: str) -> subprocess.Popen:
    """A command of embed-pipeline on the project in the work folder, started."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_PIPELINE_", "DAGSTER_HOME"))}
    environment |= {"EMBED_PIPELINE_DATA": str(work / "data"), "EMBED_PIPELINE_HOME": str(work / "home")}
    run = "from embed_pipeline.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", run, *arguments], cwd=ROOT, env=environment)


def kill_when(process: subprocess.Popen, condition) -> None:
    """Kill -9 as soon as the condition holds, or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _write_yaml(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
