"""How long a large workbook takes to become a data set, and how much memory: python benchmarks/clean_large_workbook.py

Writes a workbook of random Chinese-like questions (words of a made-up vocabulary by Zipf's law, a tenth near duplicates
of an earlier row) into a temporary folder, then reads, cleans and splits it in a process that does nothing else.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEADER = ("Question", "Thinking", "Label", "Label2", "Label3", "Label4", "Label5", "Label6")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--characters", type=int, default=60, help="mean length of a question")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        measure(options.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_workbook(Path(folder), rows=options.rows, characters=options.characters)
        # A process of its own: the peak memory of writing must not count.
        subprocess.run([sys.executable, __file__, "--folder", folder], check=True)


def write_workbook(folder: Path, *, rows: int, characters: int) -> None:
    """Write large.xlsx, the same for the same arguments, and its label list."""
    from openpyxl import Workbook

    chance = random.Random(0)
    words = ["".join(chr(chance.randrange(0x4E00, 0x5E00)) for _ in range(chance.randint(1, 3))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    labels = ["".join(chance.sample(words, 2)) + str(number) for number in range(200)]
    (folder / "labels.txt").write_text("\n".join(labels), encoding="utf-8")
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet()
    sheet.append(HEADER)
    questions: list[str] = []
    for _ in range(rows):
        if questions and chance.random() < 0.1:
            question = chance.choice(questions)
            at = chance.randrange(len(question))
            question = question[:at] + chance.choice(words) + question[at:]
        else:
            count = max(4, round(chance.gauss(characters / 2, characters / 8)))
            question = "".join(chance.choices(words, weights, k=count))
        questions.append(question)
        found = chance.sample(labels, chance.choice((1, 1, 1, 2, 2, 3, 5)))
        sheet.append([question, question[::-1], *found])
    workbook.save(folder / "large.xlsx")


def measure(folder: Path) -> None:
    """Print seconds per step and the peak resident memory of this process."""
    from embed_pipeline.dataset.audit import find_leaks
    from embed_pipeline.dataset.cleaning import clean_rows, write_cleaned
    from embed_pipeline.dataset.settings import DatasetSettings
    from embed_pipeline.dataset.splitting import assign_splits
    from embed_pipeline.dataset.workbook import read_label_list, read_rows

    settings = DatasetSettings.model_validate(
        {
            "description": "benchmark",
            "workbooks": ["large.xlsx"],
            "columns": {"question": HEADER[0], "labels": HEADER[2:]},
            "label_list": "labels.txt",
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
            "variants": ["bm25"],
        }
    )
    start = time.perf_counter()
    rows = list(read_rows(folder / "large.xlsx", settings.columns))
    read = time.perf_counter()
    cleaned = clean_rows(rows, read_label_list(folder / "labels.txt"), settings)
    clean = time.perf_counter()
    texts = [query.text for query in cleaned.dataset.queries]
    assign_splits(texts, settings.split, near_duplicate_threshold=settings.near_duplicate_threshold)
    split = time.perf_counter()
    write_cleaned(cleaned, folder)
    written = time.perf_counter()
    leaks = find_leaks(cleaned.dataset, settings.near_duplicate_threshold)
    audited = time.perf_counter()
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{cleaned.counts}, {len(leaks)} leaks, mean length {sum(map(len, texts)) / len(texts):.0f} characters")
    print(
        f"reading {read - start:.1f} s, "
        f"cleaning {clean - read - (split - clean):.1f} s, splitting {split - clean:.1f} s, "
        f"together {clean - start:.1f} s; writing {written - split:.1f} s; leak audit {audited - written:.1f} s; "
        f"peak memory {megabytes:.0f} MB"
    )


if __name__ == "__main__":
    main()
