"""Texts a second of the libraries and of ours, side by side: make bench-encoding, with DATA=folder on texts of yours.

    python benchmarks/encode_side_by_side.py [DATA_FOLDER] [--models NAME ...] [--only CONTESTANT ...] [--rounds N]

Encoded are the lines of every .txt file in DATA_FOLDER, else texts of mixed lengths, half Chinese and half English, the
same each time. Each contestant is a process of its own that loads its model once; in every round each encodes all
texts, one after the other, in another order each round. SentenceTransformer.encode and FlagModel.encode run in float32
with their own batch sizes, the model's pooling and lengths, and are handed the texts with the prompt before them.

A row has the median of the rounds, the ratio to the faster of the two libraries, the same ratio in seconds of the
processor (which hold on a machine that others use; take --threads 1, for threads that wait for each other spin), the
lowest cosine to SentenceTransformer's vectors, the peak of memory, the milliseconds of one query, and GFLOP/s: what the
linear layers of the model come to in that time (attention and padding left out). Above the table: what a matrix product
of their shape reaches. Loading counts with the first round, in the column `ready`, which holds the conversion of a
backend too.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from embed_pipeline.encoding.bundled import bundled_english_directory
from embed_pipeline.encoding.description import describe_encoder
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.model_directory import resolve_settings
from embed_pipeline.encoding.model_source import resolve_model
from embed_pipeline.encoding.precision import native_precision
from embed_pipeline.encoding.tokens import load_tokenizer

LIBRARIES = ("SentenceTransformer", "FlagModel")
OURS = {
    "torch": {"backend": "torch", "dtype": "float32"},
    "torch, bfloat16": {"backend": "torch", "dtype": "bfloat16"},
    "onnx": {"backend": "onnx", "dtype": "float32"},
    "openvino": {"backend": "openvino", "dtype": "float32"},
    "openvino, bfloat16": {"backend": "openvino", "dtype": "bfloat16"},
    "auto": {"backend": "auto", "dtype": "auto"},
}
MODELS = ("bundled", "bundled-english", "bert-110m")
LENGTH = 256
_CHINESE = "我妈体检说高血压肝上有油能买百万医疗险吗请问怎么核保客户想投保尿酸看东西像隔层雾换过人工晶体结节"
_ENGLISH = "can I buy cover with high blood pressure the policy says that treatment after surgery is excluded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--only", nargs="*", choices=[*LIBRARIES, *OURS], default=[*LIBRARIES, *OURS])
    parser.add_argument("--texts", type=int, default=400, help="how many, drawn evenly")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of each contestant; left out: as many as it takes by itself")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        return compete(arguments.contestant, arguments.model)
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # read by the contestants
    flags = {name: os.environ[name] for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY") if name in os.environ}
    native = native_precision("cpu")
    print(f"{os.cpu_count()} processors; {native.name}, for {native.reason}; {flags or 'nothing masked'}")
    names = [name for name in arguments.only if native.name == "bfloat16" or not name.endswith("bfloat16")]
    texts = read_texts(arguments.data) if arguments.data else make_texts()
    texts = texts[:: max(1, len(texts) // arguments.texts)][: arguments.texts]
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as work:
            measure(model, names, texts, arguments.rounds, Path(work))
    return None


def make_texts(count: int = 4000, seed: int = 0) -> list[str]:
    """Texts of 4 to 300 words or characters, most of them short, half Chinese and half English."""
    chance, found = random.Random(seed), []
    for at in range(count):
        size = min(300, max(4, int(chance.lognormvariate(3.3, 0.9))))
        words, space = (_CHINESE, "") if at % 2 else (_ENGLISH.split(), " ")
        found.append(space.join(chance.choice(words) for _ in range(size)))
    return found


def read_texts(folder: Path) -> list[str]:
    """The lines of every .txt file, empty ones left out."""
    lines = (line.strip() for path in sorted(folder.rglob("*.txt")) for line in path.read_text("utf-8").splitlines())
    found = [line for line in lines if line]
    if not found:
        raise SystemExit(f"{folder}: expected .txt files with a text a line, found none.")
    return found


def measure(model: str, names: Sequence[str], texts: Sequence[str], rounds: int, work: Path) -> None:
    """Run the rounds of one model and print its table."""
    folder = resolve_model(EncoderSettings(model=model)) if model in MODELS[:2] else write_bert(work / "bert")
    (work / "texts.json").write_text(json.dumps(list(texts)), encoding="utf-8")
    matmul, per_token, tokens = weigh(folder, texts)
    running = {name: Contestant(name, folder, work) for name in names}
    try:
        for at in range(rounds):
            order = list(running.values())
            random.Random(at).shuffle(order)
            for contestant in order:
                contestant.encode()
    finally:
        for contestant in running.values():
            contestant.end()
    print(
        f"\n{model}: {len(texts)} texts, {tokens} tokens; a float32 matrix product of its shape: {matmul:.0f} GFLOP/s"
    )
    table = Table("", "ready, s", "texts/s", "ratio", "of processor s", "lowest cosine", "MB", "a query, ms", "GFLOP/s")
    medians = {name: statistics.median(one.seconds[1:] or one.seconds) for name, one in running.items()}
    spent = {name: statistics.median(one.spent[1:] or one.spent) for name, one in running.items()}
    base, base_spent = (min((of[name] for name in LIBRARIES if name in of), default=None) for of in (medians, spent))
    oracle = running.get(LIBRARIES[0])
    for name, one in running.items():
        cosine = f"{lowest_cosine(one.vectors, oracle.vectors):.6f}" if oracle else ""
        speed, seconds = len(texts) / medians[name], medians[name]
        row = [f"{one.ready:.1f}", f"{speed:.1f}", f"{base / seconds:.2f}" if base else ""]
        row += [f"{base_spent / spent[name]:.2f}" if base_spent else "", cosine]
        row += [f"{one.megabytes:.0f}", f"{one.query_ms:.1f}", f"{tokens * per_token / seconds / 1e9:.0f}"]
        table.add_row(name, *row)
    Console(width=120).print(table)


class Contestant:
    """A process that encodes the texts whenever it is told to."""

    def __init__(self, name: str, model: Path, work: Path) -> None:
        self.vectors_file = work / f"{name}.npy"
        command = [sys.executable, __file__, str(work), "--contestant", name, "--model", str(model)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds: list[float] = []
        self.spent: list[float] = []
        told = self._ask("load")
        self.ready, self.query_ms, self.megabytes = told["seconds"], told["query_ms"], told["megabytes"]

    def encode(self) -> None:
        """One round."""
        told = self._ask("encode")
        self.seconds.append(told["seconds"])
        self.spent.append(told["processor_seconds"])
        self.megabytes = told["megabytes"]

    @property
    def vectors(self) -> np.ndarray:
        """float32 (texts, dimension)."""
        return np.load(self.vectors_file)

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, what: str) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.vectors_file.stem} ended early")


def compete(name: str, model: Path) -> None:
    """What a contestant's process does: one line asked, one line answered."""
    work = Path(sys.argv[1])
    texts = json.loads((work / "texts.json").read_text(encoding="utf-8"))
    sys.stdin.readline()
    started = time.perf_counter()
    encode = load(name, model, work)
    np.save(work / f"{name}.npy", encode(texts))
    answer = {"seconds": time.perf_counter() - started}
    single = [_seconds(lambda text=text: encode([text])) for text in [text[:24] for text in texts[:20]]]
    answer["query_ms"] = 1000 * statistics.median(single[5:])
    while True:
        print(json.dumps({**answer, "megabytes": _peak_megabytes()}), flush=True)
        if not sys.stdin.readline():
            return
        before = time.process_time()
        answer = {"seconds": _seconds(lambda: encode(texts))}
        answer["processor_seconds"] = time.process_time() - before


