"""The guides say what the code does: every field described, every named file and target there."""

import re
import tomllib
from pathlib import Path

import pytest

from embed_pipeline.adaptation.settings import AdaptationSettings
from embed_pipeline.cli import main
from embed_pipeline.dataset.ledger import REASONS
from embed_pipeline.dataset.settings import ColumnSettings, DatasetSettings, PairsFile, SplitSettings
from embed_pipeline.definitions import defs
from embed_pipeline.documents.settings import DocumentSettings
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.word_vectors import WordVectorSettings
from embed_pipeline.merging.settings import MergeSettings
from embed_pipeline.mining.settings import MiningRerankerSettings, MiningSettings, ReplaySettings, ScorerSettings
from embed_pipeline.project.project import ENVIRONMENT
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.reranking.settings import RerankerSettings, RerankSettings
from embed_pipeline.retrieval.fusion import FusionSettings
from embed_pipeline.retrieval.hybrid_weights import HybridSettings
from embed_pipeline.synthesis.chat_settings import ChatSettings
from embed_pipeline.synthesis.settings import RoundTripSettings, SynthesisSettings
from embed_pipeline.training.settings import LoraSettings, TrainingSettings, VocabularyExtension
from embed_pipeline.training.validation_settings import ValidationSettings

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILE_MAP = README[README.index("## The file map") :]


@pytest.mark.parametrize(
    ("model", "guide"),
    [
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
    ],
)
def test_every_field_is_in_its_guide_and_has_a_description(model, guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    assert [name for name in model.model_fields if f"`{name}`" not in text] == []
    assert all(field.description for field in model.model_fields.values())


def test_every_reason_of_the_ledger_is_explained() -> None:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("datasets.md", "documents.md"))
    assert [reason for reason in REASONS if f"`{reason}`" not in text] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    named = set()
    for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md"):
        named |= set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / name).read_text(encoding="utf-8")))
    assert named and named <= targets


def test_every_link_leads_to_a_file() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_module_is_in_the_file_map() -> None:
    modules = [path for path in (ROOT / "embed_pipeline").rglob("*.py") if path.name != "__init__.py"]
    outside_defs_folders = [path for path in modules if path.parent.name not in ("assets", "checks")]
    assert [path.name for path in outside_defs_folders if not re.search(rf"\b{path.name}", FILE_MAP)] == []


def test_every_python_file_in_the_file_map_exists() -> None:
    folders = ("embed_pipeline", "embed_pipeline_tests", "docs")
    existing = {path.name for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert set(re.findall(r"\b(\w+\.py)\b", FILE_MAP)) - existing == set()


@pytest.mark.parametrize("name", READMES)
def test_every_command_and_variable_of_the_environment_is_in_the_readme(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [command for command in main.commands if f"`embed-pipeline {command}" not in text] == []
    assert [variable for variable in ENVIRONMENT.values() if f"`{variable}`" not in text] == []


def test_both_readmes_show_the_same_figures() -> None:
    blocks = [re.findall(r"```.*?```", (ROOT / name).read_text(encoding="utf-8"), flags=re.S)[1] for name in READMES]
    assert blocks[0] == blocks[1]


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
