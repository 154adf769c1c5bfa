"""The guides say what the code does: every field described, every named file and target there."""

import re
from pathlib import Path

import pytest

from embed_pipeline.dataset.ledger import REASONS
from embed_pipeline.dataset.settings import DatasetSettings
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.training.recipes import Recipe, TrainingSettings, VocabularyExtension

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("model", "guide"),
    [
        (Recipe, "recipes.md"),
        (EncoderSettings, "recipes.md"),
        (MiningSettings, "recipes.md"),
        (TrainingSettings, "recipes.md"),
        (VocabularyExtension, "recipes.md"),
        (DatasetSettings, "datasets.md"),
    ],
)
def test_every_field_is_in_its_guide_and_has_a_description(model, guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    assert [name for name in model.model_fields if f"`{name}`" not in text] == []
    assert all(field.description for field in model.model_fields.values())


def test_every_reason_of_the_ledger_is_explained() -> None:
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
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
    file_map = README[README.index("## The file map") :]
    modules = [path for path in (ROOT / "embed_pipeline").rglob("*.py") if path.name != "__init__.py"]
    outside_defs_folders = [path for path in modules if path.parent.name not in ("assets", "checks")]
    assert [path.name for path in outside_defs_folders if not re.search(rf"\b{path.name}", file_map)] == []
