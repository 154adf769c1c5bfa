"""The guides say what the code does: every field described, every named file, target and command there."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from docs.generated_pages import PAGES, packages
from embed_pipeline.adaptation.settings import AdaptationSettings
from embed_pipeline.cli import main
from embed_pipeline.dataset.ledger import REASONS
from embed_pipeline.dataset.settings import ColumnSettings, DatasetSettings, PairsFile, SplitSettings
from embed_pipeline.definitions import defs
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.word_vectors import WordVectorSettings
from embed_pipeline.exporting.settings import ExportSettings
from embed_pipeline.merging.settings import MergeSettings
from embed_pipeline.mining.settings import MiningRerankerSettings, MiningSettings, ReplaySettings, ScorerSettings
from embed_pipeline.project.project import ENVIRONMENT
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.reranking.settings import RerankerSettings, RerankSettings
from embed_pipeline.retrieval.fusion import FusionSettings
from embed_pipeline.retrieval.hybrid import HybridSettings
from embed_pipeline.synthesis.chat import ChatSettings
from embed_pipeline.synthesis.settings import RoundTripSettings, SynthesisSettings
from embed_pipeline.training.settings import LoraSettings, TrainingSettings, ValidationSettings, VocabularyExtension
from embed_pipeline_tests.documented_commands import parse_command, text_commands
from fault_tests.bad_input import CASES

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
HANDWRITTEN = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
MAX_README_LINES = 250


GUIDES = (
    (Recipe, "recipes.md"),
    (EncoderSettings, "recipes.md"),
    (HostedEncoderSettings, "recipes.md"),
    (WordVectorSettings, "recipes.md"),
    (FusionSettings, "recipes.md"),
    (HybridSettings, "recipes.md"),
    (MiningSettings, "recipes.md"),
    (ScorerSettings, "recipes.md"),
    (MiningRerankerSettings, "recipes.md"),
    (TrainingSettings, "recipes.md"),
    (ValidationSettings, "recipes.md"),
    (VocabularyExtension, "recipes.md"),
    (LoraSettings, "recipes.md"),
    (ReplaySettings, "recipes.md"),
    (MergeSettings, "recipes.md"),
    (AdaptationSettings, "recipes.md"),
    (ExportSettings, "recipes.md"),
    (RerankSettings, "recipes.md"),
    (RerankerSettings, "recipes.md"),
    (DatasetSettings, "datasets.md"),
    (ColumnSettings, "datasets.md"),
    (SplitSettings, "datasets.md"),
    (PairsFile, "datasets.md"),
    (DocumentSettings, "documents.md"),
    (SynthesisSettings, "documents.md"),
    (RoundTripSettings, "documents.md"),
    (ChatSettings, "documents.md"),
)
"""The models of settings and the page that explains each."""


@pytest.mark.parametrize(("model", "guide"), GUIDES)
def test_every_field_is_in_its_guide_and_has_a_description(model, guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    assert [name for name in model.model_fields if f"`{name}`" not in text] == []
    assert all(field.description for field in model.model_fields.values())


def test_every_reason_of_the_ledger_is_explained() -> None:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("datasets.md", "documents.md"))
    assert [reason for reason in REASONS if f"`{reason}`" not in text] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    named = set()
    for page in HANDWRITTEN:
        named |= set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.M))
    assert named and named <= targets


def test_every_link_leads_to_a_file() -> None:
    for page in HANDWRITTEN:
        for target in re.findall(r"""(?:\]\(|src="|srcset=")(?!http)([^)#"]+)""", page.read_text(encoding="utf-8")):
            path = Path(os.path.normpath(page.parent / target))
            written = path.is_relative_to(ROOT / "docs") and path.relative_to(ROOT / "docs").as_posix() in PAGES
            assert path.exists() or written, f"{page.name}: {target}"


def test_every_package_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = [path.relative_to(ROOT / "embed_pipeline").as_posix() for path in packages()]
    assert [name for name in named if name != "." and f"`{name}/`" not in text] == []
    existing = {f"{name}/" for name in named}
    shown = set(re.findall(r"`([a-z/]+/)`", text[text.index("| package") : text.index("## Around")]))
    assert shown <= existing


def test_every_module_of_the_package_is_in_the_file_map() -> None:
    page = PAGES["reference/modules.md"]()
    modules = {path.name for path in (ROOT / "embed_pipeline").rglob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^\| `(\w+\.py)` \| \S", page, flags=re.M)) == modules


def test_every_command_option_and_field_is_in_the_reference() -> None:
    commands = PAGES["reference/command_line.md"]()
    for name, command in main.commands.items():
        section = commands.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        assert section and [option for option in options if f"`{option}" not in section] == [], name
    settings = PAGES["reference/dataset_yaml.md"]() + PAGES["reference/recipe_yaml.md"]()
    for model, _ in GUIDES:
        assert [name for name in model.model_fields if f"| `{name}` |" not in settings] == [], model


def test_every_variable_of_the_environment_is_explained() -> None:
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    assert [variable for variable in ENVIRONMENT.values() if f"`{variable}`" not in text] == []


@pytest.mark.parametrize("name", READMES)
def test_a_readme_is_short(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_both_readmes_say_the_same_commands_figures_and_links() -> None:
    said = []
    for name in READMES:
        text = (ROOT / name).read_text(encoding="utf-8")
        figures = sorted(set(re.findall(r"\d+[.,]\d+|(?<=p )[<.]+ ?\.?\d+|\.\d+", text)))
        said.append((text_commands(text), figures, sorted(set(re.findall(r"docs/[\w./-]+", text)))))
    assert said[0] == said[1]


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/]+\.md", yaml.safe_dump(SITE["nav"])))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} | set(PAGES)
    assert listed == {page for page in pages if not re.match(r"adr/\d", page)}, "put the page into nav of mkdocs.yml"


def test_every_kind_of_bad_input_is_on_its_page_with_its_exit_code() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| `[^|]*embed-pipeline [^|]*` \| (\d) \| \S", page, flags=re.M)
    expected = [(case.name, str(case.code)) for cases in CASES.values() for case in cases]
    assert rows == expected, "write it anew: PYTHONPATH=. python docs/write_faults.py"


@pytest.mark.parametrize("page", HANDWRITTEN, ids=lambda path: path.name)
def test_every_command_that_a_page_shows_can_be_typed(page: Path) -> None:
    for line in text_commands(page.read_text(encoding="utf-8")):
        typed = re.fullmatch(r"(?:\w+=\S+ )*(?:\S*/)?embed-pipeline\b(.*)", line)
        if typed:
            parse_command(shlex.split(typed[1]), f"{page.name}: {line}")


def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    loaded = re.compile(r"""(?:<(?:script|img|iframe|source)[^>]*?\bsrc|<link[^>]*?\bhref)=["']?(?:https?:)?//""")
    found = {match[0] for page in pages for match in loaded.finditer(page.read_text(encoding="utf-8"))}
    assert found == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.css"))
    assert "@import" not in styles and not re.search(r"url\([\"']?(?:https?:)?//", styles)


def test_no_picture_is_large_or_loads_anything() -> None:
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size <= 200_000, path.name
        if path.suffix == ".svg":
            assert not re.search(r"url\([\"']?http|href=[\"']http", path.read_text(encoding="utf-8")), path.name


def test_the_picture_shows_every_asset_and_every_dependency() -> None:
    picture = (ROOT / "docs" / "graph.svg").read_text(encoding="utf-8")
    graph = defs.resolve_asset_graph()
    keys = graph.get_all_asset_keys()
    edges = {(up.to_user_string(), key.to_user_string()) for key in keys for up in graph.get(key).parent_keys}
    assert set(re.findall(r'class="name"[^>]*>(\w+)<', picture)) == {key.to_user_string() for key in keys}
    assert set(re.findall(r'data-edge="(\w+) (\w+)"', picture)) == edges


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [entry for extra in project["optional-dependencies"].values() for entry in extra]
    packages = {re.split(r"[\s<>=;\[]", entry)[0] for entry in [*project["dependencies"], *extras]} - {project["name"]}
    reasons = (ROOT / "docs" / "adr" / "0009-dependencies.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]+) \|", reasons, flags=re.M)
    assert set(re.findall(r"`([^`]+)`", "".join(cells))) == packages
