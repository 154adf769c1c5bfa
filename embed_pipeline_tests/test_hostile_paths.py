"""Whatever a name, a pattern or a link says: no file of a user's outside is read, changed or removed.

Each property runs in a throw-away root, eight folders deep, with sentinels on each level whose digests must stay.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from embed_pipeline.dataset.exchange.conversion import convert
from embed_pipeline.dataset.exchange.inspection import inspect
from embed_pipeline.dataset.exchange.starting import write_dataset_yaml
from embed_pipeline.dataset.raw_files import copy_verified
from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.documents.reading import document_paths
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.documents.starting import find_documents, inspect_documents, write_documents_yaml
from embed_pipeline.paths import copy_new, digest_of, path_inside, printable

ROOT = Path(__file__).parents[1]
TABLE = "question,context\nWhen does my card arrive?,Within five days.\nHow do I pay?,By card.\n"
ODD_PARTS = (
    *("..", ".", "~", "~root", "-rf", "--", "a b", "x.md", "X.md", "x.md.", "x.md ", "é.md", "e\u0301.md", "文.md"),
    *(
        "a\nb.md",
        "a\x1b[2J.md",
        "a\u202eb.md",
        "a\u2028b.md",
        "a\x85b.md",
        "*",
        "**",
        "?.md",
        "[a]",
        "{a: b}.md",
        "#.md",
    ),
    *("'.md", '".md', "x" * 300, "\0", ": .md", "outside.md", "shared", "COM1", "\ud800", "\x7f.md"),
)
PARTS = st.one_of(st.sampled_from(ODD_PARTS), st.text(min_size=1, max_size=6).filter(lambda text: "/" not in text))
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
CLIMBS = st.tuples(st.integers(0, 6), NAMES).map(lambda found: "../" * found[0] + found[1])
HARD = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def throw_away() -> Iterator[Path]:
    """A folder eight levels down; on leaving, everything above and beside it must be as it was."""
    with tempfile.TemporaryDirectory() as temporary:
        inner = Path(temporary).resolve()
        for level in range(8):
            inner = inner / f"level{level}"
            inner.mkdir()
            (inner / "outside.md").write_text(f"# sentinel {level}\n", encoding="utf-8")
            (inner / "shared").mkdir()
            (inner / "shared" / "x.md").write_text(f"# shared {level}\n", encoding="utf-8")
        inner = inner / "work"
        inner.mkdir()
        before = _sentinels(Path(temporary), inner)
        yield inner
        assert _sentinels(Path(temporary), inner) == before


def _sentinels(root: Path, left_out: Path) -> dict[str, str]:
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != left_out]
        found |= {
            os.path.join(folder, name): hashlib.sha256(Path(folder, name).read_bytes()).hexdigest() for name in names
        }
    return found


@HARD
@given(CLIMBS)
@example("../outside.md")
@example("../shared/*.md")
@example("documents/../../shared/x.md")
def test_documents_never_come_from_outside_and_are_never_written_there(pattern: str) -> None:
    with throw_away() as work:
        data, out = work / "data" / "set", work / "store" / "out"
        (data / "documents").mkdir(parents=True)
        (data / "documents" / "x.md").write_text("# inside\n", encoding="utf-8")
        out.mkdir(parents=True)
        try:
            # Neither the settings nor what reads them may let the pattern through.
            asked = DocumentSettings.model_construct(files=(pattern, "documents/*.md"))
            found = document_paths(data, asked).paths
        except ValueError:
            found = ()
        for path in found:
            assert path.resolve().is_relative_to(data)
            name = path.relative_to(data).as_posix()
            copy_verified(path, path_inside(out, name), digest_of(path))
            assert (data / name).read_bytes() == (out / name).read_bytes()
        assert (data / "documents" / "x.md").read_text(encoding="utf-8") == "# inside\n"


@pytest.mark.parametrize("pattern", ["../shared/*.md", "a/../../x.md", "..", "/etc/*", "a\0b"])
def test_a_pattern_that_leads_out_is_refused_by_the_settings(pattern: str) -> None:
    with pytest.raises(ValidationError):
        DocumentSettings.model_validate({"files": [pattern]})


@HARD
@given(CLIMBS)
def test_a_path_inside_a_folder_is_inside_or_refused(name: str) -> None:
    with throw_away() as work:
        source, out = work / "source", work / "out"
        source.write_bytes(b"new")
        out.mkdir()
        try:
            target = path_inside(out, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_new(source, target)
        except (ValueError, OSError):
            pass
        assert sorted(path.name for path in work.iterdir()) == ["out", "source"]


@HARD
@given(CLIMBS, st.sampled_from(["beir", "jsonl_qrels", "autotrain", "rag_json"]))
@example(".", "beir")
@example("..", "beir")
@example("../..", "jsonl_qrels")
@example("faq.csv", "autotrain")
@example("../outside.md", "beir")
def test_a_conversion_replaces_nothing_that_it_did_not_write(name: str, to: str) -> None:
    """Relative to the source's folder, always with force: the sentinels and the source stay as they were."""
    with throw_away() as work:
        source = work / "faq.csv"
        source.write_text(TABLE, encoding="utf-8")
        (work / "notes").mkdir()
        (work / "notes" / "mine.md").write_text("mine", encoding="utf-8")
        ups = name.count("../") > 6 or "\0" in name
        target = work / name
        # What would not end below the outermost folder is no target for a test.
        if not ups and os.path.abspath(target).startswith(str(work.parents[7])):
            try:
                convert(source, target, to, force=True)
            except (ValueError, OSError):
                pass
            else:
                _remove_written(target)
        assert source.read_text(encoding="utf-8") == TABLE
        assert (work / "notes" / "mine.md").read_text(encoding="utf-8") == "mine"


def _remove_written(target: Path) -> None:
    """What a conversion that succeeded wrote may lie beside the sentinels, which alone are compared."""
    target = Path(os.path.abspath(target))
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()


@HARD
@given(PARTS.map(lambda part: part.replace("/", "")), st.booleans())
@example("a\nvariants: [evil]\n#.csv", True)
@example("\x1b[2J.csv", True)
@example("a\x85b\u2028.csv", True)
@example("a\\b.csv", True)
@example("😀.csv", True)
def test_a_file_of_any_name_gives_a_dataset_yaml_that_names_it_and_nothing_else(part: str, is_table: bool) -> None:
    with throw_away() as work:
        source = work / "in"
        source.mkdir()
        try:
            name = part.removesuffix(".csv").removesuffix(".md") + (".csv" if is_table else ".md")
            (source / name).write_text(
                TABLE if is_table else "# Cards\n\nCards arrive within five days.\n", encoding="utf-8"
            )
        except (ValueError, OSError):
            return
        data = work / "data"
        try:
            if is_table:
                written = write_dataset_yaml(inspect(source / name), "made", data)
            else:
                written = write_documents_yaml(inspect_documents(source, find_documents(source)), "made", data)
        except ValueError:
            assert not (data / "made").exists()
            return
        content = yaml.safe_load(written.read_text(encoding="utf-8"))
        read = read_dataset_settings(written.parent)
        assert "evil" not in read.variants
        if is_table:
            assert [entry["file"] for entry in content["pairs"]] == [name]
        assert "\x1b" not in written.read_text(encoding="utf-8")


@given(st.text())
def test_what_is_printed_steers_no_terminal(text: str) -> None:
    shown = printable(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in shown)
    shown.encode()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="without root's powers already")
def test_all_of_this_holds_without_the_powers_of_root() -> None:
    """What root's capabilities let through would hide a path that only permissions stopped, and the other way round."""
    nothing = ("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")
    own = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not powers", __file__)
    process = subprocess.run([*nothing, sys.executable, *own], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-1000:]
