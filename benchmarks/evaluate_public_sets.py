"""The evaluation on public data sets: zero-shot, BM25, TF-IDF and fused, and MRR per pair of languages.

    python benchmarks/evaluate_public_sets.py DATA_FOLDER [--only NAME ...] [--work FOLDER]

DATA_FOLDER holds banking77, cmrc2018, toyhom_neike and xquad, each a folder of .json.gz files with queries, corpus and
relevant_docs. A project is written into the work folder and run through the command line; a second run is served from
its store.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from embed_pipeline.reporting.database import read_newest
from embed_pipeline.reporting.metrics_table import MetricRow

ROOT = Path(__file__).parents[1]
COMPARED = ["bm25", "tfidf", "minilm", "fused"]
ENCODER = {"model": "bundled-english", "pooling": "mean", "query_max_length": 128, "passage_max_length": 256}
RECIPES: Mapping[str, Mapping[str, object]] = {
    "bm25": {"description": "BM25 over words", "retriever": "bm25"},
    "tfidf": {"description": "TF-IDF over character n-grams", "retriever": "tfidf"},
    "minilm": {"description": "all-MiniLM-L6-v2, zero-shot", "encoder": ENCODER},
    "fused": {"description": "BM25 and minilm", "retriever": "fused", "fusion": {"dense": "minilm"}},
}
LANGUAGES = ("en", "zh", "de", "es", "ro", "ru", "el", "tr", "ar", "hi", "vi", "th")
SETS: Mapping[str, Mapping[str, object]] = {
    "banking77": {"language": "en", "headline": "hit_rate@1", "files": ["train", "test"], "variants": COMPARED},
    "cmrc2018": {"language": "zh", "headline": "ndcg@10", "files": ["train", "val", "test"], "variants": COMPARED},
    "toyhom_neike": {"language": "zh", "headline": "ndcg@10", "files": ["train", "val", "test"], "variants": COMPARED},
    "xquad": {"language": "en", "headline": "mrr@10", "files": list(LANGUAGES), "variants": ["bm25", "minilm"]},
}
SPLITS = {"train": "train", "val": "validation", "test": "test"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--work", type=Path, default=ROOT / ".embed_pipeline" / "public_sets")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    write_project(arguments.data, work / "data", arguments.only)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_PIPELINE_", "DAGSTER_HOME"))}
    environment |= {"EMBED_PIPELINE_DATA": str(work / "data"), "EMBED_PIPELINE_HOME": str(work / "home")}
    started = time.monotonic()
    command = [sys.executable, "-c", "from embed_pipeline.cli import main; main()", "run"]
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    print(f"{time.monotonic() - started:.0f} s")
    rows = read_newest(work / "home" / "metrics.duckdb")
    for dataset in dict.fromkeys(row.dataset for row in rows):
        print_language_pairs([row for row in rows if row.dataset == dataset and row.slice.startswith("question ")])
    sys.exit(code)


def write_project(source: Path, data: Path, names: Sequence[str]) -> None:
    """Copy the files and write dataset.yaml and recipes; data sets that are not asked for are left out."""
    shutil.rmtree(data, ignore_errors=True)
    (data / "recipes").mkdir(parents=True)
    for name, recipe in RECIPES.items():
        _write_yaml(data / "recipes" / f"{name}.yaml", recipe)
    for name in names:
        settings = dict(SETS[name])
        files = settings.pop("files")
        assert isinstance(files, list)
        (data / name).mkdir()
        entries = []
        for file in files:
            shutil.copyfile(source / name / f"{file}.json.gz", data / name / f"{file}.json.gz")
            part = {"split": SPLITS[file]} if file in SPLITS else {"language": file}
            entries.append({"file": f"{file}.json.gz", **part})
        several = name == "xquad"
        _write_yaml(
            data / name / "dataset.yaml",
            {
                "description": name,
                "pairs": entries,
                "evaluation_only": several,
                "parallel_languages": several,
                **settings,
            },
        )


def print_language_pairs(rows: Sequence[MetricRow]) -> None:
    """MRR@10 in percent per variant: a row per language of the question, a column per language of the passage."""
    for variant in dict.fromkeys(row.variant for row in rows):
        values = {row.slice: row.value for row in rows if row.variant == variant}
        print(f"\n{variant}, mrr@10: question in a row's language, passages in a column's")
        print("     " + "".join(f"{language:>6}" for language in LANGUAGES))
        for asked in LANGUAGES:
            cells = [values.get(f"question {asked} → passage {language}") for language in LANGUAGES]
            print(f"{asked:>4} " + "".join("     –" if value is None else f"{100 * value:6.1f}" for value in cells))


def _write_yaml(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(yaml.safe_dump(dict(content), allow_unicode=True, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