def load(name: str, model: Path, work: Path) -> Callable[[list[str]], Any]:
    """The function of a contestant that encodes passages."""
    lengths = {"query_max_length": LENGTH, "passage_max_length": LENGTH}
    settings = EncoderSettings.model_validate({"model": str(model), **lengths, **OURS.get(name, {})})
    if name in OURS:
        encoder = load_local_encoder(settings, directory=model, compiled=work / "compiled")
        return encoder.encode_passages
    settings = resolve_settings(settings, model)
    if name == "SentenceTransformer":
        from sentence_transformers import SentenceTransformer

        transformer = SentenceTransformer(str(model), device="cpu")
        transformer.max_seq_length = LENGTH
        return lambda texts: transformer.encode([settings.format_text("passage", text) for text in texts])
    from FlagEmbedding import FlagModel

    flag = FlagModel(str(model), pooling_method=settings.pooling, use_fp16=False, devices="cpu")
    return lambda texts: flag.encode([settings.format_text("passage", text) for text in texts], max_length=LENGTH)


def weigh(folder: Path, texts: Sequence[str]) -> tuple[float, float, int]:
    """GFLOP/s of a product of the widest layer's shape, FLOP a token in the linear layers, tokens of the texts."""
    import torch

    encoder = load_local_encoder(EncoderSettings(model=str(folder), dtype="float32", backend="torch"), directory=folder)
    model, tokenizer = encoder.traceable.module, load_tokenizer(folder)
    names = {name: one for name, one in model.named_parameters() if one.ndim == 2}
    weights = [one for name, one in names.items() if "embeddings" not in name and "pooler" not in name]
    tokenizer.enable_truncation(LENGTH)
    formatted = [encoder.settings.format_text("passage", text) for text in texts]
    tokens = sum(len(found.ids) for found in tokenizer.encode_batch(formatted))
    widest = max(weights, key=lambda one: one.numel())
    given = torch.randn(2048, widest.shape[1])
    with torch.inference_mode():
        seconds = statistics.median(_seconds(lambda: torch.nn.functional.linear(given, widest)) for _ in range(30))
    return 2 * 2048 * widest.numel() / seconds / 1e9, 2.0 * sum(one.numel() for one in weights), tokens


def write_bert(folder: Path) -> Path:
    """A BERT of 110 million random weights, with the tokenizer of the bundled English model, its vector that of CLS."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (bundled_english_directory() / name).is_file():
            shutil.copyfile(bundled_english_directory() / name, folder / name)
    lengths = {"query_max_length": 512, "passage_max_length": 512}
    describe_encoder(folder, EncoderSettings(model=str(folder), pooling="cls", **lengths))
    return folder


def lowest_cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Of row i with row i, over all rows."""
    cosines = (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return float(cosines.min())


def _peak_megabytes() -> float:
    # Not getrusage: it counts the peak of the process that started this one too.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
