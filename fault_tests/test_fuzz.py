"""Whatever a file holds: its reader gives a result or its declared error, soon and in bounded memory.

Each reader works in a process of its own under a watchdog, on valid files that hypothesis spoils.
"""

import io
import json
import multiprocessing
import os
import resource
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from embed_pipeline_tests.documents.document_files import write_docx, write_pdf
from embed_pipeline_tests.small_project import make_rows, write_project, write_workbook
from fault_tests.conftest import Figure

FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "600"))
SEED = int(os.environ.get("SEED", "1"))
MOST_SECONDS, MOST_BYTES = 10.0, 1 << 30
EXAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Reader:
    """The files that are spoiled, what is put into them, and what reads them (`path` ends as their name does)."""

    name: str
    seeds: Callable[[Path], Sequence[bytes]]
    words: tuple[bytes, ...]
    read: Callable[[Path], object]


def _read_table(path: Path) -> None:
    from embed_pipeline.dataset.exchange.inspection import inspect

    inspect(path)


def _read_workbook(path: Path) -> None:
    from embed_pipeline.dataset.settings import ColumnSettings
    from embed_pipeline.dataset.workbook import read_rows

    for _ in read_rows(path, ColumnSettings(question="Question", labels=("Label", "Label2"))):
        pass
    _read_table(path)


def _read_document(path: Path) -> None:
    from embed_pipeline.documents.cutting import cut_document
    from embed_pipeline.documents.reading import read_document
    from embed_pipeline.documents.settings import DocumentSettings

    document, end = read_document(path, path.name), 0
    for block in document.blocks:
        assert end <= block.start < block.end <= len(document.text)
        end = block.end
    document.text.encode()  # halves of characters fit into no file
    passages = list(cut_document(document, DocumentSettings(files=("*",)), _count_tokens))
    assert all(passage.text.strip() for passage in passages)


def _count_tokens(texts: Sequence[str]) -> list[int]:
    return [len(text) // 3 + 1 for text in texts]


def _read_yaml(path: Path) -> None:
    from embed_pipeline.dataset.settings import read_dataset_settings
    from embed_pipeline.project.recipes import read_recipe

    folder = path.parent / "small"
    folder.mkdir(exist_ok=True)
    (folder / "dataset.yaml").write_bytes(path.read_bytes())
    errors = []
    for read in (lambda: read_dataset_settings(folder), lambda: read_recipe(path)):
        try:
            read()
        except ValueError as error:
            errors.append(error)
            assert "dataset.yaml" in str(error) or path.name in str(error), error
    assert errors, "no file is both"
    raise errors[0].with_traceback(None)


def _workbooks(folder: Path) -> list[bytes]:
    write_workbook(folder / "a.xlsx", make_rows()[:12])
    table = [("When does it come?", "Soon."), ("How much?", "Five."), (None, 3.5)]
    write_workbook(folder / "b.xlsx", table, header=("question", "context"))
    return [(folder / "a.xlsx").read_bytes(), (folder / "b.xlsx").read_bytes()]


def _tables(_: Path) -> list[bytes]:
    text = 'question,context,split\nWhen does it come?,Within five days.,train\n"How, then?","By\ncard.",test\n'
    return [text.encode(), text.replace(",", ";").encode("utf-16"), "问题\t答案\n几天到\t五天\n".encode("gb18030")]


def _json(_: Path) -> list[bytes]:
    pairs = {"queries": {"q": "?", "r": "!"}, "corpus": {"p": "x"}, "relevant_docs": {"q": ["p"], "r": {"p": 1}}}
    rows = [{"question": "a?", "context": "b"}, {"question": "c?", "context": ["d", "e"]}]
    return [json.dumps(pairs).encode(), json.dumps(rows).encode()]


def _jsonl(_: Path) -> list[bytes]:
    rows = [{"query": "a?", "pos": ["b"], "neg": ["c"]}, {"query": "d?", "pos": ["e", "f"], "neg": [], "id": 3}]
    triples = [{"anchor": "a", "positive": "b", "negative": "c"}] * 2
    return ["\n".join(map(json.dumps, lines)).encode() for lines in (rows, triples)]


def _pdfs(folder: Path) -> list[bytes]:
    write_pdf(folder / "a.pdf", [["1 Terms", "Everything is insured.", "But not that."], ["2 More", "What follows."]])
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(folder / "a.pdf"))
    for page in writer.pages:
        page.compress_content_streams()
    writer.write(folder / "b.pdf")
    return [(folder / "a.pdf").read_bytes(), (folder / "b.pdf").read_bytes()]


def _words(folder: Path) -> list[bytes]:
    return [write_docx(folder / "a.docx").read_bytes()]


