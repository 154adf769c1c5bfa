"""Kinds of bad input, each as the command that a user types about it, what it is answered and what lies there after.

Belongs here: the cases. Does not belong here: running them (test_bad_input), their page (docs/write_faults.py).
"""

import gzip
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from embed_pipeline_tests.documents.document_files import write_pdf
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, make_rows, write_workbook, write_yaml

Prepare = Callable[[Path], object]
HOSTED = {
    "description": "hosted",
    "encoder": {
        "service": "compatible",
        "base_url": "http://127.0.0.1:9/v1",
        "model": "m",
        "api_key_variable": "OUR_KEY",
        "vector_dimension": 8,
        "max_retries": 0,
    },
}
TABLE = "question,context\nWhen does my card arrive?,Within five days.\nHow do I pay?,By card.\n"


@dataclass(frozen=True)
class Case:
    """One kind of bad input. `words` must stand in the answer: the place, what was found or expected, the remedy."""

    name: str
    command: tuple[str, ...]
    prepare: Prepare
    words: tuple[str, ...]
    code: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    ran: bool = False
    """Whether it is about a project in which bm25 and base were measured; else nothing ran yet."""


def _dataset(text: str | bytes) -> Prepare:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda root: (root / "data" / "small" / "dataset.yaml").write_bytes(content)


def _field(**changes: object) -> Prepare:
    return lambda root: edit_dataset(root / "data" / "small", **changes)


def _recipe(content: object, name: str = "base") -> Prepare:
    return lambda root: write_yaml(root / "data" / "recipes" / f"{name}.yaml", content)


def _section(section: str, name: str, **changes: object) -> Prepare:
    return lambda root: edit_yaml(root / "data" / "recipes" / f"{name}.yaml", section, **changes)


def _tuned(section: str, **changes: object) -> Prepare:
    """Another recipe of the variant tuned, which the data set then compares."""
    return _all(_section(section, "tuned", **changes), _field(variants=["bm25", "tuned"]))


def _workbook(content: bytes) -> Prepare:
    return lambda root: (root / "data" / "small" / "first.xlsx").write_bytes(content)


def _rows(rows: Sequence[Sequence[object]], **options: Sequence[str]) -> Prepare:
    return lambda root: write_workbook(root / "data" / "small" / "first.xlsx", rows, **options)


def _file(name: str, content: str | bytes) -> Prepare:
    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def _all(*steps: Prepare) -> Prepare:
    return lambda root: [step(root) for step in steps]


def _nothing(root: Path) -> None:
    """The command itself is wrong."""


