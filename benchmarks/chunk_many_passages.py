"""How long cutting documents into passages takes, and how much memory: python benchmarks/chunk_many_passages.py

Makes documents of random words one after the other (half of them of Chinese-like characters, with headings and
articles; made-up words by Zipf's law), cuts them by the tokens of the bundled encoder through the code of the asset
`passages`, writes a question per passage offline, and runs the audits of cleaned_qa on the result. Prints seconds and
the peak resident memory after every step.
"""

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import accumulate, product
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from embed_pipeline.dataset.formats import CORPUS_FILE, read_passages
from embed_pipeline.documents.document import Document, DocumentBuilder
from embed_pipeline.documents.passages import write_passages
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.encoding.bundled import bundled_english_directory
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.tokens import count_truncated, count_unknown, token_counter
from embed_pipeline.synthesis.assembling import assemble_dataset
from embed_pipeline.synthesis.generation import synthesise
from embed_pipeline.synthesis.settings import SynthesisSettings

SECTIONS, SENTENCES, WORDS = 40, 24, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=100_000, help="at least so many")
    parser.add_argument("--passage-tokens", type=int, default=200)
    options = parser.parse_args()
    settings = DocumentSettings(files=("x",), cut="article", passage_tokens=options.passage_tokens)
    with tempfile.TemporaryDirectory() as folder:
        cut(Path(folder), settings, options.passages)
        audit(Path(folder))


def cut(folder: Path, settings: DocumentSettings, wanted: int) -> None:
    """Write the passages with a progress bar; documents are made until there are enough."""
    columns = (TextColumn("cutting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started, done = time.perf_counter(), 0
    with Progress(*columns) as bar:
        task = bar.add_task("cutting", total=wanted)

        def tell(passages: int) -> None:
            nonlocal done
            done = passages
            if passages % 500 == 0:
                bar.update(task, completed=min(passages, wanted))

        def documents() -> Iterator[Document]:
            number = 0
            while done < wanted:
                yield make_document(number)
                number += 1

        counts = write_passages(
            documents(), settings, token_counter(bundled_english_directory()), folder, progress=tell
        )
    seconds = time.perf_counter() - started
    print(
        f"cut {counts.documents} documents into {counts.passages} passages, {counts.tokens:,} tokens: {seconds:.1f} s"
    )
    _tell(f"{counts.passages / seconds:.0f} passages a second, documents made on the way", started)


def audit(folder: Path) -> None:
    """The audits of a data set of these passages, with a sentence of each as its question."""
    from benchmarks.audit_many_passages import audit as audit_dataset

    started = time.perf_counter()
    passages = tuple(read_passages(folder / CORPUS_FILE))
    settings = SynthesisSettings.model_validate({"round_trip": None})
    result = synthesise(passages, settings, language="zh")
    dataset = assemble_dataset(passages, result.questions)
    _tell(f"{len(result.questions)} questions written offline, {len(result.ledger)} dropped", started)
    audit_dataset(dataset)
    encoder = EncoderSettings(model="bundled-english", query_max_length=64, passage_max_length=256)
    texts = [passage.text for passage in passages]
    for name, step in (
        ("truncated passages", lambda: count_truncated(encoder, "passage", texts)),
        ("truncated queries", lambda: count_truncated(encoder, "query", [query.text for query in dataset.queries])),
        ("unknown characters", lambda: count_unknown(encoder, texts)),
    ):
        started = time.perf_counter()
        _tell(f"{name}: {step().share:.2%}", started)


def make_document(number: int) -> Document:
    """A document of chapters, articles and sentences; the same for the same number."""
    chance = random.Random(number)
    chinese = number % 2 == 0
    builder = DocumentBuilder(f"{number:05}.md")
    builder.heading(f"Document {number}", 1)
    for section in range(SECTIONS):
        builder.heading(f"第{section + 1}章 {_words(chance, 4, chinese)}" if chinese else f"Chapter {section + 1}", 2)
        sentences = [
            _words(chance, chance.randint(5, 25), chinese) + ("。" if chinese else ".") for _ in range(SENTENCES)
        ]
        builder.block(f"第{section + 1}条 " + "".join(sentences) if chinese else " ".join(sentences))
    return builder.build()


def _words(chance: random.Random, count: int, chinese: bool) -> str:
    chosen = chance.choices(_vocabulary(chinese), cum_weights=_zipf(), k=count)
    return "".join(chosen) if chinese else " ".join(chosen).capitalize()


@cache
def _vocabulary(chinese: bool) -> list[str]:
    chance = random.Random(chinese)
    if chinese:
        return [
            "".join(chr(chance.randrange(0x4E00, 0x5E00)) for _ in range(chance.randint(1, 3))) for _ in range(WORDS)
        ]
    syllables = ["".join(pair) for pair in product("bcdfghlmnprstv", "aeiou")]
    return ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(WORDS)]


@cache
def _zipf() -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, WORDS + 1)))


def _tell(what: str, started: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {time.perf_counter() - started:.1f} s, peak {peak:.0f} MB", flush=True)


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