def _pages(_: Path) -> list[bytes]:
    head = '<html><head><meta charset="utf-8"><title>Cards</title></head><body><nav>Home</nav><main><h1>Cards</h1>'
    table = '<table><tr><th>Fee</th><td rowspan="2">5</td></tr><tr><td colspan="2">7</td></tr></table>'
    return [f"{head}<p>A card <b>arrives</b>.</p><ul><li>one<li>two</ul>{table}</main></body></html>".encode()]


def _markdown(_: Path) -> list[bytes]:
    text = "---\ntitle: Cards\n---\n# Cards\n\nA card *arrives*.\n\n> quoted\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    return [f"{text}\n```\ncode\n```\n\n1. one\n   - two <b>html</b> [link](x.md)\n".encode()]


def _settings(folder: Path) -> list[bytes]:
    data = write_project(folder / "project")
    return [path.read_bytes() for path in (data / "small" / "dataset.yaml", *sorted(data.glob("recipes/*.yaml")))]


_BRACKETS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"null",
    b"NaN",
    b"1e999",
    b"-0",
    b"\\ud83d",
    b"\\u0000",
    b"9" * 30,
)
_XML = (
    *(
        b"<",
        b">",
        b"&",
        b"&#0;",
        b"&lol;",
        b"<!--",
        b"<![CDATA[",
        b'<!DOCTYPE a [<!ENTITY lol "lol">]>',
        b'r="XFD1048576"',
    ),
    *(b'ref="A1:XFD1048576"', b't="s"', b"<v>99999999</v>", b"<row", b"</row>", b"<c", b"<w:p>", b"</w:p>", b"<w:tbl>"),
    *(b'w:val="99999999"', b"<w:tc>", b"</w:tc>", b'spans="1:99999"', b"1e308", b"\xef\xbf\xbf", b'standalone="yes"'),
)
READERS = (
    Reader("xlsx", _workbooks, _XML, _read_workbook),
    Reader(
        "csv", _tables, (b'"', b",", b";", b"\t", b"\n", b"\r", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"'="), _read_table
    ),
    Reader("json", _json, _BRACKETS, _read_table),
    Reader("jsonl", _jsonl, (*_BRACKETS, b"\n"), _read_table),
    Reader(
        "pdf",
        _pdfs,
        (
            *(
                b"<<",
                b">>",
                b"obj",
                b"endobj",
                b"stream",
                b"endstream",
                b"1 0 R",
                b"2 0 R",
                b"/Kids [2 0 R 2 0 R]",
                b"xref",
            ),
            *(
                b"/Filter /FlateDecode",
                b"/Filter [/ASCIIHexDecode /LZWDecode]",
                b"/Length 999999999",
                b"/Prev 0",
                b"(",
                b")",
            ),
            *(
                b"/Type /ObjStm /N 99999999 /First 9",
                b"/Count 99999999",
                b"Tj",
                b"BT",
                b"ET",
                b"/ToUnicode 5 0 R",
                b"trailer",
            ),
        ),
        _read_document,
    ),
    Reader("docx", _words, _XML, _read_document),
    Reader(
        "html",
        _pages,
        (
            *(
                b"<div>",
                b"</div>",
                b"<table>",
                b"<td>",
                b'<td rowspan="99999999">',
                b'<td colspan="99999999">',
                b"<ul><li>",
            ),
            *(
                b"<!--",
                b"<script>",
                b"<style>",
                b"<details>",
                b"&#x0;",
                b"&amp",
                b"<p",
                b'style="display:none"',
                b"<svg>",
                b"<h7>",
            ),
            *(b"<template>", b"<form><select>", b"\0", b"\xff", b'charset="utf-7"', b"<plaintext>", b"<noscript>"),
        ),
        _read_document,
    ),
    Reader(
        "md",
        _markdown,
        (
            *(
                b"[",
                b"](",
                b"*",
                b"_",
                b"`",
                b"```",
                b"> ",
                b"- ",
                b"1. ",
                b"|",
                b"|---|",
                b"# ",
                b"<b>",
                b"<table>",
                b"---\n",
            ),
            *(b"[a]: b", b"![", b"\\", b"~~", b"<details>", b"\t", b"\n\n", b"&#0;", b"<!--", b"\xff"),
        ),
        _read_document,
    ),
    Reader(
        "yaml",
        _settings,
        (
            *(
                b"&a ",
                b"*a",
                b"<<: ",
                b"!!python/object:os.system ",
                b"!!binary ",
                b": ",
                b"? ",
                b"- ",
                b"|\n",
                b">\n",
                b"{",
                b"[",
            ),
            *(
                b"%YAML 9\n",
                b"---\n",
                b"1e999",
                b".nan",
                b"2001-01-01",
                b"0x",
                b"~",
                b"!!float ",
                b"'",
                b'"',
                b"\t",
                b"\\x00",
                b"1:30",
            ),
        ),
        _read_yaml,
    ),
)


def spoiled(originals: Sequence[bytes], words: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the files with up to eight changes: in the parts of an archive too, or in the archive itself."""
    piece = st.one_of(st.sampled_from(words), st.binary(max_size=8))
    many = st.one_of(st.just(1), st.integers(1, 40), st.integers(1, 20_000))
    change = st.tuples(st.sampled_from("dirx"), st.floats(0, 1), st.integers(0, 64), piece, many, st.floats(0, 1))
    return st.builds(
        _apply, st.sampled_from(originals), st.lists(change, min_size=1, max_size=8), st.integers(0, 9), st.booleans()
    )


def _apply(content: bytes, changes: Sequence[tuple], whole: int, drops: bool) -> bytes:
    if content[:2] != b"PK" or whole == 0:
        for change in changes:
            content = _change(content, change)
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for change in changes:
        name = list(parts)[int(change[5] * (len(parts) - 1))]
        if drops and change[0] == "d" and change[2] > 56:
            del parts[name]
            if not parts:
                break
        else:
            parts[name] = _change(parts[name], change)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return packed.getvalue()


def _change(content: bytes, change: tuple) -> bytes:
    kind, where, length, piece, times, _ = change
    at = int(where * len(content))
    if kind == "d":
        return content[:at] + content[at + length :]
    if kind == "x":  # once more what stands there
        return content[:at] + content[at : at + length] * min(times, 2000) + content[at:]
    end = at + len(piece) if kind == "r" else at
    return content[:at] + piece * min(times, 200_000 // max(1, len(piece))) + content[end:]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_spoiled_file_is_read_or_refused_by_its_declared_error_in_time_and_memory(
    reader: Reader, tmp_path: Path, figure: Figure
) -> None:
    context, seconds = multiprocessing.get_context("forkserver"), FUZZ_SECONDS / len(READERS)
    process = context.Process(target=_fuzz, args=(reader.name, str(tmp_path), seconds))
    process.start()
    work, count = tmp_path / f"case.{reader.name}", tmp_path / "count"
    slowest, example, base = 0.0, 0.0, 0.0
    while process.is_alive():
        process.join(0.2)
        used, now = _processor_seconds(process.pid), (tmp_path / "begun").stat().st_mtime if count.exists() else 0.0
        if now != example:
            example, base = now, used
        slowest = max(slowest, used - base)
        if used - base > MOST_SECONDS:
            process.kill()
            kept = Path(os.environ.get("FUZZ_KEPT", tmp_path)) / f"hang.{reader.name}"
            kept.write_bytes(work.read_bytes())
            raise AssertionError(f"{reader.name}: more than {MOST_SECONDS:g} s of a processor over {kept}")
    figure(
        f"{reader.name}: spoiled files, longest processor seconds",
        f"{count.read_text()}, {slowest:.1f}",
    )
    said = tmp_path / "failure.txt"
    assert process.exitcode == 0, said.read_text() if said.exists() else f"ended with {process.exitcode} over {work}"


def _processor_seconds(pid: int | None) -> float:
    try:
        return sum(psutil.Process(pid).cpu_times()[:2])
    except psutil.NoSuchProcess:
        return 0.0


def _fuzz(name: str, folder: str, seconds: float) -> None:
    place = Path(folder)
    reader = next(reader for reader in READERS if reader.name == name)
    work, begun, count = place / f"case.{name}", place / "begun", place / "count"
    originals = reader.seeds(place)
    for original in originals:  # what is imported and allocated once is not the reader's
        work.write_bytes(original)
        _read(reader, work)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    begun.touch()
    count.write_text("0")
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))
    done, deadline = 0, time.monotonic() + seconds

    def check(content: bytes) -> None:
        nonlocal done
        if time.monotonic() > deadline:
            return
        work.write_bytes(content)
        os.utime(begun)
        _read(reader, work)
        os.utime(begun)
        done += 1

    for number in range(10**9):
        bounded = settings(
            max_examples=EXAMPLES_AT_ONCE,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        try:
            seed(SEED * 1_000_003 + number)(bounded(given(spoiled(originals, reader.words))(check)))()
        except BaseException as error:
            import traceback

            kept = Path(os.environ.get("FUZZ_KEPT", folder)) / f"failure.{name}"
            kept.write_bytes(work.read_bytes())
            (place / "failure.txt").write_text(f"{kept}\n{''.join(traceback.format_exception(error))[:6000]}")
            os._exit(1)
        count.write_text(f"{done:,}")
        if time.monotonic() > deadline:
            os._exit(0)


def _read(reader: Reader, work: Path) -> None:
    """Read the file; an error is one of ours, or a ValueError, and names it."""
    try:
        reader.read(work)
    except ValueError as error:
        assert type(error) is ValueError or type(error).__module__.startswith("embed_pipeline"), repr(error)
        assert work.stem in str(error) or "dataset.yaml" in str(error), f"no place in {error}"
