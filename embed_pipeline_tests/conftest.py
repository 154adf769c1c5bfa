"""What every test runs under: no telemetry, no hub, one thread, this checkout; and what several of them start from."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from embed_pipeline_tests.pipeline_project import PipelineProject

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
# One unpacked model for all tests and workers, where the demo of this checkout has it as well.
os.environ.setdefault("EMBED_PIPELINE_MODELS", str(Path(__file__).parents[1] / ".embed_pipeline" / "models"))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout, so that one process and two see the same network."""
    from embed_pipeline_tests.small_project import write_model  # only now: the variables above are set

    return write_model(tmp_path_factory.mktemp("small_model"), dropout=0.0)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "PipelineProject":
    """A project with every kind of variant in which everything has run once; copy it before you change it."""
    from embed_pipeline_tests.pipeline_project import PipelineProject
    from embed_pipeline_tests.small_project import write_full_project

    project = PipelineProject(tmp_path_factory.mktemp("full"))
    (project.root / "dagster").mkdir()
    write_full_project(project.root)
    project.run()
    return project