def _half(root: Path) -> None:
    path = root / "data" / "small" / "first.xlsx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _bomb(root: Path) -> None:
    with zipfile.ZipFile(root / "data" / "small" / "first.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * (80 << 20))


def _documents(content: object) -> Prepare:
    def write(root: Path) -> None:
        (root / "data" / "help").mkdir(exist_ok=True)
        settings = {"description": "documents", "language": "en", "documents": content, "variants": ["bm25", "base"]}
        write_yaml(root / "data" / "help" / "dataset.yaml", settings)

    return write


def _pdf(*pages: Sequence[str], password: str = "") -> Prepare:
    def write(root: Path) -> None:
        (root / "data" / "help" / "documents").mkdir(parents=True, exist_ok=True)
        write_pdf(root / "data" / "help" / "documents" / "terms.pdf", pages, password=password)

    return write


def _model(change: Callable[[Path], object]) -> Prepare:
    """A copy of the tests' model, changed, that the recipe base names."""

    def write(root: Path) -> None:
        recipe = root / "data" / "recipes" / "base.yaml"
        found = yaml.safe_load(recipe.read_text(encoding="utf-8"))["encoder"]["model"]
        shutil.copytree(found, root / "models" / "ours")
        change(root / "models" / "ours")
        edit_yaml(recipe, "encoder", model="models/ours")
        edit_dataset(root / "data" / "small", variants=["base"])

    return write


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _remove(*patterns: str) -> Callable[[Path], object]:
    return lambda folder: [path.unlink() for pattern in patterns for path in folder.glob(pattern)]


def _overwrite(pattern: str, content: bytes) -> Prepare:
    """Other bytes in every file of the folder of state that matches."""

    def write(root: Path) -> None:
        found = sorted((root / ".embed_pipeline").glob(pattern))
        assert found, pattern
        for path in found:
            path.write_bytes(content)

    return write


def _hosted(root: Path) -> None:
    _recipe(HOSTED, "hosted")(root)
    _field(variants=["hosted"])(root)


RUN, STATUS = ("run",), ("status",)
REFS, TABLE_FILE = "artifacts/refs/cleaned_qa/*.json", "metrics.duckdb"
TRAINED_ELSEWHERE = {"retriever": "fused", "fusion": {"dense": "gone"}, "description": "two"}
DATASET_YAML = (
    Case("dataset.yaml is no YAML", STATUS, _dataset("description: [a\nvariants: [bm25]\n"), ("small/dataset.yaml",)),
    Case("a field stands twice in dataset.yaml", STATUS, _dataset("language: en\nlanguage: zh\n"), ("line 2",)),
    Case("dataset.yaml is empty", STATUS, _dataset(""), ("small/dataset.yaml",)),
    Case("dataset.yaml is a list", STATUS, _dataset("- a\n- b\n"), ("small/dataset.yaml",)),
    Case("dataset.yaml in another encoding", STATUS, _dataset("description: 你好\n".encode("gbk")), ("UTF-8",)),
    Case(
        "ten lines of aliases that stand for billions",
        STATUS,
        _dataset("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 11))),
        ("small/dataset.yaml",),
    ),
    Case("dataset.yaml of a megabyte", STATUS, _dataset("# " + "x" * (1 << 20)), ("small/dataset.yaml",)),
    Case("a mistyped field", STATUS, _field(variant=["bm25"]), ("small/dataset.yaml, variant",)),
    Case("a field of another kind", STATUS, _field(near_duplicate_threshold="high"), ("near_duplicate_threshold",)),
    Case("a number that is none", STATUS, _field(answer_precision=float("nan")), ("answer_precision",)),
    Case("a required field left out", STATUS, _dataset("variants: [bm25]\n"), ("description",)),
    Case(
        "shares of the split that are not 1",
        STATUS,
        _field(split={"train": 0.9, "validation": 0.3, "test": 0.2}),
        ("split",),
    ),
    Case("a baseline that is no variant", STATUS, _field(baseline="gone"), ("baseline",)),
    Case("a headline that is no measure", STATUS, _field(headline="accuracy@5"), ("headline",)),
    Case("a general suite that does not exist", STATUS, _field(general_suite=["gone"]), ("general_suite",)),
    Case("two kinds of raw files at once", STATUS, _field(pairs=[{"file": "a.csv"}]), ("workbooks",)),
    Case("a variant twice", STATUS, _field(variants=["bm25", "bm25"]), ("variants",)),
    Case(
        "a data set's folder with capital letters",
        STATUS,
        lambda root: shutil.copytree(root / "data" / "small", root / "data" / "Small Set"),
        ("Small Set",),
    ),
    Case(
        "a link that leads out of the data folder",
        STATUS,
        lambda root: (root / "data" / "other").symlink_to(Path("/usr/share")) or _linked(root),
        ("linked",),
    ),
)


def _linked(root: Path) -> None:
    (root / "outside").mkdir()
    shutil.copyfile(root / "data" / "small" / "dataset.yaml", root / "outside" / "dataset.yaml")
    (root / "data" / "linked").mkdir()
    (root / "data" / "linked" / "dataset.yaml").symlink_to(root / "outside" / "dataset.yaml")
    (root / "data" / "other").unlink()


RECIPES = (
    Case("a variant without a recipe", STATUS, _field(variants=["bm25", "gone"]), ("recipes/gone.yaml",)),
    Case(
        "a recipe of an unknown retriever", STATUS, _recipe({"description": "x", "retriever": "magic"}), ("base.yaml",)
    ),
    Case("a mistyped field of a recipe", STATUS, _tuned("training", learning_rat=1e-5), ("tuned.yaml, training",)),
    Case("a learning rate in words", STATUS, _tuned("training", learning_rate="fast"), ("training.learning_rate",)),
    Case("epochs below one", STATUS, _tuned("training", epochs=-3), ("training.epochs",)),
    Case(
        "a key written into a recipe",
        STATUS,
        _all(_recipe(HOSTED), _section("encoder", "base", api_key_variable="sk-canary-in-a-recipe")),
        ("api_key_variable",),
    ),
    Case("a fusion with a variant that does not exist", STATUS, _recipe(TRAINED_ELSEWHERE), ("base.yaml",)),
    Case(
        "a mixture without a general suite to hold it to",
        STATUS,
        _all(
            _recipe({"description": "mixed", "merge": {"of": ["tuned"]}}, "mixed"), _field(variants=["tuned", "mixed"])
        ),
        ("dataset.yaml, variants",),
    ),
    Case(
        "training on a data set for evaluation only",
        STATUS,
        _field(evaluation_only=True, variants=["tuned"]),
        ("dataset.yaml, variants",),
    ),
    Case(
        "a recipe in another encoding",
        STATUS,
        _file("data/recipes/base.yaml", "description: 你好".encode("gbk")),
        ("base.yaml",),
    ),
)
WORKBOOKS = (
    Case("no workbook of that name", RUN, _field(workbooks=["gone.xlsx"]), ("gone.xlsx",)),
    Case("a workbook that is a text", RUN, _workbook(TABLE.encode()), ("first.xlsx",)),
    Case("a workbook cut off in the middle", RUN, _half, ("first.xlsx",)),
    Case("an empty workbook file", RUN, _workbook(b""), ("first.xlsx",)),
    Case(
        "a workbook of the old format, or one with a password",
        RUN,
        _workbook(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(2000)),
        ("first.xlsx",),
    ),
    Case("a workbook that unpacks to a thousand times its size", RUN, _bomb, ("first.xlsx",)),
    Case(
        "a column that is not there",
        RUN,
        _rows(make_rows(), header=("Q", "Thinking", "Label", "Label2")),
        ("Question",),
    ),
    Case("a header without rows", RUN, _rows([]), ("small",)),
    Case("a sheet that is not there", RUN, _field(sheet="Tabelle1"), ("Tabelle1",)),
    Case(
        "labels that the list does not know", RUN, _rows([(*r[:2], "unknown", None) for r in make_rows()]), ("small",)
    ),
    Case("a single question", RUN, _rows(make_rows()[:1]), ("empty_splits",)),
    Case("a label list that is not there", RUN, _field(label_list="gone.txt"), ("gone.txt",)),
    Case("an empty label list", RUN, _file("data/small/labels.txt", "# none\n"), ("labels.txt",)),
    Case(
        "a pipe where a workbook should be",
        RUN,
        lambda root: (
            (root / "data" / "small" / "first.xlsx").unlink() or os.mkfifo(root / "data" / "small" / "first.xlsx")
        ),
        ("first.xlsx",),
    ),
)
FROM = ("init", "new", "--from")
TABLES = (
    Case("an empty table", (*FROM, "in.csv"), _file("in.csv", ""), ("in.csv",)),
    Case(
        "a table without a column of questions",
        ("convert", "in.csv", "out.jsonl", "--from", "table", "--to", "flagembedding"),
        _file("in.csv", "a,b\n1,2\n3,4\n"),
        ("in.csv",),
    ),
    Case("a line with too many cells", (*FROM, "in.csv"), _file("in.csv", f"{TABLE}one,two,three\n"), ("in.csv",)),
    Case(
        "a broken byte in a table of UTF-8",
        (*FROM, "in.csv"),
        _file("in.csv", TABLE.encode() + "你好，再见，谢谢，您好,怎么样\n".encode() * 20 + b"\xff,x\n"),
        ("in.csv",),
    ),
    Case("JSON cut off in the middle", (*FROM, "in.json"), _file("in.json", '{"queries": {"q": "?'), ("in.json",)),
    Case(
        "a key twice in JSON", (*FROM, "in.json"), _file("in.json", '{"queries": {"q": "a", "q": "b"}}'), ("in.json",)
    ),
    Case("brackets without end", (*FROM, "in.json"), _file("in.json", "[" * 100_000), ("in.json",)),
    Case("JSON of an unknown shape", (*FROM, "in.json"), _file("in.json", '{"a": 1, "b": [2]}'), ("in.json",)),
    Case(
        "a judgment of a passage that is not there",
        ("convert", "in.json", "out", "--to", "beir"),
        _file("in.json", json.dumps({"queries": {"q": "?"}, "corpus": {"p": "x"}, "relevant_docs": {"q": ["gone"]}})),
        ("in.json",),
    ),
    Case(
        "a line of JSON that is none",
        (*FROM, "in.jsonl"),
        _file("in.jsonl", '{"query": "?", "pos": ["a"]}\n{"query": "?"\n'),
        ("in.jsonl",),
    ),
    Case("a packed file that is not packed", (*FROM, "in.csv.gz"), _file("in.csv.gz", TABLE), ("in.csv.gz",)),
    Case(
        "a packed file of a thousand times its size",
        (*FROM, "in.csv.gz"),
        lambda root: (root / "in.csv.gz").write_bytes(gzip.compress(b"a,b\n" * (20 << 20))),
        ("in.csv.gz",),
    ),
    Case("a parquet file that is none", (*FROM, "in.parquet"), _file("in.parquet", TABLE), ("in.parquet",)),
    Case("a folder without a file that is read", (*FROM, "in"), _file("in/picture.png", b"\x89PNG"), ("in:",)),
    Case("a file that is not there", (*FROM, "gone.csv"), _nothing, ("gone.csv",), 2),
    Case("a data set that is there already", ("init", "small", "--from", "in.csv"), _file("in.csv", TABLE), ("small",)),
    Case("a data set's name with a slash", ("init", "a/b", "--from", "in.csv"), _file("in.csv", TABLE), ("a/b",)),
    Case(
        "a format that does not exist", ("convert", "in.csv", "out", "--to", "csvx"), _file("in.csv", TABLE), ("csvx",)
    ),
    Case(
        "a target that is there already",
        ("convert", "in.csv", "out.jsonl", "--to", "flagembedding"),
        _all(_file("in.csv", TABLE), _file("out.jsonl", "mine")),
        ("out.jsonl",),
    ),
)
DOCUMENTS = (
    Case(
        "a pattern that no document matches",
        ("run", "--dataset", "help"),
        _documents({"files": ["documents/*.pdf"]}),
        ("documents.files",),
    ),
    Case("a pattern that leads out of the folder", STATUS, _documents({"files": ["../small/*"]}), ("documents.files",)),
    Case(
        "a PDF that is none",
        ("run", "--dataset", "help"),
        _all(_documents({"files": ["documents/*"]}), _file("data/help/documents/terms.pdf", "%PDF-1.4 broken")),
        ("terms.pdf",),
    ),
    Case(
        "a PDF with a password",
        ("run", "--dataset", "help"),
        _all(_documents({"files": ["documents/*"]}), _pdf(["Everything is insured."], password="secret")),
        ("terms.pdf",),
    ),
    Case(
        "a PDF of pictures",
        ("run", "--dataset", "help"),
        _all(_documents({"files": ["documents/*"]}), _pdf([])),
        ("terms.pdf",),
    ),
    Case(
        "a kind of document that is not read",
        ("run", "--dataset", "help"),
        _all(_documents({"files": ["documents/*"]}), _file("data/help/documents/terms.odt", "text")),
        ("terms.odt",),
    ),
    Case("passages of no tokens", STATUS, _documents({"files": ["*.md"], "passage_tokens": 0}), ("passage_tokens",)),
)
MODELS = (
    Case("a model's folder that is not there", RUN, _section("encoder", "base", model="models/gone"), ("models/gone",)),
    Case("a model without config.json", RUN, _model(_remove("config.json")), ("config.json",)),
    Case("a model without weights", RUN, _model(_remove("*.safetensors")), ("models/ours",)),
    Case("weights cut off in the middle", RUN, _model(lambda f: _cut(f / "model.safetensors")), ("model.safetensors",)),
    Case("a model without a tokenizer", RUN, _model(_remove("tokenizer*", "vocab*")), ("models/ours",)),
    Case(
        "weights that are a pointer of Git LFS",
        RUN,
        _model(
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        ),
        ("model.safetensors",),
    ),
    Case("a config.json that is no JSON", RUN, _model(lambda f: (f / "config.json").write_text("{")), ("config.json",)),
    Case(
        "longer questions than the model has places for",
        RUN,
        _all(_section("encoder", "base", query_max_length=4096), _field(variants=["base"])),
        ("4096",),
    ),
)
ARGUMENTS = (
    Case("a command that does not exist", ("rum",), _nothing, ("rum",), 2),
    Case("an option that does not exist", ("run", "--al"), _nothing, ("--al",), 2),
    Case("a data set that does not exist", ("run", "--dataset", "smal"), _nothing, ("smal",), 2),
    Case("a variant that does not exist", ("run", "--variant", "small/bm52"), _nothing, ("bm52",), 2),
    Case("an asset that does not exist", ("why", "query_metric"), _nothing, ("query_metric",), 2),
    Case("a partition that does not exist", ("why", "query_metrics", "small/bm52"), _nothing, ("bm52",), 2),
    Case("a project's folder that does not exist", ("--project", "gone", "status"), _nothing, ("gone",), 2),
    Case("no project here", ("status",), lambda root: (root / "workspace.yaml").unlink(), ("workspace.yaml",), 2),
    Case("the table before the first run", ("metrics",), _nothing, ("metrics.duckdb",)),
    Case("lineage of what was never measured", ("lineage", "small/bm25"), _nothing, ("metrics.duckdb",)),
    Case("a figure that was never measured, again", ("reproduce", "small/bm25"), _nothing, ("metrics.duckdb",)),
    Case("a measure that does not exist", ("lineage", "small/bm25", "--measure", "f1"), _nothing, ("f1",), ran=True),
    Case("a service of a variant that does not exist", ("serve", "small/bm52"), _nothing, ("bm52",), 2),
    Case("a service of what was never built", ("serve", "small/base", "--port", "0"), _nothing, ("small/base",)),
    Case("a port that is none", ("serve", "small/bm25", "--port", "99999"), _nothing, ("99999",), 2),
    Case("weights of a variant without", ("export", "small/bm25", "out"), _nothing, ("small/bm25",), ran=True),
    Case("a promoted checkpoint where none can be", ("promoted", "small"), _nothing, ("small",), ran=True),
    Case(
        "a new project where files are",
        ("new", "there"),
        _file("there/mine.txt", "mine"),
        ("there",),
    ),
    Case("an estimate for a data set without documents", ("estimate", "small"), _nothing, ("small",)),
    Case("a hub's name that is none", ("push", "small/base", "--to", "hf:a b"), _nothing, ("a b",), ran=True),
)
ENVIRONMENT = (
    Case(
        "a device that does not exist",
        STATUS,
        _nothing,
        ("EMBED_PIPELINE_DEVICE",),
        1,
        {"EMBED_PIPELINE_DEVICE": "tpu"},
    ),
    Case(
        "no process to train in", STATUS, _nothing, ("EMBED_PIPELINE_PROCESSES",), 1, {"EMBED_PIPELINE_PROCESSES": "0"}
    ),
    Case("a data folder that is not there", STATUS, _nothing, ("nowhere",), 2, {"EMBED_PIPELINE_DATA": "nowhere"}),
    Case(
        "a folder of state that is a file", STATUS, _file("taken", "x"), ("taken",), 1, {"EMBED_PIPELINE_HOME": "taken"}
    ),
    Case(
        "a folder of state with a % in its name",
        RUN,
        _nothing,
        ("100%",),
        1,
        {"EMBED_PIPELINE_HOME": ".embed_pipeline/100%"},
    ),
    Case(
        "a linked folder that is not absolute",
        STATUS,
        _nothing,
        ("EMBED_PIPELINE_LINKED_FOLDERS",),
        1,
        {"EMBED_PIPELINE_LINKED_FOLDERS": "shared"},
    ),
    Case(
        "a time of the night that is none",
        RUN,
        _nothing,
        ("EMBED_PIPELINE_NIGHTLY_CRON",),
        1,
        {"EMBED_PIPELINE_NIGHTLY_CRON": "at two"},
    ),
    Case(
        "a time zone that does not exist",
        RUN,
        _nothing,
        ("EMBED_PIPELINE_TIME_ZONE",),
        1,
        {"EMBED_PIPELINE_TIME_ZONE": "Mars/Olympus"},
    ),
    Case(
        "a service's key of three letters",
        ("serve", "small/bm25"),
        _nothing,
        ("EMBED_PIPELINE_API_KEY",),
        1,
        {"EMBED_PIPELINE_API_KEY": "abc"},
        ran=True,
    ),
    Case("a key that is not set", RUN, _hosted, ("OUR_KEY",)),
    Case(
        "a service where nobody listens", RUN, _hosted, ("127.0.0.1:9",), 1, {"OUR_KEY": "sk-canary-of-the-environment"}
    ),
    Case(
        "a store that cannot be reached",
        STATUS,
        _nothing,
        ("EMBED_PIPELINE_ARTIFACTS",),
        1,
        {"EMBED_PIPELINE_ARTIFACTS": "gopher://x"},
    ),
)
DAMAGE = (
    Case("a ref that is no JSON", STATUS, _overwrite(REFS, b"{"), ("refs/cleaned_qa",), ran=True),
    Case("the same, and a run", RUN, _overwrite(REFS, b"{"), ("refs/cleaned_qa", "0 failed"), 0, ran=True),
    Case("manifests of other bytes", RUN, _overwrite("artifacts/manifests/*.json", b"{}"), ("0 failed",), 0, ran=True),
    Case(
        "an object with other bytes in it",
        ("run", "--all"),
        _overwrite("artifacts/objects/*/*/corpus.jsonl", b"{}\n"),
        ("0 failed",),
        0,
        ran=True,
    ),
    Case("a table of other bytes", ("metrics",), _overwrite(TABLE_FILE, bytes(20_000)), (TABLE_FILE,), ran=True),
    Case(
        "a table of other bytes, and a run that writes to it",
        ("run", "--all"),
        _overwrite(TABLE_FILE, bytes(20_000)),
        (TABLE_FILE, "set aside"),
        0,
        ran=True,
    ),
    Case(
        "Dagster's records of other bytes", ("run", "--all"), _overwrite("dagster/**/*.db", b"no"), ("mv ",), ran=True
    ),
    Case(
        "kept vectors of other bytes",
        RUN,
        _all(_overwrite("vectors/*.sqlite", b"no database" * 1000), _rows(make_rows(1)[:60])),
        ("0 failed",),
        0,
        ran=True,
    ),
)
CASES: Mapping[str, tuple[Case, ...]] = {
    "dataset.yaml": DATASET_YAML,
    "Recipes": RECIPES,
    "Workbooks": WORKBOOKS,
    "Tables and JSON": TABLES,
    "Documents": DOCUMENTS,
    "Models": MODELS,
    "Arguments": ARGUMENTS,
    "Environment": ENVIRONMENT,
    "Damage": DAMAGE,
}
