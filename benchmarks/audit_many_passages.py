"""How long the audits of a data set take, and how much memory: python benchmarks/audit_many_passages.py

Makes passages and questions of random Chinese-like words (a made-up vocabulary by Zipf's law, a tenth near duplicates
of an earlier one), one question per passage, and runs every audit of cleaned_qa on them. With --dataset it audits the
workbooks of a data set's folder instead.
"""

import argparse
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.records import Judgment, Passage, Query, Split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--characters", type=int, default=400, help="mean length of a passage")
    parser.add_argument("--dataset", type=Path, help="folder with dataset.yaml and workbooks")
    options = parser.parse_args()
    folder = options.dataset
    dataset = make_dataset(options.passages, options.characters) if folder is None else _clean(folder)
    print(f"made: {_megabytes():.0f} MB")
    audit(dataset)


def make_dataset(count: int, characters: int) -> RetrievalDataset:
    """So many passages with a question each; the same for the same arguments."""
    from embed_pipeline.dataset.formats import build_dataset

    chance = random.Random(0)
    words = ["".join(chr(chance.randrange(0x4E00, 0x5E00)) for _ in range(chance.randint(1, 3))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    texts, questions = [_texts(chance, words, weights, count=count, characters=n) for n in (characters, 40)]
    splits: list[Split] = chance.choices(("train", "validation", "test"), (8, 1, 1), k=count)
    queries = [Query(f"q{n:07}", text, split) for n, (text, split) in enumerate(zip(questions, splits, strict=True))]
    passages = [Passage(f"p{n:07}", text) for n, text in enumerate(texts)]
    return build_dataset(queries, passages, [Judgment(f"q{n:07}", f"p{n:07}") for n in range(count)])


def audit(dataset: RetrievalDataset) -> None:
    """Print seconds per audit and the peak resident memory of this process."""
    from embed_pipeline.dataset.audit import (
        describe_labels,
        find_contradictions,
        find_duplicate_passages,
        find_leaks,
        measure_shift,
    )

    steps: dict[str, Callable[[], object]] = {
        "leaks": lambda: len(find_leaks(dataset, 0.85)),
        "labels": lambda: len(describe_labels(dataset).only_held_out),
        "shift": lambda: measure_shift(dataset, dataset.queries_of("train"), dataset.queries_of("test")).length,
        "contradictions": lambda: len(find_contradictions(dataset, 0.85)),
        "duplicate passages": lambda: len(find_duplicate_passages(dataset.passages)),
    }
    for name, step in steps.items():
        start = time.perf_counter()
        found = step()
        print(f"{name}: {found}, {time.perf_counter() - start:.1f} s, peak {_megabytes():.0f} MB", flush=True)


def _texts(chance: random.Random, words: list[str], weights: list[float], *, count: int, characters: int) -> list[str]:
    texts: list[str] = []
    for _ in range(count):
        if texts and chance.random() < 0.1:
            text = chance.choice(texts)
            at = chance.randrange(len(text))
            texts.append(text[:at] + chance.choice(words) + text[at:])
        else:
            length = max(4, round(chance.gauss(characters / 2, characters / 8)))
            texts.append("".join(chance.choices(words, weights, k=length)))
    return texts


def _clean(folder: Path) -> RetrievalDataset:
    from embed_pipeline.dataset.cleaning import clean_workbooks
    from embed_pipeline.dataset.settings import read_dataset_settings

    return clean_workbooks(folder, read_dataset_settings(folder)).dataset


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
