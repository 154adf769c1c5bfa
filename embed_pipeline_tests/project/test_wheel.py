"""The built wheel is enough: a new environment outside the repository makes a project and runs it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from embed_pipeline_tests.deployment.services import copied_sources, read_stages

ROOT = Path(__file__).parents[2]
SOURCES = copied_sources(read_stages()["build"])
"""What the Dockerfile copies is enough to build the wheel of."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays clean."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target)]
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", *options, str(source), folder=source)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_what_a_new_project_is_made_of_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = ["workspace.yaml", "dagster.yaml", "data/faq_en/dataset.yaml", "data/faq_en/faq.csv"]
    shipped += [path.relative_to(ROOT).as_posix() for path in (ROOT / "data" / "recipes").glob("*.yaml")]
    template = [path.name for path in (ROOT / "embed_pipeline" / "project" / "template").iterdir()]
    assert {f"embed_pipeline/project/shipped/{name}" for name in shipped} <= names
    assert {f"embed_pipeline/project/template/{name}" for name in template} <= names
    assert not any(name.startswith("embed_pipeline_tests") for name in names)


@pytest.mark.slow
def test_from_the_wheel_a_project_is_made_and_run_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    command = _install(wheel, tmp_path / "environment")
    home = tmp_path / "elsewhere"
    home.mkdir()
    made = _run(str(command), "new", "my_project", folder=home)
    assert "embed-pipeline run" in made
    dataset = home / "my_project" / "data" / "faq_en" / "dataset.yaml"
    text = dataset.read_text(encoding="utf-8")  # without the encoder, which another test encodes with
    variants = next(line for line in text.splitlines() if line.startswith("variants:"))
    dataset.write_text(text.replace(variants, "variants: [bm25, tfidf]"), encoding="utf-8")
    ran = _run(str(command), "run", folder=dataset.parent)
    assert "0 failed" in ran and "faq_en · test · 38 queries" in ran
    assert (home / "my_project" / ".embed_pipeline" / "reports" / "faq_en.html").is_file()
    assert "fresh" in _run(str(command), "--project", "my_project", "status", folder=home)
    code = "import embed_pipeline; print(embed_pipeline.__file__)"
    assert str(tmp_path / "environment") in _run(str(command.parent / "python"), "-c", code, folder=home)


def _install(wheel: Path, environment: Path) -> Path:
    """The command in a new environment that has the wheel of its own and sees the other packages of this one."""
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    _run(sys.executable, "-m", "pip", *install, folder=environment)
    packages = next((environment / "lib").glob("python*/site-packages"))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return environment / "bin" / "embed-pipeline"


def _run(*command: str, folder: Path) -> str:
    """What the command prints; nothing of this repository is on its path."""
    hidden = ("EMBED_PIPELINE_", "DAGSTER_HOME", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout
