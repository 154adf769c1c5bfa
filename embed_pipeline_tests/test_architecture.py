"""The layout holds: one word in four places, imports one way, heavy libraries where they are used."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from embed_pipeline.definitions import STAGES, defs

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "embed_pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {
    *("torch", "transformers", "FlagEmbedding", "faiss", "openai", "sentence_transformers", "matplotlib", "datasets"),
    *("sklearn", "scipy", "gensim", "mteb", "pyarrow", "bm25s", "jieba", "duckdb", "ir_measures", "peft"),
    *("pypdf", "docx", "bs4", "lxml", "markdown_it", "charset_normalizer", "pandas", "onnx", "onnxruntime"),
    *("openvino", "nncf", "py3langid", "qdrant_client", "psycopg2", "lancedb", "ray"),
}
# Only the worker process imports these: it cannot do anything without torch.
WORKER_SIDE = {
    f"training/{name}.py"
    for name in (
        *("worker", "training_run", "trainer", "progress", "flagembedding", "resume", "validation", "watchdog"),
        *("collator", "model", "loss", "parameters", "frozen_layers"),
    )
}
ORDER = (
    *(
        "records",
        "paths",
        "console",
        "replacing",
        "nearest",
        "settings_file",
        "significance",
        "interruption",
        "progress",
        "artifacts",
    ),
    *("dataset", "documents", "encoding", "synthesis", "retrieval", "mining", "training", "cluster"),
    *("adaptation", "reranking", "evaluation", "merging", "exporting", "stores", "reporting"),
    *("project", "graph", "assembly", "serving", "diagnosis"),
    *("defs", "definitions", "api"),
    *("commands", "cli", "__main__"),
)
MAX_LINES = 400
MAX_SHARE = 0.15
MAX_BODY_LINES = 25


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _imports(node: ast.AST, *, inside_functions: bool) -> Iterator[str]:
    """Modules that a body imports, without those under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.module and not child.level, f"line {child.lineno}: relative import"
            # `from package import name` may name a module.
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        elif inside_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(child, inside_functions=inside_functions)


def _roots(path: Path, *, inside_functions: bool) -> set[str]:
    return {module.partition(".")[0] for module in _imports(_tree(path), inside_functions=inside_functions)}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__.rpartition(".")[2])
def test_a_stage_is_a_package_a_group_an_asset_module_and_a_test_folder(stage) -> None:
    name = stage.__name__.rpartition(".")[2]
    assert (PACKAGE / name / "__init__.py").is_file()
    assert (ROOT / "embed_pipeline_tests" / name).is_dir()
    graph = defs.resolve_asset_graph()
    own = [key for key in graph.get_all_asset_keys() if graph.get(key).group_name == name]
    assert own
    assert all(f"def {key.to_user_string()}(" in Path(stage.__file__).read_text(encoding="utf-8") for key in own)


def test_every_group_is_a_stage_and_every_asset_module_is_in_the_graph() -> None:
    graph = defs.resolve_asset_graph()
    groups = {graph.get(key).group_name for key in graph.get_all_asset_keys()}
    modules = {path.stem for path in (PACKAGE / "defs" / "assets").glob("*.py")}
    modules -= {"__init__", "publishing", "dataset_checks"}
    assert groups == modules == {stage.__name__.rpartition(".")[2] for stage in STAGES}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_says_what_it_is_and_stays_small(path: Path) -> None:
    assert ast.get_docstring(_tree(path))
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert "from __future__ import annotations" not in text


def test_no_room_holds_more_than_15_percent_of_the_code() -> None:
    lines: Counter[str] = Counter()
    for path in MODULES:
        lines[_name(path).partition("/")[0]] += len(path.read_text(encoding="utf-8").splitlines())
    (room, most), *_ = lines.most_common(1)
    assert most <= MAX_SHARE * lines.total(), f"{room} has {most} of {lines.total()} lines"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_defs_is_dagster_and_dagster_is_defs(path: Path) -> None:
    roots = _roots(path, inside_functions=True)
    if path.name != "__init__.py":
        assert ("dagster" in roots) == (_name(path).startswith("defs/") or _name(path) == "definitions.py")
    if _name(path) != "training/worker.py":
        assert "dagster_pipes" not in roots


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_heavy_libraries_are_imported_inside_the_functions_that_use_them(path: Path) -> None:
    if _name(path) not in WORKER_SIDE:
        assert not _roots(path, inside_functions=False) & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_point_one_way(path: Path) -> None:
    layer = _name(path).removesuffix(".py").partition("/")[0]
    if layer == "__init__":
        return
    for module in _imports(_tree(path), inside_functions=True):
        package, _, rest = module.partition(".")
        assert package != "embed_pipeline_tests"
        if package == "embed_pipeline":
            assert ORDER.index(rest.partition(".")[0]) <= ORDER.index(layer), f"{_name(path)} imports {module}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "defs" / "assets").glob("*.py")), ids=_name)
def test_an_asset_body_reads_like_a_sentence(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef) and any("dg.asset" in ast.unparse(d) for d in node.decorator_list):
            lines = (node.end_lineno or 0) - node.body[0].lineno + 1
            assert lines <= MAX_BODY_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("module", ["definitions", "cli"])
def test_loading_the_graph_or_the_command_line_loads_no_heavy_library(module: str) -> None:
    code = f"import embed_pipeline.{module}, sys; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
